//! Checks: what must hold on a host. Definitions, results, and the judgement of what got worse.

use crate::id::CheckName;
use crate::limits::Size;
use crate::moment::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Checks by name.
pub type Checks = BTreeMap<CheckName, Check>;

/// One check: what to try, how long to wait for it, and how often to try it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// How long one try may take.
    pub timeout: Span,
    /// How long from the end of one try to the next, while nothing is being deployed.
    pub interval: Span,
    /// What is tried.
    #[serde(flatten)]
    pub kind: CheckKind,
}

/// What a check tries. Text fields may name variables of the host (`agent.toml`, `[variables]`) as `{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CheckKind {
    /// An HTTP request is answered with the expected status.
    Http {
        /// The whole URL, `http://` or `https://`.
        url: String,
        /// The status demanded.
        #[serde(default = "ok_status")]
        status: u16,
        /// Text that the first 64 KiB of the body must contain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        contains: Option<String>,
    },
    /// A TCP connection can be made.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// A command ends with exit code 0.
    Command {
        /// The program and its arguments; no shell is involved.
        run: Vec<String>,
        /// The user who runs it; without one, the component's user, or for an environment's check `nobody`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
    /// A file system has room.
    Disk {
        /// A path on the file system.
        path: String,
        /// What must be free for ordinary users: bytes, or a share such as `"10%"`.
        free: Room,
    },
    /// A mail server accepts a message.
    Smtp {
        /// `host:port`; the port is 25 where none is given.
        server: String,
        /// The envelope sender.
        from: String,
        /// The envelope recipient.
        to: String,
        /// Whether the conversation must be encrypted.
        #[serde(default)]
        tls: SmtpTls,
        /// The name to authenticate as. Needs `password_file`, and TLS.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        username: Option<String>,
        /// A file on the host whose first line is the password.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password_file: Option<String>,
        /// A file on the host with the certificates to trust (PEM) instead of the system's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_file: Option<String>,
    },
}

fn ok_status() -> u16 {
    200
}

/// Whether a mail conversation must be encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SmtpTls {
    /// STARTTLS when the server offers it (opportunistic, RFC 7435: the certificate is judged only with a `ca_file` or a login).
    #[default]
    Offered,
    /// STARTTLS or nothing, with a certificate that holds for the server's name.
    Required,
    /// Never encrypted.
    Never,
}

/// Room on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Room {
    /// So many bytes.
    Bytes(u64),
    /// So many percent of the file system, 0 to 100.
    Percent(u8),
}

