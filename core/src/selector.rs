//! Labels of hosts, and the choice of hosts by labels.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Labels of a host, kept in the controller's registry: `role=web`, `zone=a`.
pub type Labels = BTreeMap<String, String>;

/// Chooses hosts: each of these labels must be there with this value. Empty chooses every host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Selector(pub BTreeMap<String, String>);

impl Selector {
    /// Whether a host with these labels is chosen.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("every host");
        }
        for (n, (key, value)) in self.0.iter().enumerate() {
            write!(f, "{}{key}={value}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Whether something may be the name or the value of a label.
pub fn is_label(given: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !given.is_empty() && given.len() <= 63 && given.chars().all(known)
}

/// Reads `role=web` as it stands on a command line.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn parse_label(given: &str) -> Result<(String, String), String> {
    match given.split_once('=') {
        Some((key, value)) if is_label(key) && is_label(value) => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(format!(
            "`{}` is not a label: write KEY=VALUE with letters, digits, `-`, `_` and `.`, for instance role=web",
            given.chars().take(80).collect::<String>()
        )),
    }
}
