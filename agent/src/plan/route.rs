//! What a host that routes for a component does next: nothing, a look, a switch, or acceptance checks.
//!
//! An order is acted on once: when it has ended, well or not, only a newer one is. Which commands that takes stands
//! in the environment's signed file; a pool that is not in it is refused, whoever names it.

use crate::allowed::failure;
use crate::journal::RouteJournal;
use tamer_core::desired::{Failure, FailureKind};
use tamer_core::environment::Environment;
use tamer_core::generation::Generation;
use tamer_core::id::ComponentPath;
use tamer_core::router::{DesiredRoute, RouteOrder};

/// What is known of a route while the agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteFacts {
    /// Whether one of its commands is running.
    pub busy: bool,
    /// Whether it is time to look where it sends.
    pub look_due: bool,
    /// The acceptance checks that are being tried, or were tried last.
    pub tried: Option<Generation>,
}

/// What is done about a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// The router is switched, unless it sends there already.
    Switch(RouteOrder),
    /// An order ends here, and nothing is run.
    Refuse(RouteOrder, Failure),
    /// Acceptance checks are tried.
    Accept(RouteOrder),
    /// Acceptance checks end here, and none is tried.
    RefuseToAccept(RouteOrder, Failure),
    /// It is asked where it sends.
    Look,
}

/// Decides over the commands of a route, and over its acceptance checks, which run beside them. `file` is the
/// environment's signed file as last verified.
pub fn route(
    wanted: &DesiredRoute,
    file: &Environment,
    known: Option<&RouteJournal>,
    facts: RouteFacts,
) -> Vec<Route> {
    let component = &wanted.component;
    let mut all = Vec::new();
    if let Some(order) = &wanted.accept
        && facts.tried.is_none_or(|tried| tried < order.id)
    {
        all.push(match unsigned(file, component, order) {
            Some(why) => Route::RefuseToAccept(order.clone(), why),
            None => Route::Accept(order.clone()),
        });
    }
    if facts.busy {
        return all;
    }
    let new = |order: &&RouteOrder| known.is_none_or(|known| known.order.id < order.id);
    match wanted.send.as_ref().filter(new) {
        Some(order) => all.push(match unsigned(file, component, order) {
            Some(why) => Route::Refuse(order.clone(), why),
            None => Route::Switch(order.clone()),
        }),
        None if facts.look_due && file.router.contains_key(component) => all.push(Route::Look),
        None => {}
    }
    all
}

/// Why an order is for nothing that the team has signed.
fn unsigned(file: &Environment, component: &ComponentPath, order: &RouteOrder) -> Option<Failure> {
    let RouteOrder { pool, .. } = order;
    let why = match (file.router.get(component), file.pools.get(component)) {
        (Some(_), Some(pools)) if pools.contains_key(pool) => return None,
        (Some(_), Some(_)) => {
            format!("the environment's signed file has no pool `{pool}` of {component}")
        }
        _ => format!("the environment's signed file has no router of {component}"),
    };
    Some(failure(FailureKind::Trust, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tamer_core::moment::Moment;

    const FILE: &str = "[place]\n\"shop/web\" = {}\n[pools.\"shop/web\"]\nblue = { pool = \"blue\" }\ngreen = { pool = \"green\" }\n\
        [router.\"shop/web\"]\nhosts = { role = \"lb\" }\nswitch = [\"/a\"]\nactive = [\"/b\"]\n";

    fn order(id: u64, pool: &str) -> RouteOrder {
        RouteOrder {
            id: Generation {
                epoch: 1,
                counter: id,
            },
            pool: pool.parse().unwrap(),
        }
    }

    fn wanted(send: Option<RouteOrder>, accept: Option<RouteOrder>) -> DesiredRoute {
        DesiredRoute {
            component: "shop/web".parse().unwrap(),
            send,
            accept,
        }
    }

    fn file() -> Environment {
        Environment::parse("p.toml", FILE).unwrap()
    }

    fn ended(id: u64) -> RouteJournal {
        RouteJournal {
            component: "shop/web".parse().unwrap(),
            order: order(id, "blue"),
            at: Moment(0),
            failure: None,
        }
    }

    #[test]
    fn a_pool_that_nobody_signed_is_refused_whoever_names_it() {
        let idle = RouteFacts::default();
        let evil = order(7, "evil");
        let all = route(&wanted(Some(evil.clone()), Some(evil)), &file(), None, idle);
        assert!(
            matches!(&all[..], [Route::RefuseToAccept(..), Route::Refuse(_, why)] if why.kind == FailureKind::Trust)
        );
        let green = wanted(Some(order(7, "green")), None);
        let all = route(&green, &Environment::default(), None, idle);
        assert!(
            matches!(&all[..], [Route::Refuse(_, why)] if why.message.contains("no router of shop/web"))
        );
    }

    #[test]
    fn checks_run_beside_a_look_and_a_switch_does_not() {
        let both = wanted(Some(order(8, "blue")), Some(order(9, "green")));
        let busy = RouteFacts {
            busy: true,
            ..RouteFacts::default()
        };
        assert_eq!(
            route(&both, &file(), None, busy),
            [Route::Accept(order(9, "green"))]
        );
    }

    proptest! {
        #[test]
        fn an_order_is_acted_on_once_and_never_after_a_newer_one(
            sent in prop::option::of(0..9u64), done in prop::option::of(0..9u64),
            busy in any::<bool>(), look_due in any::<bool>(),
        ) {
            let facts = RouteFacts { busy, look_due, tried: None };
            let known = done.map(ended);
            let send = sent.map(|id| order(id, "green"));
            let all = route(&wanted(send.clone(), None), &file(), known.as_ref(), facts);
            let new = match (sent, done) {
                (Some(sent), Some(done)) => sent > done,
                (sent, _) => sent.is_some(),
            };
            let expected = match (busy, new) {
                (true, _) => None,
                (false, true) => Some(Route::Switch(send.unwrap())),
                (false, false) => look_due.then_some(Route::Look),
            };
            prop_assert_eq!(all, Vec::from_iter(expected));
        }
    }
}
