//! Approval of a deployment: what is approved, who has approved, and whether that is enough.
//!
//! Who approved is known from statements that were verified with keys of the environment file; what is here only
//! counts them. An approval is of one plan ([`ToApprove`]), so one deployment's is worth nothing for another one.

use super::deployment::{Deployment, DeploymentId, Step};
use crate::desired::{Purpose, Slot};
use crate::digest::Digest;
use crate::evidence::{Approval, Until, same_person};
use crate::id::{ApplicationName, ComponentName, EnvironmentName, KeyName, PoolName};
use crate::moment::Moment;
use crate::release::ReleaseRef;
use crate::version::Version;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The plan of a deployment, as it is approved. Its digest is that of [`ToApprove::to_json`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToApprove {
    /// Which deployment.
    pub deployment: DeploymentId,
    /// Where.
    pub environment: EnvironmentName,
    /// What.
    pub application: ApplicationName,
    /// The version that was asked for.
    pub version: Option<Version>,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When; numbers may come again after a restore, moments do not.
    pub asked_at: Moment,
    /// What changes, in order.
    pub releases: Vec<ReleaseToApprove>,
}

/// A component whose release changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseToApprove {
    /// Of which component.
    pub component: ComponentName,
    /// In which pool.
    pub pool: PoolName,
    /// From which release; `None`: nothing ran there.
    pub from: Option<ReleaseRef>,
    /// To which release.
    pub to: ReleaseRef,
}

/// Which plan, as a host remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRef {
    /// SHA-256 of [`ToApprove::to_json`].
    pub digest: Digest,
    /// When it was asked for, as it says itself: whoever approved it signed that too.
    pub asked_at: Moment,
}

/// How far the approval of a deployment is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Approving {
    /// Who approved it, each key once.
    pub given: BTreeMap<KeyName, Given>,
    /// Whether it was approved and has begun: it then goes on, whatever ends later.
    pub begun: bool,
}

/// One approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// When, by the clock of who approved.
    pub at: Moment,
    /// When it is worth nothing any more.
    pub expires: Moment,
    /// Why, for people.
    pub reason: String,
}

/// How an approval stands at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Who approved, with the moment at which that ends.
    pub by: BTreeMap<String, Moment>,
    /// How many must.
    pub needed: u32,
}

// === impl ToApprove ===

impl ToApprove {
    /// It as JSON: the same bytes for the same plan.
    pub fn to_json(&self) -> Vec<u8> {
        // Names, numbers and strings: writing them into memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The manifests of all its releases.
    pub fn manifests(&self) -> BTreeSet<Digest> {
        self.releases.iter().map(|it| it.to.manifest).collect()
    }

    /// Whether it brings the release with this manifest to this component.
    pub fn covers(&self, slot: &Slot, manifest: &Digest) -> bool {
        let brings = |it: &ReleaseToApprove| {
            it.component == slot.component && it.pool == slot.pool && it.to.manifest == *manifest
        };
        self.application == slot.application && self.releases.iter().any(brings)
    }
}

// === impl PlanRef ===

impl PlanRef {
    /// Whether it is of no use any more where `newest` is the newest plan that went ahead. One may go ahead again as
    /// long as it is that one itself; of two that were asked for at the same moment, the first to go ahead stands.
    pub fn is_superseded_by(&self, newest: Option<&Self>) -> bool {
        newest.is_some_and(|newest| newest != self && newest.asked_at >= self.asked_at)
    }
}

impl From<&Deployment> for ToApprove {
    fn from(deployment: &Deployment) -> Self {
        // A switch follows the rollout in the pool, and is approved with it.
        let alone = |step: &&Step| {
            let rolls = |it: &Step| !it.is_switch() && it.target == step.target;
            !step.is_switch() || !deployment.steps.iter().any(rolls)
        };
        let forward = deployment.steps.iter().filter(alone).filter_map(|step| {
            Some(ReleaseToApprove {
                component: step.target.component.clone(),
                pool: step.target.pool.clone(),
                from: step.from.clone(),
                // Steps that take back are appended when something has failed, and need nobody's approval.
                to: (step.release.clone()).filter(|_| step.purpose == Purpose::Forward)?,
            })
        });
        Self {
            deployment: deployment.id,
            environment: deployment.environment.clone(),
            application: deployment.application.clone(),
            version: deployment.version.clone(),
            by: deployment.by.clone(),
            reason: deployment.reason.clone(),
            asked_at: deployment.started_at,
            releases: forward.collect(),
        }
    }
}

// === impl Approving ===

impl Approving {
    /// How it stands where so much is demanded, for a deployment that `asker` asked for. A key that the file does
    /// not list any more approves nothing.
    pub fn stands(&self, demanded: &Approval, asker: &str, now: Moment) -> Standing {
        let mut by: BTreeMap<String, Moment> = BTreeMap::new();
        for (name, given) in &self.given {
            let Some(key) = demanded.keys.get(name).filter(|key| !key.has_ended(now)) else {
                continue;
            };
            let counts = given.expires > now && !demanded.is_asker(name, asker);
            if counts {
                let until = key
                    .until
                    .map_or(given.expires, |it| it.0.min(given.expires));
                let who = key.whose(name).trim().to_lowercase();
                let ends = by.entry(who).or_insert(until);
                *ends = (*ends).max(until);
            }
        }
        Standing {
            by,
            needed: demanded.needed,
        }
    }
}

// === impl Standing ===

impl Standing {
    /// Whether enough people approved.
    pub fn is_enough(&self) -> bool {
        usize::try_from(self.needed).is_ok_and(|needed| self.by.len() >= needed)
    }

