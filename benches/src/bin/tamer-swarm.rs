//! How far one controller reaches: thousands of simulated agents in this process, with the real line and real
//! certificates, and the real controller in another.
//!
//! `tamer-swarm measure ROUNDS DIRECTORY AGENTS…` prints a table for each number of agents; with `changes` or `restarts`
//! instead of `measure`, that part of it, and with `rest`, for so many minutes, what the controller takes while nothing
//! happens. `tamer-swarm smoke 1 DIRECTORY AGENTS…` only looks whether a rollout comes to its end when the controller is
//! killed in the middle.

use anyhow::{bail, ensure};
use nix::sys::signal::Signal;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tamer_bench::fleet::{AT_ONCE, Fleet};
use tamer_bench::measure::{head, mebibytes, median, note, row, spread};
use tamer_bench::process::{cpu, resident};
use tamer_bench::swarm::{Answers, Pace, Swarm, Tries};

const APPLICATION: &str = "swarm";

/// A quarter of the hosts at a time, one of them first; nothing is waited for.
const ROLLING: &str =
    "canary = 1\nmax_parallel = \"25%\"\nmax_staging = 100\nmin_healthy = \"0s\"\n";

/// What a small release takes on a real host.
const PACE: Pace = Pace {
    stage: Duration::from_millis(50),
    switch: Duration::from_millis(100),
};

/// How long nothing happens where it is measured what that costs.
const IDLE: Duration = Duration::from_secs(60);

/// How often a check of each host ends otherwise than before, where that is measured: at every run of it.
const CHECKS: Duration = Duration::from_secs(30);

/// A line that lasted so long was a good one, for an agent (`agent/src/link/mod.rs`), and some more.
const STABLE: Duration = Duration::from_secs(22);

const USAGE: &str =
    "usage: tamer-swarm measure|changes|restarts|rest|smoke ROUNDS DIRECTORY AGENTS…";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [part, count, directory, all @ ..] = &words[..] else {
        bail!("{USAGE}")
    };
    let (directory, count) = (Path::new(directory), count.parse()?);
    ensure!(!all.is_empty(), "{USAGE}");
    for agents in all {
        let agents = agents.parse()?;
        match *part {
            "smoke" => smoke(directory, agents).await?,
            "measure" => measure(directory, agents, count).await?,
            "rest" => rest(directory, agents, count).await?,
            "changes" => only_changes(directory, agents, count).await?,
            "restarts" => only_restarts(directory, agents, count).await?,
            _ => bail!("{USAGE}"),
        }
    }
    Ok(())
}

async fn start(directory: &Path) -> anyhow::Result<Fleet> {
    Fleet::start(directory, 0, &[APPLICATION]).await
}

/// A release of one small file.
fn publish(fleet: &Fleet, version: &str) -> anyhow::Result<()> {
    let tree = fleet.room("publish")?.join("tree");
    fs::create_dir_all(&tree)?;
    fs::write(tree.join("version"), version)?;
    fleet.desk.publish(APPLICATION, version, &tree)
}

async fn smoke(directory: &Path, agents: usize) -> anyhow::Result<()> {
    Swarm::make_room(agents)?;
    let mut fleet = start(directory).await?;
    let swarm = Swarm::start(&fleet, agents).await?;
    swarm.pace(PACE);
    swarm.connected(&fleet).await?;
    fleet.place(&[APPLICATION], ROLLING)?;
    publish(&fleet, "1.0.0")?;
    fleet.desk.deploy(APPLICATION, "1.0.0").await?;
    publish(&fleet, "1.1.0")?;
    let deployment = fleet.desk.begin(APPLICATION, "1.1.0").await?;
    while swarm.run("1.1.0") < agents / 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fleet.restart(Signal::SIGKILL)?;
    let before = swarm.run("1.1.0");
    ensure!(
        before < agents,
        "all hosts had switched when the controller was killed: it was too late"
    );
    swarm.connected(&fleet).await?;
    fleet.desk.ends(deployment).await?;
    let run = swarm.run("1.1.0");
    ensure!(run == agents, "{run} of {agents} hosts run 1.1.0");
    note(&format!(
        "the controller was killed when {before} of {agents} hosts had switched: all are back, and all run 1.1.0"
    ));
    Ok(())
}

