//! What `tamer` asks git. Git is run as a program, with words and never through a shell.

use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tamer_release::attest::CommitId;
use tamer_release::attest::statement::MAX_AUTHORS;

/// Where reviews are kept as notes of the commits they are of, a bundle a line.
const NOTES: &str = "refs/notes/tamer-review";

/// A repository, by a folder in it.
#[derive(Debug, Clone)]
pub struct Git {
    folder: PathBuf,
}

impl Git {
    /// Git, as seen from this folder.
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    fn command<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.folder).args(words);
        command
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// What git prints.
    ///
    /// # Errors
    /// Git is missing, or what it said.
    pub fn says<S: AsRef<OsStr>>(&self, words: &[S]) -> Result<String> {
        let output = self.command(words).output();
        let output = output.doing(Exit::Usage, || "cannot run git".to_owned())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::usage(format!("git: {}", said.trim())));
        }
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    /// The whole id of a commit.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn commit(&self, name: &str) -> Result<CommitId> {
        let wanted = format!("{name}^{{commit}}");
        let id = self.says(&[
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &wanted,
        ]);
        let id = id.map_err(|_| Error::usage(format!("git knows no commit `{name}` here")))?;
        id.parse()
            .doing(Exit::Internal, || format!("git names commit {name} `{id}`"))
    }

    /// When a commit was made, in seconds since 1970.
    ///
    /// # Errors
    /// Git's.
    pub fn time(&self, commit: &CommitId) -> Result<u64> {
        let text = self.says(&["show", "-s", "--format=%ct", commit.as_str()])?;
        text.parse()
            .doing(Exit::Internal, || format!("git dates {commit} `{text}`"))
    }

    /// Who wrote what a commit brings: of a merge, everybody whose commits it brings in, and whoever merged.
    /// Those who are named as co-authors have written it too.
    ///
    /// # Errors
    /// Git's, or there are too many to be named.
    pub fn authors(&self, commit: &CommitId) -> Result<BTreeSet<String>> {
        let parents = self.says(&["show", "-s", "--format=%P", commit.as_str()])?;
        let mut words = vec![
            "log".to_owned(),
            "--format=%ae%n%(trailers:key=Co-authored-by,valueonly,unfold)".to_owned(),
        ];
        match parents.split_whitespace().collect::<Vec<_>>()[..] {
            [first, _, ..] => words.push(format!("{first}..{commit}")),
            _ => words.extend(["-1".to_owned(), commit.to_string()]),
        }
        let text = self.says(&words)?;
        let authors: BTreeSet<_> = text
            .lines()
            .map(address)
            .filter(|it| !it.is_empty())
            .collect();
        if authors.is_empty() || authors.len() > MAX_AUTHORS {
            return Err(Error::usage(format!(
                "commit {} has {} authors with an address, and 1 to {MAX_AUTHORS} can be named",
                commit.short(),
                authors.len()
            )));
        }
        Ok(authors)
    }

    /// What is changed here and in no commit, as git lists it.
    ///
    /// # Errors
    /// Git's.
    pub fn changes(&self) -> Result<Vec<String>> {
        let text = self.says(&["status", "--porcelain", "--untracked-files=normal"])?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The folder of the checkout, and ours in it: empty, or with a slash at its end.
    ///
    /// # Errors
    /// Git's: there is no repository.
    pub fn place(&self) -> Result<(PathBuf, String)> {
        let top = self.says(&["rev-parse", "--show-toplevel"])?;
        Ok((top.into(), self.says(&["rev-parse", "--show-prefix"])?))
    }

    /// A path among git's own files, which no commit and no status sees.
    ///
    /// # Errors
    /// Git's.
    pub fn own(&self, name: &str) -> Result<PathBuf> {
        let path = self.says(&["rev-parse", "--git-path", name])?;
        Ok(self.folder.join(path))
    }

    /// Where the repository comes from, as a URI.
    pub fn source(&self) -> String {
        match self.says(&["config", "--get", "remote.origin.url"]) {
            // A password in a URL is nobody else's business.
            Ok(url) if !url.is_empty() => match url.split_once("://") {
                Some((scheme, rest)) => {
                    let host = rest.split_once('@').map_or(rest, |(_, host)| host);
                    format!("git+{scheme}://{host}")
                }
                None => format!("git+ssh://{}", url.replacen(':', "/", 1)),
            },
            _ => "git+file:".to_owned(),
        }
    }

    /// Your address, as git puts it into commits.
    ///
    /// # Errors
    /// None is set.
    pub fn me(&self) -> Result<String> {
        let email = self
            .says(&["config", "--get", "user.email"])
            .unwrap_or_default();
        if email.is_empty() {
            return Err(Error::usage("git does not know your address")
                .next("git config user.email YOU@EXAMPLE")
                .next("--person YOU@EXAMPLE"));
        }
        Ok(email)
    }

    /// A clean checkout of one commit in a new folder, made from this repository alone.
    ///
    /// # Errors
    /// Git's.
    pub fn check_out(&self, commit: &CommitId, into: &Path) -> Result<()> {
        let (top, _) = self.place()?;
        let quiet = [
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "advice.detachedHead=false",
        ];
        let clone: Vec<&OsStr> = quiet
            .iter()
            .map(OsStr::new)
            .chain(["clone", "--quiet", "--no-checkout", "--"].map(OsStr::new))
            .chain([top.as_os_str(), into.as_os_str()])
            .collect();
        self.says(&clone)?;
        let there = Self::at(into);
        let words = [
            &quiet[..],
            &["checkout", "--quiet", "--detach", commit.as_str()],
        ]
        .concat();
        // A commit that no branch leads to is not in a clone: it is fetched by its id.
        if there.says(&words).is_err() {
            let fetch = ["fetch", "--quiet", "origin", commit.as_str()];
            there.says(&fetch)?;
            there.says(&words)?;
        }
        Ok(())
    }

    /// The reviews of a commit that are kept as its notes.
    pub fn reviews(&self, commit: &CommitId) -> Vec<Vec<u8>> {
        let note = self.says(&["notes", "--ref", NOTES, "show", commit.as_str()]);
        let note = note.unwrap_or_default();
        let lines = note.lines().filter(|line| !line.trim().is_empty());
        lines.map(|line| line.as_bytes().to_vec()).collect()
    }

    /// Adds a review to a commit's notes.
    ///
    /// # Errors
    /// Git's.
    pub fn add_review(&self, commit: &CommitId, bundle: &[u8]) -> Result<()> {
        let words = [
            "notes",
            "--ref",
            NOTES,
            "append",
            "-F",
            "-",
            commit.as_str(),
        ];
        let doing = || "cannot add a note with git".to_owned();
        let mut command = self.command(&words);
        let mut git = command
            .stdin(Stdio::piped())
            .spawn()
            .doing(Exit::Usage, doing)?;
        if let Some(mut stdin) = git.stdin.take() {
            stdin.write_all(bundle).doing(Exit::Internal, doing)?;
        }
        let output = git.wait_with_output().doing(Exit::Internal, doing)?;
        match output.status.success() {
            true => Ok(()),
            false => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(Error::usage(format!("git notes: {}", said.trim())))
            }
        }
    }
}

/// `Ben <ben@shop.example>` and `ben@shop.example` both have this address.
fn address(text: &str) -> String {
    let inner = text
        .rsplit_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or(text, |(inner, _)| inner).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_trailers() {
        assert_eq!(address("Ben B. <ben@shop.example>"), "ben@shop.example");
        assert_eq!(address(" ben@shop.example "), "ben@shop.example");
        assert_eq!(address("Ben"), "Ben");
    }
}
