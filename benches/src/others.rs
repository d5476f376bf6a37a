//! What people use now, as often as there are hosts: without a network, without a check, and without anything
//! that says how it went. As many processes at once as there are cores.

use crate::measure::{self, Cost};
use crate::tree;
use anyhow::{Context as _, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Unpacks the archive `$1` into `$to`.
pub const TAR: &str = "mkdir $to && tar --zstd -xf \"$1\" -C $to";

/// Copies the tree `$1`.
pub const COPY: &str = "cp -r \"$1\" $to";

/// Copies the tree `$1` where there is nothing yet.
pub const RSYNC: &str = "rsync -a \"$1/\" $to/";

/// Takes from the release before what has the same size and time, by hard links.
pub const RSYNC_BY_TIME: &str = "rsync -a --link-dest=\"$before/\" \"$1/\" $to/";

/// Takes from the release before what has the same content, by hard links.
pub const RSYNC_BY_CONTENT: &str = "rsync -a --checksum --link-dest=\"$before/\" \"$1/\" $to/";

/// Makes `current` a link to what was there before, by a rename.
pub const FLIP: &str = "ln -s \"$before\" $host/new && mv -T $host/new $host/current";

/// Runs a script for each of so many hosts. `place` has a directory for each, `$host`; there the script makes
/// the directory `$to`, and may use `$before`, which the script of the call before has made. `words` are its
/// arguments.
///
/// # Errors
/// It fails, or makes nothing.
pub fn each(hosts: usize, place: &Path, script: &str, words: &[&Path]) -> anyhow::Result<Cost> {
    let first = place.join("1");
    for n in 1..=hosts {
        fs::create_dir_all(place.join(n.to_string()))?;
    }
    let made = fs::read_dir(&first)?.count();
    let wrapped = format!(
        "seq {hosts} | xargs -P \"$(nproc)\" -I{{}} env host={place}/{{}} to={place}/{{}}/{made} before={place}/{{}}/{before} \
         sh -ec '{script}' sh \"$@\"",
        place = place.display(),
        before = made.saturating_sub(1),
    );
    let mut command = Command::new("sh");
    let cost = measure::run(command.args(["-ec", &wrapped, "sh"]).args(words))?;
    let there = place.join(hosts.to_string());
    ensure!(
        tree::size(&there)?.0 > 0 && fs::read_dir(&there)?.count() > made,
        "`{script}` made nothing"
    );
    Ok(cost)
}

/// Demands that each host's newest tree is the same as this one.
///
/// # Errors
/// One is not.
pub fn same(hosts: usize, place: &Path, source: &Path) -> anyhow::Result<()> {
    for n in 1..=hosts {
        let host = place.join(n.to_string());
        let newest = fs::read_dir(&host)?.count().checked_sub(1);
        let newest = newest.context("nothing was made")?.to_string();
        tree::same(source, &host.join(newest))?;
    }
    Ok(())
}
