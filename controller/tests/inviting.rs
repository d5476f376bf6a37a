//! Invitations and what becomes of them: whatever people do at the same time, each of them is asked about as things are
//! when it is given out, and again when somebody comes with it.

#![expect(clippy::unwrap_used, reason = "a test may fail that way")]

#[path = "common/mod.rs"]
mod common;

use common::admin;
use proptest::prelude::*;
use tamer_controller::fleet::Fleet;
use tamer_controller::fleet::people::NotInvited;
use tamer_controller::identity::join::{JoinError, Joined};
use tamer_controller::identity::registry::{Denied, NotGiven, Role, Roles};
use tamer_controller::identity::tokens::Grant;
use tamer_core::digest::Digest;
use tamer_core::id::{EnvironmentName, OperatorName};
use tamer_core::moment::{Moment, Span};

const NOW: Moment = Moment(1_000_000);
const EVERYWHERE: Option<&str> = None;

fn name(given: &str) -> OperatorName {
    given.parse().unwrap()
}

fn place(given: Option<&str>) -> Option<EnvironmentName> {
    given.map(|it| it.parse().unwrap())
}

fn role(place: Option<&str>, role: Role) -> Roles {
    let Some(place) = place else {
        return Roles::everywhere(role);
    };
    Roles {
        everywhere: None,
        environments: [(place.parse().unwrap(), role)].into(),
    }
}

struct World {
    fleet: Fleet,
    tokens: u8,
    keys: u8,
}

impl World {
    fn new() -> Self {
        let mut fleet = Fleet::new(1, None);
        admin(&mut fleet, NOW);
        Self {
            fleet,
            tokens: 0,
            keys: 0,
        }
    }

    /// A token, by its number.
    fn invite(&mut self, by: &str, who: &str, roles: Roles) -> Result<u8, NotInvited> {
        let name = name(who);
        let grant = Grant::Operator { name, roles };
        let secret = Digest::new([self.tokens + 1; 32]);
        let by = by.parse().unwrap();
        self.fleet.invite(secret, grant, Span::secs(60), &by, NOW)?;
        self.tokens += 1;
        Ok(self.tokens)
    }

    fn join(&mut self, token: u8) -> Result<Joined, JoinError> {
        self.keys += 1;
        let key = Digest::new([100 + self.keys; 32]);
        self.fleet.join(Digest::new([token; 32]), None, key, NOW)
    }

    fn becomes(&mut self, who: &str, roles: Roles) {
        let token = self.invite("anna", who, roles).unwrap();
        self.join(token).unwrap();
    }

    fn takes(&mut self, who: &str, from: Option<&str>) -> bool {
        let from = place(from);
        let by = name("anna");
        let taken = self
            .fleet
            .take_role(&name(who), from.as_ref(), &by, "", NOW);
        taken.is_ok()
    }

    fn removes(&mut self, who: &str) -> bool {
        let by = name("anna");
        self.fleet.remove_operator(&name(who), &by, "", NOW).is_ok()
    }

    fn roles(&self, who: &str) -> String {
        self.fleet.registry.operators[&name(who)].roles.to_string()
    }

    /// What they may do in an environment, or everywhere: nothing once they were shut out.
    fn has(&self, who: &str, place: Option<&str>) -> Option<Role> {
        let known = self.fleet.registry.operators.get(&name(who))?;
        let here = self::place(place);
        let here = here.and_then(|it| known.roles.environments.get(&it));
        let both = known.roles.everywhere.max(here.copied());
        both.filter(|_| !known.revoked)
    }
}

fn refused<T: std::fmt::Debug>(asked: Result<T, NotInvited>) -> NotGiven {
    match asked.unwrap_err() {
        NotInvited::NotGiven(why) => why,
        other => panic!("{other}"),
    }
}

#[test]
fn whoever_is_no_admin_any_more_when_the_token_is_given_out_invites_nobody() {
    let mut world = World::new();
    let viewer = |place| role(place, Role::Viewer);
    world.becomes("ben", role(EVERYWHERE, Role::Admin));
    world.becomes("eve", role(Some("staging"), Role::Admin));
    world.invite("ben", "carl", viewer(EVERYWHERE)).unwrap();
    world
        .invite("eve", "carl", viewer(Some("staging")))
        .unwrap();
    // Where she is admin and where she is not, in one token.
    let mut both = viewer(Some("staging"));
    both.add(&viewer(Some("production")));
    for roles in [both, viewer(EVERYWHERE), Roles::default()] {
        let why = refused(world.invite("eve", "carl", roles));
        assert!(
            matches!(why, NotGiven::Denied(Denied::Role { .. })),
            "{why}"
        );
    }
    // What the request was held against first has changed meanwhile.
    assert!(world.removes("ben"));
    let why = refused(world.invite("ben", "carl", viewer(EVERYWHERE)));
    assert_eq!(why, NotGiven::Denied(Denied::Revoked("ben".to_owned())));
    let host = Grant::Host {
        environment: "staging".parse().unwrap(),
        labels: Default::default(),
        replaces: None,
    };
    let before = world.fleet.tokens.clone();
    let secret = Digest::new([99; 32]);
    let asked = world
        .fleet
        .invite(secret, host, Span::secs(60), &name("anna"), NOW);
    assert!(
        asked
            .unwrap_err()
            .to_string()
            .contains("no environment `staging`")
    );
    assert_eq!(world.fleet.tokens, before, "nothing was given out");
}

