//! Environments that follow by themselves: `[auto]` in an environment file, what is remembered of versions, and the
//! decision what is deployed next. It only ever *begins* a deployment; everything that holds for one that a person asks
//! for holds for it.

mod decide;
mod standing;

pub use decide::{Decision, Question, Waiting};
pub use standing::{Hold, MOST, Seen, Standing, Stood};

use crate::id::EnvironmentName;
use crate::moment::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most that `max_releases_at_once` may say: of an application about 200 versions are live.
pub const MOST_AT_ONCE: u32 = 100;

/// What an environment deploys by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auto {
    /// The environment that is followed: what has succeeded there comes here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<EnvironmentName>,
    /// How long a version must have stood in the environment that is followed, without being taken back and without
    /// drift, a hold or a failing check on its hosts. Absent: it comes here as soon as it has succeeded there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<Span>,
    /// Instead of `from`: what is deployed here as soon as it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Every>,
    /// How many published versions' changes one deployment may bring. Absent: any number, and the newest version comes
    /// at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_releases_at_once: Option<u32>,
}

/// What is followed where no environment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Every {
    /// Every version of an application that is published.
    Published,
}

/// Why `[auto]` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("auto: {reason}")]
pub struct BadAuto {
    /// The key of `[auto]` that it is about.
    pub key: &'static str,
    /// Why, and what to write instead.
    pub reason: String,
}

impl Auto {
    /// Refuses what contradicts itself. `name` is the environment's own, where it is known.
    ///
    /// # Errors
    /// [`BadAuto`] with the reason and what to write instead.
    pub fn validate(&self, name: Option<&str>) -> Result<(), BadAuto> {
        let refuse = |key, reason: String| Err(BadAuto { key, reason });
        match (&self.from, self.every) {
            (Some(_), Some(_)) => {
                return refuse(
                    "every",
                    "`from` and `every` are both said: an environment follows another one, or takes every published \
                     version"
                        .to_owned(),
                );
            }
            (None, None) => {
                return refuse(
                    "from",
                    "nothing is followed: write `from = \"staging\"`, or `every = \"published\"`"
                        .to_owned(),
                );
            }
            (Some(from), None) if Some(from.as_str()) == name => {
                return refuse(
                    "from",
                    format!(
                        "`{from}` follows itself: name the environment in which versions are tried before"
                    ),
                );
            }
            (None, Some(_)) if self.bake.is_some() => {
                return refuse(
                    "bake",
                    "`bake` is how long a version stands in the environment that is followed, and `every` follows none: \
                     leave it out, or write `from`"
                        .to_owned(),
                );
            }
            _ => {}
        }
        match self.max_releases_at_once {
            Some(0) => refuse(
                "max_releases_at_once",
                "`max_releases_at_once` is 0, so nothing would ever come: write 1 or more"
                    .to_owned(),
            ),
            Some(many) if many > MOST_AT_ONCE => refuse(
                "max_releases_at_once",
                format!(
                    "`max_releases_at_once` is {many}, and {MOST_AT_ONCE} are the most: leave it out, and the newest comes at once"
                ),
            ),
            _ => Ok(()),
        }
    }

    /// How long a version must have stood where it is followed from.
    pub fn bake(&self) -> Span {
        self.bake.unwrap_or_default()
    }
}

/// The way from `name` back to itself, where environments follow one another in a circle: `production, staging,
/// production`. `follows` says of each environment which one it follows.
pub fn circle(
    follows: &BTreeMap<EnvironmentName, EnvironmentName>,
    name: &EnvironmentName,
) -> Option<Vec<EnvironmentName>> {
    let mut way = vec![name.clone()];
    while let Some(next) = way.last().and_then(|last| follows.get(last)) {
        let back = next == name;
        if !back && way.contains(next) {
            // A circle of others: each of them is told of it.
            return None;
        }
        way.push(next.clone());
        if back {
            return Some(way);
        }
    }
    None
}

/// A circle in words: `production, staging, production`.
pub fn in_a_circle(way: &[EnvironmentName]) -> String {
    let names: Vec<&str> = way.iter().map(EnvironmentName::as_str).collect();
    format!(
        "auto: these environments follow one another in a circle, so nothing would ever be tried first: {}. Take \
         `from` out of one of them",
        names.join(" follows ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    fn said(auto: &str) -> String {
        let text = format!("[place]\n[auto]\n{auto}\n");
        match Environment::parse("environments/production.toml", &text) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_its_line() {
        for (auto, place, word) in [
            ("", ":2:1", "nothing is followed"),
            (
                "from = \"staging\"\nevery = \"published\"",
                ":4:9",
                "both said",
            ),
            ("from = \"production\"", ":3:8", "follows itself"),
            (
                "every = \"published\"\nbake = \"1h\"",
                ":4:8",
                "leave it out",
            ),
            ("bake = \"1h\"", ":2:1", "nothing is followed"),
            (
                "every = \"published\"\nmax_releases_at_once = 0",
                ":4:24",
                "write 1 or more",
            ),
            (
                "from = \"staging\"\nmax_releases_at_once = 101",
                ":4:24",
                "100 are the most",
            ),
            ("every = \"publishd\"", ":3:9", "did you mean `published`?"),
            ("after = \"1h\"", ":3:1", "unknown key `after`"),
        ] {
            let said = said(auto);
            let at = format!("environments/production.toml{place}: ");
            assert!(
                said.starts_with(&at) && said.contains(word),
                "{auto}: {said}"
            );
        }
        for good in [
            "from = \"staging\"",
            "from = \"staging\"\nbake = \"2h\"\nmax_releases_at_once = 3",
            "every = \"published\"",
        ] {
            assert_eq!(said(good), "", "{good}");
        }
    }

    #[test]
    fn a_circle_is_found_by_everyone_in_it() {
        let name = |name: &str| name.parse::<EnvironmentName>().unwrap();
        let follows = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(a, b)| (name(a), name(b)));
            pairs.collect::<BTreeMap<_, _>>()
        };
        let round = follows(&[("a", "b"), ("b", "c"), ("c", "a"), ("x", "a")]);
        let way = circle(&round, &name("b")).unwrap();
        assert!(in_a_circle(&way).contains("b follows c follows a follows b"));
        assert_eq!(circle(&round, &name("x")), None);
        let line = follows(&[("c", "b"), ("b", "a")]);
        assert_eq!(circle(&line, &name("c")), None);
    }
}
