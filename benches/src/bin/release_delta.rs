//! An update of a real tree: the bytes that it fetches, and what it costs to make the new release from the old
//! one, against tools that copy or unpack everything.
//!
//! `release_delta TREE [DIRECTORY]`: `DIRECTORY` (`/dev/shm` by default) holds everything that is written.

use anyhow::{Context as _, bail};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tamer_bench::measure::{self, Cost, head, mebibytes, median, note, row, spread};
use tamer_bench::tree;
use tamer_core::application::Application;
use tamer_release::delta::{self, Delta, MAX_GAP, MAX_RANGE, Parts, Search, plan_with};
use tamer_release::pack::{PackSpec, Packed, pack};
use tamer_release::tree::remove_release;
use tamer_release::unpack::{self, Arrivals, Material, unpack};
use tamer_release::{manifest, patch};

const RUNS: usize = 9;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["make", old, manifest, archive, parent, name] => {
            make(old, manifest, archive, parent.as_ref(), name)
        }
        ["memory", old, manifest, archive, parent, name] => {
            make(old, manifest, archive, parent.as_ref(), name)?;
            say(&peak()?.to_string())
        }
        [tree] => compare(tree.as_ref(), Path::new("/dev/shm")),
        [tree, directory] => compare(tree.as_ref(), directory.as_ref()),
        _ => bail!("usage: release_delta TREE [DIRECTORY]"),
    }
}

/// Tamer's side, as the agent does it: both manifests are read, the release is planned and made. Without an old
/// release (`-`), all of it comes from the archive.
fn make(old: &str, new: &str, archive: &str, parent: &Path, name: &str) -> anyhow::Result<()> {
    let (manifest, digest) = manifest::read(|| File::open(new))?;
    let layout = manifest::validate(&manifest)?;
    let mut search = Search::new(&manifest);
    let mut places = Vec::new();
    if old != "-" {
        manifest::visit(unpack::open_manifest(old.as_ref())?, &mut search.older(0))?;
        places.push(PathBuf::from(old));
    }
    let material = Material {
        manifest: &manifest,
        digest: &digest,
        layout: &layout,
        delta: &plan_with(&layout, &search),
        older: &places,
        archive: &File::open(archive)?,
        arrivals: &Arrivals::default(),
    };
    unpack::make(&material, parent, name, None)?;
    Ok(())
}

fn packed(tree: &Path, archive: &Path) -> anyhow::Result<Packed> {
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
    fs::write(archive.with_extension("json"), packed.manifest_bytes())?;
    Ok(packed)
}

/// The bytes of a delta's requests, gaps included.
fn fetched(packed: &Packed, delta: &Delta) -> (u64, usize) {
    let parts = Parts::of(&packed.manifest.archive.frames);
    let frames: Vec<usize> = delta.frames.iter().copied().collect();
    let ranges = delta::ranges(&frames, &parts, MAX_GAP, MAX_RANGE);
    let bytes = ranges.iter().map(|it| it.bytes.end - it.bytes.start).sum();
    (bytes, ranges.len())
}

