//! Checks: what is tried on this host, and what came of it. One file a type.
//!
//! A new type of check is a variant of [`CheckKind`], a file here with one `try_it`, and an arm of
//! [`tried`]. A try ends with `Ok`, or with one sentence that names what was tried, what happened and
//! what was expected. It says through [`Doing`] what it waits for, so that a try cut off by its time
//! limit has a sentence too.

mod command;
mod disk;
mod http;
mod smtp;
mod tcp;

use crate::process::User;
use futures_util::StreamExt;
use nix::unistd::geteuid;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tamer_core::check::{Check, CheckKind, CheckResult, Checks, Results, expand};
use tamer_core::id::CheckName;
use tokio::time::timeout;

/// How many checks of one host are tried at the same time.
const AT_ONCE: usize = 8;

/// The longest sentence of a failure, in bytes: reports are kept and shown.
const MAX_SENTENCE: usize = 1000;

/// The largest file that a check reads on the host (a password, certificates), in bytes.
const MAX_FILE: usize = 1 << 20;

/// How a try ended: `Err` holds the sentence.
type Tried = Result<(), String>;

/// What a check needs to know of the host and of the component that it belongs to.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The host's name: it greets mail servers and signs what is sent to them.
    pub host: String,
    /// The host's variables, for `{name}` in a check's text.
    pub variables: BTreeMap<String, String>,
    /// The `TAMER_*` environment of `command` checks.
    pub env: BTreeMap<String, String>,
    /// Where `command` checks start, and where their relative programs are: the release. Empty
    /// where there is none, for an environment's checks.
    pub dir: PathBuf,
    /// Whom commands run as, and whose eyes read files, unless the check names somebody;
    /// `None` for the agent's own user: rootless.
    pub user: Option<User>,
    /// Whom a check may name; `None` for anybody. Releases are not trusted with root, so this is
    /// never `None` for a component's checks.
    pub users: Option<BTreeSet<String>>,
    /// What runs commands outside of the agent's sandbox, where that is there: [`crate::process::outside`].
    pub runner: Option<PathBuf>,
}

impl Surroundings {
    fn expand(&self, text: &str) -> Result<String, String> {
        expand(text, &self.variables)
    }

    fn expand_some(&self, text: Option<&String>) -> Result<Option<String>, String> {
        text.map(|text| self.expand(text)).transpose()
    }

    /// Reads a file that a check names, with no more rights than its commands have: otherwise a
    /// release could have root read, and send away, what its user cannot see.
    async fn read(&self, path: &str) -> Result<String, String> {
        let bad = |why: String| format!("cannot read {path}: {why}");
        let Some(user) = &self.user else {
            let bytes = tamer_kit::durable::read_capped(Path::new(path), MAX_FILE as u64)
                .map_err(|e| bad(e.source.to_string()))?
                .ok_or_else(|| bad("there is no such file".to_owned()))?;
            return String::from_utf8(bytes).map_err(|_| bad("it is not text".to_owned()));
        };
        command::read_as(user, path).await.map_err(bad)
    }
}

/// What a try is waiting for, in words that go after "no answer within 10 s while ".
#[derive(Debug, Default)]
struct Doing(Mutex<String>);

