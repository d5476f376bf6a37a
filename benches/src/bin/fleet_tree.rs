//! Getting a real tree onto hosts, beside what people use now: all of it, with 1 % of its files changed, with
//! nothing changed, and back.
//!
//! `fleet_tree TREE [HOSTS] [DIRECTORY]`: each round has a fleet of its own, of real processes on loopback,
//! and each of its steps is done by every side in turn. The first round is thrown away.

use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tamer_bench::fleet::Fleet;
use tamer_bench::measure::{self, Cost, head, mebibytes, median, megabytes, note, row, spread};
use tamer_bench::{others, tree};

const APPLICATION: &str = "large";

/// How many rounds count.
const ROUNDS: usize = 5;

/// How many of a hundred files are changed.
const PERCENT: usize = 1;

/// What is done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    First,
    Changed,
    Unchanged,
    Back,
}

/// What Tamer took for a step.
#[derive(Debug, Clone, Copy)]
struct Taken {
    cost: Cost,
    /// The controller's part of the CPU time.
    controller_cpu: Duration,
    /// Bytes of archives and manifests, to all hosts.
    sent: u64,
    /// The most memory of an agent, and the controller's most.
    peaks: (u64, u64),
}

/// Everything that was measured.
#[derive(Default)]
struct Figures {
    tamer: BTreeMap<Step, Vec<Taken>>,
    others: BTreeMap<(Step, &'static str), Vec<Cost>>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (source, hosts, directory) = match &words[..] {
        [tree] => (tree, 30, "/dev/shm"),
        [tree, hosts] => (tree, hosts.parse()?, "/dev/shm"),
        [tree, hosts, directory] => (tree, hosts.parse()?, directory.as_str()),
        _ => bail!("usage: fleet_tree TREE [HOSTS] [DIRECTORY]"),
    };
    let mut figures = Figures::default();
    for n in 0..=ROUNDS {
        note(&format!("{hosts} hosts, round {n} of {ROUNDS}"));
        let mut of_round = Figures::default();
        round(source.as_ref(), hosts, directory.as_ref(), &mut of_round).await?;
        if n > 0 {
            for (step, taken) in of_round.tamer {
                figures.tamer.entry(step).or_default().extend(taken);
            }
            for (side, costs) in of_round.others {
                figures.others.entry(side).or_default().extend(costs);
            }
        }
    }
    let (files, bytes) = tree::size(source.as_ref())?;
    print(&figures, hosts, files, bytes)
}

/// Every step once, by every side.
async fn round(
    source: &Path,
    hosts: usize,
    directory: &Path,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let fleet = Fleet::start(directory, hosts, &[APPLICATION]).await?;
    let room = fleet.room("publish")?;
    let (tree, archive) = (room.join("large"), room.join("large.tar.zst"));
    tree::copy(source, &tree)?;
    let place = |name: &str| fleet.room("others").map(|room| room.join(name));
    let (tar, copy) = (place("tar")?, place("cp")?);
    let (by_time, by_content) = (place("rsync")?, place("rsync-checksum")?);
    let mut other = |step, name, place: &Path, script, words: &[&Path]| -> anyhow::Result<()> {
        let cost = others::each(hosts, place, script, words)?;
        figures.others.entry((step, name)).or_default().push(cost);
        Ok(())
    };

    for (step, version) in [
        (Step::First, "1.0.0"),
        (Step::Changed, "1.1.0"),
        (Step::Unchanged, "1.2.0"),
    ] {
        if step == Step::Changed {
            tree::change_some(&tree, PERCENT, &format!("# {version}"))?;
        }
        fleet.desk.publish(APPLICATION, version, &tree)?;
        let taken = watched(&fleet, version, async || {
            fleet.desk.ask_for(APPLICATION, version).await
        })
        .await?;
        figures.tamer.entry(step).or_default().push(taken);

        if step == Step::Unchanged {
            other(step, RSYNC, &by_content, others::RSYNC_BY_CONTENT, &[&tree])?;
            other(step, FAST_RSYNC, &by_time, others::RSYNC_BY_TIME, &[&tree])?;
            continue;
        }
        packed(&tree, &archive)?;
        other(step, TAR, &tar, others::TAR, &[&archive])?;
        other(step, COPY, &copy, others::COPY, &[&tree])?;
        let first = step == Step::First;
        let script = |script| if first { others::RSYNC } else { script };
        let (content, time) = (others::RSYNC_BY_CONTENT, others::RSYNC_BY_TIME);
        other(step, RSYNC, &by_content, script(content), &[&tree])?;
        if first {
            others::each(hosts, &by_time, others::RSYNC, &[&tree])?;
        } else {
            other(step, FAST_RSYNC, &by_time, time, &[&tree])?;
        }
        for place in [&tar, &copy, &by_content, &by_time] {
            others::same(hosts, place, &tree)?;
        }
        // These two need nothing of what they made before, and a tmpfs has only so much room.
        for place in [&tar, &copy] {
            fs::remove_dir_all(place)?;
        }
        for agent in &fleet.agents {
            tree::same(&tree, &agent.root(APPLICATION).join("current/"))?;
        }
    }
    let taken = watched(&fleet, "1.0.0", async || {
        fleet.desk.roll_back(APPLICATION).await.map(|it| it.wall)
    })
    .await?;
    figures.tamer.entry(Step::Back).or_default().push(taken);
    other(Step::Back, FLIP, &by_content, others::FLIP, &[])?;
    Ok(())
}

