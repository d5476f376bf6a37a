//! Pools and routers in the environment file: a component that runs in two pools, of which routers send to
//! one at a time. What routers run is written here, signed, so that nobody else decides what that is.

use crate::check::{Checks, Results};
use crate::desired::Failure;
use crate::environment::Environment;
use crate::generation::Generation;
use crate::id::{ComponentPath, PoolName};
use crate::moment::Span;
use crate::selector::{Labels, Selector};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The pools of a component, each with the labels that choose its hosts among those where the component has
/// its place.
pub type Pools = BTreeMap<PoolName, Selector>;

/// The checks that an idle pool must pass before routers are switched to it, by component.
pub type Acceptance = BTreeMap<ComponentPath, Checks>;

/// The routers of a component: which hosts, and how they are switched from one pool to the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouterSpec {
    /// The hosts that route, by their labels.
    pub hosts: Selector,
    /// The program and its arguments that sends to the pool in `TAMER_POOL`. It may be run again: run twice it
    /// does what it does run once. No shell is involved.
    pub switch: Vec<String>,
    /// The program and its arguments that prints the name of the pool which the router sends to, and nothing else.
    pub active: Vec<String>,
    /// Who runs both; without one, the agent's own user, which is root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How long one run of either may take.
    #[serde(default = "ten_seconds")]
    pub timeout: Span,
    /// How long from the end of one run of `active` to the next, while nothing is being switched.
    #[serde(default = "half_a_minute")]
    pub interval: Span,
    /// How long some routers may send to one pool and some to the other: after that the switch is taken back.
    #[serde(default = "a_minute")]
    pub deadline: Span,
    /// How long the idle pool may take to be fit and to pass its acceptance checks.
    #[serde(default = "five_minutes")]
    pub acceptance_deadline: Span,
    /// Whether a person must let routers be switched once the pool is accepted (`tamer promote`).
    #[serde(default)]
    pub approval: bool,
    /// How long the pool is watched once all routers send to it, before the switch counts as done.
    #[serde(default)]
    pub bake: Span,
}

fn ten_seconds() -> Span {
    Span::secs(10)
}

fn half_a_minute() -> Span {
    Span::secs(30)
}

fn a_minute() -> Span {
    Span::secs(60)
}

fn five_minutes() -> Span {
    Span::secs(300)
}

/// What a host that routes for a component should do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredRoute {
    /// Of which component.
    pub component: ComponentPath,
    /// Where it should send; `None`: where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<RouteOrder>,
    /// The pool on which it should try the acceptance checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<RouteOrder>,
}

/// A pool that a router is told, under a number. It acts on it once: no restart and no repeated message has it done
/// again once it has ended, and none that is older is acted on any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteOrder {
    /// Which order.
    pub id: Generation,
    /// Which pool.
    pub pool: PoolName,
}

/// What a host that routes for a component does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteReport {
    /// Of which component.
    pub component: ComponentPath,
    /// The newest order that it has carried out, or failed at; the lowest one before the first.
    pub answered: Generation,
    /// The pool that it sends to, as its `active` command last said; `None`: it cannot tell.
    pub sends_to: Option<PoolName>,
    /// Why the newest order failed, or why it cannot tell.
    pub failure: Option<Failure>,
    /// How acceptance checks ended, those that were tried last.
    pub acceptance: Option<AcceptanceReport>,
}

/// How acceptance checks ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptanceReport {
    /// Under which number they were asked for.
    pub id: Generation,
    /// Each of them.
    pub results: Results,
    /// Why they could not be tried.
    pub failure: Option<Failure>,
}

/// Where a component has its place on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// It has none there.
    Nowhere,
    /// There, in this pool; [`PoolName::default`] where the component has none.
    In(PoolName),
    /// It would have, but the host is in none of the component's pools.
    InNoPool,
}

impl Environment {
    /// Where a component has its place on a host with these labels.
    pub fn placed(&self, component: &ComponentPath, labels: &Labels) -> Placed {
        let chosen = |selector: &Selector| selector.matches(labels);
        if !self.place.get(component).is_some_and(chosen) {
            return Placed::Nowhere;
        }
        let Some(pools) = self.pools.get(component) else {
            return Placed::In(PoolName::default());
        };
        // A host is in no two of them: that was seen when the file was read.
        match pools.iter().find(|(_, selector)| chosen(selector)) {
            Some((pool, _)) => Placed::In(pool.clone()),
            None => Placed::InNoPool,
        }
    }

    /// The pools of a component; the one that stands for all where it has none.
    pub fn pools_of(&self, component: &ComponentPath) -> Vec<PoolName> {
        match self.pools.get(component) {
            Some(pools) => pools.keys().cloned().collect(),
            None => vec![PoolName::default()],
        }
    }
}

