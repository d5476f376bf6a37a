//! `restore`: a backup of the store put in place here, or all of a controller brought onto this machine.

use super::{Failure, note};
use anyhow::{Context, anyhow};
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};
use tamer_controller::audit::AuditLog;
use tamer_controller::config::{Config, DEFAULT_FILE, Paths};
use tamer_controller::mirror::{Source, is_occupied, set_aside};
use tamer_controller::store::maintain::{self, Restored};
use tamer_controller::store::{StoreError, backup as files, epoch};
use tamer_controller::utc;
use tamer_kit::{clock, durable};

pub(super) const RESTORE: &str = "\
Put a backup of the store in place; or, with --from, a whole controller. It must be stopped.

With --from the directory of the backups, or a copy of it, is all that is needed, also on a machine
that never was a controller: the newest whole backup of the store goes in place, and from the mirror
beside it the CA, the online keys, signed metadata, releases, the audit log and who was shut out. The
settings are taken from there as well where there are none. Without --from only the store is put back,
and everything that lies outside it stays as it is. Given by root, it goes on as the user whom the data
directory belongs to, who must be able to read DIRECTORY.

What is there already is set aside whole, never deleted; with --from only if --force says so.

The controller then starts held, under a new epoch: it sends nothing, rollouts are paused, and tokens are
void, until `tamer-controller unhold`. After that hosts stay as they are until somebody decides for each
environment: `tamer hosts` says what really runs, and what to type.";

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup; without it, the newest whole one
    file: Option<PathBuf>,
    /// Restore all of a controller from this directory of backups
    #[arg(long, value_name = "DIRECTORY")]
    from: Option<PathBuf>,
    /// Set a controller aside that is there already
    #[arg(long, requires = "from")]
    force: bool,
    /// Why; it stands in the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Restore {
    /// Puts the settings in place that the mirror holds, where this machine has none.
    pub(super) fn settings(&self, file: Option<&Path>, out: &mut dyn Write) -> anyhow::Result<()> {
        let Some(from) = &self.from else {
            return Ok(());
        };
        let file = file.unwrap_or(Path::new(DEFAULT_FILE));
        let kept = Source::settings(from);
        if file.exists() || !kept.exists() {
            return Ok(());
        }
        let text =
            std::fs::read(&kept).with_context(|| format!("cannot read {}", kept.display()))?;
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
        durable::create_dir_all(dir.unwrap_or(Path::new(".")), 0o755)?;
        // Whoever runs the controller must be able to read it; there is no secret in it.
        durable::replace(file, &text, 0o644)?;
        writeln!(out, "wrote {} from the mirror", file.display())?;
        Ok(())
    }
}

pub(super) fn restore(
    config: &Config,
    restore: &Restore,
    start: &str,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let paths = config.paths();
    let (file, done) = match &restore.from {
        None => store(&paths, restore.file.as_deref())?,
        Some(from) => everything(&paths, from, restore, out)?,
    };
    let object = format!("{}, epoch {}", file.display(), done.epoch);
    note(config, "store.restore", &object, restore.reason.clone())?;
    writeln!(out, "restored {}", file.display())?;
    let when = utc(done.contents.written);
    let objects = done.contents.objects;
    writeln!(out, "  it holds {objects} objects, as of {when}")?;
    if let Some(place) = done.set_aside {
        let place = place.display();
        writeln!(out, "  the store that was there lies in {place}")?;
    }
    writeln!(out, "  the controller starts held, in epoch {}", done.epoch)?;
    let next = [
        (start, "hosts say what they really run"),
        ("tamer hosts", "shows the difference"),
        (
            "tamer-controller unhold",
            "with the controller stopped, lets it go on",
        ),
    ];
    writeln!(out, "next:")?;
    for (command, why) in next {
        writeln!(out, "  {command:40} {why}")?;
    }
    Ok(())
}

/// The store alone.
fn store(paths: &Paths, file: Option<&Path>) -> anyhow::Result<(PathBuf, Restored)> {
    let file = match file {
        Some(file) => file.to_owned(),
        None => {
            let newest = files::newest(&paths.backups)?;
            let (file, _) = newest.with_context(|| {
                format!("there is no whole backup in {}", paths.backups.display())
            })?;
            file
        }
    };
    let done = maintain::restore(&file, &paths.store, &paths.state, clock::now())?;
    Ok((file, done))
}

/// A whole controller: the CA comes last, so that one that was cut off does not start.
fn everything(
    paths: &Paths,
    from: &Path,
    restore: &Restore,
    out: &mut dyn Write,
) -> Result<(PathBuf, Restored), Failure> {
    let source = Source::find(from, restore.file.as_deref())?;
    files::verify(&source.backup)?;
    let mut known = source.epoch;
    if is_occupied(paths) {
        if !restore.force {
            return Err(Failure::Usage(anyhow!(
                "there is a controller in {} already: nothing was changed; --force sets it aside",
                paths.data.display()
            )));
        }
        refuse_running(paths)?;
        // One that can't be read is no reason not to restore: epochs are made from the clock, too.
        known = known.max(epoch::read(&paths.state).unwrap_or(0));
        let place = set_aside(paths)?;
        writeln!(
            out,
            "set the controller that was there aside, in {}",
            place.display()
        )?;
    }
    epoch::hold(&paths.state, &format!("restored from {}", from.display()))?;
    epoch::raise(&paths.state, known)?;
    source.put_in_place(paths)?;
    let done = maintain::restore(&source.backup, &paths.store, &paths.state, clock::now())?;
    source.put_ca_in_place(paths)?;
    if let Some(as_of) = source.as_of() {
        let as_of = utc(as_of);
        writeln!(
            out,
            "keys, signed metadata, releases and logs are as of {as_of} or later"
        )?;
    }
    Ok((source.backup, done))
}

/// A running controller holds its audit log.
fn refuse_running(paths: &Paths) -> anyhow::Result<()> {
    if paths.audit.exists() {
        AuditLog::open(&paths.audit).context("is the controller stopped?")?;
    }
    match maintain::lock(&paths.store) {
        Err(error @ StoreError::InUse { .. }) => Err(error).context("stop the controller first"),
        _ => Ok(()),
    }
}
