//! What a command that failed tells: what failed, why, with which exit code, and what to type next.

use crate::exit::Exit;
use std::error::Error as StdError;
use std::fmt::Write as _;
use tamer_kit::address::Address;
use tamer_kit::channel::{is_other_ca, is_unknown_there};

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
    /// Whether the controller does not answer at all.
    away: bool,
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
            away: false,
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

    /// The controller does not answer.
    pub fn away(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let error = Self {
            away: true,
            ..Self::caused(Exit::Internal, "the controller cannot be reached", source)
        };
        error
            .next("see that `tamer-controller serve` runs there")
            .next("another controller: --controller ADDRESS")
    }

    /// Adds where the controller was looked for, if that is what failed.
    #[must_use]
    pub fn at(mut self, address: &Address) -> Self {
        if self.away {
            self.message = format!("the controller at {address} cannot be reached");
        }
        self
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
        let mut cause = self.source();
        while let Some(error) = cause {
            let network = is_network(error);
            let said = if network {
                root(error)
            } else {
                error.to_string()
            };
            // Some libraries repeat their cause; each sentence is worth reading once.
            if !text.contains(&said) {
                let _ = writeln!(text, "  because: {}", said.replace('\n', "\n    "));
            }
            cause = error.source().filter(|_| !network);
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
        let other_ca = if status.source().is_some_and(is_other_ca) {
            Some("whoever answers shows a certificate of another CA than is known here")
        } else if is_unknown_there(&status) {
            Some("whoever answers does not know the CA of your certificate")
        } else {
            None
        };
        if let Some(said) = other_ca {
            return Self::new(Exit::Refused, said)
                .next("if the controller's CA was rotated: ask an admin for `tamer operator invite NAME`, then tamer login")
                .next("if it was not: find out who answers there");
        }
        match status.code() {
            tonic::Code::Unavailable => Self::away(why(&status)),
            tonic::Code::Unauthenticated => {
                Self::new(exit, format!("the controller does not let you in: {said}"))
                    .next("ask an admin for `tamer operator invite NAME`, then tamer login")
            }
            tonic::Code::Unknown | tonic::Code::Internal => {
                Self::caused(exit, "the controller could not answer", why(&status))
            }
            _ => Self::new(exit, said),
        }
    }
}

/// What lies below a status, or else what the controller said.
fn why(status: &tonic::Status) -> String {
    match status.source() {
        Some(below) => root(below),
        None => status.message().to_owned(),
    }
}

/// Whether this comes from a library that speaks over the network. Each has three or four layers, of
/// which only the lowest says something: "Connection refused".
fn is_network(error: &(dyn StdError + 'static)) -> bool {
    error.is::<reqwest::Error>()
        || error.is::<tonic::transport::Error>()
        || error.is::<tonic::Status>()
}

/// The lowest of a chain of causes.
fn root(error: &dyn StdError) -> String {
    let mut lowest = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        lowest = error.to_string();
        below = error.source();
    }
    lowest
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
        insta::assert_snapshot!(gone.at(&"there:1".parse().unwrap()).report(), @r"
        error: the controller at https://there:1 cannot be reached
          because: connection refused
          next: see that `tamer-controller serve` runs there · another controller: --controller ADDRESS
        ");
        // Where it was looked for is of no interest when it answers.
        let refused = refused.at(&"there:1".parse().unwrap());
        assert_eq!(refused.message, "shop rolls out since 12:00, by ci");
    }

    #[tokio::test]
    async fn of_a_network_s_layers_only_the_lowest_is_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let address: Address = address.to_string().parse().unwrap();
        let tls = || {
            tamer_kit::tls::pinned_client_config(tamer_core::digest::Digest::new([0; 32])).unwrap()
        };
        let reason = "Connection refused (os error 111)";
        let client = tamer_kit::http::client(tls()).unwrap();
        let http = client.get(address.to_string()).send().await.unwrap_err();
        let http = Error::caused(Exit::Internal, "cannot get it", http);
        assert_eq!(
            http.report(),
            format!("error: cannot get it\n  because: {reason}\n")
        );
        let channel = tamer_kit::channel::connect_lazy(&address, tls()).unwrap();
        let mut operators = tamer_proto::v1::operators_client::OperatorsClient::new(channel);
        let asked = operators
            .get_trust(tamer_proto::v1::GetTrustRequest {})
            .await;
        let gone = Error::from(asked.unwrap_err()).at(&address);
        let told = format!(
            "error: the controller at {address} cannot be reached\n  because: {reason}\n  next: "
        );
        assert!(gone.report().starts_with(&told), "{}", gone.report());
    }
}
