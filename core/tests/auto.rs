//! Environments that follow, over generated histories. The witness keeps a diary of its own, moment by moment, and
//! shares nothing with what decides.

#![expect(clippy::unwrap_used, reason = "a test may fail that way")]

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use tamer_core::auto::{Auto, Decision, Every, Question, Seen, Standing, Waiting};
use tamer_core::moment::{Moment, Span};
use tamer_core::version::Version;

fn version(n: u8) -> Version {
    format!("1.{n}.0").parse().unwrap()
}

#[derive(Debug, Clone)]
enum Op {
    /// Time goes by, in minutes.
    Tick(u8),
    Publish,
    /// In the environment that is followed: a version that is published succeeds, is replaced by itself, or goes back.
    Succeeds(u8),
    Back(u8),
    Trouble(bool),
    /// Here: what is deployed by itself from now on fails, or does not.
    Fail(bool),
    /// Here: a person goes back to a version, or deploys one.
    PersonBack(u8),
    PersonDeploys(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1..60u8).prop_map(Op::Tick),
        4 => Just(Op::Publish),
        4 => any::<u8>().prop_map(Op::Succeeds),
        1 => any::<u8>().prop_map(Op::Back),
        2 => any::<bool>().prop_map(Op::Trouble),
        2 => any::<bool>().prop_map(Op::Fail),
        1 => any::<u8>().prop_map(Op::PersonBack),
        1 => any::<u8>().prop_map(Op::PersonDeploys),
    ]
}

/// What was, at each minute: the version that stood undisturbed where one is followed.
#[derive(Default)]
struct Diary {
    undisturbed: Vec<Option<u8>>,
    /// The minute of the last time that each version was taken back there, or lay above what was gone back to.
    taken_back: BTreeMap<u8, usize>,
    /// Versions that failed here, or that a person went back from, or below.
    barred: BTreeSet<u8>,
    begun: Vec<u8>,
}

impl Diary {
    /// Whether it stood for so many minutes on end, after it was last taken back.
    fn has_stood(&self, n: u8, minutes: usize) -> bool {
        let from = self.taken_back.get(&n).copied().unwrap_or(0);
        let after = &self.undisturbed[from.min(self.undisturbed.len())..];
        let mut longest = 0;
        let mut run = 0;
        for at in after {
            run = if *at == Some(n) { run + 1 } else { 0 };
            longest = longest.max(run);
        }
        // It is written down at the end of each minute, and once more at its beginning.
        longest > minutes
    }
}

struct World {
    auto: Auto,
    published: u8,
    followed: Standing,
    here: Standing,
    stands: Option<(u8, Moment)>,
    trouble: bool,
    runs: Option<u8>,
    fails: bool,
    now: Moment,
    diary: Diary,
}

impl World {
    fn new(auto: Auto) -> Self {
        Self {
            auto,
            published: 0,
            followed: Standing::default(),
            here: Standing::default(),
            stands: None,
            trouble: false,
            runs: None,
            fails: false,
            now: Moment(1 << 40),
            diary: Diary::default(),
        }
    }

    fn all(&self) -> BTreeSet<Version> {
        (0..self.published).map(version).collect()
    }

    fn observe(&mut self) {
        let seen = Seen {
            stands: self.stands.map(|(n, at)| (version(n), at)),
            trouble: self.trouble.then(|| "web-1 drifts".to_owned()),
        };
        self.followed.observe(&seen, self.now);
        // As it would come out of the store.
        let stored = serde_json::to_vec(&self.followed).unwrap();
        self.followed = serde_json::from_slice(&stored).unwrap();
    }

    fn write(&mut self) {
        let undisturbed = self.stands.filter(|_| !self.trouble).map(|(n, _)| n);
        self.diary.undisturbed.push(undisturbed);
    }

    fn decide(&self) -> Decision {
        let (published, runs) = (self.all(), self.runs.map(version));
        Question {
            auto: &self.auto,
            published: &published,
            followed: Some(&self.followed),
            here: &self.here,
            runs: runs.as_ref(),
        }
        .answer(self.now)
    }

    /// Lets follow what follows, held against the promises.
    fn follow(&mut self) {
        for _ in 0..100 {
            let Decision::Begin(next) = self.decide() else {
                return;
            };
            let n = (0..self.published).find(|n| version(*n) == next);
            let n = n.expect("only what is published is deployed");
            let bake = self.auto.bake().0.as_secs() as usize / 60;
            if self.auto.from.is_some() {
                assert!(
                    self.diary.has_stood(n, bake),
                    "{n} has not stood for {bake} min"
                );
            }
            assert!(
                self.runs.is_none_or(|runs| n > runs),
                "{n} is not newer than what runs"
            );
            assert!(!self.diary.barred.contains(&n), "{n} was given up here");
            if let (Some(most), Some(runs)) = (self.auto.max_releases_at_once, self.runs) {
                assert!(
                    u32::from(n - runs) <= most,
                    "{n} brings more than {most} releases to {runs}"
                );
            }
            self.diary.begun.push(n);
            if self.fails {
                self.bar(n);
                self.here.give_up(&next, "it failed".to_owned());
            } else {
                self.runs = Some(n);
            }
        }
        panic!("it never comes to rest");
    }

