//! The planner of databases against a witness that knows no rule: it goes through a deployment moment by
//! moment and looks at everything that runs.

#![expect(clippy::unwrap_used, reason = "a test may fail that way")]

use proptest::prelude::*;
use std::collections::BTreeSet;
use tamer_core::digest::Digest;
use tamer_core::id::{ComponentName, SchemaName};
use tamer_core::release::ReleaseRef;
use tamer_core::schema::plan::{Back, Needs, Question, Reach, Runs, back, reach};
use tamer_core::schema::{SchemaSpec, VersionRange};

fn component(n: usize) -> ComponentName {
    format!("c{n}").parse().unwrap()
}

fn schema() -> SchemaName {
    "main".parse().unwrap()
}

fn needs(of: usize, n: u8, range: Option<VersionRange>) -> Needs {
    Needs {
        component: component(of),
        release: ReleaseRef {
            version: format!("1.{n}.0").parse().unwrap(),
            manifest: Digest::new([n; 32]),
        },
        range,
    }
}

fn any_range() -> impl Strategy<Value = Option<VersionRange>> {
    let range = (0_u64..6, prop::option::weighted(0.8, 0_u64..6));
    let range = range.prop_map(|(from, more)| match more {
        Some(more) => VersionRange::between(from, from + more),
        None => format!("{from}..").parse().ok(),
    });
    prop_oneof![19 => range, 1 => Just(None)]
}

prop_compose! {
    fn any_question()(
        now in 0_u64..6,
        up in 0_u64..4,
        order in Just(vec![0, 1, 2]).prop_shuffle(),
        rollouts in prop::collection::vec(any_range(), 0..=3),
        carrier in prop::option::weighted(0.9, 0_usize..3),
        old in prop::collection::vec(any_range(), 6),
        running in prop::collection::vec((0_usize..3, 0_usize..2, any::<bool>()), 0..5),
    ) -> Question {
        let rollouts: Vec<Needs> = rollouts
            .into_iter()
            .enumerate()
            .map(|(n, range)| needs(order[n], n as u8, range))
            .collect();
        let carrier = carrier.filter(|carrier| *carrier < rollouts.len());
        Question {
            schema: schema(),
            now,
            target: carrier.map(|carrier| (now + up, carrier)),
            running: running
                .into_iter()
                .enumerate()
                .map(|(n, (of, which, stays))| Runs {
                    host: format!("web-{n}").parse().unwrap(),
                    needs: needs(of, 10 + (of * 2 + which) as u8, old[of * 2 + which]),
                    stays,
                })
                .collect(),
            rollouts,
        }
    }
}

/// What runs at one moment of the story.
#[derive(Clone)]
struct Thing {
    of: ComponentName,
    range: Option<VersionRange>,
    old: bool,
    stays: bool,
}

impl Thing {
    fn works(&self, version: u64) -> bool {
        self.range.is_some_and(|range| range.contains(version))
    }
}

/// Whether the story goes well with the database brought up in front of this rollout. What was broken
/// before anything was done is excused until the database has been touched.
fn goes_well(question: &Question, up: Option<usize>) -> bool {
    let mut running: Vec<Thing> = question
        .running
        .iter()
        .map(|runs| Thing {
            of: runs.needs.component.clone(),
            range: runs.needs.range,
            old: true,
            stays: runs.stays,
        })
        .collect();
    let (now, target) = (
        question.now,
        question.target.map_or(question.now, |it| it.0),
    );
    let mut version = now;
    let mut well = true;
    let moment = |running: &[Thing], version: u64| {
        running.iter().all(|thing| {
            let excused = thing.old && !thing.works(now) && (up.is_none() || version < target);
            thing.works(version) || excused
        })
    };
    for (number, new) in question.rollouts.iter().enumerate() {
        if up == Some(number) {
            while version < target {
                version += 1;
                well &= moment(&running, version);
            }
        }
        // Old and new side by side, then the old ones are gone that could be replaced.
        running.push(Thing {
            of: new.component.clone(),
            range: new.range,
            old: false,
            stays: false,
        });
        well &= moment(&running, version);
        running.retain(|thing| thing.of != new.component || !thing.old || thing.stays);
        well &= moment(&running, version);
    }
    well
}

