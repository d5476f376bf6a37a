//! `tamer-controller rotate-online-keys`: new keys for snapshots and timestamps. The old ones stay
//! beside them, and sign for every repository whose root names them still.

use super::{Failure, note};
use anyhow::{Context, anyhow};
use std::io::Write;
use std::path::Path;
use tamer_controller::config::{Config, old_key};
use tamer_controller::publications::Publications;
use tamer_kit::durable;
use tamer_release::trust::SigningKey;

/// Says what the command does, and what comes after it.
pub(super) const ROTATE: &str = "\
Make new online keys, for snapshots and timestamps.

The old ones stay beside the new ones, and sign as long as the team's roots name them. Start the
controller anew, then let the team's roots name the new keys with `tamer trust rotate online`; servers
follow by themselves. If the old keys were stolen, nothing they sign is worth anything from then on.";

pub(super) fn rotate(
    config: &Config,
    start: &str,
    reason: Option<String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let paths = config.paths();
    let keys = [&paths.snapshot_key, &paths.timestamp_key];
    // A third pair would leave repositories without anybody who signs for them.
    for key in keys {
        let (old, now) = (old_key(key), SigningKey::load(key)?);
        if !old.exists() {
            continue;
        }
        let old = SigningKey::load(&old)?;
        if old.public() == now.public() {
            // An earlier run was cut off between its two steps.
            continue;
        }
        let naming = Publications::naming(&paths.trust, old.public())?;
        if !naming.is_empty() {
            return Err(Failure::Usage(anyhow!(
                "the roots of {} name the keys that the last rotation took out: \
                 run `tamer trust rotate online` first",
                naming.join(", ")
            )));
        }
    }
    // First of all: a running controller has the log, and its keys must not change under it.
    note(config, "online.rotate", "online keys", reason)
        .context("the controller must be stopped; no key was changed")?;
    for key in keys {
        let now = SigningKey::load(key)?;
        replace(&old_key(key), &now)?;
        let new = SigningKey::generate()?;
        replace(key, &new)?;
        let id = new.public().id();
        writeln!(out, "{}  {}", key.display(), &id[..16])?;
    }
    writeln!(
        out,
        "next: start the controller ({start}), then: tamer trust rotate online"
    )?;
    Ok(())
}

/// Under its name the whole of the old key, or of the new one, at any instant.
fn replace(path: &Path, key: &SigningKey) -> anyhow::Result<()> {
    Ok(durable::replace(path, key.to_pem().as_bytes(), 0o600)?)
}
