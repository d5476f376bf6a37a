//! The loop that brings the host to what is desired, and says what it is.
//!
//! One task owns what is known and decides ([`round`]); what takes time runs beside it and comes back as
//! an [`Event`]: one activation a component, one staging a host, checks, comparisons. So a slow download
//! holds up no activation, and nothing that is staged waits for the network.

mod asked;
mod confirm;
mod launch;
mod leading;
mod local;
mod looking;
mod migrating;
mod report;
mod round;
mod routes;
mod slot;
mod touched;
mod watch;

pub use local::{Request, recover_state, rollback_locally};
pub use routes::RouteStanding;

use crate::config::Config;
use crate::drift::{self, Seen};
use crate::execute::Executor;
use crate::execute::stage::{Staged, Stager, downloads};
use crate::execute::underway;
use crate::host::services::Services;
use crate::host::{chain, layout};
use crate::journal::{Acceptance, JournalError, JournalFile, StateLock};
use crate::own::Own;
use crate::plan::{self, Ended, Step};
use crate::source::{EnvironmentView, Probe, Source};
use crate::transfer::Fetching;
use looking::Due;
use slot::SlotState;
use std::collections::BTreeMap;
use std::sync::Arc;
use tamer_core::check::Results;
use tamer_core::desired::{Desired, Failure, FailureKind, HostReport, Slot};
use tamer_core::digest::Digest;
use tamer_core::generation::Generation;
use tamer_core::id::ComponentPath;
use tamer_core::moment::Moment;
use tamer_core::schema::MigrationStatus;
use tokio::sync::{Mutex, mpsc, watch as channel};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// The controller's clock, as the host knows it: its own, corrected by what the controller said.
pub type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;

/// What the agent's hands are made of.
#[derive(Clone)]
pub struct Hands {
    /// The configuration.
    pub config: Arc<Config>,
    /// Where releases and the environment's file come from.
    pub source: Arc<dyn Source>,
    /// Tries checks.
    pub probe: Arc<dyn Probe>,
    /// Restarts units.
    pub services: Arc<dyn Services>,
    /// The agent as a component of its own.
    pub own: Arc<Own>,
    /// The controller's clock: grants are held against it.
    pub clock: Clock,
    /// Told of what is being fetched, for people.
    pub fetching: channel::Sender<Fetching>,
}

/// What came of something that took time.
enum Event {
    /// An activation is at a step.
    At(Slot, Step),
    /// An activation ended.
    Activated(Slot, Ended),
    /// An order to migrate a database ended.
    Migrated(Slot, Generation, MigrationStatus),
    /// A staging ended.
    Staged(Slot, Digest, Result<Staged, Failure>),
    /// A directory was pruned, or was not.
    Pruned(Slot, String, Result<(), Failure>),
    /// The environment's file came, or did not.
    Environment(Result<EnvironmentView, Failure>),
    /// Checks were tried: the environment's, or those of a component's release, by its directory's name.
    Checked(Option<(Slot, String)>, Results),
    /// A release was compared with its manifest, as was due.
    Inspected(Slot, String, Due, Result<Seen, Failure>),
    /// Something at the top of what runs was touched, or `current`.
    Touched(Slot),
    /// Something came of what was done about a component that this host routes for.
    Routed(ComponentPath, routes::Routed),
    /// What was changed by hand was put back, or was not: of which release, and which drift it was.
    Repaired(Slot, String, Digest, Result<Seen, Failure>),
}

