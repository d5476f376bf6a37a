//! `backup`, `restore`, `compact`, `check`: what is done to a store at rest.

use super::{Failure, exe, note};
use anyhow::Context;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};
use tamer_controller::config::{Config, Paths};
use tamer_controller::identity::ca::Ca;
use tamer_controller::store::sled::SledStore;
use tamer_controller::store::{backup as files, epoch, maintain};
use tamer_controller::{audit, backups};
use tamer_core::moment::Moment;
use tamer_kit::clock;
use tamer_release::trust::{PublishedTeam, SigningKey};

pub(super) const RESTORE: &str = "\
Put a backup of the store in place; the controller must be stopped.

The store that is there, whatever its state, is set aside whole. The controller then starts held,
under a new epoch: it sends nothing, rollouts are paused, and tokens are void, until
`tamer-controller unhold`. Signed metadata, artifacts and the audit log lie outside the store and
stay as they are.";

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup; without it, the newest whole one in the directory of the automatic backups
    file: Option<PathBuf>,
    /// Why; it stands in the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) fn backup(config: &Config, out: &mut dyn Write) -> Result<(), Failure> {
    let store = SledStore::open(&config.paths().store, &exe()?)?;
    let file = backups::make(&store, config, clock::now())?;
    writeln!(out, "{}", file.display())?;
    Ok(())
}

pub(super) fn restore(
    config: &Config,
    restore: &Restore,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let paths = config.paths();
    let file = match &restore.file {
        Some(file) => file.clone(),
        None => {
            let newest = files::newest(&paths.backups)?;
            let (file, _) = newest.with_context(|| {
                format!("there is no whole backup in {}", paths.backups.display())
            })?;
            file
        }
    };
    let done = maintain::restore(&file, &paths.store, &paths.state)?;
    let object = format!("{}, epoch {}", file.display(), done.epoch);
    note(&paths, "store.restore", &object, restore.reason.clone())?;
    writeln!(out, "restored {}", file.display())?;
    let when = date(done.contents.written);
    let objects = done.contents.objects;
    writeln!(out, "  it holds {objects} objects, as of {when}")?;
    if let Some(place) = done.set_aside {
        writeln!(
            out,
            "  the store that was there lies in {}",
            place.display()
        )?;
    }
    writeln!(out, "  the controller starts held, in epoch {}", done.epoch)?;
    writeln!(
        out,
        "next:\n  tamer-controller serve           hosts say what they really run"
    )?;
    writeln!(
        out,
        "  tamer hosts                      shows the difference"
    )?;
    writeln!(
        out,
        "  tamer-controller unhold          with the controller stopped, lets it go on"
    )?;
    Ok(())
}

pub(super) fn compact(config: &Config, out: &mut dyn Write) -> Result<(), Failure> {
    let (before, after) = maintain::compact(&config.paths().store, &exe()?)?;
    let (live, was, is) = (after.live_bytes, before.disk_bytes, after.disk_bytes);
    writeln!(
        out,
        "{live} bytes of live data: {was} bytes on disk before, {is} now"
    )?;
    Ok(())
}

/// One thing that is looked at: what it is, and what was found or what is wrong.
type Finding = (&'static str, anyhow::Result<String>);

pub(super) fn check(config: &Config, out: &mut dyn Write) -> Result<(), Failure> {
    let mut bad = 0;
    for (what, found) in findings(&config.paths()) {
        match found {
            Ok(found) => writeln!(out, "ok    {what:12} {found}")?,
            Err(error) => {
                bad += 1;
                writeln!(out, "FAIL  {what:12} {error:#}")?;
            }
        }
    }
    match bad {
        0 => Ok(()),
        1 => Err(anyhow::anyhow!("1 thing is not as it should be").into()),
        n => Err(anyhow::anyhow!("{n} things are not as they should be").into()),
    }
}

fn findings(paths: &Paths) -> Vec<Finding> {
    let store = || {
        let report = maintain::check(&paths.store, &exe()?)?;
        let (revision, objects) = (report.revision, report.objects);
        Ok(format!("whole: {objects} objects, revision {revision}"))
    };
    let held = || {
        let epoch = epoch::read(&paths.state)?;
        Ok(match epoch::held(&paths.state)? {
            Some(why) => format!("epoch {epoch}; held: {why}; `tamer-controller unhold` ends that"),
            None => format!("epoch {epoch}, not held"),
        })
    };
    let ca = || {
        Ok(format!(
            "fingerprint {}",
            Ca::load(&paths.ca)?.fingerprint()
        ))
    };
    let online = || {
        let snapshot = SigningKey::load(&paths.snapshot_key)?;
        let timestamp = SigningKey::load(&paths.timestamp_key)?;
        let (snapshot, timestamp) = (snapshot.public().id(), timestamp.public().id());
        Ok(format!(
            "snapshot {}, timestamp {}",
            &snapshot[..12],
            &timestamp[..12]
        ))
    };
    let trust = || {
        Ok(match PublishedTeam::new(&paths.trust).current()? {
            Some(root) => format!("the team's root is at version {}", root.current().version()),
            None => "no root yet: `tamer trust init` registers one".to_owned(),
        })
    };
    let audit = || {
        let lines = audit::verify(&paths.audit, None)?.head.line;
        Ok(format!("every link holds, up to line {lines}"))
    };
    let backup = || {
        Ok(match files::newest(&paths.backups)? {
            Some((_, contents)) => format!("the newest whole one is of {}", date(contents.written)),
            None => "none yet".to_owned(),
        })
    };
    vec![
        ("store", store()),
        ("state", held()),
        ("CA", ca()),
        ("online keys", online()),
        ("trust", trust()),
        ("audit log", audit()),
        ("backups", backup()),
    ]
}

fn date(moment: Moment) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(moment.0);
    time::OffsetDateTime::from(time)
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_else(|_| format!("{} ms after 1970", moment.0))
}