fn compare(tree: &Path, directory: &Path) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(directory)?;
    let at = |name: &str| dir.path().join(name);
    let text = |name: &str| at(name).display().to_string();
    let (files, bytes) = tree::size(tree)?;
    tree::copy(tree, &at("old"))?;
    let old = packed(&at("old"), &at("old.tar.zst"))?;
    let archive = File::open(at("old.tar.zst"))?;
    unpack(&archive, &old.manifest, dir.path(), "release-old", None)?;
    say(&format!(
        "{files} files, {}: the archive has {} in {} frames, its manifest {} ({} compressed).\n",
        mebibytes(bytes),
        mebibytes(old.manifest.archive.length),
        old.manifest.archive.frames.len(),
        mebibytes(old.manifest_bytes().len() as u64),
        mebibytes(patch::compress(&old.manifest_bytes())?.len() as u64),
    ))?;
    head(&[
        "files changed",
        "frames, gaps included",
        "requests",
        "manifest, as a difference",
        "together",
        "the changed files as `.tar.zst`",
        "ratio",
    ])?;
    for percent in [0, 1, 3] {
        let new = format!("new-{percent}");
        tree::copy(tree, &at(&new))?;
        let changed = tree::change_some(&at(&new), percent, "# changed")?;
        let packed = packed(&at(&new), &at(&format!("{new}.tar.zst")))?;
        let layout = manifest::validate(&packed.manifest)?;
        let delta = delta::plan(&packed.manifest, &layout, &[&old.manifest]);
        let (frames, requests) = fetched(&packed, &delta);
        let difference = patch::make(&packed.manifest_bytes(), &old.manifest_bytes())?.len() as u64;
        let plain = changed_as_tar(&changed, &at(&new), &at("changed.tar.zst"))?;
        let all = frames + difference;
        row(&[
            &changed.len().to_string(),
            &frames.to_string(),
            &requests.to_string(),
            &difference.to_string(),
            &all.to_string(),
            &plain.to_string(),
            &format!("{:.2}", all as f64 / plain.max(1) as f64),
        ])?;
    }
    let own = std::env::current_exe()?.display().to_string();
    let (json, archive) = (text("new-3.tar.json"), text("new-3.tar.zst"));
    let (json_0, archive_0) = (text("new-0.tar.json"), text("new-0.tar.zst"));
    let plain = text("plain.tar.zst");
    let status = Command::new("tar")
        .args(["--zstd", "-cf", &plain, "-C", &text("new-3"), "."])
        .status()?;
    anyhow::ensure!(status.success(), "tar failed");
    let link_dest = format!("--link-dest={}", text("release-old"));
    let parent = text("");
    let own_make = |old: &str, json: &str, archive: &str, name: &str| {
        let words = [&own, "make", old, json, archive, &parent, name];
        words.map(str::to_owned).to_vec()
    };
    let release_old = text("release-old");
    let words = |words: &[&str]| words.iter().map(|&it| it.to_owned()).collect::<Vec<_>>();
    let mut sides = vec![
        Side::new(
            "`tar --zstd -xf`, of all of it",
            words(&["tar", "--zstd", "-xf", &plain, "-C", &text("tar")]),
            at("tar"),
        ),
        Side::new(
            "Tamer, all of it",
            own_make("-", &json, &archive, "whole"),
            at("whole"),
        ),
        Side::new(
            "Tamer, 3 % changed",
            own_make(&release_old, &json, &archive, "delta"),
            at("delta"),
        ),
        Side::new(
            "Tamer, nothing changed",
            own_make(&release_old, &json_0, &archive_0, "same"),
            at("same"),
        ),
        Side::new(
            "`cp -r`",
            words(&["cp", "-r", &text("new-3"), &text("cp")]),
            at("cp"),
        ),
    ];
    if Command::new("rsync").arg("--version").output().is_ok() {
        let from = format!("{}/", text("new-3"));
        sides.push(Side::new(
            "`rsync -a --checksum --link-dest`, 3 % changed",
            words(&[
                "rsync",
                "-a",
                "--checksum",
                &link_dest,
                &from,
                &text("rsync"),
            ]),
            at("rsync"),
        ));
    }
    for round in 0..=RUNS {
        note(&format!("round {round} of {RUNS}"));
        for n in 0..sides.len() {
            let turn = (round + n) % sides.len();
            sides[turn].run()?;
        }
        if round == 0 {
            sides.iter_mut().for_each(|side| side.costs.clear());
        }
    }
    for name in ["tar", "whole", "delta", "cp"] {
        tree::same(&at("new-3"), &at(name)).context(name.to_owned())?;
    }
    tree::same(&at("new-0"), &at("same")).context("same")?;
    say(&format!(
        "\nMaking the new tree; median of {RUNS} (shortest to longest):\n"
    ))?;
    head(&[
        "side",
        "wall",
        "CPU",
        "CPU, as a share of `tar --zstd`",
        "peak memory",
    ])?;
    let base = median(&sides[0].costs.iter().map(|it| it.cpu).collect::<Vec<_>>())?.as_secs_f64();
    for side in &sides {
        let walls: Vec<_> = side.costs.iter().map(|it| it.wall).collect();
        let cpus: Vec<_> = side.costs.iter().map(|it| it.cpu).collect();
        let share = format!("{:.2}", median(&cpus)?.as_secs_f64() / base);
        let memory = side.memory()?.map_or_else(|| "–".to_owned(), mebibytes);
        row(&[
            side.name,
            &spread(&walls)?,
            &spread(&cpus)?,
            &share,
            &memory,
        ])?;
    }
    for side in &sides {
        clear(&side.output)?;
    }
    clear(&at("release-old"))?;
    Ok(())
}

/// The size of the changed files alone, packed by tar and zstd.
fn changed_as_tar(changed: &[PathBuf], tree: &Path, to: &Path) -> anyhow::Result<u64> {
    if changed.is_empty() {
        return Ok(0);
    }
    let mut sorted: Vec<&Path> = changed
        .iter()
        .map(|path| path.strip_prefix(tree).unwrap_or(path))
        .collect();
    sorted.sort();
    let status = Command::new("tar")
        .arg("--zstd")
        .arg("-cf")
        .arg(to)
        .arg("-C")
        .arg(tree)
        .args(sorted)
        .status()?;
    anyhow::ensure!(status.success(), "tar failed");
    Ok(fs::metadata(to)?.len())
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
    fn new(name: &'static str, words: Vec<String>, output: PathBuf) -> Self {
        Self {
            name,
            words,
            output,
            costs: Vec::new(),
        }
    }

    fn run(&mut self) -> anyhow::Result<()> {
        clear(&self.output)?;
        if self.words[0] == "tar" {
            fs::create_dir(&self.output)?;
        }
        let cost = measure::run(Command::new(&self.words[0]).args(&self.words[1..]))?;
        self.costs.push(cost);
        Ok(())
    }

    /// The most memory that it had, in bytes, where it can say so itself.
    fn memory(&self) -> anyhow::Result<Option<u64>> {
        if self.words.get(1).map(String::as_str) != Some("make") {
            return Ok(None);
        }
        clear(&self.output)?;
        let said = Command::new(&self.words[0])
            .arg("memory")
            .args(&self.words[2..])
            .output()?;
        let said = String::from_utf8(said.stdout)?;
        said.trim().parse().map(Some).context("no peak memory")
    }
}

/// The most memory that this process had, in bytes (RSS).
fn peak() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib.context("the kernel does not say")?.trim().parse()?;
    Ok(kib << 10)
}

fn clear(path: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => remove_release(path)?,
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    Ok(())
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot print")
}