impl Doing {
    fn now(&self, what: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    fn text(self) -> String {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries a check once. `check.timeout` is a hard limit for the whole try; dropping the future ends
/// the try and whatever it started.
pub async fn run(check: &Check, around: &Surroundings) -> CheckResult {
    let doing = Doing::default();
    let limit = check.timeout.0;
    match timeout(limit, tried(check, around, &doing)).await {
        Ok(Ok(())) => CheckResult::Passed,
        Ok(Err(why)) => CheckResult::Failed(sentence(&why)),
        Err(_) => CheckResult::Failed(sentence(&format!(
            "no answer within {} while {}",
            seconds(limit),
            doing.text()
        ))),
    }
}

/// Tries every check once, a few at the same time.
pub async fn run_all(checks: &Checks, around: &Surroundings) -> Results {
    let tries: Vec<_> = checks
        .iter()
        .map(|(name, check)| named(name, check, around))
        .collect();
    futures_util::stream::iter(tries)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

async fn named(name: &CheckName, check: &Check, around: &Surroundings) -> (CheckName, CheckResult) {
    (name.clone(), run(check, around).await)
}

/// One try of whatever kind, with the host's variables put in.
async fn tried(check: &Check, around: &Surroundings, doing: &Doing) -> Tried {
    match &check.kind {
        CheckKind::Http {
            url,
            status,
            contains,
        } => {
            let url = around.expand(url)?;
            let contains = around.expand_some(contains.as_ref())?;
            http::try_it(&url, *status, contains.as_deref(), doing).await
        }
        CheckKind::Tcp { address } => tcp::try_it(&around.expand(address)?, doing).await,
        CheckKind::Command { run, user } => {
            let run = run.iter().map(|part| around.expand(part));
            let run: Vec<_> = run.collect::<Result<_, _>>()?;
            let user = around.expand_some(user.as_ref())?;
            command::try_it(&run, user.as_deref(), around, check.timeout.0, doing).await
        }
        CheckKind::Disk { path, free } => disk::try_it(&around.expand(path)?, *free, doing).await,
        CheckKind::Smtp {
            server,
            from,
            to,
            tls,
            username,
            password_file,
            ca_file,
        } => {
            let probe = smtp::Probe {
                server: around.expand(server)?,
                from: around.expand(from)?,
                to: around.expand(to)?,
                tls: *tls,
                username: around.expand_some(username.as_ref())?,
                password_file: around.expand_some(password_file.as_ref())?,
                ca_file: around.expand_some(ca_file.as_ref())?,
            };
            // Its state machine is by far the largest of all kinds.
            Box::pin(smtp::try_it(&probe, around, doing)).await
        }
    }
}

/// Whether commands can be run as this user at all, and may be.
pub(crate) async fn user_named(name: &str, around: &Surroundings) -> Result<Option<User>, String> {
    if around.users.as_ref().is_some_and(|it| !it.contains(name)) {
        return Err(format!(
            "the check may not run as {name}: agent.toml would need it in `users` of the application"
        ));
    }
    let wanted = name.to_owned();
    // NSS may ask a directory server.
    let found = tokio::task::spawn_blocking(move || User::named(&wanted)).await;
    match found {
        Ok(Ok(Some(user))) if geteuid().is_root() || geteuid().as_raw() == user.uid => {
            Ok(Some(user))
        }
        Ok(Ok(Some(_))) => Err(format!("only root can run a command as {name}")),
        Ok(Ok(None)) => Err(format!("there is no user {name} on this host")),
        Ok(Err(error)) => Err(format!("cannot look up the user {name}: {error}")),
        Err(error) => Err(format!("cannot look up the user {name}: {error}")),
    }
}

/// One line of bounded length: what servers and commands say ends up on a terminal.
fn sentence(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_SENTENCE));
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        let room = MAX_SENTENCE.saturating_sub(out.len() + 1);
        if word.len() > room {
            out.push('…');
            break;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// `10 s`, `1.5 s`, `300 ms`.
pub(crate) fn seconds(span: Duration) -> String {
    match span.as_millis() {
        ms if ms < 1000 => format!("{ms} ms"),
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        _ => format!("{:.1} s", span.as_secs_f64()),
    }
}

/// The innermost reason of a failed connection, in few words.
fn reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "refused".to_owned(),
        ErrorKind::ConnectionReset => "reset by the other side".to_owned(),
        ErrorKind::UnexpectedEof => "closed by the other side".to_owned(),
        ErrorKind::TimedOut => "timed out".to_owned(),
        ErrorKind::HostUnreachable => "impossible: no route to the host".to_owned(),
        ErrorKind::NetworkUnreachable => "impossible: the network is unreachable".to_owned(),
        _ => format!("failed: {error}"),
    }
}

/// What a rustls error says about `host`.
fn tls_reason(error: &rustls::Error, host: &str) -> String {
    use rustls::CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(bad) => {
            let why = match bad {
                // A bad signature is that of an authority which only has the right name.
                Bad::UnknownIssuer | Bad::BadSignature => {
                    "it is signed by nobody who is trusted here".to_owned()
                }
                Bad::Expired | Bad::ExpiredContext { .. } => "it has expired".to_owned(),
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                    "it is not valid yet".to_owned()
                }
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                    "it is for other names".to_owned()
                }
                other => other.to_string(),
            };
            format!("the certificate does not hold for {host}: {why}")
        }
        other => format!("the TLS handshake with {host} failed: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sentences_are_one_bounded_line(text in any::<String>()) {
            let said = sentence(&text.repeat(20));
            prop_assert!(said.len() <= MAX_SENTENCE + '…'.len_utf8());
            prop_assert!(!said.chars().any(char::is_control));
        }
    }

    #[test]
    fn sentences_keep_their_words() {
        assert_eq!(
            sentence("550 5.7.1\r\n  no \x1b[31mrelay"),
            "550 5.7.1 no [31mrelay"
        );
    }

    #[test]
    fn spans_read_like_spoken() {
        let said = [300, 1500, 10_000].map(|ms| seconds(Duration::from_millis(ms)));
        assert_eq!(said, ["300 ms", "1.5 s", "10 s"]);
    }
}
