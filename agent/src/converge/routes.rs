//! The components that this host routes for: they are asked where they send now and then, switched when that is
//! ordered, and acceptance checks are tried from here. Each takes time, and runs beside everything else.

use super::confirm::confirmed;
use super::{Converge, Event};
use crate::allowed::failure;
use crate::execute::route::{RouteJob, Switched};
use crate::host::chain;
use crate::journal::{Journal, RouteJournal};
use crate::plan::{Route, RouteFacts, route};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tamer_core::check::Results;
use tamer_core::desired::{Desired, Failure, FailureKind};
use tamer_core::generation::Generation;
use tamer_core::id::{ComponentPath, PoolName};
use tamer_core::moment::Moment;
use tamer_core::router::{AcceptanceReport, DesiredRoute, RouteOrder, RouteReport};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// What came of something that was done about a route.
pub(super) enum Routed {
    /// A router was asked where it sends.
    Looked(Result<PoolName, Failure>),
    /// It was to be switched.
    Switched(RouteOrder, Switched),
    /// Acceptance checks were tried.
    Accepted(AcceptanceReport),
}

/// How a component stands that this host routes for, for a person on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteStanding {
    /// Which component.
    pub component: ComponentPath,
    /// The pool that it was told last; `None`: none yet, so it sends where it does.
    pub wanted: Option<PoolName>,
    /// The pool that it really sends to; `None`: it cannot tell, or was not asked yet.
    pub sends_to: Option<PoolName>,
    /// Since when it was never seen to send elsewhere, by this host's clock.
    pub since: Option<Moment>,
    /// What failed last, and when, by this host's clock.
    pub failed: Option<(Moment, Failure)>,
}

/// What is known of a route while the agent runs; all of it can be found out again.
#[derive(Default)]
pub(super) struct RouteState {
    /// Where it sends, as it said last.
    sends_to: Option<PoolName>,
    /// Why it could not say.
    lost: Option<Failure>,
    /// The pool that it named last, and since when it has named no other.
    seen: Option<(PoolName, Moment)>,
    /// What failed last, since the agent started.
    failed: Option<(Moment, Failure)>,
    /// One of its commands, while that runs.
    command: Option<AbortOnDropHandle<()>>,
    /// When it is asked next; at once, if never.
    look_at: Option<Instant>,
    /// The order that ended last, also where the journal could not be written.
    ended: Option<RouteJournal>,
    /// The acceptance checks that are being tried.
    trying: Option<(Generation, AbortOnDropHandle<()>)>,
    /// Those that were tried last.
    accepted: Option<AcceptanceReport>,
}

impl RouteStanding {
    /// As far as the journal knows: that is, without the router.
    pub fn noted(wanted: &DesiredRoute, journal: &Journal) -> Self {
        let ended = journal.route(&wanted.component);
        Self {
            component: wanted.component.clone(),
            wanted: wanted.send.as_ref().map(|order| order.pool.clone()),
            sends_to: None,
            since: None,
            failed: ended.and_then(|it| Some((it.at, it.failure.clone()?))),
        }
    }
}

impl RouteState {
    /// It was asked where it sends, and said so or could not. `ended` is the order that ended last.
    fn see(&mut self, found: Option<PoolName>, ended: Option<&RouteJournal>, now: Moment) {
        if let Some(pool) = &found
            && self.seen.as_ref().is_none_or(|(seen, _)| seen != pool)
        {
            // The first look after a start finds it where the last order has brought it.
            let brought = ended.filter(|it| it.failure.is_none() && it.order.pool == *pool);
            let brought = brought.filter(|_| self.seen.is_none());
            self.seen = Some((pool.clone(), brought.map_or(now, |it| it.at)));
        }
        self.sends_to = found;
    }
}

impl Converge {
    /// Begins whatever is due for the components that this host routes for.
    pub(super) async fn route_all(&mut self, desired: &Desired) {
        self.routes
            .retain(|path, _| desired.routes.iter().any(|it| it.component == *path));
        let Some(view) = self.view.clone() else {
            return;
        };
        // What was signed last is good enough where nothing newer can be had: a way back must not wait for it.
        if view.version < desired.environment_version && self.view_retry.is_none() {
            return;
        }
        let journal = self.executor.journal.get();
        for wanted in &desired.routes {
            let path = &wanted.component;
            let state = self.routes.entry(path.clone()).or_default();
            let known = state.ended.as_ref().or_else(|| journal.route(path));
            let accepted = state.accepted.as_ref().map(|it| it.id);
            let facts = RouteFacts {
                busy: state.command.is_some(),
                look_due: state.look_at.is_none_or(|at| at <= Instant::now()),
                tried: state.trying.as_ref().map(|(id, _)| *id).or(accepted),
            };
            for what in route(wanted, &view.file, known, facts) {
                self.begin_route(path, what).await;
            }
        }
    }