/// The staging under way.
struct Staging {
    slot: Slot,
    release: Digest,
    withdrawn: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

/// How often something failed, and when it may be tried again.
#[derive(Debug, Clone, Copy)]
struct Retry {
    failures: u32,
    at: Instant,
}

/// The agent's hands at work.
pub struct Converge {
    hands: Hands,
    executor: Executor,
    stager: Stager,
    desired: Option<Desired>,
    incoming: channel::Receiver<Option<Desired>>,
    requests: mpsc::Receiver<Request>,
    outgoing: channel::Sender<HostReport>,
    events: mpsc::UnboundedReceiver<Event>,
    event: mpsc::UnboundedSender<Event>,
    slots: BTreeMap<Slot, SlotState>,
    view: Option<EnvironmentView>,
    /// The version that was asked for, while the answer is awaited.
    view_asked: Option<u64>,
    view_retry: Option<Retry>,
    staging: Option<Staging>,
    checks: watch::Watched,
    routes: BTreeMap<ComponentPath, routes::RouteState>,
    ears: touched::Ears,
    /// Whether a desired state was not taken in yet, for what is under way.
    delayed: bool,
    _lock: StateLock,
}

// === impl Retry ===

impl Retry {
    /// One failure more: 1 s, then twice as long each time, at most 5 minutes.
    fn after(before: Option<Self>) -> Self {
        let failures = before.map_or(0, |it| it.failures) + 1;
        let seconds = (1_u64 << (failures - 1).min(9)).min(300);
        Self {
            failures,
            at: Instant::now() + std::time::Duration::from_secs(seconds),
        }
    }
}

// === impl Converge ===

impl Converge {
    /// Opens the state directory and looks at what is there. Gives the loop, the report that it keeps
    /// up to date, and the way to send it requests from the server itself.
    ///
    /// # Errors
    /// [`JournalError`]: the state is damaged, in use, or cannot be read.
    pub async fn open(
        hands: Hands,
        incoming: channel::Receiver<Option<Desired>>,
    ) -> Result<(Self, channel::Receiver<HostReport>, mpsc::Sender<Request>), JournalError> {
        let state = &hands.config.state;
        let lock = StateLock::take(state)?;
        let journal = Arc::new(JournalFile::open(state)?);
        let acceptance = Acceptance::read(state)?;
        let known = journal.get();
        let (outgoing, reports) = channel::channel(HostReport {
            generation: known.generation,
            components: Vec::new(),
            checks: Results::new(),
            routes: Vec::new(),
            inspection: None,
        });
        let (send_request, requests) = mpsc::channel(8);
        let (event, events) = mpsc::unbounded_channel();
        let for_ears = event.clone();
        let mut this = Self {
            executor: Executor {
                config: Arc::clone(&hands.config),
                journal: Arc::clone(&journal),
                probe: Arc::clone(&hands.probe),
                services: Arc::clone(&hands.services),
                own: Arc::clone(&hands.own),
            },
            stager: Stager {
                config: Arc::clone(&hands.config),
                journal,
                source: Arc::clone(&hands.source),
                acceptance: Arc::new(Mutex::new(acceptance)),
                clock: Arc::clone(&hands.clock),
                fetching: hands.fetching.clone(),
            },
            desired: known.desired.clone(),
            incoming,
            requests,
            outgoing,
            events,
            event,
            slots: BTreeMap::new(),
            view: None,
            view_asked: None,
            view_retry: None,
            staging: None,
            checks: watch::Watched::default(),
            routes: BTreeMap::new(),
            ears: touched::Ears::new(for_ears),
            delayed: false,
            hands,
            _lock: lock,
        };
        this.look_around().await;
        Ok((this, reports, send_request))
    }

    /// What the disk says, at a start: leftovers are removed, releases looked up, and the environment's
    /// file as it was last verified, without the network.
    async fn look_around(&mut self) {
        underway::end_all(&self.hands.config.state).await;
        let journal = self.executor.journal.get();
        for known in &journal.slots {
            if let Some(root) = &known.root
                && let Err(error) = tamer_release::tree::sweep(&layout::releases(root))
            {
                tracing::warn!(slot = %known.slot, error = %chain(&error), "cannot clean up");
            }
            self.rescan(&known.slot.clone()).await;
            let state = self.slots.entry(known.slot.clone()).or_default();
            drift::sweep(&self.hands.config.state, &known.slot, &state.installed);
            if let Some(root) = &known.root {
                self.tell_again(&known.slot, root).await;
            }
        }
        match self.hands.source.environment(0).await {
            Ok(view) => self.view = Some(view),
            Err(why) => tracing::info!(%why, "no environment file was verified here before"),
        }
        self.publish();
    }

    /// Writes the environment files of a component's releases anew where `agent.toml` says something else
    /// than when they were linked.
    async fn tell_again(&mut self, slot: &Slot, root: &std::path::Path) {
        let state = self.slots.entry(slot.clone()).or_default();
        for installed in state
            .installed
            .values()
            .filter(|it| state.linked.contains(&it.name))
        {
            if let Err(why) = self.stager.tell(slot, root, installed).await {
                let release = &installed.release.version;
                tracing::warn!(%slot, %release, %why, "its environment file may be out of date");
            }
        }
    }