const TAR: &str = "`tar --zstd -xf`, of all of it";
const COPY: &str = "`cp -r`";
const RSYNC: &str = "`rsync -a --checksum --link-dest`";
const FAST_RSYNC: &str = "`rsync -a --link-dest`, by size and time";
const FLIP: &str = "`ln -s`, `mv -T`";

fn packed(tree: &Path, archive: &Path) -> anyhow::Result<()> {
    if archive.exists() {
        fs::remove_file(archive)?;
    }
    let mut tar = Command::new("tar");
    tar.arg("--zstd").arg("-cf").arg(archive);
    measure::run(tar.arg("-C").arg(tree).arg("."))?;
    Ok(())
}

/// What a step takes. The CPU time is counted until nobody has anything left to do.
async fn watched(
    fleet: &Fleet,
    version: &str,
    step: impl AsyncFnOnce() -> anyhow::Result<Duration>,
) -> anyhow::Result<Taken> {
    fleet.settle().await?;
    fleet.forget_peaks()?;
    let (before, sent) = (fleet.cpu()?, fleet.sent()?);
    let begun = Instant::now();
    let wall = step().await?;
    note(&format!(
        "{version}: {:.3} s of {:.3}",
        wall.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    ));
    fleet.settle().await?;
    let after = fleet.cpu()?;
    let controller_cpu = after.0.saturating_sub(before.0);
    let cpu = controller_cpu + after.1.saturating_sub(before.1);
    // A version that changes nothing leaves the release that is there, under the name that it was made for.
    if version != "1.2.0" {
        fleet.runs(APPLICATION, version)?;
    }
    Ok(Taken {
        cost: Cost { wall, cpu },
        controller_cpu,
        sent: fleet.sent()? - sent,
        peaks: fleet.peaks()?,
    })
}

fn print(figures: &Figures, hosts: usize, files: usize, bytes: u64) -> anyhow::Result<()> {
    let steps = [
        (Step::First, "the first release".to_owned()),
        (Step::Changed, format!("{PERCENT} % of the files changed")),
        (Step::Unchanged, "nothing changed".to_owned()),
        (Step::Back, "back".to_owned()),
    ];
    println(&format!(
        "{hosts} host{}, {files} files, {}; median of {ROUNDS}:\n",
        if hosts == 1 { "" } else { "s" },
        megabytes(bytes)
    ))?;
    head(&[
        "step",
        "side",
        "wall",
        "CPU",
        "wall and CPU, as a share of `tar --zstd`",
        "to each host",
        "most memory of an agent, of the controller",
    ])?;
    for (step, name) in steps {
        let taken = figures.tamer.get(&step).context("a step is missing")?;
        let costs: Vec<Cost> = taken.iter().map(|it| it.cost).collect();
        let base = figures.others.get(&(step, TAR));
        let sent: Vec<u64> = taken.iter().map(|it| it.sent / hosts as u64).collect();
        let most = taken.iter().map(|it| it.peaks.0).max().unwrap_or(0);
        let controller = taken.iter().map(|it| it.peaks.1).max().unwrap_or(0);
        let own: Vec<Duration> = taken.iter().map(|it| it.controller_cpu).collect();
        row(&[
            &name,
            "Tamer: verified, synced, checked, reported",
            &walls(&costs)?,
            &format!("{}, the controller's {}", cpus(&costs)?, spread(&own)?),
            &shares(&costs, base)?,
            &format!("{} bytes", median(&sent)?),
            &format!("{}, {}", mebibytes(most), mebibytes(controller)),
        ])?;
        for ((of, side), costs) in &figures.others {
            if *of == step {
                let shares = shares(costs, base)?;
                row(&["", side, &walls(costs)?, &cpus(costs)?, &shares, "", ""])?;
            }
        }
    }
    Ok(())
}

fn println(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}").context("cannot print")
}

fn walls(costs: &[Cost]) -> anyhow::Result<String> {
    spread(&costs.iter().map(|it| it.wall).collect::<Vec<_>>())
}

fn cpus(costs: &[Cost]) -> anyhow::Result<String> {
    spread(&costs.iter().map(|it| it.cpu).collect::<Vec<_>>())
}

/// The medians as shares of another side's; nothing where that has no such step.
fn shares(costs: &[Cost], base: Option<&Vec<Cost>>) -> anyhow::Result<String> {
    let Some(base) = base else {
        return Ok(String::new());
    };
    let ratio = |of: fn(&Cost) -> Duration| -> anyhow::Result<f64> {
        let middle = |all: &[Cost]| median(&all.iter().map(of).collect::<Vec<_>>());
        Ok(middle(costs)?.as_secs_f64() / middle(base)?.as_secs_f64())
    };
    Ok(format!(
        "{:.2}, {:.2}",
        ratio(|it| it.wall)?,
        ratio(|it| it.cpu)?
    ))
}
