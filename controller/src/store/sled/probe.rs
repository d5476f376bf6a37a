//! Whether a store can be opened, tried on a copy and in a process of its own.
//!
//! Opening a damaged database can panic, abort, run for ever, or write: recovery overwrites what it
//! takes for the torn end of the log. On a copy and in a child none of that costs anything.

use super::engine::Engine;
use super::files::{self, Layout};
use crate::store::StoreError;
use crate::store::maintain::Report;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tamer_kit::cause::chain;
use tamer_kit::durable::{self, FileError};

/// The hidden first argument that makes the controller's binary a probe; the second one is the
/// directory to try.
pub const ARGUMENT: &str = "probe-store";

/// A probe that takes longer has hung: reading 10 GB takes a minute.
const LIMIT: Duration = Duration::from_secs(600);
/// The longest answer of a probe, in bytes.
const ANSWER: u64 = 64 << 10;

/// What a probe says on its standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Whole(Report),
    Broken(String),
}

/// Why a probe did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It says nothing about the store: the probe itself could not be run.
    #[error("{0}")]
    NotRun(String),
    /// The store can't be opened, or not all of it is there.
    #[error("{0}")]
    Broken(String),
}

/// The whole of a probe: opens the copy in `data`, reads and checks everything, says what it found
/// on standard output. The exit code is 0 only if all is well.
pub fn probe_main(data: &Path) -> ExitCode {
    // What a panic has to say is caught and answered; on standard error it would only confuse.
    std::panic::set_hook(Box::new(|_| {}));
    let answer = match Engine::open(data) {
        Ok(engine) => Answer::Whole(engine.report().clone()),
        Err(error) => Answer::Broken(chain(&error)),
    };
    let said = serde_json::to_writer(std::io::stdout().lock(), &answer).is_ok();
    if said && matches!(answer, Answer::Whole(_)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs `exe` as a probe of the copy in `data`, see [`probe_main`].
///
/// # Errors
/// [`Failed`]: what the probe said, or how it ended.
pub fn probe(exe: &Path, data: &Path) -> Result<Report, Failed> {
    let mut child = Command::new(exe)
        .arg(ARGUMENT)
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| {
            Failed::NotRun(format!("the probe {} can't be started: {e}", exe.display()))
        })?;
    let answer = read_answer(&mut child);
    let ended = child
        .wait()
        .map_err(|e| Failed::NotRun(format!("the probe was lost: {e}")))?;
    match answer.map(|bytes| serde_json::from_slice(&bytes)) {
        Some(Ok(Answer::Whole(report))) if ended.success() => Ok(report),
        Some(Ok(Answer::Broken(why))) => Err(Failed::Broken(why)),
        Some(_) => Err(Failed::Broken(format!(
            "opening it crashed the probe: {ended}"
        ))),
        None => Err(Failed::Broken(format!(
            "opening it took more than {LIMIT:?}"
        ))),
    }
}

/// What the child wrote until it closed its output; `None`, and the child killed, if that takes
/// too long.
fn read_answer(child: &mut Child) -> Option<Vec<u8>> {
    let out = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = out.take(ANSWER).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    let answer = receiver.recv_timeout(LIMIT).ok();
    if answer.is_none() {
        let _ = child.kill();
    }
    answer
}

/// Probes a copy of the store; if that fails, sets the derived files aside, first the half-written
/// snapshots and then all, and tries again. The database file itself is never touched.
pub(crate) fn make_openable(layout: &Layout, exe: &Path) -> Result<Report, StoreError> {
    if !layout.exists() {
        return Err(StoreError::Missing {
            dir: layout.dir.clone(),
        });
    }
    let half_written = |name: &str| name.starts_with("snap.") && name.ends_with(".generating");
    let any = |name: &str| name.starts_with("snap.");
    let mut result = probe_copy(layout, exe)?;
    for wanted in [half_written as fn(&str) -> bool, any] {
        let Err(Failed::Broken(why)) = &result else {
            break;
        };
        let found = files::list(&layout.data, wanted)?;
        if found.is_empty() {
            continue;
        }
        let place = layout.set_aside()?;
        for path in &found {
            durable::rename(path, &place.join(path.file_name().unwrap_or_default()))?;
        }
        tracing::warn!(
            %why,
            files = found.len(),
            place = %place.display(),
            "the store could not be opened: its snapshot files are set aside, the log itself is read instead"
        );
        result = probe_copy(layout, exe)?;
    }
    result.map_err(|failed| unopenable(layout, &failed))
}

fn unopenable(layout: &Layout, failed: &Failed) -> StoreError {
    StoreError::Unopenable {
        dir: layout.dir.clone(),
        why: failed.to_string(),
    }
}

fn probe_copy(layout: &Layout, exe: &Path) -> Result<Result<Report, Failed>, StoreError> {
    layout.copy_for_probe()?;
    let result = probe(exe, &layout.probe);
    files::remove(&layout.probe)?;
    Ok(result)
}

/// Probes a copy and changes nothing.
pub(crate) fn look(layout: &Layout, exe: &Path) -> Result<Report, StoreError> {
    if !layout.exists() {
        return Err(StoreError::Missing {
            dir: layout.dir.clone(),
        });
    }
    probe_copy(layout, exe)?.map_err(|failed| unopenable(layout, &failed))
}

/// Names this program, for [`SledStore::open`](super::SledStore::open).
///
/// # Errors
/// The system does not say where the program lies.
pub fn this_program() -> Result<std::path::PathBuf, StoreError> {
    std::env::current_exe()
        .map_err(FileError::new(
            "find the program of",
            Path::new("/proc/self"),
        ))
        .map_err(StoreError::from)
}