async fn measure(directory: &Path, agents: usize, rounds: usize) -> anyhow::Result<()> {
    let (mut fleet, swarm, empty) = connected(directory, agents).await?;
    swarm.pace(PACE);
    head(&[&format!("{agents} agents"), ""])?;
    row(&["memory of the controller, nobody there", &mebibytes(empty)])?;
    memory(&fleet, "all connected", empty, agents)?;
    fleet.place(&[APPLICATION], ROLLING)?;
    rollouts(&fleet, agents, rounds).await?;
    memory(&fleet, "after the rollouts", empty, agents)?;
    changes(&fleet, &swarm, &format!("1.{rounds}.0"), rounds).await?;
    idle(&fleet, &swarm).await?;
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        restarts(&mut fleet, &swarm, signal, rounds).await?;
    }
    memory(&fleet, "at the end", empty, agents)
}

/// A controller and agents that are connected and have nothing to do, and the memory of the controller before.
async fn connected(directory: &Path, agents: usize) -> anyhow::Result<(Fleet, Swarm, u64)> {
    Swarm::make_room(agents)?;
    let fleet = start(directory).await?;
    let empty = resident(fleet.controller.id())?.all;
    note(&format!("{agents} agents join"));
    let swarm = Swarm::start(&fleet, agents).await?;
    swarm.connected(&fleet).await?;
    calm(&fleet).await?;
    Ok((fleet, swarm, empty))
}

/// Agents that are connected and have nothing to do.
async fn rest(directory: &Path, agents: usize, minutes: usize) -> anyhow::Result<()> {
    let (fleet, _swarm, empty) = connected(directory, agents).await?;
    head(&[&format!("{agents} agents"), ""])?;
    memory(&fleet, "all connected", empty, agents)?;
    for _ in 0..minutes {
        let (share, _) = minute(&fleet).await?;
        row(&["CPU of the controller in a minute", &share])?;
    }
    memory(&fleet, "at the end", empty, agents)
}

/// Only [`changes`].
async fn only_changes(directory: &Path, agents: usize, rounds: usize) -> anyhow::Result<()> {
    let (fleet, swarm, empty) = connected(directory, agents).await?;
    head(&[&format!("{agents} agents"), ""])?;
    memory(&fleet, "all connected", empty, agents)?;
    fleet.place(&[APPLICATION], AT_ONCE)?;
    for version in ["1.0.0", "1.1.0"] {
        publish(&fleet, version)?;
        fleet.desk.deploy(APPLICATION, version).await?;
    }
    changes(&fleet, &swarm, "1.1.0", rounds).await?;
    memory(&fleet, "after that", empty, agents)
}

/// Only [`restarts`], of agents that have nothing to do.
async fn only_restarts(directory: &Path, agents: usize, rounds: usize) -> anyhow::Result<()> {
    let (mut fleet, swarm, _) = connected(directory, agents).await?;
    head(&[&format!("{agents} agents"), ""])?;
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        restarts(&mut fleet, &swarm, signal, rounds).await?;
    }
    Ok(())
}

/// What the controller takes in a minute, and how many reports come meanwhile.
async fn minute(fleet: &Fleet) -> anyhow::Result<(String, u64)> {
    let before = (cpu(fleet.controller.id())?, fleet.metric("reports_total")?);
    tokio::time::sleep(IDLE).await;
    let used = (cpu(fleet.controller.id())? - before.0).as_secs_f64();
    let reports = fleet.metric("reports_total")? - before.1;
    let share = used / IDLE.as_secs_f64() * 100.0;
    Ok((format!("{share:.2} % of a core"), reports))
}

fn memory(fleet: &Fleet, when: &str, empty: u64, agents: usize) -> anyhow::Result<()> {
    let all = resident(fleet.controller.id())?.all;
    let each = all.saturating_sub(empty) as f64 / agents as f64 / 1000.0;
    let cell = format!("{}, {each:.1} KB an agent", mebibytes(all));
    row(&[&format!("memory of the controller, {when}"), &cell])
}

/// Waits until the controller is done with what was: less than a tenth of a core in a second, as at rest.
async fn calm(fleet: &Fleet) -> anyhow::Result<()> {
    let second = Duration::from_secs(1);
    for _ in 0..120 {
        let before = cpu(fleet.controller.id())?;
        tokio::time::sleep(second).await;
        if cpu(fleet.controller.id())? - before < second / 10 {
            return Ok(());
        }
    }
    bail!("the controller does not come to rest")
}

/// No rollout runs. At first all is well and stays so; then checks end now so, now so, and what each host says of itself
/// changes about every 30 s.
async fn idle(fleet: &Fleet, swarm: &Swarm) -> anyhow::Result<()> {
    calm(fleet).await?;
    for (every, what) in [
        (Duration::ZERO, "nothing happens"),
        (CHECKS, "checks end otherwise all the time"),
    ] {
        swarm.checks_change(every);
        tokio::time::sleep(CHECKS / 10).await;
        let (share, reports) = minute(fleet).await?;
        let cell = format!("{share}, with {reports} reports");
        row(&[&format!("CPU of the controller in a minute: {what}"), &cell])?;
    }
    swarm.checks_change(Duration::ZERO);
    Ok(())
}

