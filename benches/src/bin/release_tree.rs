//! Packing and unpacking a real tree, against tar and zstd.
//!
//! `release_tree TREE [DIRECTORY]`: each side is a process of its own, the sides alternate, the medians are
//! printed as a table. `DIRECTORY` (`/dev/shm` by default) holds everything that is written.

use anyhow::{Context as _, bail, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tamer_bench::measure::{self, Cost, head, median, megabytes, note, row, spread};
use tamer_bench::tree;
use tamer_core::application::Application;
use tamer_release::pack::{PackSpec, pack};
use tamer_release::tree::remove_release;
use tamer_release::unpack::unpack;

const RUNS: usize = 9;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["pack", tree, archive, manifest] => pack_one(tree.as_ref(), archive.as_ref(), manifest),
        ["unpack", archive, manifest, parent, name] => {
            unpack_one(archive, manifest, parent.as_ref(), name)
        }
        [tree] => compare(tree.as_ref(), Path::new("/dev/shm")),
        [tree, directory] => compare(tree.as_ref(), directory.as_ref()),
        _ => bail!("usage: release_tree TREE [DIRECTORY]"),
    }
}

/// Tamer's side of packing: the archive, and the manifest with every file's and frame's digest.
fn pack_one(tree: &Path, archive: &Path, manifest: &str) -> anyhow::Result<()> {
    let text =
        "application = \"bench\"\n[component.app]\nfiles = \"tree\"\nroot = \"/srv/bench/app\"\n";
    let application = Application::parse("tamer.toml", text)?;
    let (component, spec) = application.components.into_iter().next().context("none")?;
    let what = PackSpec {
        application: application.application,
        component,
        version: "1.0.0".parse()?,
        spec,
        mtime: 1_700_000_000,
    };
    let packed = pack(tree, &what, archive)?;
    fs::write(manifest, packed.manifest_bytes())?;
    Ok(())
}

/// Tamer's side of unpacking: every frame and every file is verified, the tree is synced and renamed.
fn unpack_one(archive: &str, manifest: &str, parent: &Path, name: &str) -> anyhow::Result<()> {
    let manifest = tamer_release::manifest::parse(&fs::read(manifest)?)?;
    unpack(&File::open(archive)?, &manifest, parent, name, None)?;
    Ok(())
}

/// One way to do it.
struct Side {
    name: &'static str,
    words: Vec<String>,
    /// What it writes, removed before each run.
    output: PathBuf,
    costs: Vec<Cost>,
}

impl Side {
    fn new(name: &'static str, words: &[&str], output: PathBuf) -> Self {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        Self {
            name,
            words,
            output,
            costs: Vec::new(),
        }
    }

    fn run(&mut self, unpacking: bool) -> anyhow::Result<()> {
        clear(&self.output)?;
        if unpacking && self.words[0] == "tar" {
            fs::create_dir(&self.output)?;
        }
        let mut command = Command::new(&self.words[0]);
        self.costs
            .push(measure::run(command.args(&self.words[1..]))?);
        Ok(())
    }

    fn walls(&self) -> Vec<Duration> {
        self.costs.iter().map(|cost| cost.wall).collect()
    }

    fn cpus(&self) -> Vec<Duration> {
        self.costs.iter().map(|cost| cost.cpu).collect()
    }
}

fn clear(path: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => remove_release(path)?,
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    Ok(())
}

fn compare(tree: &Path, directory: &Path) -> anyhow::Result<()> {
    let (files, bytes) = tree::size(tree)?;
    let dir = tempfile::tempdir_in(directory)?;
    let at = |name: &str| dir.path().join(name).display().to_string();
    let source = at("tree");
    tree::copy(tree, Path::new(&source))?;
    let own = std::env::current_exe()?.display().to_string();
    let (archive, manifest, plain) = (at("tamer.tar.zst"), at("manifest.json"), at("3.tar.zst"));
    let (six, threads) = (at("6.tar.zst"), at("6T.tar.zst"));

    let mut packers = [
        Side::new(
            "Tamer: digests, manifest, small frames",
            &[&own, "pack", &source, &archive, &manifest],
            archive.clone().into(),
        ),
        Side::new(
            "`tar --zstd` (level 3)",
            &["tar", "--zstd", "-cf", &plain, "-C", &source, "."],
            plain.clone().into(),
        ),
        Side::new(
            "`tar -I 'zstd -6'`",
            &["tar", "-I", "zstd -6", "-cf", &six, "-C", &source, "."],
            six.clone().into(),
        ),
        Side::new(
            "`tar -I 'zstd -6 -T0'` (all cores)",
            &[
                "tar",
                "-I",
                "zstd -6 -T0",
                "-cf",
                &threads,
                "-C",
                &source,
                ".",
            ],
            threads.clone().into(),
        ),
    ];
    alternate("packing", &mut packers, false)?;
    println(&format!(
        "Packing {files} files, {}; median of {RUNS} (shortest to longest):\n",
        megabytes(bytes)
    ))?;
    table(&packers, true)?;

    let mut unpackers = [
        Side::new(
            "Tamer: verified, synced",
            &[&own, "unpack", &archive, &manifest, &at(""), "release"],
            at("release").into(),
        ),
        Side::new(
            "`tar --zstd -xf` of its own archive",
            &["tar", "--zstd", "-xf", &plain, "-C", &at("plain")],
            at("plain").into(),
        ),
        Side::new(
            "`tar --zstd -xf` of its own archive, level 6",
            &["tar", "--zstd", "-xf", &six, "-C", &at("six")],
            at("six").into(),
        ),
        Side::new(
            "`tar --zstd -xf` of Tamer's archive",
            &["tar", "--zstd", "-xf", &archive, "-C", &at("opened")],
            at("opened").into(),
        ),
    ];
    alternate("unpacking", &mut unpackers, true)?;
    for side in &unpackers {
        tree::same(Path::new(&source), &side.output).context(side.name)?;
    }
    println("\nUnpacking it; afterwards `diff -r` finds each side's tree the same:\n")?;
    table(&unpackers, false)?;
    for side in &unpackers {
        clear(&side.output)?;
    }
    Ok(())
}

/// Runs all sides in turn, each round beginning with another one; the first round warms up.
fn alternate(what: &str, sides: &mut [Side], unpacking: bool) -> anyhow::Result<()> {
    let count = sides.len();
    for round in 0..=RUNS {
        note(&format!("{what}: round {round} of {RUNS}"));
        for n in 0..count {
            sides[(round + n) % count].run(unpacking)?;
        }
        if round == 0 {
            sides.iter_mut().for_each(|side| side.costs.clear());
        }
    }
    Ok(())
}

/// The sides beside one another; the second one is the one that the ratios are to.
fn table(sides: &[Side], sizes: bool) -> anyhow::Result<()> {
    ensure!(sides.len() > 1, "nothing to compare with");
    let base = median(&sides[1].walls())?.as_secs_f64();
    let mut columns = vec!["side", "wall", "CPU", "wall, as a share of `tar --zstd`"];
    if sizes {
        columns.push("archive");
    }
    head(&columns)?;
    for side in sides {
        let wall = median(&side.walls())?;
        let share = format!("{:.2}", wall.as_secs_f64() / base);
        let (walls, cpus) = (spread(&side.walls())?, spread(&side.cpus())?);
        let mut cells = vec![side.name.to_owned(), walls, cpus, share];
        if sizes {
            cells.push(megabytes(fs::metadata(&side.output)?.len()));
        }
        row(&cells.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn println(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}").context("cannot print")
}