    /// Converges until `stop` is cancelled. An activation under way is then left where it is: the next
    /// start takes it up again.
    pub async fn run(mut self, stop: CancellationToken) {
        self.started();
        self.resume_interrupted().await;
        self.resume_migrations().await;
        self.incoming.mark_changed();
        loop {
            self.round().await;
            self.publish();
            let wake = self.wake_at();
            tokio::select! {
                () = stop.cancelled() => return,
                Some(event) = self.events.recv() => {
                    self.take(event).await;
                    // What came in at once is decided over at once.
                    while let Ok(event) = self.events.try_recv() {
                        self.take(event).await;
                    }
                }
                changed = self.incoming.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.take_in().await;
                }
                Some(request) = self.requests.recv() => self.answer(request).await,
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Tells systemd that the agent works, unless it has to prove itself first.
    fn started(&self) {
        let journal = self.executor.journal.get();
        let activating = journal.slots.iter().any(|it| it.activation.is_some());
        if let Err(why) = self.hands.own.started(activating) {
            tracing::error!(%why, "the trial of this agent cannot be ended");
        }
    }

    /// Takes in what the controller says, if it is fit to be.
    async fn take_in(&mut self) {
        let Some(desired) = self.incoming.borrow_and_update().clone() else {
            return;
        };
        self.settle().await;
        let journal = self.executor.journal.get();
        let (own, now) = (&self.hands.config.environment, tamer_kit::clock::now());
        if let Err(reason) = plan::take_in(&journal, own, &desired, now) {
            tracing::warn!(%reason, "desired state refused");
            return;
        }
        if journal.desired.as_ref() == Some(&desired) {
            return;
        }
        let moves = journal.moves(&desired);
        if moves.iter().any(|(old, _)| self.is_busy(old)) {
            // What is under way there ends first: then it is taken in.
            self.delayed = true;
            return;
        }
        self.executor.journal.take_in_with_next(desired.clone());
        if journal.recovered || !moves.is_empty() {
            // What this voids or moves must be known before anything is decided.
            self.settle().await;
        }
        for (old, new) in moves {
            tracing::info!(%old, %new, "the host is in another pool now: what runs stays");
            self.slots.remove(&old);
            self.rescan(&new).await;
        }
        for wanted in &desired.components {
            self.state(&wanted.slot)
                .looking
                .try_again(wanted.repair.as_ref());
        }
        self.desired = Some(desired);
        // Whoever asks again wants it tried again.
        for slot in self.slots.values_mut() {
            slot.try_again();
        }
        self.view_retry = None;
    }

    /// Writes what was taken in and not yet written.
    async fn settle(&self) {
        if let Err(error) = self.executor.journal.update(|_| {}).await {
            tracing::error!(error = %chain(&error), "the journal cannot be written");
        }
    }

    async fn take(&mut self, event: Event) {
        if std::mem::take(&mut self.delayed) {
            self.incoming.mark_changed();
        }
        match event {
            Event::At(slot, step) => {
                if let Some(working) = &mut self.state(&slot).working {
                    working.step = Some(step);
                }
            }
            Event::Activated(slot, ended) => self.activated(&slot, ended).await,
            Event::Migrated(slot, id, status) => self.note_migration(&slot, id, status),
            Event::Staged(slot, release, outcome) => {
                self.staging = None;
                // What was unpacked just now need not be read to be known.
                if let Ok(staged) = &outcome
                    && let Some(installed) = &staged.installed
                {
                    let name = staged.name.clone();
                    let on_disk = &mut self.state(&slot).installed;
                    on_disk.insert(name, Arc::clone(installed));
                }
                self.rescan(&slot).await;
                if !matches!(&outcome, Err(why) if why.kind == FailureKind::Interrupted) {
                    self.state(&slot).staged(release, outcome);
                }
            }
            Event::Pruned(slot, name, outcome) => {
                let failed = outcome.is_err();
                if let Err(why) = outcome {
                    tracing::warn!(%slot, %name, %why, "cannot prune");
                }
                self.rescan(&slot).await;
                let state = self.state(&slot);
                state.pruning.remove(&name);
                state.not_pruned = failed.then(|| Retry::after(state.not_pruned));
            }
            Event::Environment(outcome) => {
                self.view_asked = None;
                match outcome {
                    Ok(view) => {
                        self.view_retry = None;
                        self.view = Some(view);
                    }
                    Err(why) => {
                        tracing::warn!(%why, "the environment's file could not be had");
                        self.view_retry = Some(Retry::after(self.view_retry));
                    }
                }
            }
            Event::Checked(whose, results) => self.checked(whose, results),
            Event::Inspected(slot, name, due, outcome) => self.inspected(&slot, name, due, outcome),
            Event::Routed(path, what) => self.routed(&path, what).await,
            Event::Touched(slot) => self.touched(&slot),
            Event::Repaired(slot, name, drift, outcome) => {
                self.repaired(&slot, name, drift, outcome);
            }
        }
    }

    /// Whether something is under way in a component's directory.
    fn is_busy(&self, slot: &Slot) -> bool {
        let stages = self.staging.as_ref().is_some_and(|it| it.slot == *slot);
        let works = |it: &SlotState| {
            it.working.is_some()
                || it.migration.working.is_some()
                || it.looking.repairs()
                || !it.pruning.is_empty()
        };
        stages || self.slots.get(slot).is_some_and(works)
    }

    fn state(&mut self, slot: &Slot) -> &mut SlotState {
        self.slots.entry(slot.clone()).or_default()
    }

    /// Removes downloads that nobody wants any more.
    fn drop_downloads(&self) {
        let wanted: Vec<String> = self
            .desired
            .iter()
            .flat_map(|desired| &desired.components)
            .flat_map(|it| it.run.iter().chain(&it.stage))
            .map(|release| release.manifest.to_string())
            .collect();
        let Ok(entries) = std::fs::read_dir(downloads(&self.hands.config.state)) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !wanted.iter().any(|digest| name.starts_with(digest)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}
