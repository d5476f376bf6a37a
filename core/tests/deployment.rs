//! Deployments: rollouts in order, earlier ones taken back in reverse when a later one fails, and the
//! exit code that `deploy` answers with. How each rollout goes is generated; the expectations are
//! worked out from the history alone.

#![expect(clippy::unwrap_used, reason = "a test may fail that way")]

use proptest::prelude::*;
use tamer_core::desired::{Failure, FailureKind, Purpose};
use tamer_core::digest::Digest;
use tamer_core::id::{PoolName, TargetKey};
use tamer_core::moment::{Moment, Span};
use tamer_core::policy::OnFailure;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::approval::{Approving, Given};
use tamer_core::rollout::deployment::{
    Deployment, DeploymentId, Ending, Next, Step, StepStatus, Summary,
};
use tamer_core::rollout::{Cause, Outcome, RolloutId};

/// How one rollout goes, when its turn comes.
#[derive(Debug, Clone)]
enum Fate {
    /// On every host that could be reached; so many were away.
    Good { away: u32 },
    /// A host failed with this; so many hosts had moved, and all are back.
    Back { kind: FailureKind, moved: u32 },
    /// Somebody asked for it to go back, and all are back.
    AskedBack { moved: u32 },
    /// Some hosts are not back.
    Stranded,
    /// Somebody stopped it.
    Aborted,
    /// No host could be reached.
    Unplanned,
}

fn release(n: u8) -> ReleaseRef {
    ReleaseRef {
        version: format!("1.{n}.0").parse().unwrap(),
        manifest: Digest::new([n + 1; 32]),
    }
}

fn target(n: usize) -> TargetKey {
    TargetKey {
        environment: "production".parse().unwrap(),
        application: "shop".parse().unwrap(),
        component: format!("part-{n}").parse().unwrap(),
        pool: PoolName::default(),
    }
}

fn failed(kind: FailureKind) -> Cause {
    Cause::TooManyFailures {
        failed: 1,
        allowed: 0,
        host: "web-01".parse().unwrap(),
        failure: Failure {
            kind,
            message: "it failed".into(),
            check: None,
            output: String::new(),
        },
    }
}

fn asked() -> Cause {
    Cause::Asked {
        by: "anna".into(),
        reason: String::new(),
    }
}

impl Fate {
    /// What the controller writes into the step when it went this way.
    fn status(&self, rollout: u64) -> StepStatus {
        let (outcome, moved, failed, left_out, first_failure) = match self {
            Self::Unplanned => return StepStatus::Impossible("none can be reached".into()),
            Self::Good { away } => (Outcome::Succeeded, 3, 0, *away, None),
            Self::Back { kind, moved } => (
                Outcome::RolledBack(failed(*kind)),
                *moved,
                1,
                0,
                Some(*kind),
            ),
            Self::AskedBack { moved } => (Outcome::RolledBack(asked()), *moved, 0, 0, None),
            Self::Stranded => {
                let kind = FailureKind::Service;
                (Outcome::NotRolledBack(failed(kind)), 2, 1, 0, Some(kind))
            }
            Self::Aborted => {
                let (by, reason) = ("anna".into(), String::new());
                (Outcome::Aborted { by, reason }, 1, 0, 0, None)
            }
        };
        let summary = Summary {
            outcome,
            moved,
            failed,
            left_out,
            first_failure,
        };
        StepStatus::Ended(RolloutId(rollout), Box::new(summary))
    }

    fn is_good(&self) -> bool {
        matches!(self, Self::Good { .. })
    }
}

fn deployment(purpose: Purpose, on_failure: OnFailure, unchanged: &[bool]) -> Deployment {
    let step = |(n, same): (usize, &bool)| Step {
        target: target(n),
        leaves: None,
        release: Some(release(1)),
        from: Some(release(u8::from(*same))),
        purpose,
        status: StepStatus::Waiting,
    };
    Deployment {
        id: DeploymentId(1),
        environment: "production".parse().unwrap(),
        application: "shop".parse().unwrap(),
        version: None,
        component: None,
        purpose,
        by: "anna".into(),
        reason: String::new(),
        started_at: Moment(0),
        override_freeze: false,
        on_failure,
        steps: unchanged.iter().enumerate().map(step).collect(),
        migrations: Vec::new(),
        approval: None,
        ended: None,
    }
}