/// Refuses pools and routers that could not work.
///
/// # Errors
/// A sentence that says where, why, and what to write instead.
pub fn validate(file: &Environment) -> Result<(), String> {
    for (component, pools) in &file.pools {
        let bad = |why: String| Err(format!("pools.\"{component}\": {why}"));
        if !file.place.contains_key(component) {
            return bad("the component has no place here: add it to [place]".to_owned());
        }
        if !file.router.contains_key(component) {
            return bad(format!(
                "nothing says which pool is used: add [router.\"{component}\"], or leave the pools out"
            ));
        }
        let [(one, of_one), (other, of_other)] = &pools.iter().collect::<Vec<_>>()[..] else {
            return bad(format!(
                "there must be two pools, one that is used and one that is idle, and there are {}",
                pools.len()
            ));
        };
        if pools.contains_key(&PoolName::default()) {
            return bad(format!(
                "`{}` stands for a component without pools: name it otherwise",
                PoolName::default()
            ));
        }
        let told_apart = of_one
            .0
            .iter()
            .any(|(key, value)| of_other.0.get(key).is_some_and(|it| it != value));
        if !told_apart {
            return bad(format!(
                "a host may be in both `{one}` and `{other}`: let them differ in the value of one label, for instance {one} = {{ pool = \"{one}\" }}"
            ));
        }
    }
    for (component, router) in &file.router {
        let bad = |why: &str| Err(format!("router.\"{component}\": {why}"));
        if !file.pools.contains_key(component) {
            return bad(&format!(
                "there are no pools to switch between: add [pools.\"{component}\"]"
            ));
        }
        for (key, command) in [("switch", &router.switch), ("active", &router.active)] {
            if command
                .first()
                .is_none_or(|program| !program.starts_with('/'))
            {
                return bad(&format!(
                    "`{key}` must begin with the absolute path of a program"
                ));
            }
        }
        if router.timeout.0.is_zero() || router.interval.0.is_zero() {
            return bad("`timeout` and `interval` must be longer than nothing");
        }
        // A switch is three runs: a look, the switch itself, and a look again.
        if router.deadline.0 < router.timeout.0 * 3 {
            return bad(
                "`deadline` must be at least three times `timeout`, or a slow router would be taken back while it switches",
            );
        }
        if router.acceptance_deadline.0.is_zero() {
            return bad("`acceptance_deadline` is nothing, so no pool could ever be accepted");
        }
    }
    match file
        .acceptance
        .keys()
        .find(|it| !file.router.contains_key(it))
    {
        Some(component) => Err(format!(
            "acceptance.\"{component}\": the component has no router, and nothing that is switched after these checks: add [router.\"{component}\"], or make them [checks]"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOLS: &str =
        "[pools.\"shop/web\"]\nblue = { pool = \"blue\" }\ngreen = { pool = \"green\" }\n";
    const ROUTER: &str = "[router.\"shop/web\"]\nhosts = { role = \"lb\" }\nswitch = [\"/etc/lb/switch\"]\nactive = [\"/etc/lb/active\"]\n";

    fn read(text: &str) -> Result<Environment, String> {
        let text =
            format!("[place]\n\"shop/web\" = {{ role = \"web\" }}\n\"shop/worker\" = {{}}\n{text}");
        Environment::parse("p.toml", &text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_host_is_in_one_pool_or_in_none_and_never_in_both() {
        let here = read(&format!("{POOLS}{ROUTER}")).unwrap();
        let web: ComponentPath = "shop/web".parse().unwrap();
        let placed = |labels: &[(&str, &str)]| {
            let labels = labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            here.placed(&web, &labels.collect())
        };
        let blue = || Placed::In("blue".parse().unwrap());
        assert_eq!(placed(&[("role", "web"), ("pool", "blue")]), blue());
        assert_eq!(placed(&[("role", "web")]), Placed::InNoPool);
        assert_eq!(placed(&[("role", "lb"), ("pool", "blue")]), Placed::Nowhere);
        let worker = "shop/worker".parse().unwrap();
        assert_eq!(
            here.placed(&worker, &Labels::new()),
            Placed::In(PoolName::default())
        );
        assert_eq!(here.pools_of(&web).len(), 2);
    }

    #[test]
    fn pools_and_routers_that_cannot_work_are_refused_with_the_reason() {
        let router = |more: &str| format!("{POOLS}{ROUTER}{more}");
        for (text, word) in [
            (POOLS.to_owned(), "add [router.\"shop/web\"]"),
            (ROUTER.to_owned(), "add [pools.\"shop/web\"]"),
            (
                format!("[pools.\"shop/web\"]\nblue = {{}}\n{ROUTER}"),
                "there are 1",
            ),
            (
                format!("{POOLS}red = {{ pool = \"red\" }}\n{ROUTER}"),
                "there are 3",
            ),
            (
                router("").replace("pool = \"green\"", "zone = \"a\""),
                "may be in both",
            ),
            (router("").replace("green =", "main ="), "name it otherwise"),
            (
                router("").replace("[\"/etc/lb/switch\"]", "[\"switch\"]"),
                "`switch` must begin",
            ),
            (
                router("").replace("[\"/etc/lb/active\"]", "[]"),
                "`active` must begin",
            ),
            (
                router("timeout = \"30s\"\ndeadline = \"89s\""),
                "three times",
            ),
            (router("interval = \"0s\""), "longer than nothing"),
            (router("acceptance_deadline = \"0s\""), "ever be accepted"),
            (router("dedline = \"1m\""), "did you mean `deadline`?"),
            (
                router("").replace("\"shop/web\"]", "\"shop/api\"]"),
                "no place here",
            ),
            (
                format!(
                    "[acceptance.\"shop/worker\".home]\ntype = \"tcp\"\naddress = \"a:1\"\n{}",
                    router("")
                ),
                "has no router",
            ),
        ] {
            let said = read(&text).unwrap_err();
            assert!(said.contains(word), "{text}: {said}");
        }
        let checked = format!(
            "{}\n[acceptance.\"shop/web\".home]\ntype = \"http\"\nurl = \"http://{{pool}}.internal/\"",
            router("bake = \"5m\"")
        );
        assert_eq!(read(&checked).unwrap().acceptance.len(), 1);
    }
}