/// Whole rollouts, one release after the other. The first one, onto empty hosts, does not count.
async fn rollouts(fleet: &Fleet, agents: usize, rounds: usize) -> anyhow::Result<()> {
    let (mut walls, mut costs, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..=rounds {
        let version = format!("1.{n}.0");
        publish(fleet, &version)?;
        calm(fleet).await?;
        let before = (cpu(fleet.controller.id())?, fleet.metric("commits_total")?);
        let ended = fleet.desk.deploy(APPLICATION, &version).await?;
        let used = cpu(fleet.controller.id())? - before.0;
        note(&format!("{version}: {:?}, CPU {used:?}", ended.wall));
        if n > 0 {
            walls.push(ended.wall);
            costs.push(used);
            commits.push(fleet.metric("commits_total")? - before.1);
        }
    }
    let each = median(&costs)?.as_secs_f64() * 1e6 / agents as f64;
    row(&["a rollout, wall", &spread(&walls)?])?;
    row(&["… CPU of the controller", &spread(&costs)?])?;
    row(&[
        "… CPU of the controller for each host",
        &format!("{each:.0} µs"),
    ])?;
    row(&["… commits", &median(&commits)?.to_string()])
}

/// All hosts are told to go back at once, and answer at once.
async fn changes(fleet: &Fleet, swarm: &Swarm, newest: &str, rounds: usize) -> anyhow::Result<()> {
    fleet.place(&[APPLICATION], AT_ONCE)?;
    swarm.pace(Pace::default());
    let (mut half, mut most, mut durable) = (vec![], vec![], vec![]);
    let (mut walls, mut costs) = (vec![], vec![]);
    for n in 0..=rounds {
        calm(fleet).await?;
        swarm.told();
        let (before, begun) = (cpu(fleet.controller.id())?, Instant::now());
        let answers = Answers::await_from(fleet.gauges(), swarm.agents());
        let ended = fleet.desk.roll_back(APPLICATION).await?;
        let answered = answers.most()?;
        let used = cpu(fleet.controller.id())? - before;
        let told = swarm.told();
        if n > 0 {
            let all = swarm.agents();
            let after = |percent: usize| {
                let place = (all * percent / 100).saturating_sub(1).min(told.len() - 1);
                told[place].duration_since(begun)
            };
            ensure!(told.len() >= all, "{} of {all} hosts were told", told.len());
            half.push(after(50));
            most.push(after(99));
            durable.push(answered.duration_since(begun));
            walls.push(ended.wall);
            costs.push(used);
        }
        fleet.desk.deploy(APPLICATION, newest).await?;
    }
    swarm.pace(PACE);
    row(&["all are told to go back: 50 % know", &spread(&half)?])?;
    row(&["… 99 % know", &spread(&most)?])?;
    row(&[
        "… 99 % have answered, and that is durable",
        &spread(&durable)?,
    ])?;
    row(&[
        "… all have, and whoever asked for it knows",
        &spread(&walls)?,
    ])?;
    row(&["… CPU of the controller", &spread(&costs)?])
}

async fn restarts(
    fleet: &mut Fleet,
    swarm: &Swarm,
    signal: Signal,
    rounds: usize,
) -> anyhow::Result<()> {
    let (mut from_signal, mut from_start, mut costs, mut most) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        // An agent whose line ends sooner waits as after a line that never was.
        tokio::time::sleep(STABLE).await;
        calm(fleet).await?;
        let tries = Tries::count();
        let begun = Instant::now();
        let started = fleet.restart(signal)?;
        swarm.connected(fleet).await?;
        from_signal.push(begun.elapsed());
        from_start.push(started.elapsed());
        costs.push(cpu(fleet.controller.id())?);
        let steps = tries.each_second()?;
        note(&format!("{signal}: tries in each second: {steps:?}"));
        most.push(steps.into_iter().max().unwrap_or(0));
    }
    row(&[
        &format!("{signal}: all are back after"),
        &spread(&from_signal)?,
    ])?;
    row(&["… from the new process's start on", &spread(&from_start)?])?;
    row(&["… its CPU until then", &spread(&costs)?])?;
    row(&["… most tries in one second", &median(&most)?.to_string()])
}