    async fn begin_route(&mut self, path: &ComponentPath, what: Route) {
        match what {
            Route::Refuse(order, why) => self.order_ended(path, order, Some(why)).await,
            Route::RefuseToAccept(order, why) => {
                self.routes.entry(path.clone()).or_default().accepted = Some(AcceptanceReport {
                    id: order.id,
                    results: Results::new(),
                    failure: Some(why),
                });
            }
            Route::Accept(order) => self.try_acceptance(path, order),
            Route::Look => self.run_route(path, None),
            Route::Switch(order) => {
                tracing::info!(component = %path, pool = %order.pool, order = %order.id, "the router is switched");
                self.run_route(path, Some(order));
            }
        }
    }

    fn run_route(&mut self, path: &ComponentPath, order: Option<RouteOrder>) {
        let Some(job) = self.route_job(path) else {
            return;
        };
        let (executor, event) = (self.executor.clone(), self.event.clone());
        let task = tokio::spawn(async move {
            let came = match order {
                None => Routed::Looked(executor.look(&job).await),
                Some(order) => {
                    let switched = executor.switch_router(&job, &order.pool).await;
                    Routed::Switched(order, switched)
                }
            };
            let _ = event.send(Event::Routed(job.component, came));
        });
        let state = self.routes.entry(path.clone()).or_default();
        state.command = Some(AbortOnDropHandle::new(task));
    }

    fn route_job(&self, path: &ComponentPath) -> Option<RouteJob> {
        let file = &self.view.as_ref()?.file;
        Some(RouteJob {
            component: path.clone(),
            router: file.router.get(path)?.clone(),
            pools: file.pools.get(path)?.clone(),
        })
    }

    fn try_acceptance(&mut self, path: &ComponentPath, order: RouteOrder) {
        let file = self.view.as_ref().map(|view| Arc::clone(&view.file));
        let checks = file.and_then(|file| file.acceptance.get(path).cloned());
        let checks = checks.unwrap_or_default();
        let around = self.executor.around_pool(path, &order.pool);
        let (probe, event) = (Arc::clone(&self.hands.probe), self.event.clone());
        let (id, of) = (order.id, path.clone());
        let task = tokio::spawn(async move {
            let mut results = Results::new();
            confirmed(&*probe, checks, &Results::new(), &around, |news| {
                results.extend(news);
            })
            .await;
            let report = AcceptanceReport {
                id,
                results,
                failure: None,
            };
            let _ = event.send(Event::Routed(of, Routed::Accepted(report)));
        });
        let state = self.routes.entry(path.clone()).or_default();
        state.trying = Some((id, AbortOnDropHandle::new(task)));
    }

    /// Takes in what came of it.
    pub(super) async fn routed(&mut self, path: &ComponentPath, what: Routed) {
        let interval = self.route_job(path).map(|job| job.router.interval.0);
        let Some(state) = self.routes.get_mut(path) else {
            return;
        };
        if let Routed::Accepted(report) = what {
            let ours = state
                .trying
                .as_ref()
                .is_some_and(|(id, _)| *id == report.id);
            if ours {
                state.trying = None;
                state.accepted = Some(report);
            }
            return;
        }
        state.command = None;
        state.look_at = Some(Instant::now() + interval.unwrap_or_default());
        let (journal, now) = (self.executor.journal.get(), tamer_kit::clock::now());
        let ended = state.ended.clone();
        let ended = ended.as_ref().or_else(|| journal.route(path));
        match what {
            Routed::Looked(Ok(pool)) => {
                state.lost = None;
                state.see(Some(pool), ended, now);
            }
            Routed::Looked(Err(why)) => {
                tracing::warn!(component = %path, %why, "the router does not say where it sends");
                state.lost = Some(why.clone());
                state.failed = Some((now, why));
                state.see(None, ended, now);
            }
            Routed::Switched(order, (found, failed)) => {
                state.lost = None;
                state.see(found, ended, now);
                self.order_ended(path, order, failed).await;
            }
            Routed::Accepted(_) => {}
        }
    }

