//! A host: one agent, its directory, and what it really runs.

use crate::app::MARKED;
use crate::clock::Clock;
use crate::process::{Daemon, Said, Typed, bound, until};
use crate::programs::program;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is unusual about a host.
#[derive(Debug, Clone, Default)]
pub struct HostOptions {
    /// Runs as root and switches users, with releases where their manifests say. Without it the agent is
    /// rootless, and everything lies below the host's own directory.
    pub as_root: bool,
    /// More lines for `agent.toml`.
    pub more: String,
    /// Its clock can be set; see [`Host::set_clock`].
    pub clock: bool,
}

/// A host of a fleet.
#[derive(Debug)]
pub struct Host {
    name: String,
    dir: PathBuf,
    root: PathBuf,
    clock: Option<Clock>,
    /// The agent's process.
    pub daemon: Daemon,
}

impl Host {
    /// A host that has not joined yet; its directory is `dir`.
    pub(crate) fn new(
        dir: PathBuf,
        name: &str,
        controller: &str,
        environment: &str,
        options: &HostOptions,
    ) -> Self {
        fs::create_dir(&dir).unwrap();
        let rootless = if options.as_root {
            String::new()
        } else {
            format!(
                "rootless = true\nroot_prefix = \"{}\"\n",
                dir.join("root").display()
            )
        };
        let config = format!(
            "controller = \"https://{controller}\"\nname = \"{name}\"\nenvironment = \"{environment}\"\n\
             state = \"{}\"\ndisk_reserve = \"1B\"\n{rootless}{}\n",
            dir.join("state").display(),
            options.more
        );
        fs::write(dir.join("agent.toml"), config).unwrap();
        Self {
            name: name.to_owned(),
            root: dir.join("root/srv/shop/web"),
            clock: options.clock.then(|| Clock::right(&dir)),
            daemon: Daemon::new(name, dir.join("log")),
            dir,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory, with `agent.toml`, `state` and `root` in it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the component lives.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The component lives there, as its `tamer.toml` says.
    pub fn lives_in(&mut self, root: &Path) {
        root.clone_into(&mut self.root);
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = bound(&program("tamer-agent"));
        command.args(words);
        command.arg("--config").arg(self.dir.join("agent.toml"));
        command
    }

    /// Types a command of `tamer-agent` on this host.
    pub fn types(&self, words: &[&str]) -> Said {
        let line = format!("{}$ tamer-agent {}", self.name, words.join(" "));
        Typed::begin(self.command(words), line).end()
    }

    /// Joins the fleet that the token is of.
    pub fn enroll(&self, token: &str) -> Said {
        self.enroll_with(token, &[])
    }

    /// The same, with more words.
    pub fn enroll_with(&self, token: &str, more: &[&str]) -> Said {
        let mut command = self.command(&[&["enroll"], more].concat());
        command.env("TAMER_JOIN_TOKEN", token);
        Typed::begin(command, format!("{}$ tamer-agent enroll", self.name)).end()
    }

    /// Starts the agent, without waiting for anything.
    pub fn start(&mut self) {
        let mut command = self.command(&["run"]);
        command.env("TAMER_LOG", "info");
        if let Some(clock) = &self.clock {
            clock.seen_by(&mut command);
        }
        self.daemon.start(command);
    }

    /// Sets the clock that the agent sees, also while it runs: `+1d` is a day ahead, `+0` is right.
    ///
    /// # Panics
    /// It was not made for that.
    pub fn set_clock(&self, offset: &str) {
        self.clock.as_ref().expect("options.clock").set(offset);
    }

    /// The version that runs here: the one that `current` leads to and, where hooks mark what they
    /// start, that was started last.
    ///
    /// # Panics
    /// The two differ: the host is neither here nor there. Ask only when nothing is under way.
    pub fn runs(&self) -> Option<String> {
        let current = read(&self.root.join("current/VERSION"));
        let hooked = self.root.join("current/bin/start").exists();
        let marked = read(&self.root.join(MARKED));
        assert!(
            marked == current || !hooked && marked.is_none(),
            "{}: current leads to {current:?}, and {marked:?} was started",
            self.name
        );
        current
    }

    /// Waits until this version runs here, and its start is over.
    pub fn will_run(&self, version: &str) {
        until(&format!("{} to run {version}", self.name), || {
            let current = read(&self.root.join("current/VERSION"));
            let marked = read(&self.root.join(MARKED));
            (current.as_deref() == Some(version) && marked == current).then_some(())
        });
    }

    /// Everything below `releases/`, by name: whole releases and whatever is half done.
    pub fn releases(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join("releases")) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// What a hook has left in the shared directory.
    pub fn shared(&self, file: &str) -> Option<String> {
        read(&self.root.join("shared/run").join(file))
    }

    /// Puts a file into the shared directory, for a hook to find.
    pub fn share(&self, file: &str) {
        let dir = self.root.join("shared/run");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(file), "").unwrap();
    }

    /// Removes a file from the shared directory.
    pub fn unshare(&self, file: &str) {
        fs::remove_file(self.root.join("shared/run").join(file)).unwrap();
    }
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}
