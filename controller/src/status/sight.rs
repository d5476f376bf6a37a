//! What an operator may see: what hooks and services printed may hold secrets of the application, so it
//! reaches only those who may deploy there.

use super::drift::inspected;
use super::{deployment, fetching, host};
use crate::fleet::Fleet;
use crate::identity::registry::{Role, Roles};
use crate::transfers::Transfers;
use tamer_core::desired::Inspection;
use tamer_core::id::{EnvironmentName, HostName, OperatorName, TargetKey};
use tamer_core::moment::Moment;
use tamer_core::rollout::deployment::Deployment;
use tamer_proto::v1;

/// What stands in the place of what is not shown.
const HIDDEN: &str = "(what it printed is shown to those who may deploy here)";

/// The fleet through the eyes of one operator.
pub struct Sight<'a> {
    fleet: &'a Fleet,
    roles: Roles,
}

impl<'a> Sight<'a> {
    /// An operator's, as the registry has them now; somebody whom it does not know sees no output.
    pub fn of(fleet: &'a Fleet, operator: &OperatorName) -> Self {
        let known = fleet.registry.operators.get(operator);
        let known = known.filter(|it| !it.revoked);
        Self {
            fleet,
            roles: known.map(|it| it.roles.clone()).unwrap_or_default(),
        }
    }

    /// A deployment, whole.
    pub fn deployment(&self, given: &Deployment, now: Moment) -> v1::DeploymentStatus {
        let mut seen = deployment(self.fleet, given, now);
        if !self.reads_output(&given.environment) {
            let hosts = seen.rollouts.iter_mut().flat_map(|it| &mut it.hosts);
            hosts.for_each(|host| hide(&mut host.failure));
        }
        seen
    }

    /// A deployment, whole, and how far its hosts have fetched what it brings.
    pub fn under_way(
        &self,
        given: &Deployment,
        transfers: &Transfers,
        now: Moment,
    ) -> v1::DeploymentStatus {
        let mut seen = self.deployment(given, now);
        fetching::show(self.fleet, given, transfers, &mut seen);
        seen
    }

    /// A host, whole.
    pub fn host(&self, name: &HostName) -> Option<v1::HostRow> {
        let mut seen = host(self.fleet, name)?;
        let environment = &self.fleet.registry.hosts.get(name)?.environment;
        if !self.reads_output(environment) {
            let components = seen.components.iter_mut();
            components.for_each(|component| hide(&mut component.failure));
        }
        Some(seen)
    }

    /// A host, with what it answered to whoever asked what differs there.
    pub fn inspected(&self, name: &HostName, inspection: &Inspection) -> Option<v1::HostRow> {
        let mut seen = self.host(name)?;
        let environment = &self.fleet.registry.hosts.get(name)?.environment;
        for it in &inspection.components {
            let key = TargetKey {
                environment: environment.clone(),
                application: it.slot.application.clone(),
                component: it.slot.component.clone(),
                pool: it.slot.pool.clone(),
            };
            let mut rows = seen.components.iter_mut();
            let row = rows.find(|row| {
                row.application == key.application.as_str()
                    && row.component == key.component.as_str()
                    && row.pool == key.pool.as_str()
            });
            if let Some(row) = row {
                inspected(self.fleet, name, &key, &it.found, row);
            }
        }
        Some(seen)
    }

    fn reads_output(&self, environment: &EnvironmentName) -> bool {
        self.roles.in_environment(Some(environment)) >= Some(Role::Deployer)
    }
}

fn hide(failure: &mut Option<v1::Failure>) {
    if let Some(failure) = failure
        && !failure.output.is_empty()
    {
        HIDDEN.clone_into(&mut failure.output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::registry::{Host as Registered, Keys, Operator};
    use tamer_core::desired::{Failure, FailureKind};
    use tamer_core::digest::Digest;
    use tamer_core::id::PoolName;
    use tamer_core::policy::Policy;
    use tamer_core::release::ReleaseRef;
    use tamer_core::rollout::{Host, Target, Tried};
    use tamer_core::selector::Labels;

    /// `web-1` of production, where a release has failed with its hook's last words.
    fn fleet() -> Fleet {
        let mut fleet = Fleet::new(1, None);
        let name: HostName = "web-1".parse().unwrap();
        let registered = Registered {
            environment: "production".parse().unwrap(),
            labels: Labels::new(),
            incarnation: 1,
            keys: Keys::new(Digest::new([1; 32])),
            revoked: false,
            joined_at: Moment(0),
        };
        fleet.registry.hosts.insert(name.clone(), registered);
        let key = TargetKey {
            environment: "production".parse().unwrap(),
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            pool: PoolName::default(),
        };
        let mut target = Target::new(key.clone(), Policy::default());
        let mut host = Host::new(Moment(0));
        host.tried = Some(Tried {
            release: Some(ReleaseRef {
                version: "1.0.0".parse().unwrap(),
                manifest: Digest::new([2; 32]),
            }),
            failure: Failure {
                output: "password=tulip".to_owned(),
                ..Failure::seen(FailureKind::Hook, "hook `start` failed".to_owned())
            },
        });
        target.hosts.insert(name, host);
        fleet.targets.insert(key, target);
        fleet
    }

    fn seen_with(roles: Roles, revoked: bool) -> v1::Failure {
        let mut fleet = fleet();
        let anna: OperatorName = "anna".parse().unwrap();
        let operator = Operator {
            roles,
            keys: Keys::new(Digest::new([3; 32])),
            revoked,
            joined_at: Moment(0),
        };
        fleet.registry.operators.insert(anna.clone(), operator);
        let host = Sight::of(&fleet, &anna).host(&"web-1".parse().unwrap());
        host.unwrap().components[0].failure.clone().unwrap()
    }

    #[test]
    fn what_a_hook_printed_reaches_only_those_who_may_deploy_there() {
        let here = |environment: &str, role| Roles {
            everywhere: Some(Role::Viewer),
            environments: [(environment.parse().unwrap(), role)].into(),
        };
        for roles in [
            Roles::everywhere(Role::Deployer),
            Roles::everywhere(Role::Admin),
            here("production", Role::Deployer),
        ] {
            assert_eq!(seen_with(roles, false).output, "password=tulip");
        }
        for (roles, revoked) in [
            (Roles::everywhere(Role::Viewer), false),
            (here("staging", Role::Admin), false),
            (Roles::default(), false),
            (Roles::everywhere(Role::Admin), true),
        ] {
            let seen = seen_with(roles, revoked);
            assert_eq!(seen.output, HIDDEN);
            assert_eq!(seen.message, "hook `start` failed");
        }
    }
}
