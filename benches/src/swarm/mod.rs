//! Thousands of agents in one process: the agent's own enrolment and its own line to the controller, with a key and a
//! connection each, over a host that is simulated.

mod beside;
mod host;
mod room;

pub use beside::{Answers, Tries};
pub use host::{SimulatedHost, Work};

use crate::fleet::{Fleet, LIMIT};
use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tamer_agent::clock::ControllerClock;
use tamer_agent::identity::enrol::{Join, enrol};
use tamer_agent::identity::{Enrolled, Home, Keys};
use tamer_agent::link::Link;
use tamer_agent::metrics::Metrics;
use tamer_core::check::CheckResult;
use tamer_core::desired::{Desired, HostReport};
use tamer_core::id::{CheckName, HostName};
use tamer_kit::address::Address;
use tamer_kit::token::JoinToken;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How many join at once: fewer than one address may have strangers' connections.
const JOINING: usize = 32;

/// How long a simulated host takes for what a real one takes time for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// To fetch a release and unpack it.
    pub stage: Duration,
    /// To switch.
    pub switch: Duration,
}

/// What all hosts are told by whoever measures.
#[derive(Debug, Clone, Copy, Default)]
struct Orders {
    pace: Pace,
    /// How often a check of each host ends otherwise than before; never, if it is zero.
    checks: Duration,
}

/// The agents. They end with the value.
pub struct Swarm {
    /// What each of them says of itself, to whoever listens.
    said: Vec<watch::Receiver<HostReport>>,
    /// When hosts heard that they may switch.
    told: Arc<Mutex<Vec<Instant>>>,
    orders: watch::Sender<Orders>,
    stop: CancellationToken,
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Swarm {
    /// Joins `agents` hosts with a token each, and connects them.
    ///
    /// # Errors
    /// There is no room on this machine, or one is not let in.
    pub async fn start(fleet: &Fleet, agents: usize) -> anyhow::Result<Self> {
        let homes = fleet.room("swarm")?;
        let joined: Vec<(Enrolled, Keys)> = stream::iter(1..=agents)
            .map(|n| join(fleet, &homes, n))
            .buffer_unordered(JOINING)
            .try_collect()
            .await?;
        let mut swarm = Self {
            said: Vec::with_capacity(agents),
            told: Arc::default(),
            orders: watch::channel(Orders::default()).0,
            stop: CancellationToken::new(),
        };
        let metrics = Metrics::new();
        for (enrolled, keys) in joined {
            swarm.begin(&enrolled, &keys, &metrics)?;
        }
        Ok(swarm)
    }

    /// Raises what this machine allows, so that so many find room. To be called before the controller is started,
    /// which inherits it.
    ///
    /// # Errors
    /// It allows no more; the message says what to type.
    pub fn make_room(agents: usize) -> anyhow::Result<()> {
        room::make(agents)
    }

    fn begin(&mut self, enrolled: &Enrolled, keys: &Keys, metrics: &Metrics) -> anyhow::Result<()> {
        let host = SimulatedHost::default();
        let (desired, told) = watch::channel(None);
        let (reports, said) = watch::channel(host.report().clone());
        // A certificate is good for a day: nobody measures for so long, and none is renewed.
        let (certificate, shown) = watch::channel(keys.shown()?);
        let clock = Arc::new(ControllerClock::default());
        let link = Link {
            address: enrolled.controller.parse()?,
            name: enrolled.name.clone(),
            environment: enrolled.environment.clone(),
            trust_root: enrolled.trust_root,
            shown,
            desired,
            reports: said,
            fetching: watch::channel(None).1,
            clock: Arc::clone(&clock),
            refused: Arc::default(),
            welcomed: watch::channel(false).0,
            authorities: watch::channel(None).0,
            metrics: metrics.clone(),
        };
        self.said.push(link.reports.clone());
        let (stop, orders, when) = (
            self.stop.clone(),
            self.orders.subscribe(),
            Arc::clone(&self.told),
        );
        tokio::spawn(async move {
            tokio::select! {
                () = link.run(stop.clone()) => {}
                () = drive(host, (told, when), reports, &clock, orders) => {}
            }
            drop(certificate);
        });
        Ok(())
    }

    /// How many there are.
    pub fn agents(&self) -> usize {
        self.said.len()
    }

    /// How many of them run this version of something.
    pub fn run(&self, version: &str) -> usize {
        let runs = |report: &HostReport| {
            let mut running = report
                .components
                .iter()
                .filter_map(|it| it.running.as_ref());
            running.any(|it| it.version.to_string() == version)
        };
        self.said.iter().filter(|it| runs(&it.borrow())).count()
    }

    /// When hosts heard that they may switch, since the last call; sorted.
    pub fn told(&self) -> Vec<Instant> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = std::mem::take(&mut *told);
        told.sort_unstable();
        told
    }

