//! What is fetched, verified and unpacked ahead, without any grant: activating and going back then
//! cost a flip and a restart.

use super::activate::revoked;
use super::{Facts, OnDisk, Step};
use crate::journal::SlotJournal;
use tamer_core::desired::{DesiredComponent, Failure, Grant, Purpose};
use tamer_core::release::ReleaseRef;

/// A release to be made ready on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staging {
    /// Which release.
    pub release: ReleaseRef,
    /// What is missing, in order; or why it may not be staged.
    pub steps: Result<Vec<Step>, Failure>,
    /// Whether it is made ready although it is not approved yet, or not any more.
    pub ahead: bool,
}

/// What has to be staged for one component, the most urgent first. Empty when everything is ready.
pub fn stage(wanted: &DesiredComponent, facts: &Facts, journal: &SlotJournal) -> Vec<Staging> {
    let mut named: Vec<&ReleaseRef> = Vec::new();
    for release in wanted.run.iter().chain(&wanted.stage) {
        if !named.contains(&release) {
            named.push(release);
        }
    }
    let mut staging: Vec<Staging> = named
        .into_iter()
        .filter_map(|release| {
            let steps = missing(release, wanted, facts, journal);
            (steps != Ok(Vec::new())).then(|| Staging {
                release: release.clone(),
                steps,
                ahead: ahead(release, wanted, facts),
            })
        })
        .collect();
    // What is kept for going back is looked at too, so that a grant finds it ready; what is not on
    // disk any more is not fetched for that.
    for on_disk in &facts.on_disk {
        let release = &on_disk.release;
        let known = staging.iter().any(|it| it.release == *release);
        if wanted.keep.contains(&release.manifest) && on_disk.accepted && !known {
            let steps = missing(release, wanted, facts, journal);
            if matches!(&steps, Ok(steps) if !steps.is_empty()) {
                staging.push(Staging {
                    release: release.clone(),
                    steps,
                    ahead: ahead(release, wanted, facts),
                });
            }
        }
    }
    staging
}

/// Whether a release may be made ready without being approved. One that was approved here stays so: an approval
/// that has ended since takes nothing back.
fn ahead(release: &ReleaseRef, wanted: &DesiredComponent, facts: &Facts) -> bool {
    let known = facts.find(&release.manifest);
    wanted.waits_for_approval || known.is_some_and(|it| it.accepted && it.approved)
}

/// Whether an approval that is owed is asked for now. What is kept for going back needs none: it has one, or nothing
/// goes back to it.
fn asks_for_approval(release: &ReleaseRef, wanted: &DesiredComponent) -> bool {
    let due = !wanted.waits_for_approval || wanted.grant.is_some();
    let named = wanted.run.as_ref() == Some(release) || wanted.stage.contains(release);
    due && named
}

/// Whether a release that was approved here needs a newer approval: a later plan has gone ahead since, and it is to
/// go forward again. Going back to what an approved plan brought, or staying with it, needs none.
fn asks_anew(
    on_disk: &OnDisk,
    wanted: &DesiredComponent,
    facts: &Facts,
    journal: &SlotJournal,
) -> bool {
    let release = &on_disk.release;
    let runs = wanted.run.as_ref() == Some(release);
    let brought = journal.was_brought(&release.manifest);
    let goes = |grant: &Grant| runs && (grant.purpose == Purpose::Forward || !brought);
    let forward = wanted.grant.as_ref().is_some_and(goes) || wanted.stage.contains(release);
    let order = wanted.migrate.as_ref();
    let programs = order.is_some_and(|it| it.release == *release && !brought);
    (forward || programs)
        && facts.running() != Some(release)
        && !journal.lets(on_disk.plan.as_ref())
}