/// Whether the database goes up in this deployment, as it must.
fn goes_up(question: &Question) -> bool {
    question
        .target
        .is_some_and(|(target, _)| target > question.now)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_is_answered_goes_well_and_what_is_refused_never_could(question in any_question()) {
        let answer = question.answer();
        prop_assert_eq!(answer.up_before.is_some(), goes_up(&question));
        let carrier = question.target.map_or(0, |(_, carrier)| carrier);
        let places: Vec<Option<usize>> = if goes_up(&question) {
            (0..=carrier).map(Some).collect()
        } else {
            vec![None]
        };
        let good: Vec<_> = places.into_iter().filter(|place| goes_well(&question, *place)).collect();
        if answer.obstacles.is_empty() {
            // As late as can be.
            prop_assert_eq!(good.last(), Some(&answer.up_before));
        } else {
            prop_assert_eq!(good, Vec::<Option<usize>>::new());
        }
    }

    #[test]
    fn every_obstacle_is_one(question in any_question()) {
        for obstacle in question.answer().obstacles {
            let works = |v| obstacle.needs.range.is_some_and(|range| range.contains(v));
            prop_assert!(!works(obstacle.version));
            for host in &obstacle.hosts {
                let runs = question.running.iter().find(|runs| runs.host == *host).unwrap();
                prop_assert_eq!(&runs.needs, &obstacle.needs);
            }
            if obstacle.may_be_crossed() {
                // Its end is in sight, or it is of a component that the deployment leaves alone.
                prop_assert!(!obstacle.stays && obstacle.needs.range.is_some());
            }
        }
    }

    #[test]
    fn as_far_back_as_it_says_is_safe_and_one_further_is_not(
        version in 0_u64..8,
        ranges in prop::collection::vec(any_range(), 0..6),
    ) {
        let former: Vec<Needs> =
            ranges.into_iter().enumerate().map(|(n, range)| needs(0, n as u8, range)).collect();
        let works = |needs: &Needs| needs.range.is_some_and(|range| range.contains(version));
        match reach(version, &former) {
            Reach::Nothing => prop_assert!(former.is_empty()),
            Reach::Nowhere(first) => prop_assert!(first == former[0] && !works(&first)),
            Reach::To(furthest) => {
                let at = former.iter().position(|it| it.release == furthest).unwrap();
                prop_assert!(former[..=at].iter().all(works));
                prop_assert!(former.get(at + 1).is_none_or(|it| !works(it)));
            }
        }
    }

    #[test]
    fn going_back_brings_the_database_down_no_further_than_it_must(
        now in 0_u64..8,
        ranges in prop::collection::vec(any_range(), 1..4),
        down in any::<bool>(),
        irreversible in prop::collection::btree_set(1_u64..9, 0..3),
        programs in prop::bool::weighted(0.9),
    ) {
        let afterwards: Vec<Needs> =
            ranges.into_iter().enumerate().map(|(n, range)| needs(n, n as u8, range)).collect();
        let spec = spec(down, &irreversible);
        let answer = back(&schema(), now, &afterwards, programs.then_some(&spec));
        let all = |v: u64| {
            afterwards.iter().all(|it| it.range.is_some_and(|range| range.contains(v)))
        };
        // One step after the other, as a person would take them.
        let mut found = None;
        let mut version = now;
        loop {
            if all(version) {
                found = Some(version);
                break;
            }
            if version == 0 || !programs || !down || irreversible.contains(&version) {
                break;
            }
            version -= 1;
        }
        match answer {
            Back::Nothing => prop_assert_eq!(found, Some(now)),
            Back::Down(to) => prop_assert!(to < now && found == Some(to)),
            Back::Impossible(why) => prop_assert!(found.is_none(), "{}", why),
        }
    }
}

fn spec(down: bool, irreversible: &BTreeSet<u64>) -> SchemaSpec {
    let mut spec: SchemaSpec = toml::from_str(
        "current = \"bin/current\"\ntarget = 9\nup = \"bin/up\"\ndown = \"bin/down\"",
    )
    .unwrap();
    spec.irreversible.clone_from(irreversible);
    if !down {
        spec.down = None;
    }
    spec
}

/// The words that people read.
#[test]
fn what_stands_in_the_way_is_said_with_what_to_do() {
    let range = |text: &str| Some(text.parse::<VersionRange>().unwrap());
    let runs = |host: &str, needs: Needs, stays| Runs {
        host: host.parse().unwrap(),
        needs,
        stays,
    };
    let question = Question {
        schema: schema(),
        now: 41,
        target: Some((42, 0)),
        rollouts: vec![needs(0, 4, range("42"))],
        running: vec![
            runs("web-1", needs(0, 3, range("41")), false),
            runs("web-2", needs(0, 2, range("..=41")), true),
            runs("web-3", needs(1, 1, None), false),
        ],
    };
    let said: Vec<String> = question
        .answer()
        .obstacles
        .iter()
        .map(ToString::to_string)
        .collect();
    insta::assert_snapshot!(said.join("\n"), @"
    c0 1.2.0 works with main ..=41, not with 42, and is on web-2, which cannot be moved: bring it back, or `tamer host remove` it
    c0 1.3.0 works with main 41, not with 42, and runs on web-1 until it is replaced: first deploy a c0 that works with 42 as well
    nothing is known of what c1 1.1.0 works with, and runs on web-3 until it is replaced: first deploy a c1 that works with 42 as well
    ");
    let down = |programs: Option<SchemaSpec>| {
        back(
            &schema(),
            42,
            &[needs(0, 3, range("41"))],
            programs.as_ref(),
        )
    };
    assert_eq!(
        down(None),
        Back::Impossible("c0 1.3.0 works with main 41, and the database has 42: no release on a host that can be reached carries the programs".to_owned())
    );
    assert_eq!(
        down(Some(spec(true, &BTreeSet::from([42])))),
        Back::Impossible(
            "c0 1.3.0 works with main 41, and the database has 42: the step to 42 cannot be undone"
                .to_owned()
        )
    );
    assert_eq!(down(Some(spec(true, &BTreeSet::new()))), Back::Down(41));
}
