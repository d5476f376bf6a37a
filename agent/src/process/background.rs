//! A thread that is in nobody's way.

use super::{PATH, start::find};
use std::path::Path;
use std::process::{Command, Stdio};

/// Gives the calling thread the lowest priority, and the disk only while nobody else wants it (the idle class of
/// `ioprio_set(2)`). What the system refuses is done without, and said: what is read is right all the same.
///
/// No maintained crate sets the class of a thread without `unsafe` here, so util-linux does: a program of the
/// base system, run once for a thread.
pub fn lowest_priority() {
    // Of this thread alone.
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::warn!(%error, "a background thread keeps its priority");
    }
    let thread = nix::unistd::gettid().to_string();
    let ran = find(Path::new("ionice")).and_then(|ionice| {
        Command::new(ionice)
            .args(["-c", "3", "-p", &thread])
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .output()
    });
    match ran {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            tracing::warn!(
                said = said.trim(),
                "ionice failed: a background thread shares the disk"
            );
        }
        Err(error) => tracing::warn!(%error, "no ionice: a background thread shares the disk"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_has_the_lowest_priority_and_no_other() {
        let class = || {
            let thread = nix::unistd::gettid().to_string();
            let said = Command::new("ionice").args(["-p", &thread]).output();
            String::from_utf8(said.unwrap().stdout).unwrap()
        };
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let (before, ours) = (class(), nice());
        let there = std::thread::spawn(move || {
            lowest_priority();
            (class(), nice())
        });
        assert_eq!(there.join().unwrap(), ("idle\n".to_owned(), 19));
        assert_eq!((class(), nice()), (before, ours));
    }
}
