//! Which hooks are under way, on disk: what an agent that dies leaves running is ended by the next one,
//! before anything is done again.
//!
//! A note need not survive a power cut, which ends every process anyway, so it is not synced.

use crate::process::enclosure::{Enclosure, RunName};
use crate::process::end_abandoned;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long what is left of a hook may take to end after TERM.
const GRACE: Duration = Duration::from_secs(5);

/// The note of a hook that is under way. It stays when this is dropped: an agent that is stopped in the
/// middle has killed the hook's group, and what had left that may still go on.
#[derive(Debug)]
pub(super) struct UnderWay {
    note: Option<PathBuf>,
}

impl UnderWay {
    /// Notes that a hook begins. Where that cannot be written, the hook is run all the same: going back
    /// must not depend on a disk that has room.
    pub(super) fn note(state: &Path, enclosure: &Enclosure) -> Self {
        let (name, what) = match enclosure {
            Enclosure::Group => return Self { note: None },
            Enclosure::Marked(name) => (name, "marked"),
            Enclosure::Scope(name) => (name, "scope"),
        };
        let note = folder(state).join(name.as_str());
        let written = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder(state))
            .and_then(|()| fs::write(&note, what));
        if let Err(error) = written {
            tracing::warn!(%error, note = %note.display(), "it cannot be noted that a hook is under way");
        }
        Self { note: Some(note) }
    }

    /// The hook has ended, and everything that it may not leave with it.
    pub(super) fn over(self) {
        if let Some(note) = &self.note {
            let _ = fs::remove_file(note);
        }
    }
}

fn folder(state: &Path) -> PathBuf {
    state.join("hooks")
}

/// Ends whatever is left of hooks that an agent before this one had under way.
pub async fn end_all(state: &Path) {
    let entries = match fs::read_dir(folder(state)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::error!(%error, "cannot look for hooks that an earlier agent left");
            return;
        }
    };
    for entry in entries.flatten() {
        let name = entry
            .file_name()
            .to_str()
            .and_then(|it| it.parse::<RunName>().ok());
        if let Some(name) = name {
            tracing::warn!(run = %name, "a hook was under way when the agent ended: what is left of it is ended");
            let scope = fs::read(entry.path()).is_ok_and(|what| what == b"scope");
            // A scope that systemd did not give has its mark all the same.
            let marked = Enclosure::Marked(name.clone());
            if scope {
                end_abandoned(&Enclosure::Scope(name), GRACE).await;
            }
            end_abandoned(&marked, GRACE).await;
        }
        let _ = fs::remove_file(entry.path());
    }
}