    /// Neither this one nor an older one may come by itself, until a person decides otherwise.
    fn bar(&mut self, n: u8) {
        self.diary.barred.extend(0..=n);
    }

    fn play(&mut self, op: &Op) {
        let one = |n: u8, of: u8| n % of;
        match op {
            Op::Tick(minutes) => {
                for _ in 0..*minutes {
                    self.now = self.now + Span::secs(60);
                    self.write();
                }
            }
            Op::Publish if self.published < 40 => self.published += 1,
            Op::Succeeds(n) if self.published > 0 => {
                let n = one(*n, self.published);
                if let Some((was, _)) = self.stands.filter(|(was, _)| n < *was) {
                    // Who deploys something older goes back.
                    self.went_back(Some(n), was);
                }
                self.stands = Some((n, self.now));
            }
            Op::Back(n) => {
                if let Some((was, _)) = self.stands {
                    self.went_back(Some(n % (was + 1)), was);
                    self.stands = None;
                }
            }
            Op::Trouble(trouble) => self.trouble = *trouble,
            Op::Fail(fails) => self.fails = *fails,
            Op::PersonBack(n) => {
                if let Some(runs) = self.runs.filter(|runs| *runs > 0) {
                    self.bar(runs);
                    self.here
                        .give_up(&version(runs), "anna went back".to_owned());
                    self.runs = Some(n % runs);
                }
            }
            Op::PersonDeploys(n) if self.published > 0 => {
                let n = one(*n, self.published);
                match self.runs {
                    Some(runs) if n < runs => {
                        self.bar(runs);
                        self.here
                            .give_up(&version(runs), "anna deployed an older one".to_owned());
                    }
                    _ => {
                        self.here.let_go();
                        // What lies below is not newer; above, only what was really tried stays out.
                        let tried = self.here.tried.clone();
                        self.diary.barred.retain(|n| tried.contains(&version(*n)));
                    }
                }
                self.runs = Some(n);
            }
            Op::Publish | Op::Succeeds(_) | Op::PersonDeploys(_) => {}
        }
        self.observe();
        // The minute that has begun.
        self.write();
        self.follow();
    }

    fn went_back(&mut self, to: Option<u8>, from: u8) {
        let gone: Vec<u8> = (0..self.published.max(from + 1))
            .filter(|n| *n == from || to.is_some_and(|to| *n > to))
            .collect();
        let at = self.diary.undisturbed.len();
        for n in gone {
            self.diary.taken_back.insert(n, at);
        }
        self.followed.taken_back(to.map(version).as_ref());
    }
}

