//! The controller: the real fleet and its turns, over a store that loses what was not flushed. The real driver awaits
//! its commit before it sends, answers or takes the next change, and so does this one.

use std::collections::BTreeSet;
use tamer_controller::fleet::Fleet;
use tamer_controller::fleet::back::How;
use tamer_controller::fleet::deploy::{Asked, By, Control, Wanted};
use tamer_controller::fleet::hosts::{Session, SessionId};
use tamer_controller::store::memory::MemoryStore;
use tamer_controller::store::{Store, Ticket};
use tamer_core::desired::{Desired, HostReport};
use tamer_core::id::{ApplicationName, EnvironmentName, HostName};
use tamer_core::moment::Moment;
use tamer_core::rollout::deployment::DeploymentId;
use tamer_core::schema::Record;

/// A connection of a host, by number.
pub type Line = u64;

/// What comes to the controller.
pub enum Change {
    /// A host has connected and greeted.
    Connected {
        /// Which host.
        host: HostName,
        /// On which line.
        line: Line,
        /// The run of its agent.
        run: u64,
        /// What it says of itself.
        report: Box<HostReport>,
    },
    /// A host reports.
    Reported {
        /// Which host.
        host: HostName,
        /// On which line.
        line: Line,
        /// What it says of itself.
        report: Box<HostReport>,
    },
    /// A line has ended.
    Lost {
        /// Whose.
        host: HostName,
        /// Which line.
        line: Line,
    },
    /// A person asks for something.
    Asked(Ask),
    /// Nothing but the time.
    Tick,
}

/// What a person asks for.
pub enum Ask {
    /// A deployment of this version.
    Deploy(Box<Wanted>),
    /// Back to what ran before.
    GoBack,
    /// Something about the deployment that runs.
    Control(Control),
}

/// What is said once a turn is durable.
#[derive(Default)]
pub struct Said {
    /// What hosts are told.
    pub messages: Vec<(HostName, Desired)>,
    /// Hosts that are welcomed on a line, with what they should be.
    pub welcomed: Vec<(HostName, Line, Option<Desired>)>,
    /// Hosts that are turned away.
    pub turned_away: Vec<(HostName, Line)>,
    /// Deployments that people were told have begun.
    pub begun: Vec<DeploymentId>,
}

/// The controller, which may be down.
pub struct Controller {
    /// What survives.
    store: MemoryStore,
    /// What survives outside of it.
    records: Vec<Record>,
    /// What it knows, while it is up.
    pub fleet: Option<Fleet>,
    /// Rises with every start.
    pub life: u64,
    /// What its clock is ahead of the true time, in milliseconds.
    pub skew: i64,
    /// What waits for the commit under way.
    inbox: Vec<Change>,
    /// The commit under way.
    commit: Option<(Vec<Ticket>, Said)>,
    /// Deployments that people were told of: they must never be forgotten while they run.
    pub promised: BTreeSet<DeploymentId>,
}

impl Controller {
    /// A controller with this fleet, which is up, and has nothing stored yet.
    pub fn new(fleet: Fleet) -> Self {
        Self {
            store: MemoryStore::new(),
            records: Vec::new(),
            fleet: Some(fleet),
            life: 0,
            skew: 0,
            inbox: Vec::new(),
            commit: None,
            promised: BTreeSet::new(),
        }
    }

    /// Its clock.
    pub fn clock(&self, now: u64) -> Moment {
        Moment(now.saturating_add_signed(self.skew))
    }

    /// Takes a change, now or when the commit under way has ended. Says whether a commit begins.
    pub fn take(&mut self, change: Change, now: u64) -> bool {
        if self.fleet.is_none() {
            return false;
        }
        self.inbox.push(change);
        self.commit.is_none() && self.begin(now)
    }

    /// Takes a turn with everything that waits.
    fn begin(&mut self, now: u64) -> bool {
        let clock = self.clock(now);
        let Some(fleet) = &mut self.fleet else {
            return false;
        };
        let mut said = Said::default();
        for change in self.inbox.drain(..) {
            apply(fleet, change, clock, &mut said);
        }
        let turn = fleet.turn(clock).expect("the store takes every object");
        self.records.extend(turn.records);
        said.messages = turn.messages;
        self.store.hold();
        let revision = self.store.revision();
        let batches = (revision..).zip(turn.batches);
        let tickets = batches.map(|(revision, batch)| self.store.submit(revision, batch));
        self.commit = Some((tickets.collect(), said));
        true
    }