    /// An order has ended: it is not acted on again, whatever happens to the agent.
    async fn order_ended(
        &mut self,
        path: &ComponentPath,
        order: RouteOrder,
        failed: Option<Failure>,
    ) {
        if let Some(why) = &failed {
            tracing::error!(component = %path, pool = %order.pool, order = %order.id, %why, "the router was not switched");
        }
        let at = tamer_kit::clock::now();
        let state = self.routes.entry(path.clone()).or_default();
        if let Some(why) = &failed {
            state.failed = Some((at, why.clone()));
        }
        let ended = RouteJournal {
            component: path.clone(),
            order,
            at,
            failure: failed,
        };
        state.ended = Some(ended.clone());
        let noted = self
            .executor
            .journal
            .update(|it| it.route_ended(ended))
            .await;
        if let Err(error) = noted {
            // It converges: done again after a restart, it does no harm.
            tracing::error!(component = %path, error = %chain(&error), "that a router was switched cannot be noted");
        }
    }

    /// What routers do, for the report. Nothing is said of one that was not looked at yet.
    pub(super) fn route_reports(&self) -> Vec<RouteReport> {
        let Some(view) = &self.view else {
            return Vec::new();
        };
        let wanted = self.desired.iter().flat_map(|it| &it.routes);
        let reports = wanted.filter_map(|wanted| {
            let path = &wanted.component;
            match view.file.router.contains_key(path) {
                true => self.route_report(path, self.routes.get(path)?),
                false => Some(unsigned(path)),
            }
        });
        reports.collect()
    }

    fn route_report(&self, path: &ComponentPath, state: &RouteState) -> Option<RouteReport> {
        let refused = |it: &AcceptanceReport| it.failure.is_some();
        let heard = state.look_at.is_some() || state.ended.is_some();
        if !heard && !state.accepted.as_ref().is_some_and(refused) {
            return None;
        }
        let journal = self.executor.journal.get();
        let known = state.ended.as_ref().or_else(|| journal.route(path));
        let arrived = known.is_some_and(|it| state.sends_to.as_ref() == Some(&it.order.pool));
        let failed = known.and_then(|it| it.failure.clone());
        Some(RouteReport {
            component: path.clone(),
            answered: known.map_or_else(Generation::default, |it| it.order.id),
            sends_to: state.sends_to.clone(),
            failure: match arrived {
                true => None,
                false => state.lost.clone().or(failed),
            },
            acceptance: state.accepted.clone(),
        })
    }

    /// How every component stands that this host routes for.
    pub(super) fn route_standings(&self) -> Vec<RouteStanding> {
        let journal = self.executor.journal.get();
        let nothing = RouteState::default();
        let wanted = self.desired.iter().flat_map(|it| &it.routes);
        let standings = wanted.map(|wanted| {
            let state = self.routes.get(&wanted.component).unwrap_or(&nothing);
            let standing = RouteStanding::noted(wanted, &journal);
            let seen = state.seen.as_ref();
            let since = seen.filter(|(pool, _)| Some(pool) == state.sends_to.as_ref());
            RouteStanding {
                sends_to: state.sends_to.clone(),
                since: since.map(|(_, since)| *since),
                failed: state.failed.clone().or(standing.failed),
                ..standing
            }
        });
        standings.collect()
    }

    /// When a router is asked next, at the latest `latest`.
    pub(super) fn route_wake(&self, latest: Instant) -> Instant {
        let idle = self.routes.values().filter(|it| it.command.is_none());
        let times = idle.filter_map(|it| it.look_at);
        // What is due and cannot be done yet must not keep anybody awake.
        let soon = Instant::now() + std::time::Duration::from_millis(100);
        times.min().map_or(latest, |at| at.max(soon).min(latest))
    }
}

fn unsigned(path: &ComponentPath) -> RouteReport {
    let why = format!("the environment's signed file has no router of {path}");
    RouteReport {
        component: path.clone(),
        answered: Generation::default(),
        sends_to: None,
        failure: Some(failure(FailureKind::Trust, why)),
        acceptance: None,
    }
}