impl TryFrom<String> for Room {
    type Error = String;
    fn try_from(given: String) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{given}` is not an amount of room: write it like \"10%\", \"512MiB\" or \"2GiB\""
            )
        };
        if let Some(percent) = given.strip_suffix('%') {
            return match percent.trim().parse() {
                Ok(percent) if percent <= 100 => Ok(Self::Percent(percent)),
                _ => Err(bad()),
            };
        }
        given
            .parse()
            .map(|Size(bytes)| Self::Bytes(bytes))
            .map_err(|_| bad())
    }
}

impl From<Room> for String {
    fn from(room: Room) -> String {
        match room {
            Room::Bytes(bytes) => format!("{bytes}B"),
            Room::Percent(percent) => format!("{percent}%"),
        }
    }
}

impl<'de> Deserialize<'de> for Check {
    /// Takes the keys that every check has, and leaves the rest to the type: serde's `flatten`
    /// would let unknown keys through.
    fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut keys = serde_json::Map::deserialize(source)?;
        let mut common = |name: &str, default: Span| match keys.remove(name) {
            None => Ok(default),
            Some(value) => {
                Span::deserialize(value).map_err(|e| D::Error::custom(format!("{name}: {e}")))
            }
        };
        let timeout = common("timeout", Span::secs(10))?;
        let interval = common("interval", Span::secs(30))?;
        if timeout.0.is_zero() || interval.0.is_zero() {
            return Err(D::Error::custom(
                "`timeout` and `interval` must be longer than nothing",
            ));
        }
        let kind = CheckKind::deserialize(serde_json::Value::Object(keys)).map_err(|error| {
            D::Error::custom(error.to_string().replacen(
                "expected one of ",
                "expected one of `timeout`, `interval`, ",
                1,
            ))
        })?;
        Ok(Self {
            timeout,
            interval,
            kind,
        })
    }
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckResult {
    /// It held.
    Passed,
    /// It did not hold, and why, in one sentence.
    Failed(String),
}

impl CheckResult {
    /// Whether it held.
    pub fn passed(&self) -> bool {
        *self == Self::Passed
    }
}

/// Results by the check's name.
pub type Results = BTreeMap<CheckName, CheckResult>;

/// The checks that got worse: failing now, and not already failing before. Only these blame a release.
/// A check that is new (not in `before`) and fails counts as worse.
pub fn worse<'a>(before: &Results, now: &'a Results) -> Vec<(&'a CheckName, &'a str)> {
    now.iter()
        .filter_map(|(name, result)| match result {
            CheckResult::Failed(why) if before.get(name).is_none_or(CheckResult::passed) => {
                Some((name, why.as_str()))
            }
            _ => None,
        })
        .collect()
}

/// Puts the host's variables into a text: `{port}` becomes the value of `port`; `{{` and `}}` stand for braces.
///
/// # Errors
/// A sentence that names a variable the host does not have, or a brace that is never closed.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (plain, from) = rest.split_at(at);
        out.push_str(plain);
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            out.push_str(&from[..1]);
            rest = after;
        } else if let Some((name, after)) = from.strip_prefix('{').and_then(|s| s.split_once('}')) {
            let value = variables.get(name).ok_or_else(|| {
                format!("the host has no variable `{name}`: add it to [variables] in agent.toml")
            })?;
            out.push_str(value);
            rest = after;
        } else {
            return Err(format!(
                "`{text}` has a brace without its other half: write {{{{ or }}}} for a brace itself"
            ));
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(text: &str) -> Result<Checks, crate::text::BadText> {
        crate::text::parse("t", text)
    }

    #[test]
    fn checks_read_from_toml_and_survive_json() {
        let read = checks("[mail]\ntype = \"smtp\"\nserver = \"m:25\"\nfrom = \"a@b\"\nto = \"c@d\"\ntimeout = \"3s\"").unwrap();
        let json = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Checks>(&json).unwrap(), read);
        assert_eq!(read.values().next().unwrap().timeout, Span::secs(3));
    }

    #[test]
    fn unknown_keys_of_checks_are_refused_with_the_nearest() {
        let said = checks("[home]\ntype = \"http\"\nulr = \"http://x\"")
            .unwrap_err()
            .to_string();
        assert!(said.contains("did you mean `url`?"), "{said}");
        let said = checks("[home]\ntype = \"http\"\nurl = \"http://x\"\ntimeuot = \"1s\"")
            .unwrap_err()
            .to_string();
        assert!(said.contains("did you mean `timeout`?"), "{said}");
        let said = checks("[home]\ntype = \"htp\"").unwrap_err().to_string();
        assert!(said.contains("did you mean `http`?"), "{said}");
    }

    #[test]
    fn only_what_got_worse_blames_the_release() {
        let name = |s: &str| s.parse::<CheckName>().unwrap();
        let failed = || CheckResult::Failed("no".into());
        let before = Results::from([(name("old"), failed()), (name("good"), CheckResult::Passed)]);
        let now = Results::from([
            (name("old"), failed()),
            (name("good"), failed()),
            (name("new"), failed()),
            (name("fine"), CheckResult::Passed),
        ]);
        let names: Vec<_> = worse(&before, &now)
            .into_iter()
            .map(|(n, _)| n.as_str())
            .collect();
        assert_eq!(names, ["good", "new"]);
    }

    #[test]
    fn variables_expand_or_say_what_is_missing() {
        let host = BTreeMap::from([("port".to_owned(), "8081".to_owned())]);
        assert_eq!(
            expand("http://[::1]:{port}/{{x}}", &host).unwrap(),
            "http://[::1]:8081/{x}"
        );
        assert!(expand("{prot}", &host).unwrap_err().contains("`prot`"));
        assert!(expand("{port", &host).is_err());
    }

    #[test]
    fn room_is_bytes_or_a_share() {
        assert_eq!(Room::try_from("2GiB".to_owned()), Ok(Room::Bytes(2 << 30)));
        assert_eq!(Room::try_from("10%".to_owned()), Ok(Room::Percent(10)));
        assert!(Room::try_from("lots".to_owned()).is_err());
        assert!(Room::try_from("101%".to_owned()).is_err());
    }
}
