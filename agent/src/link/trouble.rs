//! Why the line broke, and what a person can do about it. Each kind is told once, and again only after
//! the line had been up or something else was wrong.

use super::Link;
use std::fmt;
use tamer_kit::channel::{ChannelError, is_unknown_there};
use tamer_kit::supervisor;
use tonic::{Code, Status};

/// Why the line broke.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nobody answers, or TLS does not come about.
    Connect(ChannelError),
    /// No word of welcome in time.
    Silent,
    /// The controller closed the line, as it does when it stops.
    Closed,
    /// The line broke, or the controller refused.
    Status(Box<Status>),
    /// The controller sent what makes no sense.
    Odd(String),
}

impl Trouble {
    /// Whether the controller knows this host, and its certificate is outside of its validity there.
    pub(super) fn is_of_time(&self) -> bool {
        matches!(self, Self::Status(status) if status.code() == Code::Unauthenticated)
    }

    /// Whether this is the same kind of trouble.
    fn like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Status(one), Self::Status(other)) => one.code() == other.code(),
            (Self::Connect(one), Self::Connect(other)) => {
                std::mem::discriminant(one) == std::mem::discriminant(other)
            }
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Logs it, unless the last one was alike.
    pub(super) fn tell(&self, last: Option<&Self>, link: &Link) {
        let (address, next) = (&link.address, self.next(link));
        supervisor::status(&format!("no line to {address}: {self}"));
        if last.is_some_and(|last| self.like(last)) {
            tracing::debug!(%address, why = %self, "still no line to the controller");
        } else if matches!(self, Self::Closed) {
            tracing::info!(%address, "the controller closed the line: connecting again");
        } else {
            tracing::warn!(%address, why = %self, next, "no line to the controller: it is tried again and again");
        }
    }

    /// What a person can do.
    fn next(&self, link: &Link) -> String {
        if let Self::Connect(error) = self
            && error.is_of_time()
        {
            return format!(
                "by this host's clock it is {}; if that is wrong, set it: timedatectl. What runs here goes on meanwhile",
                tamer_core::calendar::utc(tamer_kit::clock::now())
            );
        }
        match self {
            Self::Connect(ChannelError::OtherCa { .. }) => format!(
                "if the controller's CA was rotated while this host was away, invite it again: tamer host invite \
                 --replace {}; if it was not, find out who answers there",
                link.name
            ),
            Self::Connect(_) | Self::Silent | Self::Closed => {
                "see whether `tamer-controller serve` runs, and whether this host can reach it; what runs here goes on meanwhile".to_owned()
            }
            Self::Status(status) => match status.code() {
                Code::Unauthenticated => "the certificate is renewed now; if this stays, one of the two clocks is \
                    wrong: timedatectl, here and on the controller's machine"
                    .to_owned(),
                Code::PermissionDenied => format!(
                    "if this host should belong to the fleet, invite it again: tamer host invite --replace {}",
                    link.name
                ),
                _ if is_unknown_there(&**status) => format!(
                    "the controller does not know the CA of this host's certificate: if it was rotated while this host \
                     was away, invite it again: tamer host invite --replace {}",
                    link.name
                ),
                Code::FailedPrecondition | Code::InvalidArgument => {
                    "agent and controller do not agree: the message says about what".to_owned()
                }
                _ => "none, if it comes and goes; otherwise see the controller's log".to_owned(),
            },
            Self::Odd(_) => "agent and controller do not speak the same: upgrade the older one".to_owned(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => f.write_str(&crate::host::chain(error)),
            Self::Silent => f.write_str("the controller accepted the line and said nothing"),
            Self::Closed => f.write_str("the controller closed the line"),
            // A status that the transport made has its reason in the chain, the controller's in words.
            Self::Status(status) => match std::error::Error::source(&**status) {
                Some(source) => write!(f, "{}: {}", status.message(), crate::host::chain(source)),
                None => f.write_str(status.message()),
            },
            Self::Odd(what) => f.write_str(what),
        }
    }
}