    /// From now on hosts take so long.
    pub fn pace(&self, pace: Pace) {
        self.orders.send_modify(|orders| orders.pace = pace);
    }

    /// From now on one check of each host ends otherwise than before, this often, each host at its own time; with zero,
    /// all stay as they are.
    pub fn checks_change(&self, every: Duration) {
        self.orders.send_modify(|orders| orders.checks = every);
    }

    /// Waits until the controller has all of them connected.
    ///
    /// # Errors
    /// They do not come.
    pub async fn connected(&self, fleet: &Fleet) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            // A controller that is only starting does not answer yet.
            let there = fleet.metric("agents_connected").unwrap_or(0);
            if there >= self.agents() as u64 {
                return Ok(());
            }
            fleet.serves()?;
            if begun.elapsed() > LIMIT {
                bail!("{there} of {} agents have connected", self.agents());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn join(fleet: &Fleet, homes: &Path, n: usize) -> anyhow::Result<(Enrolled, Keys)> {
    let name: HostName = format!("host-{n}").parse()?;
    let token: JoinToken = fleet.desk.invite().await?.parse()?;
    let home = Home::new(&homes.join(name.as_str()));
    let join = Join {
        token: &token,
        controller: None::<&Address>,
        name: &name,
        force: false,
    };
    enrol(&home, &join)
        .await
        .with_context(|| format!("{name} cannot join"))
}

/// A host's life: it does what is left to do, one thing after the other, and says how it is.
async fn drive(
    mut host: SimulatedHost,
    (mut told, when): (watch::Receiver<Option<Desired>>, Arc<Mutex<Vec<Instant>>>),
    reports: watch::Sender<HostReport>,
    clock: &ControllerClock,
    mut orders: watch::Receiver<Orders>,
) {
    let Ok(check) = "web".parse::<CheckName>() else {
        return;
    };
    let mut passes = true;
    loop {
        let Orders { pace, checks } = *orders.borrow_and_update();
        let work = host.work();
        let takes = match &work {
            None => None,
            Some(Work::Stage(..)) => Some(pace.stage),
            Some(Work::Switch(..)) => Some(pace.switch),
        };
        if let Some(work) = &work {
            host.begin(work, clock.now());
            if takes.is_some_and(|takes| !takes.is_zero()) {
                say(&reports, &host);
            }
        }
        // Each host takes half as long as it is told to one and a half times as long.
        let takes = takes.map(|takes| takes.mul_f64(0.5 + rand::random::<f64>()));
        let every = (!checks.is_zero()).then(|| checks.mul_f64(2.0 * rand::random::<f64>()));
        tokio::select! {
            changed = told.changed() => {
                if changed.is_err() {
                    return;
                }
                let newest = told.borrow_and_update().clone();
                if newest.is_some_and(|newest| host.take_in(newest)) {
                    match host.work() {
                        None => say(&reports, &host),
                        Some(Work::Switch(..)) => {
                            let mut when = when.lock().unwrap_or_else(PoisonError::into_inner);
                            when.push(Instant::now());
                        }
                        Some(Work::Stage(..)) => {}
                    }
                }
            }
            () = after(takes) => {
                if let Some(work) = &work {
                    host.finish(work);
                    say(&reports, &host);
                }
            }
            () = after(every) => {
                passes = !passes;
                let failed = || CheckResult::Failed("no answer on port 80".to_owned());
                host.check(&check, if passes { CheckResult::Passed } else { failed() });
                say(&reports, &host);
            }
            changed = orders.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// After so long; without a time, never.
async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

fn say(reports: &watch::Sender<HostReport>, host: &SimulatedHost) {
    reports.send_replace(host.report().clone());
}
