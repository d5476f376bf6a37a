//! `backup`, `compact`, `check`: what is done to a controller at rest; `check` also to a running one.

use super::{Failure, exe};
use anyhow::anyhow;
use std::io::Write;
use tamer_controller::config::Config;
use tamer_controller::identity::authorities::{Authorities, Phase};
use tamer_controller::mirror::Plan;
use tamer_controller::revocations::Revocation;
use tamer_controller::store::sled::SledStore;
use tamer_controller::store::{StoreError, backup as files, epoch, maintain};
use tamer_controller::{audit, backups, chain, utc};
use tamer_core::schema::Record;
use tamer_kit::clock;
use tamer_release::trust::{PublishedTeam, SigningKey};

pub(super) fn backup(config: &Config, out: &mut dyn Write) -> Result<(), Failure> {
    let now = clock::now();
    let store = match SledStore::open(&config.paths().store, &exe()?) {
        Err(error @ StoreError::InUse { .. }) => {
            let every = tamer_core::moment::Span(config.backups.every);
            return Err(anyhow!(error)
                .context(format!(
                    "the controller runs and makes its own backups, one every {every}, in {}; its mirror there \
                     is never older than a minute",
                    config.backups.directory.display()
                ))
                .into());
        }
        opened => opened?,
    };
    // First, so that no backup of the store lies beside a mirror that is older.
    Plan::new(config).everything(now)?;
    let file = backups::make(&store, config, now)?;
    writeln!(out, "{}", file.display())?;
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
    for (what, found) in findings(config) {
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

fn findings(config: &Config) -> Vec<Finding> {
    let paths = config.paths();
    let store = || {
        let report = match maintain::check(&paths.store, &exe()?) {
            // It reads all of it when it starts.
            Err(StoreError::InUse { .. }) => {
                return Ok(
                    "in use by the running controller: to have it read whole, systemctl stop \
                           tamer-controller first"
                        .to_owned(),
                );
            }
            report => report?,
        };
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
        let all = Authorities::load(&paths.ca)?;
        let fingerprint = all.shown().fingerprint();
        Ok(match all.phase() {
            Phase::Steady => format!("fingerprint {fingerprint}"),
            _ => format!("fingerprint {fingerprint}; a rotation is under way: `tamer ca status`"),
        })
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
    let revocations = || {
        let mut keys = 0;
        let count = &mut |_: Revocation| keys += 1;
        if paths.revocations.exists() {
            chain::read(&paths.revocations, None, count)?;
        }
        Ok(format!("every link holds, {keys} keys are shut out"))
    };
    let migrations = || {
        let mut records = 0;
        let count = &mut |_: Record| records += 1;
        if paths.migrations.exists() {
            chain::read(&paths.migrations, None, count)?;
        }
        Ok(format!("every link holds, {records} records"))
    };
    let mirror = || {
        Ok(match Plan::new(config).check()? {
            Some(as_of) => format!("{} was whole at {}", paths.mirror.display(), utc(as_of)),
            None => "none yet: the controller makes it when it runs".to_owned(),
        })
    };
    let backup = || {
        Ok(match files::newest(&paths.backups)? {
            Some((_, contents)) => format!("the newest whole one is of {}", utc(contents.written)),
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
        ("revocations", revocations()),
        ("migrations", migrations()),
        ("backups", backup()),
        ("mirror", mirror()),
    ]
}
