//! What a command that failed tells: what failed, why, with which exit code, and what to type next.

use crate::exit::Exit;
use std::error::Error as StdError;
use std::fmt::Write as _;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The exit code that it ends with.
    pub exit: Exit,
    /// What failed, on what.
    pub message: String,
    /// Commands or hints that lead on.
    pub next: Vec<String>,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure that says everything by itself.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            next: Vec::new(),
            source: None,
        }
    }

    /// A wrong argument, a wrong file, or something that does not exist.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A failure that something else caused.
    pub fn caused(
        exit: Exit,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self {
            source: Some(source.into()),
            ..Self::new(exit, message)
        }
    }

    /// Adds what to type next.
    #[must_use]
    pub fn next(mut self, hint: impl Into<String>) -> Self {
        self.next.push(hint.into());
        self
    }

    /// The whole text for standard error: the message, the chain of causes once, and what comes next.
    pub fn report(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        let mut last = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let said = error.to_string();
            // Some libraries repeat their cause; each sentence is worth reading once.
            if !last.contains(&said) {
                let _ = writeln!(text, "  because: {}", said.replace('\n', "\n    "));
                last = said;
            }
            cause = error.source();
        }
        if !self.next.is_empty() {
            let _ = writeln!(text, "  next: {}", self.next.join(" · "));
        }
        text
    }
}

/// Names what was tried, when a library's error comes up.
pub trait Context<T> {
    /// With this exit code and sentence.
    ///
    /// # Errors
    /// The library's, wrapped.
    fn doing(self, exit: Exit, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn doing(self, exit: Exit, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::caused(exit, what(), source))
    }
}

/// What the controller answered instead of doing it.
impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        let exit = Exit::of_status(status.code());
        let said = status.message();
        match status.code() {
            tonic::Code::Unavailable => {
                Self::caused(exit, "the controller cannot be reached", why(&status)).next(
                    "see that `tamer-controller serve` runs, and that its address leads there",
                )
            }
            tonic::Code::Unauthenticated => {
                Self::new(exit, format!("the controller does not know you: {said}"))
                    .next("ask an admin for `tamer operator invite NAME`, then tamer login TOKEN")
            }
            tonic::Code::Unknown | tonic::Code::Internal => {
                Self::caused(exit, "the controller could not answer", why(&status))
            }
            _ => Self::new(exit, said),
        }
    }
}

/// What lies below a status, without the status's own dump of its fields: the chain in one line,
/// each sentence once.
fn why(status: &tonic::Status) -> String {
    let mut said = Vec::new();
    let mut below = status.source();
    while let Some(error) = below {
        said.push(error.to_string());
        below = error.source();
    }
    said.retain(|sentence| sentence != "transport error");
    said.dedup();
    if said.is_empty() {
        status.message().to_owned()
    } else {
        said.join(": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_told_once_and_leads_on() {
        let file = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let inner = Error::caused(Exit::Usage, "cannot read tamer.toml", file);
        let outer =
            Error::caused(Exit::Usage, "cannot publish shop 1.0.0", inner).next("tamer init");
        insta::assert_snapshot!(outer.report(), @r"
        error: cannot publish shop 1.0.0
          because: cannot read tamer.toml
          because: no such file
          next: tamer init
        ");
    }

    #[test]
    fn refusals_of_the_controller_speak_for_themselves() {
        let refused = Error::from(tonic::Status::aborted("shop rolls out since 12:00, by ci"));
        assert_eq!(refused.exit, Exit::Locked);
        assert_eq!(
            refused.report(),
            "error: shop rolls out since 12:00, by ci\n"
        );
        let gone = Error::from(tonic::Status::unavailable("connection refused"));
        insta::assert_snapshot!(gone.report(), @r"
        error: the controller cannot be reached
          because: connection refused
          next: see that `tamer-controller serve` runs, and that its address leads there
        ");
    }
}