#[test]
fn how_long_it_took_is_told_of_what_went_well_from_its_approval_on() {
    let mut it = deployment(Purpose::Forward, OnFailure::Rollback, &[false]);
    assert_eq!(it.took(), None);
    it.ended = Some((Moment(90_000), Ending::Succeeded));
    assert_eq!(it.took(), Some(Span::secs(90)));
    let given = Given {
        at: Moment(60_000),
        expires: Moment(1_000_000),
        reason: String::new(),
    };
    it.approval = Some(Approving {
        given: [("ben".parse().unwrap(), given)].into(),
        begun: true,
    });
    assert_eq!(it.took(), Some(Span::secs(30)));
    it.ended = Some((Moment(90_000), Ending::RolledBack));
    assert_eq!(it.took(), None);
    it.ended = Some((Moment(90_000), Ending::Succeeded));
    it.purpose = Purpose::Back;
    assert_eq!(it.took(), None);
}

/// A deployment that has ended, and the steps in the order in which they ran.
struct Story {
    deployment: Deployment,
    ran: Vec<(usize, Fate)>,
    ending: Ending,
}

impl Story {
    /// Plays it to its end: forward steps go as `fates` say, those that take back as `back` says.
    fn tell(mut deployment: Deployment, fates: &[Fate], back: &[Fate]) -> Self {
        let planned = deployment.steps.len();
        let mut ran = Vec::new();
        for _ in 0..4 * planned + 4 {
            match deployment.next() {
                Next::Start(n) => {
                    assert_eq!(deployment.steps[n].status, StepStatus::Waiting);
                    deployment.steps[n].status = StepStatus::Running(RolloutId(n as u64));
                    assert_eq!(deployment.next(), Next::Wait, "one rollout at a time");
                    let fate = match n.checked_sub(planned) {
                        None => fates[n % fates.len()].clone(),
                        Some(n) => back[n % back.len()].clone(),
                    };
                    deployment.steps[n].status = fate.status(n as u64);
                    ran.push((n, fate));
                }
                Next::TakeBack(steps) => {
                    assert!(!steps.is_empty(), "nothing to take back, and it goes on");
                    deployment.steps.extend(steps);
                }
                Next::End(ending) => {
                    deployment.ended = Some((Moment(9), ending));
                    assert_eq!(deployment.next(), Next::Wait, "it is over");
                    return Self {
                        deployment,
                        ran,
                        ending,
                    };
                }
                Next::Migrate(_) => panic!("there is no database"),
                Next::Wait => panic!("it waits, and nothing runs"),
            }
        }
        panic!("it never ends: {deployment:?}");
    }

    fn of(fates: &[Fate]) -> Self {
        let deployment = deployment(
            Purpose::Forward,
            OnFailure::Rollback,
            &vec![false; fates.len()],
        );
        Self::tell(deployment, fates, &[Fate::Good { away: 0 }])
    }
}

fn kind() -> impl Strategy<Value = FailureKind> {
    prop_oneof![
        Just(FailureKind::Check),
        Just(FailureKind::PreCheck),
        Just(FailureKind::Evidence),
        Just(FailureKind::Hook),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => (0..2u32).prop_map(|away| Fate::Good { away }),
        2 => (kind(), 0..3u32).prop_map(|(kind, moved)| Fate::Back { kind, moved }),
        1 => (0..3u32).prop_map(|moved| Fate::AskedBack { moved }),
        1 => Just(Fate::Stranded),
        1 => Just(Fate::Aborted),
        1 => Just(Fate::Unplanned),
    ]
}

