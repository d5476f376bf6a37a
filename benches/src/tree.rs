//! A real tree of files as the content of a release: copied, changed a little, packed.

use anyhow::{Context as _, ensure};
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tamer_kit::hash::sha256;

/// How many files two releases differ by where an update is measured.
pub const CHANGED: usize = 150;

/// All files of a tree, sorted.
///
/// # Errors
/// It cannot be read.
pub fn files(tree: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut waiting = vec![tree.to_owned()];
    while let Some(dir) = waiting.pop() {
        let what = || format!("cannot read {}", dir.display());
        for entry in fs::read_dir(&dir).with_context(what)? {
            let entry = entry.with_context(what)?;
            let kind = entry.file_type().with_context(what)?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// How many files a tree has, and how many bytes they hold.
///
/// # Errors
/// It cannot be read.
pub fn size(tree: &Path) -> anyhow::Result<(usize, u64)> {
    let files = files(tree)?;
    let mut bytes = 0;
    for file in &files {
        let meta = file.metadata();
        bytes += meta
            .with_context(|| format!("cannot look at {}", file.display()))?
            .len();
    }
    Ok((files.len(), bytes))
}

/// Copies a tree to `to`, which must not be there.
///
/// # Errors
/// It cannot be copied.
pub fn copy(tree: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("-a").arg(tree).arg(to).status()?;
    ensure!(status.success(), "cannot copy {}", tree.display());
    Ok(())
}

/// Changes [`CHANGED`] files, spread evenly over the tree: each gets a line more.
///
/// # Errors
/// It cannot be changed.
pub fn change(tree: &Path, line: &str) -> anyhow::Result<()> {
    let files = files(tree)?;
    let step = files.len().div_ceil(CHANGED).max(1);
    let changed: Vec<&PathBuf> = files.iter().step_by(step).collect();
    append(&changed, line)
}

/// Changes so many percent of the files, as by lot but always the same ones: each gets a line more. Gives them.
///
/// # Errors
/// It cannot be changed.
pub fn change_some(tree: &Path, percent: usize, line: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = files(tree)?;
    let count = files.len() * percent / 100;
    let lot = |path: &PathBuf| {
        sha256(
            path.strip_prefix(tree)
                .unwrap_or(path)
                .as_os_str()
                .as_bytes(),
        )
    };
    files.sort_by_cached_key(lot);
    files.truncate(count);
    append(&files.iter().collect::<Vec<_>>(), line)?;
    Ok(files)
}

fn append(files: &[&PathBuf], line: &str) -> anyhow::Result<()> {
    for path in files {
        let file = fs::File::options().append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{line}"))
            .with_context(|| format!("cannot change {}", path.display()))?;
    }
    Ok(())
}

/// Whether two trees have the same files with the same content, as `diff -r` says.
///
/// # Errors
/// They differ.
pub fn same(one: &Path, other: &Path) -> anyhow::Result<()> {
    let differ = Command::new("diff")
        .args(["-r", "--exclude=.tamer"])
        .arg(one)
        .arg(other)
        .output()
        .context("cannot run diff")?;
    ensure!(
        differ.status.success(),
        "{} and {} differ",
        one.display(),
        other.display()
    );
    Ok(())
}
