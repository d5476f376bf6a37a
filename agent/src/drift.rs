//! Drift: what of a release on disk is not what was deployed.
//!
//! What a release looked like when it was judged last is kept in
//! `<state>/records/<application>.<component>.<pool>/<release>`, so that a fast pass reads only what has
//! changed since. A record is a hint: if it is missing or damaged, everything is read, and it is made anew.

use crate::allowed::failure;
use crate::brake::Brake;
use crate::config::Config;
use crate::host::layout::{self, Installed};
use crate::host::{chain, file_failure};
use crate::process::User;
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tamer_core::desired::{Failure, FailureKind, Slot};
use tamer_core::digest::Digest;
use tamer_core::drift::{Drift, NAMED};
use tamer_core::moment::Moment;
use tamer_core::release::Manifest;
use tamer_kit::{clock, durable};
use tamer_release::put_back::{PutBack, put_back};
use tamer_release::verify_tree::record::MAX_RECORD;
use tamer_release::verify_tree::{self, Depth, Look, LookError, Outcome, Owners, Record};

/// One release on disk, and where its record lies.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The release's directory.
    pub release: PathBuf,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The user whose group may read it; `None` for the agent's own.
    user: Option<String>,
    record: PathBuf,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What differs, with at most [`NAMED`] differences named if no more were wanted; `None`: nothing.
    pub drift: Option<Drift>,
    /// When everything was last read.
    pub read: Option<Moment>,
    /// The last path that was looked at, where the look was given up.
    pub after: Option<String>,
}

/// How fast a release is read in the background, and until when.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Bytes a second.
    pub limit: u64,
    /// Set when a switch begins: nothing is read then.
    pub stop: Arc<AtomicBool>,
    /// From then on no further file is begun: something else is due.
    pub until: Instant,
}

// === impl Tree ===

impl Tree {
    /// A release of `slot` that lives below `root`.
    pub fn new(config: &Config, slot: &Slot, root: &Path, installed: &Installed) -> Self {
        let user = installed.spec.user.as_deref();
        let user = user.unwrap_or(slot.application.as_str());
        Self {
            user: (!config.rootless).then(|| user.to_owned()),
            release: layout::releases(root).join(&installed.name),
            manifest: installed.release.manifest,
            record: records(&config.state, slot).join(&installed.name),
        }
    }

    /// Looks at what the record does not vouch for. Blocks.
    ///
    /// # Errors
    /// The release cannot be read.
    pub fn fast(&self) -> Result<Seen, Failure> {
        self.fast_naming(NAMED)
    }

    /// The same, with at most `most` differences named. Blocks.
    ///
    /// # Errors
    /// The release cannot be read.
    pub fn fast_naming(&self, most: usize) -> Result<Seen, Failure> {
        self.look(Depth::Fast, None, most, &mut |_| ControlFlow::Continue(()))
    }

    /// Records a release of this manifest that was unpacked and verified just now; `noted` is what was noted of it
    /// meanwhile. Blocks.
    ///
    /// # Errors
    /// The release cannot be read.
    pub fn unpacked(&self, manifest: &Manifest, noted: Option<Record>) -> Result<Seen, Failure> {
        let mut pace = |_| ControlFlow::Continue(());
        self.look_after(noted, Depth::Unpacked, Some(manifest), NAMED, &mut pace)
    }

    /// Reads everything from the path `after` on, at this pace. Blocks.
    ///
    /// # Errors
    /// The release cannot be read.
    pub fn full(&self, after: Option<String>, pace: &Pace) -> Result<Seen, Failure> {
        let mut read = |bytes| pace.before(bytes);
        self.look(Depth::Full { after }, None, NAMED, &mut read)
    }

    fn look(
        &self,
        depth: Depth,
        manifest: Option<&Manifest>,
        most: usize,
        pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Seen, Failure> {
        self.look_after(self.record(), depth, manifest, most, pace)
    }

    fn look_after(
        &self,
        before: Option<Record>,
        depth: Depth,
        manifest: Option<&Manifest>,
        most: usize,
        pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Seen, Failure> {
        let what = Look {
            release: &self.release,
            manifest: self.manifest,
            owners: Some(self.owners()?),
            depth,
            now: clock::now(),
        };
        let (record, after) = match verify_tree::look(&what, before.as_ref(), manifest, pace) {
            Ok(Outcome::Whole(record)) => (record, None),
            Ok(Outcome::GivenUp { record, after }) => (record, Some(after)),
            Err(LookError::Manifest { drift }) => {
                return Ok(Seen {
                    drift: Some(*drift),
                    read: None,
                    after: None,
                });
            }
            Err(LookError::File(error)) => return Err(file_failure(&error)),
            Err(error @ LookError::Unknown(_)) => {
                let place = self.release.display();
                let said = format!("{place}: {}", chain(&error));
                return Err(failure(FailureKind::Trust, said));
            }
        };
        if before.as_ref() != Some(&record) {
            self.keep(&record);
        }
        Ok(Seen {
            drift: record.drift(most),
            read: record.read,
            after,
        })
    }

    /// Whose a release must be: the agent's, and the group of the component's user. What has no group of its own may
    /// have that of the directory above, as some file systems have it.
    fn owners(&self) -> Result<Owners, Failure> {
        let parent = self.release.parent().unwrap_or(&self.release);
        let about = fs::metadata(parent)
            .map_err(|e| file_failure(&durable::FileError::new("look at", parent)(e)))?;
        Ok(Owners {
            user: nix::unistd::geteuid().as_raw(),
            group: self.user.as_deref().map(group_of).transpose()?,
            groups: [nix::unistd::getegid().as_raw(), about.gid()],
        })
    }

    fn record(&self) -> Option<Record> {
        let bytes = match durable::read_capped(&self.record, MAX_RECORD) {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "a release's record cannot be read: all of it is read instead");
                return None;
            }
        };
        match Record::from_bytes(&bytes) {
            Ok(record) => Some(record),
            Err(error) => {
                let path = self.record.display();
                tracing::warn!(%path, %error, "all of the release is read instead");
                None
            }
        }
    }