#[test]
fn two_admins_who_invite_one_another_to_less_leave_one_of_them() {
    let mut world = World::new();
    world.becomes("ben", role(EVERYWHERE, Role::Admin));
    let less = role(EVERYWHERE, Role::Viewer);
    // Each of them may: there is another admin.
    let bens = world.invite("anna", "ben", less.clone()).unwrap();
    let annas = world.invite("ben", "anna", less.clone()).unwrap();
    world.join(bens).unwrap();
    let last = NotGiven::LastAdmin(name("anna"));
    // Who gave it is no admin any more.
    let theirs = JoinError::NotGiven(NotGiven::NotTheirs(name("anna")));
    assert_eq!(world.join(annas), Err(theirs));
    assert_eq!(refused(world.invite("anna", "anna", less)), last);
    assert_eq!(world.roles("anna"), "admin everywhere");
}

#[test]
fn what_somebody_new_is_of_whom_nothing_is_said_depends_on_who_they_are_when_they_come() {
    let mut world = World::new();
    let nothing = Roles::default();
    let new = world.invite("anna", "ben", nothing.clone()).unwrap();
    let again = world.invite("anna", "ben", nothing.clone()).unwrap();
    let more = world.invite("anna", "ben", role(EVERYWHERE, Role::Deployer));
    world.join(new).unwrap();
    assert_eq!(world.roles("ben"), "viewer everywhere");
    world.join(more.unwrap()).unwrap();
    world.join(again).unwrap();
    assert_eq!(world.roles("ben"), "deployer everywhere");
}

const PEOPLE: [&str; 3] = ["anna", "ben", "eve"];
const PLACES: [Option<&str>; 2] = [None, Some("staging")];
const ROLES: [Role; 2] = [Role::Viewer, Role::Admin];

#[derive(Debug, Clone)]
enum Op {
    Invite(usize, usize, usize, usize),
    Join(u8),
    Take(usize, usize),
    Remove(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..3usize, 0..3usize, 0..2usize, 0..2usize)
            .prop_map(|(by, who, place, role)| Op::Invite(by, who, place, role)),
        4 => (0..12u8).prop_map(Op::Join),
        1 => (0..3usize, 0..2usize).prop_map(|(who, place)| Op::Take(who, place)),
        1 => (0..3usize).prop_map(Op::Remove),
    ]
}

proptest! {
    /// Whoever does what, in whatever order: somebody is left who may do everything, nobody gives what is not theirs,
    /// and no name of somebody's changes hands but by one of them.
    #[test]
    fn there_is_always_an_admin_and_none_who_made_themselves_one(
        ops in prop::collection::vec(op(), 1..40)
    ) {
        let mut world = World::new();
        let mut gave = Vec::new();
        for op in ops {
            match op {
                Op::Invite(by, who, place, level) => {
                    let (by, place, level) = (PEOPLE[by], PLACES[place], ROLES[level]);
                    if let Ok(token) = world.invite(by, PEOPLE[who], role(place, level)) {
                        prop_assert_eq!(world.has(by, place), Some(Role::Admin));
                        gave.push((token, by, PEOPLE[who]));
                    }
                }
                Op::Join(token) => {
                    let everything = PEOPLE.map(|it| world.has(it, None) == Some(Role::Admin));
                    let known = PEOPLE.map(|it| world.fleet.registry.operators.contains_key(&name(it)));
                    if world.join(token).is_ok() {
                        let (_, by, who) = gave.iter().find(|it| it.0 == token).unwrap();
                        let at = |who: &str| PEOPLE.iter().position(|it| *it == who).unwrap();
                        prop_assert!(!known[at(who)] || everything[at(by)]);
                    }
                }
                Op::Take(who, place) => drop(world.takes(PEOPLE[who], PLACES[place])),
                Op::Remove(who) => drop(world.removes(PEOPLE[who])),
            }
            prop_assert!(PEOPLE.iter().any(|it| world.has(it, None) == Some(Role::Admin)));
        }
    }
}