/// Rollouts that go back are not stopped by failures: they succeed, are stopped, or cannot be planned.
fn fate_back() -> impl Strategy<Value = Fate> {
    prop_oneof![
        5 => (0..2u32).prop_map(|away| Fate::Good { away }),
        1 => Just(Fate::Aborted),
        1 => Just(Fate::Unplanned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn earlier_steps_go_back_in_reverse_order(
        fates in proptest::collection::vec(fate(), 1..6),
        back in proptest::collection::vec(fate_back(), 1..4),
        unchanged in proptest::collection::vec(proptest::bool::weighted(0.2), 6),
        pause in any::<bool>(),
    ) {
        let on_failure = if pause { OnFailure::Pause } else { OnFailure::Rollback };
        let planned = fates.len();
        let story = Story::tell(
            deployment(Purpose::Forward, on_failure, &unchanged[..planned]),
            &fates,
            &back,
        );
        let first_bad = fates.iter().position(|fate| !fate.is_good());

        // Forward: in order, up to the first that does not succeed, and none after it.
        let forward: Vec<usize> = story.ran.iter().map(|(n, _)| *n).filter(|n| *n < planned).collect();
        let expected: Vec<usize> = (0..first_bad.map_or(planned, |n| n + 1)).collect();
        prop_assert_eq!(forward, expected);

        // Back: those before it that changed something, the last one first, each to where it came from.
        let goes_back = first_bad.is_some_and(|n| match fates[n] {
            Fate::Aborted => false,
            Fate::AskedBack { .. } => true,
            _ => !pause,
        });
        let expected: Vec<_> = match first_bad.filter(|_| goes_back) {
            Some(bad) => (0..bad).filter(|n| !unchanged[*n]).rev().map(|n| (target(n), Some(release(0)))).collect(),
            None => Vec::new(),
        };
        let taken_back: Vec<_> = story
            .ran
            .iter()
            .filter(|(n, _)| *n >= planned)
            .map(|(n, _)| &story.deployment.steps[*n])
            .map(|step| {
                assert_eq!(step.purpose, Purpose::Back);
                (step.target.clone(), step.release.clone())
            })
            .collect();
        prop_assert_eq!(&taken_back, &expected);
        prop_assert_eq!(story.deployment.steps.len(), planned + expected.len());

        // What the shell is told: a component that still runs something new after a failure is never "rolled back".
        let changed_before = first_bad.map_or(0, |bad| (0..bad).filter(|n| !unchanged[*n]).count());
        let back_again = story.ran.iter().filter(|(n, fate)| *n >= planned && fate.is_good()).count();
        let any_away = fates.iter().any(|fate| matches!(fate, Fate::Good { away: 1.. }));
        let expected = match first_bad.map(|n| &fates[n]) {
            None if any_away => 9,
            None => 0,
            Some(Fate::Aborted | Fate::Stranded) => 7,
            Some(_) if back_again < changed_before => 7,
            Some(Fate::Unplanned) if changed_before == 0 => 9,
            Some(Fate::Back { kind: FailureKind::PreCheck, moved: 0 }) if first_bad == Some(0) => 5,
            Some(Fate::Back { kind: FailureKind::Evidence, moved: 0 }) if first_bad == Some(0) => 3,
            Some(_) => 6,
        };
        prop_assert_eq!(story.ending.exit_code(), expected, "{:?}", story.ending);
    }

    #[test]
    fn a_deployment_that_goes_back_never_takes_back(
        fates in proptest::collection::vec(fate_back(), 1..6),
        pause in any::<bool>(),
    ) {
        let on_failure = if pause { OnFailure::Pause } else { OnFailure::Rollback };
        let planned = fates.len();
        let story = Story::tell(deployment(Purpose::Back, on_failure, &vec![false; planned]), &fates, &fates);
        prop_assert_eq!(story.deployment.steps.len(), planned);
        let first_bad = fates.iter().position(|fate| !fate.is_good());
        let expected = match first_bad {
            None if fates.iter().any(|fate| matches!(fate, Fate::Good { away: 1.. })) => 9,
            None => 0,
            Some(n) if matches!(fates[n], Fate::Aborted) => 7,
            Some(0) => 9,
            Some(_) => 7,
        };
        prop_assert_eq!(story.ending.exit_code(), expected, "{:?}", story.ending);
    }
}

#[test]
fn every_ending_has_its_own_words_in_the_shell() {
    let good = Fate::Good { away: 0 };
    let bad = |kind, moved| Fate::Back { kind, moved };
    for (fates, code) in [
        (vec![good.clone(), good.clone()], 0),
        (vec![bad(FailureKind::Evidence, 0)], 3),
        (vec![bad(FailureKind::Trust, 0)], 3),
        (vec![bad(FailureKind::NotAllowed, 0)], 3),
        (vec![bad(FailureKind::Unsupported, 0)], 3),
        (vec![bad(FailureKind::PreCheck, 0)], 5),
        (vec![bad(FailureKind::PreCheck, 1)], 6),
        (vec![bad(FailureKind::Drift, 0)], 10),
        (vec![bad(FailureKind::Drift, 1)], 6),
        (vec![good.clone(), bad(FailureKind::Drift, 0)], 6),
        (vec![bad(FailureKind::Fetch, 0)], 5),
        (vec![bad(FailureKind::Disk, 0)], 5),
        (vec![bad(FailureKind::Disk, 1)], 6),
        (vec![bad(FailureKind::Check, 1)], 6),
        (vec![good.clone(), bad(FailureKind::Check, 1)], 6),
        (vec![good.clone(), bad(FailureKind::PreCheck, 0)], 6),
        (vec![good.clone(), Fate::Stranded], 7),
        (vec![Fate::Aborted], 7),
        (vec![Fate::Good { away: 1 }], 9),
        (vec![Fate::Unplanned], 9),
        (vec![good, Fate::Unplanned], 6),
    ] {
        assert_eq!(Story::of(&fates).ending.exit_code(), code, "{fates:?}");
    }
}

#[test]
fn a_host_left_behind_by_going_back_is_said() {
    let mut deployment = deployment(Purpose::Back, OnFailure::Pause, &[false]);
    let summary = Summary {
        outcome: Outcome::Succeeded,
        moved: 2,
        failed: 1,
        left_out: 0,
        first_failure: Some(FailureKind::Host),
    };
    deployment.steps[0].status = StepStatus::Ended(RolloutId(1), Box::new(summary));
    assert_eq!(deployment.next(), Next::End(Ending::NotRolledBack));
}

#[test]
fn a_host_left_behind_by_taking_back_is_said() {
    let story = Story::of(&[
        Fate::Good { away: 0 },
        Fate::Back {
            kind: FailureKind::Check,
            moved: 1,
        },
    ]);
    let mut deployment = story.deployment;
    deployment.ended = None;
    if let StepStatus::Ended(_, summary) = &mut deployment.steps[2].status {
        summary.failed = 1;
    }
    assert_eq!(deployment.next(), Next::End(Ending::NotRolledBack));
}

// === routers ===

/// The rollout in the idle pool, the switch to it, and another component after it.
fn blue_green() -> Deployment {
    let mut deployment = deployment(Purpose::Forward, OnFailure::Rollback, &[false, false]);
    let mut rollout = deployment.steps[0].clone();
    rollout.target.pool = "green".parse().unwrap();
    // What the idle pool ran before is older than what users meet.
    rollout.from = Some(release(7));
    let switch = Step {
        leaves: Some("blue".parse().unwrap()),
        from: Some(release(0)),
        ..rollout.clone()
    };
    deployment.steps.splice(0..1, [rollout, switch]);
    deployment
}

fn pools(story: &Story) -> Vec<(String, Option<String>, Option<ReleaseRef>)> {
    let steps = story.deployment.steps.iter();
    let said = steps.map(|step| {
        let leaves = step.leaves.as_ref().map(ToString::to_string);
        (step.target.pool.to_string(), leaves, step.release.clone())
    });
    said.collect()
}

#[test]
fn a_switch_that_fails_takes_the_idle_pool_back_to_what_it_ran() {
    let good = Fate::Good { away: 0 };
    let fates = [
        good.clone(),
        Fate::Back {
            kind: FailureKind::Host,
            moved: 1,
        },
    ];
    let story = Story::tell(blue_green(), &fates, std::slice::from_ref(&good));
    assert_eq!(story.ending, Ending::RolledBack);
    let all = pools(&story);
    assert_eq!(all.len(), 4);
    assert_eq!(all[3], ("green".into(), None, Some(release(7))));
}

#[test]
fn what_fails_after_a_switch_has_routers_switched_back_before_the_pool_goes_back() {
    let good = Fate::Good { away: 0 };
    let fates = [
        good.clone(),
        good.clone(),
        Fate::Back {
            kind: FailureKind::Check,
            moved: 1,
        },
    ];
    let story = Story::tell(blue_green(), &fates, std::slice::from_ref(&good));
    assert_eq!(story.ending, Ending::RolledBack);
    let all = pools(&story);
    assert_eq!(
        all[3],
        ("blue".into(), Some("green".into()), Some(release(0)))
    );
    assert_eq!(all[4], ("green".into(), None, Some(release(7))));
}

#[test]
fn routers_that_are_not_back_leave_a_deployment_that_is_not_back() {
    let good = Fate::Good { away: 0 };
    let story = Story::tell(blue_green(), &[good, Fate::Stranded], &[Fate::Unplanned]);
    assert_eq!(story.ending, Ending::NotRolledBack);
}
