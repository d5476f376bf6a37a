//! One build: a clean checkout, a clean environment, the commands in order, and packing.

use super::super::attest::{counted, ended};
use super::super::project::Project;
use crate::args::Build;
use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use crate::git::Git;
use crate::printer::Printer;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tamer_core::build::BuildSpec;
use tamer_core::evidence::EvidenceKind;
use tamer_core::id::ComponentName;
use tamer_core::version::Version;
use tamer_kit::clock;
use tamer_release::attest::CommitId;
use tamer_release::attest::statement::Run;
use tamer_release::pack::Packed;

/// What one build needs to know.
#[derive(Debug, Clone)]
pub(super) struct Runner {
    git: Git,
    commit: CommitId,
    /// When the commit was made, in seconds since 1970.
    time: u64,
    version: Version,
    spec: BuildSpec,
    /// `tamer.toml`, from the top of the checkout.
    file: PathBuf,
    printer: Printer,
}

/// What one build made.
pub(super) struct Made {
    /// The application, in its checkout.
    pub(super) project: Project,
    pub(super) packed: BTreeMap<ComponentName, Archive>,
    /// How the runs ended, all of them well.
    pub(super) runs: Vec<Run>,
}

/// One packed component.
pub(super) struct Archive {
    pub(super) packed: Packed,
    pub(super) archive: PathBuf,
}

impl Runner {
    /// Reads what the commit says about its build.
    pub(super) fn new(
        git: &Git,
        commit: &CommitId,
        args: &Build,
        printer: Printer,
    ) -> Result<Self> {
        let (_, prefix) = git.place()?;
        let name = args.file.file_name().unwrap_or_default();
        let file = Path::new(&prefix).join(name);
        // Of the commit, and not of the folder: that may have another one by now.
        let text = git.says(&["show", &format!("{commit}:{}", file.display())]);
        let text = text.map_err(|_| {
            Error::usage(format!(
                "commit {} has no {}",
                commit.short(),
                file.display()
            ))
        })?;
        let application = Project::parse(&file.display().to_string(), &text)?;
        let spec = application.build.ok_or_else(|| {
            Error::usage(format!(
                "{} has no [build], so nothing says how to build it",
                file.display()
            ))
            .next("add [build] with build = \"make dist\" to tamer.toml, and lint and test")
        })?;
        Ok(Self {
            git: git.clone(),
            commit: commit.clone(),
            time: git.time(commit)?,
            version: args.version.clone(),
            spec,
            file,
            printer,
        })
    }

    /// The commands, by name.
    pub(super) fn commands(&self) -> BTreeMap<String, String> {
        let commands = self.spec.commands().into_iter();
        commands
            .map(|(kind, line)| (kind.to_string(), line.to_owned()))
            .collect()
    }

    /// What matters of the environment; of variables that are kept, the names alone, as values may be secrets.
    pub(super) fn environment(&self) -> BTreeMap<String, String> {
        let mut known = BTreeMap::from([
            ("arch".to_owned(), std::env::consts::ARCH.to_owned()),
            ("os".to_owned(), os()),
            ("tamer".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("PATH".to_owned(), path()),
            ("SOURCE_DATE_EPOCH".to_owned(), self.time.to_string()),
        ]);
        let kept: Vec<_> = self.spec.keep.iter().map(String::as_str).collect();
        if !kept.is_empty() {
            known.insert("kept".to_owned(), kept.join(" "));
        }
        known
    }

    /// Builds in an empty folder, from nothing. Blocks.
    pub(super) fn build(&self, place: &Path) -> Result<Made> {
        let doing = || "cannot build".to_owned();
        let tree = place.join("checkout");
        let home = place.join("home");
        let temporary = place.join("tmp");
        for folder in [&home, &temporary] {
            std::fs::create_dir_all(folder).doing(Exit::Internal, doing)?;
        }
        self.git.check_out(&self.commit, &tree)?;
        let file = tree.join(&self.file);
        let folder = file.parent().unwrap_or(&tree).to_owned();
        let mut runs = Vec::new();
        for (kind, line) in self.spec.commands() {
            self.printer.note(format!("{kind}: {line}"));
            let started = clock::now();
            let status = self.command(line, &folder, &home, &temporary)?.status();
            let status = status.doing(Exit::Usage, || format!("cannot run {kind}"))?;
            if !status.success() {
                return Err(Error::new(
                    Exit::Refused,
                    format!("{kind} failed, so nothing was built: {status}, from `{line}`"),
                ));
            }
            if kind == EvidenceKind::Build {
                continue;
            }
            let files = self.spec.results.get(&kind);
            let files = files.into_iter().flatten().map(|file| folder.join(file));
            let tests = counted(&files.collect::<Vec<_>>())?;
            let when = (started, clock::now());
            let run = ended(kind, Some(line.to_owned()), tests, 0, when);
            if !run.passed {
                let failed = run.failed.first().map_or("", String::as_str);
                return Err(Error::new(
                    Exit::Refused,
                    format!(
                        "{kind} ended well, and its results say that `{failed}` failed: nothing was built"
                    ),
                ));
            }
            runs.push(run);
        }
        let project = Project::load(&file)?.at_time(self.time);
        let mut packed = BTreeMap::new();
        for component in project.chosen(&[])? {
            let archive = place.join(format!("{component}.tar.zst"));
            let done = project.pack(&component, &self.version, &archive)?;
            let done = Archive {
                packed: done,
                archive,
            };
            packed.insert(component, done);
        }
        Ok(Made {
            project,
            packed,
            runs,
        })
    }

    /// A line for a shell, which the application's own file has. Nothing of our environment reaches it but what
    /// is kept, and where programs are.
    fn command(&self, line: &str, folder: &Path, home: &Path, temporary: &Path) -> Result<Command> {
        let doing = || "cannot build".to_owned();
        let said = std::io::stderr().as_fd().try_clone_to_owned();
        let said = said.doing(Exit::Internal, doing)?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", line])
            .current_dir(folder)
            .env_clear()
            .envs(
                self.spec
                    .keep
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .env("PATH", path())
            .env("HOME", home)
            .env("TMPDIR", temporary)
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .env("SOURCE_DATE_EPOCH", self.time.to_string())
            .env("TAMER_VERSION", self.version.to_string())
            .env("TAMER_COMMIT", self.commit.as_str())
            .stdin(Stdio::null())
            // Standard output is for results of ours.
            .stdout(said);
        Ok(command)
    }
}

fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    match path.is_empty() {
        true => "/usr/local/bin:/usr/bin:/bin".to_owned(),
        false => path,
    }
}

/// What the system calls itself (os-release(5)).
fn os() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux")
        .trim_matches('"')
        .chars()
        .take(80)
        .collect()
}
