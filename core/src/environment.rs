//! The environment file: where components run, how carefully they change, and on what evidence.
//! It is signed whole, and every agent of the environment reads it for itself.

use crate::auto::Auto;
use crate::calendar::{self, Calendar, Freeze, Window};
use crate::check::Checks;
use crate::digest::Digest;
use crate::evidence::{Approval, Demanded};
use crate::id::{ApplicationName, ComponentPath};
use crate::policy::Policy;
use crate::router::{self, Acceptance, Pools, RouterSpec};
use crate::selector::Selector;
use crate::text::{self, BadText};
use crate::version::Version;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The largest environment file that is read, in bytes.
pub const MAX_ENVIRONMENT: u64 = 1 << 20;

/// The application whose component `agent` is the agent itself.
pub const AGENTS: &str = "tamer";

/// An environment, as `environments/NAME.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Which hosts run which component, by their labels.
    #[serde(default)]
    pub place: BTreeMap<ComponentPath, Selector>,
    /// Components that run in two pools, of which one is used at a time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<ComponentPath, Pools>,
    /// What sends to one pool of a component or to the other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub router: BTreeMap<ComponentPath, RouterSpec>,
    /// Checks that the routers try on an idle pool before they send to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub acceptance: Acceptance,
    /// How carefully releases are rolled out.
    #[serde(default)]
    pub policy: Policy,
    /// Whether whoever deploys is shown the plan and asked first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirm: bool,
    /// What is deployed here without being asked for; absent: nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto: Option<Auto>,
    /// When rollouts may move hosts forward; without any, always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub window: Vec<Window>,
    /// When they may not, whatever the windows say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<Freeze>,
    /// What must be proven of a release.
    #[serde(default)]
    pub evidence: Demanded,
    /// Who must approve a deployment.
    #[serde(default)]
    pub approval: Approval,
    /// Checks that every host here must pass.
    #[serde(default)]
    pub checks: Checks,
    /// The lowest version of a component that may be activated here.
    #[serde(default)]
    pub minimum: BTreeMap<ComponentPath, Version>,
    /// Releases, by the digest of their manifest, that may not run here any more.
    #[serde(default)]
    pub revoked: BTreeSet<Digest>,
}

/// Why an environment does not admit a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// No place for it.
    #[error("the environment file gives {0} no place here")]
    NoPlace(ComponentPath),
    /// Too old.
    #[error("{component} {version} is below the environment's signed minimum {minimum}")]
    BelowMinimum {
        /// The component.
        component: ComponentPath,
        /// The version asked for.
        version: Version,
        /// The lowest that is allowed.
        minimum: Version,
    },
    /// On the signed revocation list.
    #[error("{component} {version} is on the environment's signed revocation list")]
    Revoked {
        /// The component.
        component: ComponentPath,
        /// The version asked for.
        version: Version,
    },
}

impl Environment {
    /// Reads and validates an environment file.
    ///
    /// # Errors
    /// [`BadText`] with the place and the reason.
    pub fn parse(file: &str, text: &str) -> Result<Self, BadText> {
        let environment: Self = text::parse(file, text)?;
        environment
            .policy
            .validate()
            .map_err(|bad| BadText::about(file, text, &["policy", bad.key], bad))?;
        environment.validate_calendar(file, text)?;
        if let Some(auto) = &environment.auto {
            // The file's name is the environment's.
            let name = file
                .rsplit('/')
                .next()
                .and_then(|it| it.strip_suffix(".toml"));
            auto.validate(name)
                .map_err(|bad| BadText::about(file, text, &["auto", bad.key], bad))?;
        }
        let named = |table| move |reason| BadText::new(file, format!("{table}: {reason}"));
        environment.evidence.validate().map_err(named("evidence"))?;
        environment.approval.validate().map_err(named("approval"))?;
        router::validate(&environment).map_err(|reason| BadText::new(file, reason))?;
        let approval = &environment.approval;
        let people = approval.needed > 0
            || !environment.policy.approval.is_empty()
            || environment.router.values().any(|router| router.approval);
        if approval.four_eyes && !people {
            let reason = "approval: `four_eyes` is said and nobody must approve: say `needed = 1`, or name points of \
                          approval in [policy]";
            return Err(BadText::about(
                file,
                text,
                &["approval", "four_eyes"],
                reason,
            ));
        }
        Ok(environment)
    }

    /// Refuses a calendar that is too long, or a window in which no host could finish.
    fn validate_calendar(&self, file: &str, text: &str) -> Result<(), BadText> {
        for (table, many) in [("window", self.window.len()), ("freeze", self.freeze.len())] {
            if many > calendar::MOST {
                let most = calendar::MOST.to_string();
                let reason = format!("[[{table}]]: {many} of them, and {most} are the most");
                return Err(BadText::about(file, text, &[table, &most], reason));
            }
        }
        let deadline = self.policy.healthy_deadline;
        let short = |window: &Window| window.length() < deadline;
        if let Some(number) = self.window.iter().position(short) {
            let reason = format!(
                "window: {} is shorter than `healthy_deadline` ({deadline}), so a host that begins in it may not \
                 end in it: make it longer",
                self.window[number]
            );
            let number = number.to_string();
            return Err(BadText::about(file, text, &["window", &number], reason));
        }
        Ok(())
    }

