//! What a seed means: a fleet, a policy, releases with their faults, what people do and what goes wrong.

use crate::chance::Chance;
use std::collections::BTreeSet;
use tamer_agent::plan::Shape;
use tamer_core::application::Hook;
use tamer_core::digest::Digest;
use tamer_core::environment::Environment;
use tamer_core::release::ReleaseRef;

/// The virtual time in which people act and things go wrong, in milliseconds: two hours.
pub const BUSY: u64 = 2 * 3600 * 1000;

/// The virtual time after that in which everything must have come to rest: twelve hours.
pub const QUIET: u64 = 12 * 3600 * 1000;

/// How many versions the application has.
pub const VERSIONS: u8 = 6;

/// A run, as its seed says.
pub struct Scenario {
    /// How many hosts there are.
    pub hosts: u64,
    /// The components, in the order in which they roll out.
    pub components: Vec<&'static str>,
    /// The environment's file.
    pub environment: String,
    /// The same, read.
    pub file: Environment,
    /// What is the matter with each release: of component `c`, version `n`, at `c * VERSIONS + n`.
    pub traits: Vec<Trait>,
    /// What each release brings along, in the same order.
    pub shapes: Vec<Shape>,
    /// How often something goes wrong: the mean time between two faults, in milliseconds.
    pub fault_every: u64,
    /// How often somebody does something, in milliseconds.
    pub act_every: u64,
}

/// What is the matter with a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trait {
    /// Nothing.
    Good,
    /// The host is found unfit for it before anything changes.
    FailsBefore,
    /// It does not start.
    FailsStart,
    /// It starts, and its check fails.
    FailsCheck,
    /// It is well at first; its check fails this long after it was started, in milliseconds.
    FailsLater(u64),
    /// On some hosts only, those with an odd number, its check fails.
    FailsOnSome,
    /// It is not signed as the environment demands.
    Untrusted,
}

impl Scenario {
    /// The scenario of this seed.
    ///
    /// # Panics
    /// Where the policy that was drawn is refused: a mistake of this file.
    pub fn of(chance: &mut Chance) -> Self {
        let hosts = chance.between(1, 9);
        let components = match chance.permille(400) {
            true => vec!["worker", "web"],
            false => vec!["web"],
        };
        let environment = environment(chance, &components);
        let file = Environment::parse("production.toml", &environment).expect("a good policy");
        let releases = components.len() * usize::from(VERSIONS);
        let traits = (0..releases).map(|_| draw(chance)).collect();
        let shapes = (0..releases).map(|_| shape(chance)).collect();
        Self {
            hosts,
            components,
            environment,
            file,
            traits,
            shapes,
            fault_every: chance.pick(&[20_000, 60_000, 300_000, 1_800_000]),
            act_every: chance.pick(&[60_000, 240_000, 900_000]),
        }
    }

    /// A component's release of this version.
    ///
    /// # Panics
    /// Never: all versions can be read.
    pub fn release(&self, component: usize, n: u8) -> ReleaseRef {
        ReleaseRef {
            version: format!("1.{n}.0").parse().expect("a version"),
            manifest: Digest::new([(component as u8 + 1) * 32 + n; 32]),
        }
    }

    /// Where a release stands in `traits` and `shapes`.
    fn at(&self, release: &ReleaseRef) -> usize {
        let byte = usize::from(release.manifest.as_bytes()[0]);
        (byte / 32 - 1) * usize::from(VERSIONS) + byte % 32
    }

    /// What is the matter with it.
    pub fn trait_of(&self, release: &ReleaseRef) -> Trait {
        self.traits[self.at(release)]
    }

    /// What it brings along.
    pub fn shape_of(&self, release: &ReleaseRef) -> Shape {
        self.shapes[self.at(release)].clone()
    }
}

fn draw(chance: &mut Chance) -> Trait {
    match chance.between(0, 99) {
        0..=59 => Trait::Good,
        60..=64 => Trait::FailsBefore,
        65..=71 => Trait::FailsStart,
        72..=80 => Trait::FailsCheck,
        81..=88 => Trait::FailsLater(chance.between(1, 300_000)),
        89..=95 => Trait::FailsOnSome,
        _ => Trait::Untrusted,
    }
}

fn shape(chance: &mut Chance) -> Shape {
    let all = [Hook::Drain, Hook::Stop, Hook::Start, Hook::Admit];
    let hooks: BTreeSet<Hook> = all.into_iter().filter(|_| chance.permille(300)).collect();
    Shape {
        hooks,
        service: Some("shop-web.service".to_owned()),
    }
}

fn environment(chance: &mut Chance, components: &[&str]) -> String {
    let mut text = "[place]\n".to_owned();
    for component in components {
        text += &format!("\"shop/{component}\" = {{ role = \"web\" }}\n");
    }
    text += "[policy]\n";
    if chance.permille(600) {
        text += &format!("canary = {}\n", chance.pick(&["1", "2", "\"20%\""]));
    }
    let steps = [
        "[\"100%\"]",
        "[\"50%\", \"100%\"]",
        "[\"25%\", \"50%\", \"100%\"]",
    ];
    text += &format!("steps = {}\n", chance.pick(&steps));
    let parallel = ["1", "2", "3", "\"50%\"", "\"100%\"\nall_at_once = true"];
    text += &format!("max_parallel = {}\n", chance.pick(&parallel));
    text += &format!(
        "max_failures = {}\n",
        chance.pick(&["0", "0", "1", "\"30%\""])
    );
    text += &format!("max_staging = {}\n", chance.pick(&["1", "3", "20"]));
    let bake = chance.pick(&["0s", "20s", "3m"]);
    let deadline = chance.pick(&["2m", "10m"]);
    text += &format!("bake = \"{bake}\"\nmin_healthy = \"10s\"\nhealthy_deadline = \"1m\"\n");
    text += &format!("progress_deadline = \"{deadline}\"\n");
    text += &format!(
        "on_failure = \"{}\"\n",
        chance.pick(&["rollback", "rollback", "pause"])
    );
    text
}
