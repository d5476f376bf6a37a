//! A fleet of real processes on loopback: going back, a second deploy, and what they take at rest.
//!
//! `fleet TREE [HOSTS] [DIRECTORY]`: 30 agents without root by default, everything on `/dev/shm`. The
//! release that is rolled back has one file, no hooks and no checks; TREE is what the second deploy brings.

use anyhow::{Context as _, bail};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tamer_bench::fleet::{ENVIRONMENT, Fleet};
use tamer_bench::measure::{self, head, mebibytes, median, megabytes, note, row, spread};
use tamer_bench::{others, process, tree};

const SMALL: &str = "small";
const LARGE: &str = "large";

/// How often the fleet goes back and forth.
const ROLLBACKS: usize = 21;

/// How often it does so by the command line.
const COMMANDS: usize = 11;

/// How many times a release with some changed files is deployed.
const DEPLOYS: usize = 5;

/// How often the fleet goes back from a release of the tree.
const TREE_ROLLBACKS: usize = 5;

/// How long the fleet is watched at rest: two rounds of checks.
const REST: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (tree, hosts, directory) = match &words[..] {
        [tree] => (tree, 30, "/dev/shm"),
        [tree, hosts] => (tree, hosts.parse()?, "/dev/shm"),
        [tree, hosts, directory] => (tree, hosts.parse()?, directory.as_str()),
        _ => bail!("usage: fleet TREE [HOSTS] [DIRECTORY]"),
    };
    note(&format!("starting a controller and {hosts} agents"));
    let fleet = Fleet::start(Path::new(directory), hosts, &[SMALL, LARGE]).await?;
    head(&["what", "figure"])?;
    rollbacks(&fleet).await?;
    commands(&fleet).await?;
    rest(&fleet, "a release of one file").await?;
    deploys(&fleet, Path::new(tree)).await?;
    rest(&fleet, "the tree").await
}

/// Back and forth between two releases that are on disk.
async fn rollbacks(fleet: &Fleet) -> anyhow::Result<()> {
    note("going back and forth");
    let small = fleet.room("publish")?.join("small");
    fs::create_dir_all(&small)?;
    for version in ["1.0.0", "1.1.0"] {
        fs::write(small.join("release"), format!("{version}\n"))?;
        fleet.desk.publish(SMALL, version, &small)?;
        fleet.desk.deploy(SMALL, version).await?;
        fleet.runs(SMALL, version)?;
    }
    let mut back = Vec::new();
    let (mut controller, mut agents) = (Vec::new(), Vec::new());
    let mut forth = Vec::new();
    for _ in 0..ROLLBACKS {
        fleet.settle().await?;
        let before = fleet.cpu()?;
        back.push(fleet.desk.roll_back(SMALL).await?);
        let after = fleet.cpu()?;
        fleet.runs(SMALL, "1.0.0")?;
        controller.push(after.0.saturating_sub(before.0));
        agents.push(after.1.saturating_sub(before.1));
        fleet.settle().await?;
        forth.push(fleet.desk.deploy(SMALL, "1.1.0").await?);
        fleet.runs(SMALL, "1.1.0")?;
    }
    let walls = |all: &[tamer_bench::fleet::Ended]| {
        spread(&all.iter().map(|it| it.wall).collect::<Vec<_>>())
    };
    let inside: Vec<Duration> = back.iter().map(|it| it.inside).collect();
    let hosts = fleet.agents.len();
    row(&[
        &format!("roll back {hosts} hosts, request to the last report as the operator sees it"),
        &walls(&back)?,
    ])?;
    row(&["… by the controller's clock", &spread(&inside)?])?;
    row(&["… CPU of the controller", &spread(&controller)?])?;
    row(&["… CPU of all agents together", &spread(&agents)?])?;
    row(&[
        &format!("forward again to a release that is on disk, {hosts} hosts, with its checks"),
        &walls(&forth)?,
    ])
}

/// The same by the command line, the start of the program included.
async fn commands(fleet: &Fleet) -> anyhow::Result<()> {
    note("going back by the command line");
    let mut back = Vec::new();
    for _ in 0..COMMANDS {
        fleet.settle().await?;
        let words = ["rollback", ENVIRONMENT, "--application", SMALL];
        let mut command = fleet.desk.command(&words)?;
        let cost = measure::run(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )?;
        back.push(cost.wall);
        fleet.runs(SMALL, "1.0.0")?;
        fleet.settle().await?;
        fleet.desk.deploy(SMALL, "1.1.0").await?;
    }
    row(&["the whole command `tamer rollback`", &spread(&back)?])
}

