//! Clocks that are wrong: libfaketime, which a program is started with, reads how much from a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The clock that one program sees.
#[derive(Debug)]
pub(crate) struct Clock(PathBuf);

impl Clock {
    /// One that is right; `dir` holds it.
    pub(crate) fn right(dir: &Path) -> Self {
        let clock = Self(dir.join("clock"));
        clock.set("+0");
        clock
    }

    /// Sets it, for whoever sees it.
    #[expect(clippy::disallowed_methods, reason = "it need not survive a power cut")]
    pub(crate) fn set(&self, offset: &str) {
        // Replaced at one stroke: it is read at any moment.
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{offset}\n")).unwrap();
        fs::rename(&new, &self.0).unwrap();
    }

    /// Lets a program see it. The clock that nobody sets runs on as it is, and so do the times of files.
    pub(crate) fn seen_by(&self, command: &mut Command) {
        command.env("LD_PRELOAD", library().expect("clocks_can_be_set"));
        command.env("FAKETIME_TIMESTAMP_FILE", &self.0);
        for name in [
            "FAKETIME_NO_CACHE",
            "FAKETIME_DONT_FAKE_MONOTONIC",
            "NO_FAKE_STAT",
        ] {
            command.env(name, "1");
        }
    }
}

/// Whether libfaketime is there: the package `faketime` brings it.
pub fn clocks_can_be_set() -> bool {
    library().is_some()
}

fn library() -> Option<PathBuf> {
    let machines = fs::read_dir("/usr/lib").ok()?.flatten();
    let mut files = machines.map(|it| it.path().join("faketime/libfaketime.so.1"));
    files.find(|it| it.is_file())
}
