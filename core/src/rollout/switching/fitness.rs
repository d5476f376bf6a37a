//! Whether a pool can serve: its hosts run its release, and are well.

use crate::id::HostName;
use crate::release::ReleaseRef;
use crate::rollout::state::{Host, Target};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a pool cannot serve as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfit {
    /// How many of its hosts do serve its release.
    pub serving: u32,
    /// How many hosts it has.
    pub total: u32,
    /// What is wrong, with the first host that it is wrong with.
    pub why: String,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Target {
    /// Whether routers may send to these hosts, as a pool: all of them run the target's release and are well, but
    /// for as many as the policy lets fail; and no rollout is under way.
    ///
    /// # Errors
    /// [`Unfit`]: they may not.
    pub fn is_fit(&self) -> Result<(), Unfit> {
        let total = self.hosts.len() as u32;
        let unfit = |serving, why| {
            Err(Unfit {
                serving,
                total,
                why,
            })
        };
        let Some(release) = &self.release else {
            return unfit(0, "nothing was deployed there".to_owned());
        };
        let lacking = self.lacking(release);
        let serving = total - lacking.len() as u32;
        if let Some(rollout) = self.active() {
            return unfit(serving, format!("rollout {} is running there", rollout.id));
        }
        let allowed = self.policy.max_failures.rounded_down(total);
        match lacking.first() {
            None if total == 0 => unfit(0, "it has no hosts".to_owned()),
            Some((host, what)) if serving == 0 || total - serving > allowed => unfit(
                serving,
                format!(
                    "{host} {what} ({serving} of {total} hosts serve {release}, {allowed} may be missing)"
                ),
            ),
            _ => Ok(()),
        }
    }

    /// How many hosts run the target's release and are well.
    pub fn serving(&self) -> u32 {
        let release = self.release.as_ref();
        release.map_or(0, |it| (self.hosts.len() - self.lacking(it).len()) as u32)
    }

    fn lacking(&self, release: &ReleaseRef) -> Vec<(&HostName, String)> {
        let hosts = self.hosts.iter();
        hosts
            .filter_map(|(name, host)| Some((name, lacks(host, release)?)))
            .collect()
    }
}

/// What keeps a host from serving a release.
fn lacks(host: &Host, release: &ReleaseRef) -> Option<String> {
    if !host.is_connected() {
        return Some("is away".to_owned());
    }
    match (&host.running, &host.unhealthy) {
        _ if !host.known => Some("has not said what it runs".to_owned()),
        _ if host.grant.is_some() => Some("is being switched".to_owned()),
        (None, _) => Some("runs nothing".to_owned()),
        (Some(other), _) if other != release => Some(format!("runs {other}")),
        (_, Some(failure)) => Some(format!("is not well: {failure}")),
        _ => None,
    }
}
