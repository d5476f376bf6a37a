//! The agent's decisions, held against what was promised of them, over generated situations.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use std::collections::BTreeSet;
use tamer_agent::journal::{Activation, ByPlan, Journal, SlotJournal};
use tamer_agent::plan::{
    Current, Decision, Facts, Foreign, Go, OnDisk, Refused, Shape, Step, activation, on_failure,
    prune, stage, take_in, undo,
};
use tamer_agent::plan::{Next, activate};
use tamer_core::application::Hook;
use tamer_core::desired::{
    ActivationReport, ActivationStatus, Desired, DesiredComponent, Failure, FailureKind, Grant,
    Purpose, Slot,
};
use tamer_core::digest::Digest;
use tamer_core::generation::Generation;
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::approval::PlanRef;

/// The newest version of the environment's metadata in these tests.
const ENVIRONMENT: u64 = 3;

fn slot() -> Slot {
    Slot {
        application: "shop".parse().unwrap(),
        component: "web".parse().unwrap(),
        pool: Default::default(),
    }
}

fn release(n: u8) -> ReleaseRef {
    ReleaseRef {
        version: format!("1.{n}.0").parse().unwrap(),
        manifest: Digest::new([n; 32]),
    }
}

fn generation(counter: u64) -> Generation {
    Generation { epoch: 1, counter }
}