fn missing(
    release: &ReleaseRef,
    wanted: &DesiredComponent,
    facts: &Facts,
    journal: &SlotJournal,
) -> Result<Vec<Step>, Failure> {
    if facts.revoked.contains(&release.manifest) {
        return Err(revoked(release));
    }
    let Some(on_disk) = facts.find(&release.manifest) else {
        return Ok(vec![Step::Verify, Step::Unpack, Step::LinkShared]);
    };
    let mut steps = Vec::new();
    if !on_disk.accepted {
        steps.push(Step::Verify);
    }
    // The running release is compared from time to time anyway.
    let running = facts.running() == Some(release);
    let stale = on_disk.stale && !facts.switching;
    if ((on_disk.whole.is_none() || stale) && !running) || !on_disk.accepted {
        steps.push(Step::Inspect);
    }
    // A release that runs is never taken away under its own feet: it stays, and is reported as drift. So does
    // one that ran a moment ago, as long as the switch may have to go back to it.
    if on_disk.whole == Some(false) && !running {
        if facts.switching {
            return Ok(Vec::new());
        }
        // It goes only when what replaces it is there, whole: until then it may be all there is to go back to.
        return Ok(vec![
            Step::Verify,
            Step::Unpack,
            Step::LinkShared,
            Step::Exchange,
        ]);
    }
    // Whoever removed a link, or changed what the agent wrote, changed nothing that was deployed: it is made again.
    if !on_disk.linked || stale {
        steps.push(Step::LinkShared);
    }
    let owed = !on_disk.approved || asks_anew(on_disk, wanted, facts, journal);
    if on_disk.accepted && owed && asks_for_approval(release, wanted) {
        steps.push(Step::Approve);
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Current, Shape};
    use tamer_core::digest::Digest;
    use tamer_core::generation::Generation;
    use tamer_core::moment::Moment;

    fn release(n: u8) -> ReleaseRef {
        ReleaseRef {
            version: format!("1.{n}.0").parse().unwrap(),
            manifest: Digest::new([n; 32]),
        }
    }

    fn on_disk(n: u8, whole: Option<bool>) -> OnDisk {
        OnDisk {
            release: release(n),
            name: n.to_string(),
            seq: n.into(),
            accepted: true,
            approved: true,
            plan: None,
            whole,
            linked: true,
            stale: false,
            shape: Shape::default(),
        }
    }

    fn said(wanted: &[u8], on_disk: Vec<OnDisk>, current: Current) -> Vec<(u8, Vec<&'static str>)> {
        said_in(false, wanted, on_disk, current)
    }

    fn said_in(
        switching: bool,
        wanted: &[u8],
        on_disk: Vec<OnDisk>,
        current: Current,
    ) -> Vec<(u8, Vec<&'static str>)> {
        let wanted = named(wanted);
        let facts = Facts {
            on_disk,
            current,
            revoked: [Digest::new([7; 32])].into(),
            environment_version: None,
            staging_failure: None,
            switching,
        };
        told(staged(&wanted, &facts))
    }

    fn staged(wanted: &DesiredComponent, facts: &Facts) -> Vec<Staging> {
        stage(wanted, facts, &SlotJournal::new(wanted.slot.clone()))
    }

    fn named(wanted: &[u8]) -> DesiredComponent {
        DesiredComponent {
            slot: tamer_core::desired::Slot {
                application: "shop".parse().unwrap(),
                component: "web".parse().unwrap(),
                pool: Default::default(),
            },
            run: wanted.first().map(|n| release(*n)),
            stage: wanted.iter().map(|n| release(*n)).collect(),
            keep: vec![Digest::new([9; 32]), Digest::new([8; 32])],
            grant: None,
            migrate: None,
            waits_for_approval: false,
            adopted: None,
            repair: None,
        }
    }

    fn told(staging: Vec<Staging>) -> Vec<(u8, Vec<&'static str>)> {
        let steps = |it: Staging| {
            let steps = it.steps.unwrap_or_default();
            let names = steps.into_iter().map(Step::name).collect();
            (it.release.manifest.as_bytes()[0], names)
        };
        staging.into_iter().map(steps).collect()
    }

    #[test]
    fn what_is_not_approved_is_made_ready_and_its_approval_is_asked_for_when_it_is_due() {
        let facts = |on_disk: Vec<OnDisk>| Facts {
            on_disk,
            current: Current::Nothing,
            revoked: Default::default(),
            environment_version: None,
            staging_failure: None,
            switching: false,
        };
        let mut wanted = named(&[1]);
        wanted.waits_for_approval = true;
        let owes = || OnDisk {
            approved: false,
            ..on_disk(1, Some(true))
        };
        let nothing = staged(&wanted, &facts(vec![]));
        assert!(nothing[0].ahead && nothing[0].steps.is_ok());
        assert_eq!(staged(&wanted, &facts(vec![owes()])), []);
        // A grant is no approval: it has one looked for.
        wanted.grant = Some(Grant {
            id: Generation::default(),
            start_by: Moment(1),
            purpose: Purpose::Back,
        });
        let approve = vec![(1, vec!["approve"])];
        assert_eq!(told(staged(&wanted, &facts(vec![owes()]))), approve);
        wanted = named(&[1]);
        let due = staged(&wanted, &facts(vec![owes()]));
        assert!(!due[0].ahead);
        assert_eq!(told(due), approve);
        assert!(!staged(&wanted, &facts(vec![]))[0].ahead);
        // What was approved once is made anew without.
        let edited = staged(&wanted, &facts(vec![on_disk(1, Some(false))]));
        assert!(edited[0].ahead);
        // What is only kept is not asked about.
        let kept = OnDisk {
            approved: false,
            ..on_disk(9, Some(true))
        };
        assert_eq!(staged(&named(&[]), &facts(vec![kept])), []);
    }

    #[test]
    fn only_what_is_missing_is_done_and_run_comes_first() {
        let whole = vec!["verify", "unpack", "link-shared"];
        assert_eq!(
            said(&[2, 1], vec![], Current::Nothing),
            [(2, whole.clone()), (1, whole)]
        );
        assert_eq!(
            said(&[1], vec![on_disk(1, Some(true))], Current::Nothing),
            []
        );
        let strange = OnDisk {
            accepted: false,
            linked: false,
            ..on_disk(1, Some(true))
        };
        assert_eq!(
            said(&[1], vec![strange], Current::Nothing),
            [(1, vec!["verify", "inspect", "link-shared"])]
        );
        // What was edited is made anew, and not while a switch may have to go back to it.
        let edited = || vec![on_disk(1, Some(false)), on_disk(2, Some(true))];
        let anew = vec!["verify", "unpack", "link-shared", "exchange"];
        let two = || Current::Release(release(2));
        assert_eq!(said(&[2, 1], edited(), two()), [(1, anew)]);
        assert_eq!(said_in(true, &[2, 1], edited(), two()), []);
        // Time to look again.
        let stale = |n| OnDisk {
            stale: true,
            ..on_disk(n, Some(true))
        };
        assert_eq!(
            said(&[2, 1], vec![stale(1), stale(2)], two()),
            [
                (2, vec!["link-shared"]),
                (1, vec!["inspect", "link-shared"])
            ]
        );
        assert_eq!(said_in(true, &[2, 1], vec![stale(1), stale(2)], two()), []);
        // Kept for going back: looked at if it is there, never fetched.
        assert_eq!(
            said(&[], vec![on_disk(9, None)], Current::Nothing),
            [(9, vec!["inspect"])]
        );
        assert_eq!(said(&[7], vec![], Current::Nothing), [(7, vec![])]);
    }

    #[test]
    fn an_edited_release_is_replaced_unless_it_runs() {
        let edited = || vec![on_disk(1, Some(false))];
        assert_eq!(
            said(&[1], edited(), Current::Nothing),
            [(1, vec!["verify", "unpack", "link-shared", "exchange"])]
        );
        assert_eq!(said(&[1], edited(), Current::Release(release(1))), []);
    }
}
