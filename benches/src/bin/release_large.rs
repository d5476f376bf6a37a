//! What releases at both ends cost in memory: very many files, and one that is very large.
//!
//! `release_large [DIRECTORY]`: a controller and an agent, ordinary processes, on `/dev/shm`. Each release is
//! published and deployed, then one with 1 % changed, then the agent reads all of it once more. Figures of memory are
//! the kernel's peaks of whole processes (`VmHWM`).

use anyhow::{Context as _, bail, ensure};
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};
use tamer_bench::fleet::Fleet;
use tamer_bench::measure::{head, mebibytes, note, row};
use tamer_bench::process::{forget_peak, peak, resident};
use tamer_bench::tree;

/// How many files the first release has, in so many directories.
const FILES: usize = 100_000;
const DIRECTORIES: usize = 1_000;

/// How large the second release's one file is, in bytes.
const LARGE: u64 = 3 << 30;

/// A part of the large file is changed, so many bytes of every hundred times as many.
const PART: usize = 1 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let directory = match &words[..] {
        [] => "/dev/shm",
        [directory] => directory.as_str(),
        _ => bail!("usage: release_large [DIRECTORY]"),
    };
    head(&[
        "what",
        "time",
        "agent's peak",
        "agent afterwards",
        "controller's peak",
        "`tamer publish`, peak",
    ])?;
    let all: [(&str, Make, Make); 2] =
        [("many", many, change_many), ("large", large, change_large)];
    for (application, first, second) in all {
        let fleet = Fleet::start(Path::new(directory), 1, &[application]).await?;
        let tree = fleet.room("publish")?.join("tree");
        fs::create_dir(&tree)?;
        note(&format!("{application}: the first release"));
        first(&tree)?;
        deployed(&fleet, application, "1.0.0", &tree).await?;
        note(&format!("{application}: 1 % changed"));
        second(&tree)?;
        deployed(&fleet, application, "1.1.0", &tree).await?;
        note(&format!("{application}: everything is read"));
        read_whole(fleet, application)?;
    }
    Ok(())
}

/// Makes or changes a tree.
type Make = fn(&Path) -> anyhow::Result<()>;

/// Many small files, each with a frame of its own.
fn many(tree: &Path) -> anyhow::Result<()> {
    for dir in 0..DIRECTORIES {
        let dir = tree.join(format!("package-{dir:04}/source"));
        fs::create_dir_all(&dir)?;
        for file in 0..FILES / DIRECTORIES {
            let path = dir.join(format!("module_{file:03}.py"));
            let line = format!("# {}\n", path.display());
            fs::write(&path, line.repeat(12))?;
        }
    }
    Ok(())
}

fn change_many(tree: &Path) -> anyhow::Result<()> {
    for dir in 0..DIRECTORIES {
        let path = tree.join(format!("package-{dir:04}/source/module_042.py"));
        let file = File::options().append(true).open(&path);
        writeln!(
            file.with_context(|| path.display().to_string())?,
            "# changed"
        )?;
    }
    Ok(())
}

/// One file, of lines that can be compressed.
fn large(tree: &Path) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(tree.join("data"))?);
    let (mut written, mut line) = (0, 0_u64);
    while written < LARGE {
        line += 1;
        let text =
            format!("{line:012} is a line of a file that is very large, and can be compressed\n");
        file.write_all(text.as_bytes())?;
        written += text.len() as u64;
    }
    Ok(file.flush()?)
}

fn change_large(tree: &Path) -> anyhow::Result<()> {
    let file = File::options().write(true).open(tree.join("data"))?;
    let part = vec![b'!'; PART];
    for at in (0..LARGE).step_by(PART * 100) {
        file.write_all_at(&part, at)?;
    }
    Ok(())
}

/// Publishes a release and deploys it.
async fn deployed(
    fleet: &Fleet,
    application: &str,
    version: &str,
    tree: &Path,
) -> anyhow::Result<()> {
    let (agent, controller) = (fleet.agents[0].program.id(), fleet.controller.id());
    forget_peak(controller)?;
    let begun = Instant::now();
    let published = publish(fleet, application, version, tree)?;
    row(&[
        &format!("`{application}`: publish {version}"),
        &seconds(begun.elapsed()),
        "–",
        "–",
        &mebibytes(peak(controller)?),
        &mebibytes(published),
    ])?;
    forget_peak(agent)?;
    forget_peak(controller)?;
    let begun = Instant::now();
    fleet.desk.deploy(application, version).await?;
    fleet.runs(application, version)?;
    let wall = begun.elapsed();
    fleet.settle().await?;
    tree::same(tree, &fleet.agents[0].root(application).join("current/"))?;
    row(&[
        &format!("`{application}`: deploy {version}"),
        &seconds(wall),
        &mebibytes(peak(agent)?),
        &mebibytes(resident(agent)?.all),
        &mebibytes(peak(controller)?),
        "–",
    ])
}

/// Publishes, and gives the peak of the command.
fn publish(fleet: &Fleet, application: &str, version: &str, tree: &Path) -> anyhow::Result<u64> {
    let file = tree.with_file_name(format!("{application}.toml"));
    let name = tree.file_name().unwrap_or_default().to_string_lossy();
    let text = format!(
        "application = \"{application}\"\n[component.app]\nfiles = \"{name}\"\nroot = \"/srv/{application}/app\"\n"
    );
    fs::write(&file, text)?;
    let file = file.display().to_string();
    let mut command = fleet.desk.command(&["publish", version, "--file", &file])?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot run tamer")?;
    let mut most = 0;
    loop {
        // Once it has ended, it has no memory any more.
        most = most.max(peak(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "tamer publish: {status}");
            return Ok(most);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts the agent anew, with a look at everything due at once.
fn read_whole(mut fleet: Fleet, application: &str) -> anyhow::Result<()> {
    let agent = &mut fleet.agents[0];
    let records = agent.records(application);
    let written = || -> anyhow::Result<SystemTime> {
        let mut newest = SystemTime::UNIX_EPOCH;
        for entry in fs::read_dir(&records).with_context(|| records.display().to_string())? {
            newest = newest.max(entry?.metadata()?.modified()?);
        }
        Ok(newest)
    };
    let before = written()?;
    let begun = Instant::now();
    agent.start_anew("drift_full_interval = \"1s\"\ndrift_limit = \"4GiB\"\n")?;
    // Whoever has read everything says so in the record.
    while written()? == before && begun.elapsed() < Duration::from_secs(300) {
        std::thread::sleep(Duration::from_millis(10));
    }
    ensure!(written()? != before, "the release was not read whole");
    let (wall, agent) = (begun.elapsed(), agent.program.id());
    row(&[
        &format!("`{application}`: the agent starts, and reads all of it"),
        &seconds(wall),
        &mebibytes(peak(agent)?),
        &mebibytes(resident(agent)?.all),
        "–",
        "–",
    ])
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
