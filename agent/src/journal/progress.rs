//! Marks of how far an activation came: one line before and one after each step, appended to a file
//! of its own. They are not fsynced and decide nothing, so they cost next to nothing; a message after
//! an interruption names the step from them.
//!
//! A test can end the agent at a mark: `TAMER_FAILPOINT=switch:after` kills it the way SIGKILL would,
//! at that mark, once the line is written.

use crate::plan::Step;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tamer_core::desired::Slot;

/// The environment variable that names the mark to die at, `STEP:before` or `STEP:after`. For tests.
pub const FAILPOINT: &str = "TAMER_FAILPOINT";

/// On which side of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It is about to be tried.
    Before,
    /// It has been done.
    After,
}

/// The marks of one component's activation.
#[derive(Debug)]
pub struct Progress {
    file: Option<File>,
}

impl Progress {
    fn path(state: &Path, slot: &Slot) -> PathBuf {
        // Dots stand in none of the names.
        let name = format!("{}.{}.{}", slot.application, slot.component, slot.pool);
        state.join("progress").join(name)
    }

    /// Begins anew. A file that cannot be written is done without: marks are hints.
    pub fn begin(state: &Path, slot: &Slot) -> Self {
        let path = Self::path(state, slot);
        let open = || -> io::Result<File> {
            fs::create_dir_all(state.join("progress"))?;
            File::create(&path)
        };
        match open() {
            Ok(file) => Self { file: Some(file) },
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot write progress marks");
                Self { file: None }
            }
        }
    }

    /// Leaves a mark, and dies there if a test asked for it.
    pub fn mark(&mut self, step: Step, side: Side) {
        let side = match side {
            Side::Before => "before",
            Side::After => "after",
        };
        if let Some(file) = &mut self.file
            && let Err(error) = writeln!(file, "{side} {step}")
        {
            tracing::warn!(%error, "cannot write a progress mark");
        }
        fail_at(step.name(), side);
    }

    /// The last whole mark, such as `before switch`; `None` where there is none or it cannot be read.
    pub fn last(state: &Path, slot: &Slot) -> Option<String> {
        let text = fs::read_to_string(Self::path(state, slot)).ok()?;
        let whole = &text[..=text.rfind('\n')?];
        whole.lines().next_back().map(str::to_owned)
    }
}

/// Dies here if a test asked for it.
pub fn fail_at(step: &str, side: &str) {
    let Ok(asked) = std::env::var(FAILPOINT) else {
        return;
    };
    if asked == format!("{step}:{side}") {
        // As abrupt as it gets: no destructor, no flush.
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_mark_is_found_and_a_torn_one_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let slot = Slot {
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            pool: Default::default(),
        };
        assert_eq!(Progress::last(dir.path(), &slot), None);
        let mut marks = Progress::begin(dir.path(), &slot);
        assert_eq!(Progress::last(dir.path(), &slot), None);
        marks.mark(Step::Switch, Side::Before);
        marks.mark(Step::Switch, Side::After);
        write!(marks.file.as_mut().unwrap(), "before st").unwrap();
        assert_eq!(
            Progress::last(dir.path(), &slot).as_deref(),
            Some("after switch")
        );
    }
}