    /// When the first of these approvals ends.
    pub fn until(&self) -> Option<Moment> {
        self.by.values().min().copied()
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} approved", self.by.len(), self.needed)?;
        for (n, (who, until)) in self.by.iter().enumerate() {
            let before = if n == 0 { ": " } else { ", " };
            write!(f, "{before}{who} until {}", Until(*until))?;
        }
        Ok(())
    }
}

// === impl Approval ===

impl Approval {
    /// Whether a key is that of who asked, and the file does not let them approve.
    pub fn is_asker(&self, name: &KeyName, asker: &str) -> bool {
        let key = self.keys.get(name);
        let person = key.and_then(|key| key.person.as_deref());
        let is = |who: &str| same_person(who, asker);
        self.four_eyes && (is(name.as_str()) || person.is_some_and(is))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";

    fn demanded(more: &str) -> Approval {
        let mut other = KEY.to_owned();
        other.replace_range(60..64, "AAAA");
        let mut third = KEY.to_owned();
        third.replace_range(60..64, "BBBB");
        let text = format!(
            "[approval]\nneeded = 2\n{more}\n[approval.keys.anna]\nkey = \"{KEY}\"\nperson = \"anna@shop.example\"\n\
             [approval.keys.anna-at-home]\nkey = \"{other}\"\nperson = \"Anna@shop.example\"\n\
             [approval.keys.ben]\nkey = \"{third}\"\n"
        );
        Environment::parse("p.toml", &text).unwrap().approval
    }

    fn given(keys: &[(&str, u64)]) -> Approving {
        let given = keys.iter().map(|(key, expires)| {
            let given = Given {
                at: Moment(0),
                expires: Moment(*expires),
                reason: String::new(),
            };
            (key.parse().unwrap(), given)
        });
        Approving {
            given: given.collect(),
            begun: false,
        }
    }

    #[test]
    fn so_many_people_count_until_their_approvals_end() {
        let stands = |keys: &[(&str, u64)], asker: &str, more: &str, now| {
            let standing = given(keys).stands(&demanded(more), asker, Moment(now));
            (standing.is_enough(), standing.until().map(|it| it.0))
        };
        let both = [("anna", 100), ("ben", 90)];
        assert_eq!(stands(&both, "ci", "", 89), (true, Some(90)));
        assert_eq!(stands(&both, "ci", "", 90), (false, Some(100)));
        assert_eq!(stands(&both, "ci", "", 100), (false, None));
        // One person with two keys, and one whose key was taken out of the file.
        let one = [("anna", 100), ("anna-at-home", 200)];
        assert_eq!(stands(&one, "ci", "", 50), (false, Some(200)));
        let gone = [("anna", 100), ("carl", 100)];
        assert_eq!(stands(&gone, "ci", "", 50), (false, Some(100)));
        // Who asked is one of the two eyes that do not count, by either name.
        assert!(stands(&both, "ben", "", 50).0);
        let four = "four_eyes = true";
        assert!(stands(&both, "ci", four, 50).0);
        assert!(!stands(&both, "ben", four, 50).0);
        assert!(!stands(&both, "ANNA@shop.example", four, 50).0);
        assert!(!stands(&both, "anna", four, 50).0);
    }

    #[test]
    fn a_plan_is_superseded_by_every_other_that_was_not_asked_for_before_it() {
        let plan = |digest: u8, at| PlanRef {
            digest: Digest::new([digest; 32]),
            asked_at: Moment(at),
        };
        let one = plan(1, 50);
        assert!(!one.is_superseded_by(None));
        assert!(!one.is_superseded_by(Some(&one)), "itself, once more");
        assert!(!one.is_superseded_by(Some(&plan(2, 49))));
        assert!(one.is_superseded_by(Some(&plan(2, 50))), "another one");
        assert!(one.is_superseded_by(Some(&plan(2, 51))));
    }

    #[test]
    fn it_says_who_did_and_until_when() {
        let said = given(&[("ben", 1_800_000_000_000)]);
        let said = said.stands(&demanded(""), "ci", Moment(0)).to_string();
        assert_eq!(said, "1 of 2 approved: ben until 2027-01-15T08:00:00.000Z");
    }
}
