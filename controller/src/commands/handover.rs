//! Root hands over: what is done to a controller's data is done as the user to whom it belongs.
//!
//! The service runs as a user of its own (`tamer-controller`). A file of root's among its data would stop
//! it, and root must not follow what another user may have put there. So a command that root gives goes
//! on as the owner of the data directory; the audit log still says who gave it.

use anyhow::Context;
use nix::unistd::{Gid, Uid, User, initgroups, setgid, setgroups, setuid};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::sync::OnceLock;
use tamer_kit::durable;

/// The service's user, where the package is installed.
const USER: &str = "tamer-controller";

/// Who gave the command; noted before it is handed over.
static GIVEN_BY: OnceLock<String> = OnceLock::new();

/// What may be read after the handover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// What the owner of the data may read.
    Own,
    /// Everything, as root may: what a controller is restored from need not be its user's.
    All,
}

/// The user that typed the command.
pub(super) fn given_by() -> &'static str {
    GIVEN_BY.get_or_init(|| name(Uid::current()))
}

/// Goes on as the owner of `data`, for good, where this is root's process and `data` another user's.
/// `usual` where this is the machine's own controller, and not one with a configuration file that was
/// named: its data directory is made here, for its user, where there is none.
/// Must come before anything is opened there and before there are threads.
///
/// # Errors
/// `data` cannot be looked at or made, or the kernel refuses.
pub(super) fn to_owner(data: &Path, usual: bool, reading: Reading) -> anyhow::Result<()> {
    given_by();
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = match std::fs::metadata(data) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let user = User::from_name(USER).ok().flatten();
            let (true, Some(user)) = (usual, user) else {
                // `init` makes it.
                return Ok(());
            };
            durable::create_dir_all(data.parent().unwrap_or(data), 0o755)?;
            durable::create_dir_all(data, 0o700)?;
            chown(data, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .with_context(|| format!("cannot give {} to {USER}", data.display()))?;
            (user.uid, user.gid)
        }
        found => {
            let found = found.with_context(|| format!("cannot look at {}", data.display()))?;
            (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()))
        }
    };
    let (uid, gid) = owner;
    if uid.is_root() {
        return Ok(());
    }
    become_user(uid, gid, reading).with_context(|| {
        format!(
            "{} belongs to {}, and root could not go on as that user",
            data.display(),
            name(uid)
        )
    })
}

/// The groups first: afterwards this may not change them any more.
fn become_user(uid: Uid, gid: Gid, reading: Reading) -> anyhow::Result<()> {
    set_keep_capabilities(reading == Reading::All)?;
    match User::from_uid(uid).ok().flatten() {
        Some(user) => {
            initgroups(&std::ffi::CString::new(user.name)?, user.gid)?;
            setgid(user.gid)?;
        }
        None => {
            setgroups(&[gid])?;
            setgid(gid)?;
        }
    }
    setuid(uid)?;
    if reading == Reading::All {
        let kept = CapabilitySets {
            effective: CapabilitySet::DAC_READ_SEARCH,
            permitted: CapabilitySet::DAC_READ_SEARCH,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, kept)?;
    }
    Ok(())
}

fn name(uid: Uid) -> String {
    let user = User::from_uid(uid).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}