/// What everybody takes while nothing happens.
async fn rest(fleet: &Fleet, what: &str) -> anyhow::Result<()> {
    note(&format!("at rest for {} s", REST.as_secs()));
    fleet.settle().await?;
    let ids: Vec<u32> = fleet
        .agents
        .iter()
        .map(|agent| agent.program.id())
        .collect();
    let cpus = || {
        ids.iter()
            .map(|&id| process::cpu(id))
            .collect::<anyhow::Result<Vec<_>>>()
    };
    let (before, controller) = (cpus()?, process::cpu(fleet.controller.id())?);
    tokio::time::sleep(REST).await;
    let (after, later) = (cpus()?, process::cpu(fleet.controller.id())?);
    let used: Vec<Duration> = after
        .iter()
        .zip(&before)
        .map(|(a, b)| a.saturating_sub(*b))
        .collect();
    let share = |cpu: Duration| format!("{:.3} %", cpu.as_secs_f64() / REST.as_secs_f64() * 100.0);
    let read = ids
        .iter()
        .map(|&id| process::resident(id))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let all: Vec<u64> = read.iter().map(|it| it.all).collect();
    let own: Vec<u64> = read.iter().map(|it| it.own).collect();
    let largest = all.iter().copied().max().context("there is no agent")?;
    row(&[
        &format!("agent's RSS, after {what}"),
        &format!(
            "{}, the largest {}, {} of it its own",
            mebibytes(median(&all)?),
            mebibytes(largest),
            mebibytes(median(&own)?)
        ),
    ])?;
    let most = used.iter().copied().max().context("there is no agent")?;
    row(&[
        &format!(
            "agent's CPU over {} s, two checks every 30 s",
            REST.as_secs()
        ),
        &format!(
            "{} of a core, the most {}",
            share(median(&used)?),
            share(most)
        ),
    ])?;
    let memory = process::resident(fleet.controller.id())?;
    row(&[
        &format!("controller's RSS with {} agents, after {what}", ids.len()),
        &format!(
            "{}, {} of it its own",
            mebibytes(memory.all),
            mebibytes(memory.own)
        ),
    ])?;
    row(&[
        "controller's CPU meanwhile",
        &format!("{} of a core", share(later.saturating_sub(controller))),
    ])
}

/// Second deploys of a real tree, in turn with only unpacking it as often.
async fn deploys(fleet: &Fleet, source: &Path) -> anyhow::Result<()> {
    let hosts = fleet.agents.len();
    let room = fleet.room("publish")?;
    let large = room.join("large");
    tree::copy(source, &large)?;
    let (files, bytes) = tree::size(&large)?;
    note("the first deploy of the tree");
    fleet.desk.publish(LARGE, "1.0.0", &large)?;
    fleet.desk.deploy(LARGE, "1.0.0").await?;
    let archive = room.join("large.tar.zst");
    measure::run(
        Command::new("tar")
            .arg("--zstd")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(&large)
            .arg("."),
    )?;
    let (mut walls, mut cpus, mut unpacked) = (Vec::new(), Vec::new(), Vec::new());
    for n in 1..=DEPLOYS {
        note(&format!("second deploy {n} of {DEPLOYS}"));
        let version = format!("1.{n}.0");
        tree::change(&large, &format!("# {version}"))?;
        fleet.desk.publish(LARGE, &version, &large)?;
        fleet.settle().await?;
        let before = fleet.cpu()?;
        let ended = fleet.desk.deploy(LARGE, &version).await?;
        let after = fleet.cpu()?;
        walls.push(ended.wall);
        cpus.push((after.0 + after.1).saturating_sub(before.0 + before.1));
        fleet.runs(LARGE, &version)?;
        fleet.settle().await?;
        let only = room.join("only");
        unpacked.push(others::each(hosts, &only, others::TAR, &[&archive])?);
        fs::remove_dir_all(&only)?;
    }
    for agent in &fleet.agents {
        tree::same(&large, &agent.root(LARGE).join("current/"))?;
    }
    let base = median(&unpacked.iter().map(|it| it.wall).collect::<Vec<_>>())?;
    let base_cpu = median(&unpacked.iter().map(|it| it.cpu).collect::<Vec<_>>())?;
    let ratio = |a: Duration, b: Duration| format!("{:.2}", a.as_secs_f64() / b.as_secs_f64());
    row(&[
        &format!(
            "second deploy to {hosts} hosts: {files} files, {}, {} of them changed; wall",
            megabytes(bytes),
            tree::CHANGED
        ),
        &format!(
            "{}, {} of only unpacking",
            spread(&walls)?,
            ratio(median(&walls)?, base)
        ),
    ])?;
    row(&[
        "… CPU of the controller and all agents",
        &format!(
            "{}, {} of only unpacking",
            spread(&cpus)?,
            ratio(median(&cpus)?, base_cpu)
        ),
    ])?;
    let wall: Vec<Duration> = unpacked.iter().map(|it| it.wall).collect();
    let cpu: Vec<Duration> = unpacked.iter().map(|it| it.cpu).collect();
    row(&[
        &format!("only unpacking it {hosts} times, `tar --zstd -xf`, one a core at once; wall"),
        &spread(&wall)?,
    ])?;
    row(&["… CPU", &spread(&cpu)?])?;
    let (last, before) = (format!("1.{DEPLOYS}.0"), format!("1.{}.0", DEPLOYS - 1));
    let mut back = Vec::new();
    for _ in 0..TREE_ROLLBACKS {
        fleet.settle().await?;
        back.push(fleet.desk.roll_back(LARGE).await?.wall);
        fleet.runs(LARGE, &before)?;
        fleet.desk.deploy(LARGE, &last).await?;
    }
    row(&[
        &format!("roll back {hosts} hosts from one tree to the one before"),
        &spread(&back)?,
    ])
}
