//! Root hands over: what is done to a controller's data is done as the user to whom it belongs.
//!
//! The service runs as a user of its own (`tamer-controller`). A file of root's among its data would stop
//! it, and root must not follow what another user may have put there. So a command that root gives goes
//! on as the owner of the data directory; the audit log still says who gave it.

use anyhow::Context;
use nix::unistd::{Gid, Uid, User, initgroups, setgid, setgroups, setuid};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

/// Who gave the command; noted before it is handed over.
static GIVEN_BY: OnceLock<String> = OnceLock::new();

/// The user that typed the command.
pub(super) fn given_by() -> &'static str {
    GIVEN_BY.get_or_init(|| name(Uid::current()))
}

/// Goes on as the owner of `data`, for good, where this is root's process and `data` another user's.
/// Must come before anything is opened there and before there are threads.
///
/// # Errors
/// `data` cannot be looked at, or the kernel refuses.
pub(super) fn to_owner(data: &Path) -> anyhow::Result<()> {
    given_by();
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = match std::fs::metadata(data) {
        // `init` makes it.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found.with_context(|| format!("cannot look at {}", data.display()))?,
    };
    let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    if uid.is_root() {
        return Ok(());
    }
    become_user(uid, gid).with_context(|| {
        format!(
            "{} belongs to {}, and root could not go on as that user",
            data.display(),
            name(uid)
        )
    })
}

/// The groups first: afterwards this may not change them any more.
fn become_user(uid: Uid, gid: Gid) -> anyhow::Result<()> {
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
    Ok(())
}

fn name(uid: Uid) -> String {
    let user = User::from_uid(uid).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}