    /// The commit has ended: gives what may be said now, and whether the next one begins.
    ///
    /// # Errors
    /// The disk refused: the controller stops.
    pub fn committed(&mut self, now: u64) -> Result<(Said, bool), String> {
        let Some((tickets, said)) = self.commit.take() else {
            return Ok((Said::default(), false));
        };
        self.store.release();
        for ticket in tickets {
            ticket.wait().map_err(|error| error.to_string())?;
        }
        self.promised.extend(&said.begun);
        let more = !self.inbox.is_empty() && self.begin(now);
        Ok((said, more))
    }

    /// Whether nothing is being committed, and nothing waits for that.
    pub fn is_idle(&self) -> bool {
        self.commit.is_none() && self.inbox.is_empty()
    }

    /// The disk refuses the next batch.
    pub fn break_disk(&mut self) {
        self.store.fail_next();
    }

    /// It is killed, or the power is lost: what was not flushed is gone, or just about made it (`flushed`).
    pub fn crash(&mut self, flushed: bool) {
        if flushed {
            self.store.release();
        }
        self.store = self.store.crash();
        self.fleet = None;
        self.inbox.clear();
        self.commit = None;
        self.life += 1;
    }

    /// It starts again. `publish` gives it the environment's file.
    ///
    /// # Panics
    /// Where it cannot read what it wrote itself.
    pub fn start(&mut self, now: u64, publish: impl FnOnce(&mut Fleet, Moment)) {
        let clock = self.clock(now);
        let stored = self.store.load("").expect("the store can be read");
        let mut fleet = Fleet::load(&stored, 1, None, clock).expect("a fleet");
        fleet.remember(&self.records);
        publish(&mut fleet, clock);
        for id in &self.promised {
            assert!(
                fleet.deployments.contains_key(id),
                "deployment {id} was promised and is forgotten"
            );
        }
        self.fleet = Some(fleet);
    }

    /// When something follows by itself, as the true time.
    pub fn next_wake(&self) -> Option<u64> {
        let at = self.fleet.as_ref()?.next_wake()?;
        Some(at.0.saturating_add_signed(-self.skew))
    }
}

fn apply(fleet: &mut Fleet, change: Change, clock: Moment, said: &mut Said) {
    match change {
        Change::Connected {
            host,
            line,
            run,
            report,
        } => {
            let session = Session {
                id: SessionId(line),
                run_id: run.to_string(),
                agent_version: "0.1.0".to_owned(),
                clock_ahead: 0,
            };
            match fleet.connected(&host, session, *report, clock) {
                Ok(desired) => said.welcomed.push((host, line, desired)),
                Err(_) => said.turned_away.push((host, line)),
            }
        }
        // As the agents' stream does: what an older line still brings is not believed.
        Change::Reported { host, line, report } => {
            if fleet.is_current(&host, SessionId(line)) {
                fleet.reported(&host, *report, clock);
            }
        }
        Change::Lost { host, line } => fleet.lost(&host, SessionId(line), clock),
        Change::Asked(ask) => ask_for(fleet, ask, clock, said),
        Change::Tick => {}
    }
}

/// The environment and the application of every run.
///
/// # Panics
/// Never: both are names.
pub fn site() -> (EnvironmentName, ApplicationName) {
    let environment = "production".parse().expect("a name");
    (environment, "shop".parse().expect("a name"))
}

fn ask_for(fleet: &mut Fleet, ask: Ask, clock: Moment, said: &mut Said) {
    let by = By {
        who: "anna".into(),
        reason: "because".into(),
    };
    let (environment, application) = site();
    let site = (&environment, &application);
    // What is refused has no consequences; the engine's own tests hold the reasons.
    let asked = match ask {
        Ask::Deploy(wanted) => fleet.deploy(&wanted, &by, clock),
        Ask::GoBack => fleet.go_back(site, None, None, &How::default(), &by, clock),
        Ask::Control(what) => {
            if let Some(id) = fleet.running_in(&environment, &application) {
                let _ = fleet.control(id, what, &by, clock);
            }
            return;
        }
    };
    if let Ok(Asked::Started(id)) = asked {
        said.begun.push(id);
    }
}