    /// Writes the record. One that cannot be written is done without.
    fn keep(&self, record: &Record) {
        let parent = self.record.parent().unwrap_or(&self.record);
        let kept = durable::create_dir_all(parent, 0o700)
            .and_then(|()| durable::replace(&self.record, &record.to_bytes(), 0o600));
        if let Err(error) = kept {
            tracing::warn!(error = %chain(&error), "a release's record cannot be written");
        }
    }

    /// Puts back what differs, from the fresh copy at `fresh`; what was added goes to the directory `aside`.
    /// Nothing is done where the drift is another one than `asked`: nobody has seen that. Nor is anything put back
    /// that shows only afterwards, behind a manifest that was changed or while this goes on: it is what is seen
    /// then. Blocks.
    ///
    /// # Errors
    /// The release cannot be read, or put right; or `brake` was pulled, and it ended between two files.
    pub fn put_back(
        &self,
        asked: Digest,
        fresh: &Path,
        aside: &Path,
        brake: &Brake,
    ) -> Result<Seen, Failure> {
        let refused = |why, drift| Err(failure(FailureKind::Host, format!("{why}: {drift}")));
        let (seen, drift) = self.all()?;
        let Some(drift) = drift else { return Ok(seen) };
        if drift.digest != asked {
            return refused("it has been changed once more: look at it again", drift);
        }
        let what = PutBack {
            release: &self.release,
            fresh,
            aside,
        };
        brake.while_going(|go_on| put_back(what, &drift, go_on).map_err(|e| file_failure(&e)))?;
        match self.all()? {
            (_, Some(left)) if left.digest == asked => {
                refused("some of it cannot be put back", left)
            }
            (seen, _) => Ok(seen),
        }
    }

    /// All differences, however many.
    fn all(&self) -> Result<(Seen, Option<Drift>), Failure> {
        let seen = self.fast()?;
        let all = self.record().and_then(|record| record.drift(usize::MAX));
        let whole = seen.drift.is_none();
        let same = |all: &Drift| {
            seen.drift
                .as_ref()
                .is_some_and(|it| it.digest == all.digest)
        };
        let drift = match all.filter(same) {
            Some(all) => Some(all),
            None if whole => None,
            // That of the manifest is in no record.
            None => seen.drift.clone(),
        };
        Ok((seen, drift))
    }

    /// Removes the record, with its release.
    pub fn forget(&self) {
        // What is left is swept at the next start.
        let _ = fs::remove_file(&self.record);
    }
}

/// The primary group of a user.
fn group_of(name: &str) -> Result<u32, Failure> {
    match User::named(name) {
        Ok(Some(user)) => Ok(user.gid),
        Ok(None) => {
            let said = format!("there is no user `{name}` on this host: create it first");
            Err(failure(FailureKind::Host, said))
        }
        Err(e) => {
            let said = format!("cannot look up the user `{name}`: {e}");
            Err(failure(FailureKind::Host, said))
        }
    }
}

/// Where the records of a component's releases lie.
fn records(state: &Path, slot: &Slot) -> PathBuf {
    // Dots stand in none of the names.
    let name = format!("{}.{}.{}", slot.application, slot.component, slot.pool);
    state.join("records").join(name)
}

/// Removes records of releases that are not on disk any more, and what a crash left of one.
pub fn sweep(state: &Path, slot: &Slot, installed: &BTreeMap<String, Arc<Installed>>) {
    let Ok(entries) = fs::read_dir(records(state, slot)) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let known = name
            .to_str()
            .is_some_and(|name| installed.contains_key(name));
        if !known {
            let _ = fs::remove_file(entry.path());
        }
    }
}

// === impl Pace ===

impl Pace {
    /// Waits until so many bytes may be read; breaks off where nothing is to be read any more.
    fn before(&self, bytes: u64) -> ControlFlow<()> {
        let ended = bytes == 0 && Instant::now() >= self.until;
        if ended || self.stop.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.limit.max(1));
        std::thread::sleep(Duration::from_nanos(
            u64::try_from(nanos).unwrap_or(u64::MAX),
        ));
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_ends_between_files_in_time_and_anywhere_for_a_switch() {
        let pace = |until| Pace {
            limit: u64::MAX,
            stop: Arc::new(AtomicBool::new(false)),
            until,
        };
        let now = Instant::now();
        let going = pace(now + Duration::from_secs(3600));
        assert!(going.before(0).is_continue() && going.before(1).is_continue());
        let late = pace(now);
        assert!(late.before(0).is_break() && late.before(1).is_continue());
        going.stop.store(true, Ordering::Relaxed);
        assert!(going.before(1).is_break());
    }

    #[test]
    fn records_of_what_is_gone_are_swept() {
        let state = tempfile::tempdir().unwrap();
        let slot = Slot {
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            pool: Default::default(),
        };
        let dir = records(state.path(), &slot);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("1-1.0.0-abababababab"), "x").unwrap();
        sweep(state.path(), &slot, &BTreeMap::new());
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
    }
}
