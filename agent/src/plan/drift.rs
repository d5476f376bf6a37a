//! What a release that was changed by hand means for what is to be done.

use super::{Current, Facts, Foreign};
use tamer_core::desired::DesiredComponent;
use tamer_core::digest::Digest;
use tamer_core::drift::{CURRENT, Change, Difference, Drift};
use tamer_core::policy::OnDrift;
use tamer_core::release::ReleaseRef;
use tamer_kit::hash::sha256;

/// What a drift of the running release means for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edited {
    /// The next release is refused: the change would be lost unseen.
    Blocks,
    /// Somebody has accepted this very drift.
    Adopted,
    /// The policy says that it is only named.
    Warned,
}

/// Decides over a drift of the running release; `adopted` is the one that was accepted.
pub fn edited(drift: &Drift, adopted: Option<&Digest>, policy: OnDrift) -> Edited {
    match policy {
        _ if adopted == Some(&drift.digest) => Edited::Adopted,
        OnDrift::Block => Edited::Blocks,
        OnDrift::Warn => Edited::Warned,
    }
}

/// A `current` that Tamer did not put there, as a drift: `what` is there instead.
pub fn foreign(what: &Foreign) -> Drift {
    let change = match what {
        Foreign::Link(_) => Change::Target,
        Foreign::NoLink => Change::Kind,
    };
    Drift {
        digest: sha256(format!("{CURRENT} is {what}").as_bytes()),
        total: 1,
        differences: vec![Difference {
            path: CURRENT.to_owned(),
            change,
        }],
    }
}

/// What is said of such a `current`.
pub fn foreign_said(what: &Foreign) -> String {
    format!("edited on the server: `current` is {what}, which no deployment put there")
}

/// Whether `current` is to be led back to what was deployed: the desired state names this very drift, and it was
/// not tried before. Gives the directory's name, or why there is none.
pub fn lead_back<'a>(
    wanted: &DesiredComponent,
    facts: &'a Facts,
    committed: Option<&ReleaseRef>,
    failed: Option<&Digest>,
) -> Option<Result<&'a str, String>> {
    let asked = wanted.repair.as_ref()?;
    let Current::Foreign(what) = &facts.current else {
        return None;
    };
    if foreign(what).digest != *asked || failed == Some(asked) {
        return None;
    }
    let there = committed.map(|release| (release, facts.find(&release.manifest)));
    Some(match there {
        Some((_, Some(it))) => Ok(it.name.as_str()),
        Some((release, None)) => Err(format!("{release} ran here, and is not on disk any more")),
        None => Err("nothing was deployed here that it could lead to".to_owned()),
    })
}

/// Whether the running release's drift is to be put right now: the desired state names this very drift,
/// and it was not tried before. Gives the directory's name.
pub fn repair<'a>(
    wanted: &DesiredComponent,
    facts: &'a Facts,
    drift: Option<&Drift>,
    failed: Option<&Digest>,
) -> Option<&'a str> {
    let asked = wanted.repair.as_ref()?;
    let due = drift.is_some_and(|drift| drift.digest == *asked) && failed != Some(asked);
    let Current::Release(running) = &facts.current else {
        return None;
    };
    let running = facts.find(&running.manifest)?;
    due.then_some(running.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{OnDisk, Shape};
    use std::collections::BTreeSet;
    use tamer_core::desired::Slot;

    fn drift(n: u8) -> Drift {
        Drift {
            digest: Digest::new([n; 32]),
            total: 1,
            differences: Vec::new(),
        }
    }

    #[test]
    fn the_drift_that_is_named_is_put_right_once_and_only_where_it_runs() {
        let release = |n: u8| ReleaseRef {
            version: "1.0.0".parse().unwrap(),
            manifest: Digest::new([n; 32]),
        };
        let mut facts = Facts {
            on_disk: vec![OnDisk {
                release: release(7),
                name: "1-1.0.0-07".to_owned(),
                seq: 1,
                accepted: true,
                approved: true,
                plan: None,
                whole: Some(false),
                linked: true,
                stale: false,
                shape: Shape::default(),
            }],
            current: Current::Release(release(7)),
            revoked: BTreeSet::new(),
            environment_version: None,
            staging_failure: None,
            switching: false,
        };
        let wanted = |repair: Option<u8>| DesiredComponent {
            slot: Slot {
                application: "shop".parse().unwrap(),
                component: "web".parse().unwrap(),
                pool: Default::default(),
            },
            run: Some(release(7)),
            stage: vec![],
            keep: vec![],
            grant: None,
            migrate: None,
            adopted: None,
            waits_for_approval: false,
            repair: repair.map(|n| Digest::new([n; 32])),
        };
        let failed = Digest::new([1; 32]);
        for (asked, seen, before, due) in [
            (Some(1), Some(drift(1)), None, true),
            (None, Some(drift(1)), None, false),
            (Some(1), Some(drift(2)), None, false),
            (Some(1), None, None, false),
            (Some(1), Some(drift(1)), Some(&failed), false),
        ] {
            let name = repair(&wanted(asked), &facts, seen.as_ref(), before);
            assert_eq!(name, due.then_some("1-1.0.0-07"), "{asked:?} {seen:?}");
        }
        facts.current = Current::Foreign(Foreign::Link("/tmp".to_owned()));
        assert_eq!(
            repair(&wanted(Some(1)), &facts, Some(&drift(1)), None),
            None
        );
        // What leads elsewhere is led back where that very drift is named.
        let seen = foreign(&Foreign::Link("/tmp".to_owned())).digest;
        assert_ne!(seen, foreign(&Foreign::Link("/srv".to_owned())).digest);
        let back = |asked, ran: Option<u8>, failed| {
            let mut wanted = wanted(None);
            wanted.repair = asked;
            let ran = ran.map(release);
            lead_back(&wanted, &facts, ran.as_ref(), failed).map(|it| it.map(str::to_owned))
        };
        assert_eq!(
            back(Some(seen), Some(7), None),
            Some(Ok("1-1.0.0-07".to_owned()))
        );
        assert_eq!(back(Some(seen), Some(7), Some(&seen)), None);
        assert_eq!(back(Some(Digest::new([1; 32])), Some(7), None), None);
        assert_eq!(back(None, Some(7), None), None);
        for ran in [None, Some(8)] {
            assert!(
                matches!(back(Some(seen), ran, None), Some(Err(_))),
                "{ran:?}"
            );
        }
    }

    #[test]
    fn one_drift_is_adopted_and_no_other() {
        let drift = drift(1);
        let (this, other) = (Digest::new([1; 32]), Digest::new([2; 32]));
        for (adopted, policy, said) in [
            (None, OnDrift::Block, Edited::Blocks),
            (Some(&this), OnDrift::Block, Edited::Adopted),
            (Some(&other), OnDrift::Block, Edited::Blocks),
            (None, OnDrift::Warn, Edited::Warned),
        ] {
            assert_eq!(edited(&drift, adopted, policy), said);
        }
    }
}
