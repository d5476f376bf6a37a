//! What operators may do, and where.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use tamer_core::id::EnvironmentName;

/// What an operator may do; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See everything, but not what hooks and services printed.
    Viewer,
    /// Deploy, roll back, pause, resume, abort.
    Deployer,
    /// Invite and revoke hosts and operators, apply environment files.
    Admin,
}

/// An operator's roles.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Roles {
    /// In every environment, and for what belongs to none.
    pub everywhere: Option<Role>,
    /// In single environments; the higher one counts.
    pub environments: BTreeMap<EnvironmentName, Role>,
}

/// Where a role holds, in words: `that holds everywhere`, `in staging`.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a>(pub Option<&'a EnvironmentName>);

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Admin => "admin",
        })
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("that holds everywhere"),
            Some(environment) => write!(f, "in {environment}"),
        }
    }
}

/// `viewer everywhere, deployer in staging`.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let everywhere = self.everywhere.map(|role| format!("{role} everywhere"));
        let places = self.environments.iter();
        let places = places.map(|(environment, role)| format!("{role} in {environment}"));
        let all: Vec<String> = everywhere.into_iter().chain(places).collect();
        if all.is_empty() {
            return f.write_str("nothing");
        }
        f.write_str(&all.join(", "))
    }
}

impl Roles {
    /// This role in every environment.
    pub fn everywhere(role: Role) -> Self {
        Self {
            everywhere: Some(role),
            environments: BTreeMap::new(),
        }
    }

    /// The role in an environment, or with `None` for what concerns the whole fleet.
    pub fn in_environment(&self, environment: Option<&EnvironmentName>) -> Option<Role> {
        let here = environment.and_then(|environment| self.environments.get(environment));
        self.everywhere.max(here.copied())
    }

    /// Whether this is enough. Whoever has a role anywhere may look at everything, for what one environment does
    /// concerns the others; what was printed there is hidden by who reads it.
    pub fn may(&self, environment: Option<&EnvironmentName>, needed: Role) -> bool {
        let anywhere = self.everywhere.is_some() || !self.environments.is_empty();
        anywhere && (needed == Role::Viewer || self.in_environment(environment) >= Some(needed))
    }

    /// The highest role that they have anywhere.
    pub fn highest(&self) -> Option<Role> {
        self.everywhere
            .max(self.environments.values().max().copied())
    }

    /// Adds these: where both name a place, the new role counts there, be it a lower one.
    pub fn add(&mut self, more: &Self) {
        self.everywhere = more.everywhere.or(self.everywhere);
        let environments = more.environments.iter();
        let environments = environments.map(|(name, role)| (name.clone(), *role));
        self.environments.extend(environments);
    }

    /// In one word where one says it: `deployer`; otherwise `viewer everywhere, deployer in staging`.
    pub fn shortly(&self) -> String {
        match self.everywhere {
            Some(role) if self.environments.is_empty() => role.to_string(),
            _ => self.to_string(),
        }
    }
}
