//! The course of a switch: whatever fails on the way, it ends, and what it says of its end is what is there and what the
//! journal says.

use proptest::prelude::*;
use tamer_agent::journal::{Baseline, SlotJournal};
use tamer_agent::plan::activate::steps;
use tamer_agent::plan::{Act, Course, Ended, Entry, Go, Resume, Shape, Step};
use tamer_core::application::Hook;
use tamer_core::desired::{ActivationStatus, Failure, FailureKind, Purpose, Slot};
use tamer_core::digest::Digest;
use tamer_core::generation::Generation;
use tamer_core::release::ReleaseRef;

const GRANT: Generation = Generation {
    epoch: 1,
    counter: 7,
};

fn release(n: u8) -> ReleaseRef {
    ReleaseRef {
        version: format!("1.{n}.0").parse().expect("a version"),
        manifest: Digest::new([n; 32]),
    }
}

fn failure() -> Failure {
    Failure {
        kind: FailureKind::Host,
        message: "it failed".to_owned(),
        check: None,
        output: String::new(),
    }
}

fn shape(hooks: &[Hook]) -> Shape {
    Shape {
        hooks: hooks.iter().copied().collect(),
        service: Some("shop-web.service".to_owned()),
    }
}

type Ends = (Option<Shape>, Option<Shape>);

fn go(purpose: Purpose, ends: &Ends) -> Go {
    let (before, change) = steps(purpose, ends.0.as_ref(), ends.1.as_ref());
    Go {
        grant: Some(GRANT),
        purpose,
        from: ends.0.as_ref().map(|_| release(1)),
        to: ends.1.as_ref().map(|_| release(2)),
        before,
        change,
        adopted: None,
        plan: None,
    }
}

/// A host on which steps and writes go well or do not, as `fails` says in turn.
struct Host {
    journal: SlotJournal,
    current: Option<ReleaseRef>,
    told: Vec<String>,
}

impl Host {
    fn new(ends: &Ends) -> Self {
        let mut journal = SlotJournal::new(Slot {
            application: "shop".parse().expect("a name"),
            component: "web".parse().expect("a name"),
            pool: Default::default(),
        });
        journal.committed = ends.0.as_ref().map(|_| release(1));
        Self {
            current: journal.committed.clone(),
            journal,
            told: Vec::new(),
        }
    }

    /// Takes the course to its end; an act fails where `fails` says so.
    fn take(&mut self, mut course: Course, mut fails: impl FnMut() -> bool) -> Ended {
        for _ in 0..100 {
            let go = course.go().clone();
            let act = course.act().clone();
            let outcome = if fails() { Err(failure()) } else { Ok(()) };
            match &act {
                Act::End(ended) => return ended.clone(),
                Act::Step(step) => {
                    self.told.push(step.name().to_owned());
                    match (step, &outcome) {
                        (Step::Switch, Ok(())) => self.current.clone_from(&go.to),
                        (Step::UndoSwitch, Ok(())) => self.current.clone_from(&go.from),
                        _ => {}
                    }
                }
                Act::Write(entry) => {
                    let name = match entry {
                        Entry::Begun => "+begun",
                        Entry::Again => "+again",
                        Entry::Committed => "+committed",
                        Entry::Undoing(_) => "+undoing",
                        Entry::Ended(_) => "+ended",
                    };
                    self.told.push(name.to_owned());
                    if outcome.is_ok() {
                        entry.write(&mut self.journal, &go, &Baseline::default());
                    }
                }
            }
            course.took(outcome);
        }
        panic!("it does not end: {:?}", self.told);
    }
}

fn ends() -> impl Strategy<Value = (Ends, Purpose)> {
    let all = vec![
        Hook::Drain,
        Hook::Stop,
        Hook::Start,
        Hook::Admit,
        Hook::PreActivate,
    ];
    let hooks = proptest::sample::subsequence(all, 0..=5);
    let end = hooks.prop_map(|hooks| shape(&hooks));
    let purpose = prop_oneof![Just(Purpose::Forward), Just(Purpose::Back)];
    (
        proptest::option::of(end.clone()),
        proptest::option::of(end),
        purpose,
    )
        .prop_filter("something changes", |(from, to, _)| {
            from.is_some() || to.is_some()
        })
        .prop_map(|(from, to, purpose)| ((from, to), purpose))
}

