//! The controller's memory: a fleet that is given one release of a real tree after the other.
//!
//! `fleet_memory TREE [HOSTS] [DIRECTORY]`: 30 agents without root by default, everything on `/dev/shm`. Peaks are the
//! kernel's (`VmHWM`) of one step, program text included; what is there afterwards is told by its parts.

use anyhow::bail;
use std::path::Path;
use tamer_bench::fleet::Fleet;
use tamer_bench::measure::{head, mebibytes, note, row};
use tamer_bench::process::{forget_peak, peak, resident};
use tamer_bench::tree;

const APPLICATION: &str = "large";

/// How many releases there are, the first one included.
const RELEASES: usize = 6;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (source, hosts, directory) = match &words[..] {
        [tree] => (tree, 30, "/dev/shm"),
        [tree, hosts] => (tree, hosts.parse()?, "/dev/shm"),
        [tree, hosts, directory] => (tree, hosts.parse()?, directory.as_str()),
        _ => bail!("usage: fleet_memory TREE [HOSTS] [DIRECTORY]"),
    };
    note(&format!("starting a controller and {hosts} agents"));
    let fleet = Fleet::start(Path::new(directory), hosts, &[APPLICATION]).await?;
    let large = fleet.room("publish")?.join("large");
    tree::copy(source.as_ref(), &large)?;
    let controller = fleet.controller.id();
    head(&[
        "what",
        "the controller's peak",
        "afterwards",
        "its own of that",
    ])?;
    let told = |what: &str| -> anyhow::Result<()> {
        let now = resident(controller)?;
        row(&[
            what,
            &mebibytes(peak(controller)?),
            &mebibytes(now.all),
            &mebibytes(now.own),
        ])?;
        forget_peak(controller)
    };
    told(&format!("{hosts} agents have joined"))?;
    for n in 0..RELEASES {
        let version = format!("1.{n}.0");
        if n > 0 {
            tree::change(&large, &format!("# {version}"))?;
        }
        fleet.desk.publish(APPLICATION, &version, &large)?;
        fleet.settle().await?;
        told(&format!("{version} is published"))?;
        fleet.desk.deploy(APPLICATION, &version).await?;
        fleet.runs(APPLICATION, &version)?;
        fleet.settle().await?;
        told(&format!("{version} is deployed"))?;
    }
    fleet.desk.roll_back(APPLICATION).await?;
    fleet.settle().await?;
    told("back")
}
