//! Names, parsed once at the boundary; inside there are no raw strings with meaning.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a string is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a valid {kind}: {reason}")]
pub struct BadName {
    /// What the string was to name, for the message.
    pub kind: &'static str,
    /// The string as given, at most 80 characters of it.
    pub given: String,
    /// The rule that it breaks.
    pub reason: &'static str,
}

/// The longest name: a DNS label's length (RFC 1035, 2.3.4), so that names fit host names and units.
pub const MAX_NAME: usize = 63;

/// The longest host name (RFC 1035, 2.3.4).
pub const MAX_HOST_NAME: usize = 253;

fn check(kind: &'static str, given: &str, max: usize, dots: bool) -> Result<(), BadName> {
    let bad = |reason| {
        Err(BadName {
            kind,
            given: given.chars().take(80).collect(),
            reason,
        })
    };
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if given.is_empty() {
        return bad("it is empty");
    }
    if given.len() > max {
        return bad("it is too long");
    }
    if !given
        .chars()
        .all(|c| edge(c) || c == '-' || (dots && c == '.'))
    {
        return bad(if dots {
            "only a-z, 0-9, `-` and `.` may stand in it"
        } else {
            "only a-z, 0-9 and `-` may stand in it"
        });
    }
    if !given
        .split('.')
        .all(|label| label.len() <= MAX_NAME && label.starts_with(edge) && label.ends_with(edge))
    {
        return bad("it must begin and end with a letter or a digit");
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $max:expr, $dots:literal) => {
        $(#[$doc])*
        ///
        /// Cheap to clone: a controller has each name in many places.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = BadName;
            fn from_str(given: &str) -> Result<Self, BadName> {
                check($kind, given, $max, $dots)?;
                Ok(Self(given.into()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadName;
            fn try_from(given: String) -> Result<Self, BadName> {
                given.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.as_str().to_owned()
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(/// An application: `shop`.
    ApplicationName, "application name", MAX_NAME, false);
name!(/// A component of an application: `web`.
    ComponentName, "component name", MAX_NAME, false);
name!(/// An environment: `production`.
    EnvironmentName, "environment name", MAX_NAME, false);
name!(/// A pool of a component in an environment: `blue`. Most components have one pool, `main`.
    PoolName, "pool name", MAX_NAME, false);
name!(/// A check: `home`, `mail`.
    CheckName, "check name", MAX_NAME, false);
name!(/// A database schema of an application: `main`.
    SchemaName, "schema name", MAX_NAME, false);
name!(/// A key that an environment file lists: `ci`, `anna`.
    KeyName, "key name", MAX_NAME, false);
name!(/// A host: a DNS name, in small letters.
    HostName, "host name", MAX_HOST_NAME, true);
name!(/// An operator: `anna`, `ci`.
    OperatorName, "operator name", MAX_HOST_NAME, true);

impl Default for PoolName {
    /// The one pool of a component that has no pools.
    fn default() -> Self {
        Self("main".into())
    }
}

/// The place a release is rolled out to: the key of every rollout from the first day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetKey {
    /// The environment, for instance `production`.
    pub environment: EnvironmentName,
    /// The application, for instance `shop`.
    pub application: ApplicationName,
    /// The component, for instance `web`.
    pub component: ComponentName,
    /// The pool; [`PoolName::default`] where the component has none.
    pub pool: PoolName,
}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            environment,
            application,
            component,
            pool,
        } = self;
        write!(f, "{environment}/{application}/{component}")?;
        if *pool == PoolName::default() {
            Ok(())
        } else {
            write!(f, "/{pool}")
        }
    }
}

/// `shop/web`: a component, named with its application.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ComponentPath {
    /// The application.
    pub application: ApplicationName,
    /// The component.
    pub component: ComponentName,
}

impl FromStr for ComponentPath {
    type Err = BadName;
    fn from_str(given: &str) -> Result<Self, BadName> {
        let Some((application, component)) = given.split_once('/') else {
            return Err(BadName {
                kind: "component",
                given: given.chars().take(80).collect(),
                reason: "write it as APPLICATION/COMPONENT, for instance `shop/web`",
            });
        };
        Ok(Self {
            application: application.parse()?,
            component: component.parse()?,
        })
    }
}

impl TryFrom<String> for ComponentPath {
    type Error = BadName;
    fn try_from(given: String) -> Result<Self, BadName> {
        given.parse()
    }
}

impl From<ComponentPath> for String {
    fn from(path: ComponentPath) -> String {
        path.to_string()
    }
}

impl fmt::Display for ComponentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.application, self.component)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dns_labels() {
        for good in ["a", "shop", "web-2", "0day"] {
            assert!(good.parse::<ComponentName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "Shop",
            "-a",
            "a-",
            "a.b",
            "a/b",
            "..",
            "ä",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<ComponentName>().is_err(), "{bad}");
        }
        assert!("web-01.example.org".parse::<HostName>().is_ok());
        assert!("web..org".parse::<HostName>().is_err());
    }

    #[test]
    fn a_bad_name_says_why() {
        let said = "Shop".parse::<ApplicationName>().unwrap_err().to_string();
        assert_eq!(
            said,
            "`Shop` is not a valid application name: only a-z, 0-9 and `-` may stand in it"
        );
    }
}