proptest! {
    #[test]
    fn whatever_fails_the_end_is_what_is_there((ends, purpose) in ends(), fails in proptest::collection::vec(proptest::bool::weighted(0.15), 0..40)) {
        let mut host = Host::new(&ends);
        let course = Course::begin(go(purpose, &ends), ends.clone());
        let mut turn = fails.iter().copied();
        let ended = host.take(course, || turn.next().unwrap_or(false));
        let (from, to) = (ends.0.as_ref().map(|_| release(1)), ends.1.as_ref().map(|_| release(2)));
        match &ended.status {
            ActivationStatus::Done => {
                prop_assert_eq!(&host.current, &to);
                prop_assert_eq!(&host.journal.committed, &to);
            }
            ActivationStatus::Refused(_) => {
                prop_assert!(!host.told.iter().any(|it| it == "switch"));
                prop_assert_eq!(&host.current, &from);
            }
            ActivationStatus::Undone(_) => {
                prop_assert_eq!(purpose, Purpose::Forward, "there is nothing better to go to");
                prop_assert_eq!(&host.current, &from);
            }
            ActivationStatus::Stuck(_) => {}
            other => prop_assert!(false, "{}", other),
        }
        // What the journal could not be told is owed, and then it says the same.
        match ended.owed {
            None => {}
            Some(entry) => entry.write(&mut host.journal, &go(purpose, &ends), &Baseline::default()),
        }
        prop_assert_eq!(&host.journal.activation, &None, "it would be taken up again");
        prop_assert_eq!(host.journal.last.map(|it| it.status), Some(ended.status));
    }

    #[test]
    fn what_was_interrupted_ends_as_well((ends, purpose) in ends(), back in any::<bool>(), fails in proptest::collection::vec(proptest::bool::weighted(0.15), 0..40)) {
        let mut host = Host::new(&ends);
        let plan = go(purpose, &ends);
        Entry::Begun.write(&mut host.journal, &plan, &Baseline::default());
        let how = match back && purpose == Purpose::Forward {
            true => Resume::Undo(failure()),
            false => Resume::Again,
        };
        let course = Course::resume(plan.clone(), ends.clone(), how);
        let mut turn = fails.iter().copied();
        let ended = host.take(course, || turn.next().unwrap_or(false));
        if let Some(entry) = ended.owed {
            entry.write(&mut host.journal, &plan, &Baseline::default());
        }
        prop_assert_eq!(&host.journal.activation, &None);
        prop_assert_eq!(host.journal.last.map(|it| it.status), Some(ended.status));
    }
}

#[test]
fn steps_and_entries_come_in_their_order() {
    let ends = || (Some(shape(&[Hook::Drain])), Some(shape(&[Hook::Admit])));
    let told = |failing: Option<&str>| {
        let mut host = Host::new(&ends());
        let course = Course::begin(go(Purpose::Forward, &ends()), ends());
        let mut names = Vec::new();
        // The act that fails is known by its place among those of a switch that goes well.
        let well = [
            "pre-checks",
            "+begun",
            "drain",
            "switch",
            "start",
            "validate",
            "admit",
            "+committed",
        ];
        let at = failing.map(|name| well.iter().position(|it| *it == name).expect("it is there"));
        let mut turn = 0;
        let ended = host.take(course, || {
            turn += 1;
            Some(turn - 1) == at
        });
        names.append(&mut host.told);
        (names.join(" "), ended)
    };
    let (well, ended) = told(None);
    assert_eq!(
        well,
        "pre-checks +begun drain switch start validate admit +committed"
    );
    assert_eq!(ended.status, ActivationStatus::Done);
    assert_eq!(told(Some("pre-checks")).0, "pre-checks +ended");
    assert_eq!(told(Some("+begun")).0, "pre-checks +begun +ended");
    assert_eq!(
        told(Some("start")).0,
        "pre-checks +begun drain switch start +undoing undo-switch undo-start undo-validate +ended"
    );
    assert!(
        told(Some("+committed"))
            .0
            .ends_with("+committed +undoing undo-switch undo-start undo-validate +ended")
    );
}