fn releases(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<ReleaseRef>> {
    prop::collection::btree_set(0u8..8, count).prop_map(|it| it.into_iter().map(release).collect())
}

fn a_release() -> impl Strategy<Value = Option<ReleaseRef>> {
    prop::option::weighted(0.9, (0u8..8).prop_map(release))
}

prop_compose! {
    fn shape()(hooks in prop::collection::btree_set(prop::sample::select(vec![
        Hook::PreActivate, Hook::Drain, Hook::Stop, Hook::Start, Hook::Validate, Hook::Admit,
    ]), 0..6), service in prop::option::of(prop::sample::select(vec!["a.service", "b.service"]))) -> Shape {
        Shape { hooks, service: service.map(str::to_owned) }
    }
}

prop_compose! {
    fn plan()(n in 0u8..4, at in 0u64..4) -> PlanRef {
        PlanRef { digest: Digest::new([n; 32]), asked_at: Moment(at) }
    }
}

prop_compose! {
    fn on_disk()(n in 0u8..8, seq in 1u64..20, accepted in prop::bool::weighted(0.8),
        approved in prop::bool::weighted(0.8), plan in prop::option::of(plan()),
        whole in prop::sample::select(vec![Some(true), Some(true), Some(true), Some(false), None]),
        linked in prop::bool::weighted(0.8), stale in prop::bool::weighted(0.2), shape in shape()) -> OnDisk {
        OnDisk { release: release(n), name: format!("{seq}-{n}"), seq, accepted, approved, plan, whole, linked, stale, shape }
    }
}

fn failure(kind: FailureKind) -> Failure {
    Failure {
        kind,
        message: "no".into(),
        check: None,
        output: String::new(),
    }
}

prop_compose! {
    fn facts()(disk in prop::collection::vec(on_disk(), 0..7), current in 0usize..9,
        revoked in prop::collection::btree_set((0u8..8).prop_map(|n| Digest::new([n; 32])), 0..2),
        environment_version in prop::option::weighted(0.9, 2u64..=ENVIRONMENT),
        failed in prop::option::of(prop::sample::select(vec![FailureKind::Trust, FailureKind::Fetch])),
        switching: bool) -> Facts {
        let mut seen = BTreeSet::new();
        let on_disk: Vec<OnDisk> = disk.into_iter().filter(|it| seen.insert(it.release.manifest)).collect();
        let current = match on_disk.get(current) {
            Some(it) => Current::Release(it.release.clone()),
            None if current == 8 => Current::Foreign(Foreign::Link("/tmp".into())),
            None => Current::Nothing,
        };
        Facts { on_disk, current, revoked, environment_version, staging_failure: failed.map(failure), switching }
    }
}

prop_compose! {
    fn journal()(committed in a_release(), good in releases(0..5), from in a_release(), to in a_release(),
        by_plan in prop::collection::vec((0u8..8, plan()), 0..3), busy in any::<bool>(), hold in prop::option::weighted(0.2, Just("broken".to_owned())),
        last in prop::option::of((1u64..10, prop::sample::select(vec![
            ActivationStatus::Done, ActivationStatus::Expired,
            ActivationStatus::Undone(failure(FailureKind::Check)),
            ActivationStatus::Stuck(failure(FailureKind::Hook)),
        ])))) -> SlotJournal {
        SlotJournal {
            slot: slot(), root: Some("/srv/shop/web".into()), committed, good,
            by_plan: by_plan.into_iter().map(|(n, plan)| ByPlan { release: Digest::new([n; 32]), plan }).collect(),
            activation: busy.then(|| Activation {
                grant: None, purpose: Purpose::Forward, from, to, tries: 1, undoing: None,
                baseline: Default::default(),
            }),
            last: last.map(|(counter, status)| ActivationReport { grant: generation(counter), release: None, status }),
            hold,
            migration: None,
        }
    }
}

prop_compose! {
    fn wanted()(run in a_release(), stage in releases(0..3), keep in releases(0..3),
        waits in prop::bool::weighted(0.2),
        grant in prop::option::weighted(0.9, (1u64..10, 900u64..1100, any::<bool>()))) -> DesiredComponent {
        DesiredComponent {
            slot: slot(), run, stage, keep: keep.iter().map(|it| it.manifest).collect(),
            grant: grant.map(|(counter, start_by, back)| Grant {
                id: generation(counter), start_by: Moment(start_by),
                purpose: if back { Purpose::Back } else { Purpose::Forward },
            }),
            migrate: None,
            waits_for_approval: waits,
            adopted: None,
            repair: None,
        }
    }
}

const NOW: Moment = Moment(1000);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_switch_needs_a_valid_grant_and_a_release_that_may_run(
        wanted in wanted(), facts in facts(), journal in journal(), void in prop::option::of(1u64..10),
    ) {
        let Decision::Go(go) = activation(&wanted, ENVIRONMENT, &facts, &journal, void.map(generation), NOW) else {
            return Ok(());
        };
        let grant = wanted.grant.expect("no switch without a grant");
        prop_assert_eq!(go.grant, Some(grant.id));
        prop_assert!(NOW <= grant.start_by, "it has expired");
        prop_assert!(void.is_none_or(|void| grant.id > generation(void)), "it is void");
        prop_assert!(journal.hold.is_none(), "a person holds it");
        if let Some(last) = &journal.last {
            prop_assert!(grant.id > last.grant, "it was used: {:?}", last.status);
        }
        prop_assert_eq!(&go.to, &wanted.run);
        if let Some(run) = &wanted.run {
            prop_assert!(!facts.revoked.contains(&run.manifest));
            let disk = facts.on_disk.iter().find(|it| it.release == *run).expect("it is on disk");
            prop_assert!(disk.accepted && disk.whole == Some(true) && disk.linked);
            if grant.purpose == Purpose::Forward {
                prop_assert!(facts.environment_version >= Some(ENVIRONMENT));
                prop_assert_eq!(go.before.first(), Some(&Step::PreChecks));
            }
        }
        if let Current::Foreign(_) = facts.current {
            prop_assert_eq!(grant.purpose, Purpose::Back, "an edit would be lost unseen");
        }
        // One switch, one commit at the very end, and nothing that changes the host among the checks.
        prop_assert_eq!(go.change.iter().filter(|step| **step == Step::Switch).count(), 1);
        prop_assert_eq!(go.change.last(), Some(&Step::Commit));
        prop_assert!(go.before.iter().all(|step| matches!(step, Step::PreChecks | Step::PreActivate)));
        let at = |wanted| go.change.iter().position(|step| *step == wanted);
        for early in [Step::Drain, Step::Stop] {
            prop_assert!(at(early).is_none_or(|early| Some(early) < at(Step::Switch)));
        }
        for late in [Step::Start, Step::Validate, Step::Admit] {
            prop_assert!(at(late).is_none_or(|late| Some(late) > at(Step::Switch)));
        }
    }

    #[test]
    fn going_back_waits_for_nothing_but_its_release(
        mut wanted in wanted(), facts in facts(), mut journal in journal(), run in 0u8..8,
    ) {
        journal.hold = None;
        journal.last = None;
        wanted.run = Some(release(run));
        wanted.grant = Some(Grant { id: generation(1), start_by: NOW, purpose: Purpose::Back });
        let here = |it: &&OnDisk| it.release == release(run) && it.ready();
        let brought = journal.by_plan.iter().any(|it| it.release == release(run).manifest);
        let ready = facts.on_disk.iter().find(here).is_some_and(|it| it.approved && (brought || it.plan.is_none()));
        let revoked = facts.revoked.contains(&release(run).manifest);
        let decision = activation(&wanted, u64::MAX, &facts, &journal, None, NOW);
        if ready && !revoked {
            prop_assert!(matches!(decision, Decision::Go(_) | Decision::End(ActivationStatus::Done)), "{:?}", decision);
        }
    }

    #[test]
    fn nothing_goes_to_what_is_not_approved(
        wanted in wanted(), facts in facts(), journal in journal(),
    ) {
        let decision = activation(&wanted, ENVIRONMENT, &facts, &journal, None, NOW);
        if let Decision::Go(go) = decision
            && let Some(to) = go.to
        {
            prop_assert!(facts.find(&to.manifest).is_some_and(|it| it.approved));
        }
        if let Ok(Go { to: Some(to), .. }) = activate::local_rollback(&facts, &journal) {
            prop_assert!(facts.find(&to.manifest).is_some_and(|it| it.approved));
        }
    }

    #[test]
    fn nothing_goes_forward_by_a_plan_after_a_later_one(
        mut wanted in wanted(), facts in facts(), mut journal in journal(), run in 0u8..8,
    ) {
        (journal.hold, journal.last) = (None, None);
        journal.by_plan.sort_by_key(|it| it.plan.asked_at);
        wanted.run = Some(release(run));
        let Decision::Go(go) = activation(&wanted, ENVIRONMENT, &facts, &journal, None, NOW) else {
            return Ok(());
        };
        let before = journal.by_plan.clone();
        let of_it = facts.find(&release(run).manifest).and_then(|it| it.plan);
        let later = |plan: PlanRef| {
            before.iter().any(|it| it.plan.asked_at > plan.asked_at)
        };
        let runs = facts.running() == Some(&release(run));
        let brought = before.iter().any(|it| it.release == release(run).manifest);
        if of_it.is_some_and(later) {
            prop_assert!(runs || go.purpose == Purpose::Back && brought, "{:?}", go);
        }
        prop_assert_eq!(go.plan, of_it.filter(|_| go.purpose == Purpose::Forward));
        // What has gone ahead is remembered, and nothing ever makes an older one the newest.
        let activation = Activation {
            grant: go.grant, purpose: go.purpose, from: go.from, to: go.to, tries: 1, undoing: None,
            baseline: Default::default(),
        };
        journal.begin(activation, go.plan);
        let at = |journal: &[ByPlan]| journal.iter().map(|it| it.plan.asked_at).max();
        prop_assert!(journal.newest_plan().map(|it| it.asked_at) >= at(&before));
        if let Some(plan) = go.plan.filter(|plan| !later(*plan)) {
            prop_assert!(journal.newest_plan().is_some_and(|it| it.asked_at >= plan.asked_at));
        }
    }

    #[test]
    fn what_is_needed_is_never_pruned(
        wanted in prop::option::of(wanted()), facts in facts(), journal in journal(), keep in 0usize..6,
    ) {
        let gone: BTreeSet<String> = prune(wanted.as_ref(), &facts, &journal, keep).into_iter().collect();
        let mut needed: Vec<Digest> = Vec::new();
        if let Current::Release(current) = &facts.current {
            needed.push(current.manifest);
        }
        needed.extend(journal.committed.iter().chain(journal.good.last()).map(|it| it.manifest));
        if let Some(wanted) = &wanted {
            needed.extend(wanted.run.iter().chain(&wanted.stage).map(|it| it.manifest));
            needed.extend(&wanted.keep);
        }
        if let Some(activation) = &journal.activation {
            needed.extend(activation.from.iter().chain(&activation.to).map(|it| it.manifest));
        }
        for disk in &facts.on_disk {
            if needed.contains(&disk.release.manifest) {
                prop_assert!(!gone.contains(&disk.name), "{} is needed", disk.name);
            }
        }
        // The one before the running one stays, for `tamer-agent rollback`.
        if let Some(running) = facts.running()
            && let Some(at) = journal.good.iter().position(|it| it == running)
            && at > 0
            && let Some(before) = facts.find(&journal.good[at - 1].manifest)
        {
            prop_assert!(!gone.contains(&before.name));
        }
        let left = facts.on_disk.len() - gone.len();
        let needed_on_disk = facts.on_disk.iter().filter(|it| needed.contains(&it.release.manifest)).count();
        prop_assert!(left <= keep.max(needed_on_disk + 1), "{left} stay");
    }

    #[test]
    fn everything_desired_becomes_ready_or_says_why(
        wanted in wanted(), mut facts in facts(), journal in journal(),
    ) {
        for round in 0.. {
            prop_assert!(round < 20, "it never ends");
            let next = stage(&wanted, &facts, &journal);
            let Some(staging) = next.into_iter().find(|it| it.steps.is_ok()) else {
                // What waits for the end of a switch becomes ready after it.
                if std::mem::take(&mut facts.switching) { continue }
                break
            };
            let steps = staging.steps.unwrap();
            prop_assert!(!facts.switching || !steps.contains(&Step::Exchange), "it may have to go back to it");
            prop_assert!(!steps.is_empty());
            prop_assert!(!facts.revoked.contains(&staging.release.manifest));
            let before = facts.find(&staging.release.manifest);
            let stays = before.is_some_and(|it| it.accepted && it.approved);
            let approved = stays || !staging.ahead || steps.contains(&Step::Approve);
            facts.on_disk.retain(|it| it.release != staging.release);
            facts.on_disk.push(OnDisk {
                approved,
                plan: None,
                release: staging.release, name: format!("new-{round}"), seq: 99, accepted: true,
                whole: Some(true), linked: true, stale: false, shape: Shape::default(),
            });
        }
        for named in wanted.run.iter().chain(&wanted.stage) {
            let ready = facts.find(&named.manifest).is_some_and(OnDisk::ready);
            let running = facts.running() == Some(named);
            prop_assert!(ready || running || facts.revoked.contains(&named.manifest));
        }
    }

    #[test]
    fn every_failure_forward_leads_back_and_every_way_back_ends(
        from in prop::option::of(shape()), to in prop::option::of(shape()), reached in 0usize..12,
    ) {
        let (before, change) = activate::steps(Purpose::Forward, from.as_ref(), to.as_ref());
        for step in &before {
            prop_assert_eq!(on_failure(Purpose::Forward, *step), Next::Refuse);
        }
        for step in &change {
            prop_assert_eq!(on_failure(Purpose::Forward, *step), Next::Undo);
        }
        let reached = change.get(reached).copied();
        let back = undo(from.as_ref(), to.as_ref(), reached);
        prop_assert_eq!(back.last(), Some(&Step::UndoCommit));
        let switched = !matches!(reached, Some(Step::Drain | Step::Stop));
        prop_assert_eq!(back.contains(&Step::UndoSwitch), switched);
        // What was stopped on the way there is started on the way back.
        let starts = from.as_ref().is_some_and(|it| it.hooks.contains(&Hook::Start) || it.service.is_some());
        prop_assert_eq!(back.contains(&Step::UndoStart), starts && reached != Some(Step::Drain));
        for step in activate::steps(Purpose::Back, from.as_ref(), to.as_ref()).1 {
            prop_assert!(matches!(on_failure(Purpose::Back, step), Next::GoOn | Next::Stuck));
        }
    }

    #[test]
    fn desired_state_never_goes_back_and_never_crosses_environments(
        seen in prop::collection::vec((1u64..3, 1u64..6, any::<bool>(), 0u64..2), 1..20),
    ) {
        let own = "staging".parse().unwrap();
        let mut journal = Journal::default();
        let mut newest = Generation::default();
        for (epoch, counter, ours, environment_version) in seen {
            let desired = Desired {
                inspect: None,
                routes: vec![],
                generation: Generation { epoch, counter },
                environment: if ours { "staging" } else { "production" }.parse().unwrap(),
                environment_version,
                components: vec![],
            };
            match take_in(&journal, &own, &desired, Moment(0)) {
                Ok(()) => {
                    prop_assert!(ours);
                    prop_assert!(desired.generation >= newest);
                    newest = desired.generation;
                    journal.take_in(desired);
                }
                Err(Refused::OtherEnvironment { .. }) => prop_assert!(!ours),
                Err(Refused::Older { .. }) => prop_assert!(desired.generation < newest),
                Err(Refused::Ahead { .. }) => prop_assert!(false, "epochs are low here"),
                Err(Refused::Contradiction(it)) => {
                    prop_assert_eq!(it, newest);
                    prop_assert!(journal.desired.as_ref() != Some(&desired));
                }
            }
            prop_assert_eq!(journal.generation, newest);
        }
    }
}