fn auto() -> impl Strategy<Value = Auto> {
    let most = proptest::option::of(1..5u32);
    (any::<bool>(), 0..90u64, most).prop_map(|(from, bake, most)| Auto {
        from: from.then(|| "staging".parse().unwrap()),
        bake: from.then_some(Span::secs(bake * 60)),
        every: (!from).then_some(Every::Published),
        max_releases_at_once: most,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn only_what_has_stood_and_is_newer_and_small_comes_by_itself_and_it_does_come(
        auto in auto(), ops in proptest::collection::vec(op(), 1..80)
    ) {
        let mut world = World::new(auto.clone());
        for op in &ops {
            world.play(op);
        }
        // Calm: whatever is published newest is tried and stands for long.
        world.play(&Op::Fail(false));
        world.play(&Op::Trouble(false));
        for _ in 0..3 {
            world.play(&Op::Publish);
        }
        let newest = world.published - 1;
        for n in 0..=newest {
            // One after the other, as they come.
            if world.stands.is_none_or(|(stands, _)| n > stands) {
                world.play(&Op::Succeeds(n));
                world.play(&Op::Tick(100));
            }
        }
        if world.runs == Some(newest) {
            return Ok(());
        }
        let waits = world.decide();
        let Decision::Wait(why) = waits else {
            return Err(TestCaseError::fail("it waits for nothing"));
        };
        // It says why, and only these can be: too much at once because of what was given up, or that itself.
        let fair = match why {
            Waiting::TooMany { releases, most, .. } => releases > most as usize,
            Waiting::GivenUp { version: given_up, .. } => given_up == version(newest),
            _ => false,
        };
        prop_assert!(fair, "{:?} with {:?} of {}", world.decide(), world.runs, newest);
    }
}

fn follows(bake: &str, most: Option<u32>) -> Auto {
    Auto {
        from: Some("staging".parse().unwrap()),
        bake: Some(bake.parse().unwrap()),
        every: None,
        max_releases_at_once: most,
    }
}

#[test]
fn a_version_comes_when_its_bake_is_over_and_drift_begins_it_anew() {
    let mut world = World::new(follows("60m", None));
    world.play(&Op::Publish);
    world.play(&Op::Succeeds(0));
    let begun = world.now;
    world.play(&Op::Tick(30));
    let until = begun + Span::secs(3600);
    let bakes = |until| {
        let version = version(0);
        Decision::Wait(Waiting::Bakes { version, until })
    };
    assert_eq!(world.decide(), bakes(until));
    world.play(&Op::Trouble(true));
    assert!(matches!(
        world.decide(),
        Decision::Wait(Waiting::Troubled { .. })
    ));
    world.play(&Op::Tick(45));
    assert_eq!(world.runs, None);
    world.play(&Op::Trouble(false));
    let until = world.now + Span::secs(3600);
    assert_eq!(world.decide(), bakes(until));
    world.play(&Op::Tick(59));
    assert_eq!(world.runs, None);
    world.play(&Op::Tick(1));
    assert_eq!(world.runs, Some(0));
}

#[test]
fn it_steps_through_what_was_accepted_and_never_further_than_is_wanted() {
    let mut world = World::new(follows("0s", Some(2)));
    for _ in 0..7 {
        world.play(&Op::Publish);
    }
    world.runs = Some(0);
    // 1.3.0 was never tried there: no step ends on it.
    for n in [1, 2, 4, 5, 6] {
        world.stands = Some((n, world.now));
        world.observe();
        world.play(&Op::Tick(1));
    }
    assert_eq!(world.diary.begun, [1, 2, 4, 5, 6]);
    let mut late = World::new(follows("0s", Some(2)));
    late.runs = Some(0);
    late.published = 7;
    for n in [1, 2, 4, 5, 6] {
        late.stands = Some((n, late.now));
        late.observe();
        late.now = late.now + Span::secs(60);
        late.write();
    }
    late.follow();
    assert_eq!(late.diary.begun, [2, 4, 6]);
}

#[test]
fn what_is_too_much_at_once_says_so_and_waits_for_a_person() {
    let mut world = World::new(follows("0s", Some(2)));
    world.published = 5;
    world.runs = Some(0);
    world.play(&Op::Succeeds(4));
    world.play(&Op::Tick(1));
    let too_many = Waiting::TooMany {
        version: version(4),
        releases: 4,
        most: 2,
    };
    assert_eq!(world.decide(), Decision::Wait(too_many));
}

#[test]
fn what_was_taken_back_here_does_not_come_again_and_what_is_newer_does() {
    let mut world = World::new(follows("0s", None));
    world.published = 4;
    world.runs = Some(0);
    world.play(&Op::Succeeds(1));
    world.play(&Op::Succeeds(2));
    assert_eq!(world.runs, Some(2));
    // To 1.0.0: neither 1.2.0 comes again nor 1.1.0, which is newer than that.
    world.play(&Op::PersonBack(0));
    world.play(&Op::Tick(60));
    assert_eq!(world.runs, Some(0));
    assert!(matches!(
        world.decide(),
        Decision::Wait(Waiting::GivenUp { .. })
    ));
    world.play(&Op::Succeeds(3));
    assert_eq!(world.runs, Some(3));
}

#[test]
fn a_version_that_changes_nothing_here_is_as_good_as_if_it_ran() {
    let auto = follows("0s", Some(1));
    let published = (0..4).map(version).collect();
    let runs = version(0);
    let mut followed = Standing::default();
    for n in 1..3 {
        let stands = Some((version(n), Moment(u64::from(n))));
        followed.observe(
            &Seen {
                stands,
                trouble: None,
            },
            Moment(10),
        );
    }
    let mut here = Standing::default();
    let answer = |here: &Standing| {
        let question = Question {
            auto: &auto,
            published: &published,
            followed: Some(&followed),
            here,
            runs: Some(&runs),
        };
        question.answer(Moment(20))
    };
    assert_eq!(answer(&here), Decision::Begin(version(1)));
    here.changes_nothing(&version(1));
    assert_eq!(answer(&here), Decision::Begin(version(2)));
    here.changes_nothing(&version(2));
    assert_eq!(answer(&here), Decision::Wait(Waiting::Nothing));
    // Whoever goes back begins anew from what runs.
    here.taken_back(Some(&version(0)));
    assert_eq!(answer(&here), Decision::Begin(version(1)));
}

#[test]
fn where_nothing_runs_the_newest_comes_at_once() {
    let mut world = World::new(Auto {
        from: None,
        bake: None,
        every: Some(Every::Published),
        max_releases_at_once: Some(1),
    });
    world.published = 3;
    world.follow();
    assert_eq!(world.diary.begun, [2]);
    world.published = 6;
    world.follow();
    assert_eq!(world.diary.begun, [2, 3, 4, 5]);
}