    /// When rollouts may move hosts forward here, as the file says.
    pub fn calendar(&self) -> Calendar<'_> {
        Calendar::new(&self.window, &self.freeze)
    }

    /// The application that is meant where none is named: the only one with a place here. The agents
    /// themselves ([`AGENTS`]) are not counted, for they are everywhere beside what the hosts are for.
    pub fn only_application(&self) -> Option<&ApplicationName> {
        let mut names: Vec<_> = self.place.keys().map(|path| &path.application).collect();
        names.dedup();
        if names.len() > 1 {
            names.retain(|name| name.as_str() != AGENTS);
        }
        match names[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Whether a release may run here at all: it has a place, is not below the minimum, not revoked.
    ///
    /// # Errors
    /// [`NotAdmitted`] with the reason.
    pub fn admits(
        &self,
        component: &ComponentPath,
        version: &Version,
        manifest: &Digest,
    ) -> Result<(), NotAdmitted> {
        if !self.place.contains_key(component) {
            return Err(NotAdmitted::NoPlace(component.clone()));
        }
        if self.revoked.contains(manifest) {
            return Err(NotAdmitted::Revoked {
                component: component.clone(),
                version: version.clone(),
            });
        }
        match self.minimum.get(component) {
            Some(minimum) if version < minimum => Err(NotAdmitted::BelowMinimum {
                component: component.clone(),
                version: version.clone(),
                minimum: minimum.clone(),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[place]
"shop/web" = { role = "web" }
[policy]
canary = "5%"
max_parallel = "20%"
[minimum]
"shop/web" = "1.3.0"
[checks.mail]
type = "smtp"
server = "mail.internal:587"
from = "probe@shop.example"
to = "sink@shop.example"
"#;

    #[test]
    fn only_placed_new_enough_unrevoked_releases_are_admitted() {
        let mut here = Environment::parse("production.toml", TEXT).unwrap();
        let web: ComponentPath = "shop/web".parse().unwrap();
        let digest = Digest::new([7; 32]);
        let admits = |here: &Environment, component: &str, version: &str| {
            here.admits(
                &component.parse().unwrap(),
                &version.parse().unwrap(),
                &digest,
            )
        };
        assert_eq!(admits(&here, "shop/web", "1.3.0"), Ok(()));
        assert_eq!(
            admits(&here, "bank/web", "1.3.0"),
            Err(NotAdmitted::NoPlace("bank/web".parse().unwrap()))
        );
        assert!(matches!(
            admits(&here, "shop/web", "1.3.0-rc.1"),
            Err(NotAdmitted::BelowMinimum { .. })
        ));
        here.revoked.insert(digest);
        assert!(
            matches!(admits(&here, "shop/web", "9.0.0"), Err(NotAdmitted::Revoked { component, .. }) if component == web)
        );
    }

    #[test]
    fn the_agents_do_not_make_it_unclear_which_application_is_meant() {
        for (place, only) in [
            ("", None),
            ("\"shop/web\" = {}\n\"shop/worker\" = {}", Some("shop")),
            ("\"tamer/agent\" = {}", Some("tamer")),
            ("\"shop/web\" = {}\n\"tamer/agent\" = {}", Some("shop")),
            ("\"bank/web\" = {}\n\"shop/web\" = {}", None),
        ] {
            let here = Environment::parse("p.toml", &format!("[place]\n{place}")).unwrap();
            let found = here.only_application().map(ApplicationName::as_str);
            assert_eq!(found, only, "{place}");
        }
    }

    #[test]
    fn a_window_in_which_no_host_could_finish_refuses_the_file_and_says_which() {
        let window = "[[window]]\nzone = \"UTC\"\nfrom = \"09:00\"\nto = \"09:04\"\n";
        let text = format!("[[window]]\nzone = \"UTC\"\n\n{window}");
        let said = Environment::parse("p.toml", &text).unwrap_err().to_string();
        assert!(
            said.starts_with("p.toml:4:1: window: from 09:00 to 09:04"),
            "{said}"
        );
        assert!(said.contains("healthy_deadline"), "{said}");
        let enough = text.replace("09:04", "09:05");
        assert!(Environment::parse("p.toml", &enough).is_ok());
        let many = "[[window]]\nzone = \"UTC\"\n".repeat(65);
        let said = Environment::parse("p.toml", &many).unwrap_err().to_string();
        assert!(said.starts_with("p.toml:129:1: [[window]]: 65"), "{said}");
    }

    #[test]
    fn a_bad_policy_refuses_the_file() {
        let said = Environment::parse("p.toml", "[policy]\nmax_parallel = \"100%\"")
            .unwrap_err()
            .to_string();
        assert!(
            said.starts_with("p.toml:2:16: policy: ") && said.contains("all_at_once"),
            "{said}"
        );
    }
}