#[test]
fn the_agent_is_exchanged_alone() {
    let shape = |unit: &str| Shape {
        hooks: BTreeSet::new(),
        service: Some(unit.to_owned()),
    };
    let go = |unit: &str, purpose| {
        let shape = shape(unit);
        let (before, change) = activate::steps(purpose, Some(&shape), Some(&shape));
        Go {
            grant: None,
            purpose,
            from: None,
            to: None,
            before,
            change,
            adopted: None,
            plan: None,
        }
    };
    let agent = go("tamer-agent.service", Purpose::Forward);
    let shop = go("shop-web.service", Purpose::Forward);
    assert!(agent.may_begin([]) && shop.may_begin([]) && shop.may_begin([false, false]));
    assert!(!agent.may_begin([false]) && !shop.may_begin([false, true]));
    // Nothing stops or starts it but systemd; only going forward it has something to prove.
    let names = |go: &Go| go.change.iter().map(|it| it.name()).collect::<Vec<_>>();
    assert_eq!(
        names(&agent),
        [
            "switch",
            "hand-over",
            "check-in",
            "validate",
            "confirm",
            "commit"
        ]
    );
    assert_eq!(
        names(&go("tamer-agent.service", Purpose::Back)),
        ["switch", "hand-over", "validate", "commit"]
    );
    assert_eq!(names(&shop), ["switch", "start", "validate", "commit"]);
}

#[test]
fn an_epoch_that_is_out_of_every_controllers_reach_is_not_taken_in() {
    let own = "staging".parse().unwrap();
    let desired = |epoch: u64| Desired {
        inspect: None,
        routes: vec![],
        generation: Generation { epoch, counter: 1 },
        environment: "staging".parse().unwrap(),
        environment_version: 1,
        components: vec![],
    };
    let now = Moment(1_800_000_000_000);
    let seconds = now.0 / 1000;
    let mut journal = Journal::default();
    for far in [seconds + 366 * 24 * 3600, u64::MAX] {
        let refused = take_in(&journal, &own, &desired(far), now).unwrap_err();
        assert!(matches!(refused, Refused::Ahead { .. }), "{refused}");
        assert!(refused.to_string().contains("timedatectl"));
    }
    // What a controller is restored to is the seconds of its clock, and what takes hosts back is one more than those.
    for near in [seconds, seconds + 24 * 3600] {
        take_in(&journal, &own, &desired(near), now).unwrap();
        journal.take_in(desired(near));
    }
    // What was taken in stays good, whatever becomes of the clock; news of an epoch above it waits for that.
    take_in(&journal, &own, &journal.desired.clone().unwrap(), Moment(0)).unwrap();
    take_in(&journal, &own, &desired(seconds + 24 * 3600 + 1), Moment(0)).unwrap_err();
}
