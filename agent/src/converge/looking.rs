//! When the running release is compared with its manifest: what its record does not vouch for every
//! `drift_interval`, all of it every `drift_full_interval`, in the background; and whenever somebody asks.

use super::asked::Wish;
use super::{Converge, Event, Staging};
use crate::allowed::failure;
use crate::brake::Brake;
use crate::drift::{Pace, Seen, Tree};
use crate::execute::repair::Repair;
use crate::host::layout::Installed;
use crate::plan;
use crate::process::background;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tamer_core::desired::{DesiredComponent, Failure, FailureKind, RepairReport, Slot};
use tamer_core::digest::Digest;
use tamer_core::drift::{NAMED, NAMED_WHEN_ASKED};
use tamer_core::moment::Span;
use tamer_kit::clock;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// The least time that a full pass gets at once, however short `drift_interval` is.
const SLICE: Duration = Duration::from_secs(5);

/// When a component's running release is looked at.
#[derive(Default)]
pub(super) struct Looking {
    /// The release that the rest is about, by its directory's name.
    name: String,
    fast_at: Option<Instant>,
    full_at: Option<Instant>,
    /// Where the full pass goes on.
    after: Option<String>,
    /// Set while a look is under way: stops it.
    under_way: Option<Arc<AtomicBool>>,
    /// Something was touched: what is read in the background makes way once it is to be looked at.
    touched: bool,
    /// A repair under way.
    repair: Option<Repairing>,
    /// The last repair that failed.
    pub(super) failed: Option<RepairReport>,
    /// Somebody asks what differs, or asked and was answered.
    pub(super) wish: Option<Wish>,
}

/// A repair under way. Without anybody who waits for it, it ends between two files.
struct Repairing {
    brake: Arc<Brake>,
    _task: AbortOnDropHandle<()>,
}

impl Drop for Repairing {
    fn drop(&mut self) {
        self.brake.pull();
    }
}

/// How closely it is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Fast,
    Full,
    /// What differs is to be named whole.
    Asked,
}

impl Looking {
    /// A switch begins: nothing is read meanwhile, and afterwards it is looked anew. A repair under way is to end:
    /// that is waited for by what this gives.
    pub(super) fn stop(&mut self) -> Option<Arc<Brake>> {
        self.make_way();
        let repair = self.repair.as_ref()?;
        repair.brake.pull();
        Some(Arc::clone(&repair.brake))
    }

    /// Ends what is read in the background, and says whether anything is looked at.
    pub(super) fn make_way(&mut self) -> bool {
        if let Some(stop) = &self.under_way {
            stop.store(true, Ordering::Relaxed);
        }
        self.under_way.is_some()
    }

    /// Something was touched: it is looked at by then.
    pub(super) fn soon(&mut self, at: Instant) {
        self.fast_at = self.fast_at.map(|due| due.min(at));
        self.touched = true;
    }

    /// This repair is asked for: that it failed before is no reason any more.
    pub(super) fn try_again(&mut self, asked: Option<&Digest>) {
        self.failed.take_if(|failed| Some(&failed.drift) == asked);
    }

    /// Whether something is being put right.
    pub(super) fn repairs(&self) -> bool {
        self.repair.is_some()
    }

    /// When it is looked again, if that is not now.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        match &self.under_way {
            _ if self.repairs() => None,
            Some(stop) if self.touched && !stop.load(Ordering::Relaxed) => self.fast_at,
            Some(_) => None,
            None => self.fast_at.into_iter().chain(self.full_at).min(),
        }
    }

    /// What is due at `now`, of the release `name`; `known`: it was compared since the start.
    fn due(&mut self, name: &str, known: bool, now: Instant, interval: Duration) -> Option<Due> {
        if self.name != name {
            let under_way = self.under_way.take();
            let wish = self.wish.take().map(Wish::of_another_release);
            let repair = self.repair.take();
            *self = Self {
                name: name.to_owned(),
                under_way,
                wish,
                repair,
                ..Self::default()
            };
        }
        let fast = *self
            .fast_at
            .get_or_insert(if known { now + interval } else { now });
        if self.touched && fast <= now && self.make_way() {
            return None;
        }
        // What is being put back is another drift at every instant.
        if self.under_way.is_some() || self.repairs() {
            return None;
        }
        if self.wish.as_ref().is_some_and(Wish::wants_reading) {
            (self.after, self.full_at) = (None, Some(now));
        }
        let due = match () {
            () if self.wish.as_ref().is_some_and(Wish::wants_naming) => Due::Asked,
            () if fast <= now => Due::Fast,
            () if self.full_at.is_some_and(|at| at <= now) => Due::Full,
            () => return None,
        };
        self.touched &= due != Due::Fast;
        if let Some(wish) = &mut self.wish {
            wish.begins(due);
        }
        Some(due)
    }
}

impl Converge {
    /// Begins to compare the running release with its manifest, when that is due. A release that was just staged
    /// was compared then.
    pub(super) fn compare(&mut self, slot: &Slot, running: &Arc<Installed>) {
        let config = Arc::clone(&self.hands.config);
        let interval = config.drift_interval.0;
        let journal = self.executor.journal.get();
        let Some(root) = journal.slot(slot).and_then(|it| it.root.clone()) else {
            return;
        };
        self.listen(slot, &root, &running.name);
        // Where the agent is not root, a link is made again in a directory that is opened up for that.
        let made_again = |it: &Staging| it.slot == *slot && it.release == running.release.manifest;
        if self.staging.as_ref().is_some_and(made_again) {
            return;
        }
        let state = self.state(slot);
        let known = state.drift.contains_key(&running.name);
        let now = Instant::now();
        let Some(due) = state.looking.due(&running.name, known, now, interval) else {
            return;
        };
        let stop = Arc::new(AtomicBool::new(false));
        state.looking.under_way = Some(Arc::clone(&stop));
        if due == Due::Fast {
            state.looking.fast_at = Some(now + interval);
            state.look_again();
        }
        let until = state
            .looking
            .fast_at
            .map_or(now + SLICE, |at| at.max(now + SLICE));
        let pace = Pace {
            limit: config.drift_bytes(),
            stop,
            until: until.into_std(),
        };
        let after = state.looking.after.clone();
        let tree = Tree::new(&config, slot, &root, running);
        let (event, slot, name) = (self.event.clone(), slot.clone(), running.name.clone());
        let failed = (event.clone(), slot.clone(), name.clone());
        let look = move || {
            let outcome = match due {
                Due::Fast => tree.fast(),
                Due::Asked => tree.fast_naming(NAMED_WHEN_ASKED),
                Due::Full => {
                    background::lowest_priority();
                    tree.full(after, &pace)
                }
            };
            let _ = event.send(Event::Inspected(slot, name, due, outcome));
        };
        match due {
            Due::Fast | Due::Asked => drop(tokio::task::spawn_blocking(look)),
            Due::Full => {
                let thread = std::thread::Builder::new().name("drift".to_owned());
                if let Err(error) = thread.spawn(look) {
                    let (event, slot, name) = failed;
                    let why = failure(FailureKind::Host, format!("no thread to read it: {error}"));
                    let _ = event.send(Event::Inspected(slot, name, due, Err(why)));
                }
            }
        }
    }

    /// Notes what a comparison found.
    pub(super) fn inspected(
        &mut self,
        slot: &Slot,
        name: String,
        due: Due,
        outcome: Result<Seen, Failure>,
    ) {
        let full_interval = self.hands.config.drift_full_interval;
        let state = self.state(slot);
        if state.looking.name == name {
            state.looking.ended(due, &outcome, full_interval);
        } else {
            state.looking.under_way = None;
        }
        match outcome {
            Ok(seen) => {
                let drift = seen.drift.map(|it| it.naming(NAMED));
                let before = state.drift.get(&name);
                if let Some(drift) = &drift
                    && before.and_then(Option::as_ref) != Some(drift)
                {
                    tracing::warn!(%slot, release = %name, %drift, "edited on the server");
                }
                state.drift.insert(name, drift);
            }
            Err(why) => tracing::warn!(%slot, release = %name, %why, "cannot be compared"),
        }
    }

    /// Begins to put the running release right, where that is desired.
    pub(super) fn repair(&mut self, wanted: &DesiredComponent, environment_version: u64) {
        let slot = wanted.slot.clone();
        let staging = self.staging.as_ref().is_some_and(|it| it.slot == slot);
        let journal = self.executor.journal.get();
        let Some(root) = journal.slot(&slot).and_then(|it| it.root.clone()) else {
            return;
        };
        let state = self.state(&slot);
        let busy = staging
            || state.working.is_some()
            || state.migration.working.is_some()
            || state.looking.repairs();
        let Some(drift) = wanted.repair.filter(|_| !busy) else {
            return;
        };
        let Some(running) = state.running().cloned() else {
            return;
        };
        let seen = state.drift.get(&running.name).cloned().flatten();
        let failed = state.looking.failed.as_ref().map(|it| it.drift);
        let facts = state.facts(None, None);
        if plan::repair(wanted, &facts, seen.as_ref(), failed.as_ref()) != Some(&*running.name) {
            return;
        }
        tracing::info!(%slot, release = %running.release, "what was deployed is put back");
        let job = Repair {
            slot: slot.clone(),
            root,
            older: state.older(&running.release.manifest),
            installed: Arc::clone(&running),
            drift,
            environment_version,
            brake: Arc::default(),
        };
        let brake = Arc::clone(&job.brake);
        let (stager, event) = (self.stager.clone(), self.event.clone());
        let (whose, name) = (slot.clone(), running.name.clone());
        let task = tokio::spawn(async move {
            let outcome = stager.repair(&job).await;
            let _ = event.send(Event::Repaired(whose, name, drift, outcome));
        });
        self.state(&slot).looking.repair = Some(Repairing {
            brake,
            _task: AbortOnDropHandle::new(task),
        });
    }

    /// Notes how a repair ended.
    pub(super) fn repaired(
        &mut self,
        slot: &Slot,
        name: String,
        drift: Digest,
        outcome: Result<Seen, Failure>,
    ) {
        let looking = &mut self.state(slot).looking;
        looking.repair = None;
        looking.failed = None;
        match outcome {
            Ok(seen) => {
                tracing::info!(%slot, release = %name, whole = seen.drift.is_none(), "put back");
                self.state(slot).drift.insert(name, seen.drift);
            }
            Err(failure) if failure.kind == FailureKind::Interrupted => {
                tracing::info!(%slot, release = %name, %failure, "not all of it is put back");
                self.state(slot).drift.remove(&name);
            }
            Err(failure) => {
                tracing::warn!(%slot, release = %name, %failure, "not put back");
                self.state(slot).looking.failed = Some(RepairReport { drift, failure });
            }
        }
    }
}

impl Looking {
    /// A look ended: when all is read again follows from when it was last.
    fn ended(&mut self, due: Due, outcome: &Result<Seen, Failure>, full_interval: Span) {
        self.under_way = None;
        if let Some(wish) = &mut self.wish {
            wish.looked(due, outcome);
        }
        let now = Instant::now();
        match outcome {
            // What was given up goes on with the next round.
            Ok(Seen {
                after: Some(after), ..
            }) => (self.after, self.full_at) = (Some(after.clone()), Some(now)),
            // It goes on where it was, whatever is looked at in between.
            _ if due != Due::Full && self.after.is_some() => {}
            Ok(seen) => {
                self.after = None;
                let since = seen
                    .read
                    .map_or(Duration::ZERO, |read| clock::now().since(read));
                self.full_at = Some(now + full_interval.0.saturating_sub(since));
            }
            Err(_) => self.full_at = Some(now + full_interval.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_core::drift::Inspect;

    const HOUR: Duration = Duration::from_secs(3600);

    fn seen(after: Option<&str>) -> Result<Seen, Failure> {
        Ok(Seen {
            drift: None,
            read: Some(clock::now()),
            after: after.map(str::to_owned),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_release_is_looked_at_when_it_is_due_and_a_full_pass_goes_on_where_it_was() {
        let (mut looking, start) = (Looking::default(), Instant::now());
        let day = Span::secs(86_400);
        assert_eq!(looking.due("1", false, start, HOUR), Some(Due::Fast));
        looking.under_way = Some(Arc::default());
        looking.fast_at = Some(start + HOUR);
        assert_eq!(looking.due("1", true, start + 2 * HOUR, HOUR), None);
        looking.ended(Due::Fast, &seen(None), day);
        assert_eq!(looking.due("1", true, start, HOUR), None);
        assert_eq!(looking.wake_at(), Some(start + HOUR));
        assert_eq!(looking.due("1", true, start + HOUR, HOUR), Some(Due::Fast));
        looking.fast_at = Some(start + 100 * HOUR);
        let tomorrow = start + 25 * HOUR;
        assert_eq!(looking.due("1", true, tomorrow, HOUR), Some(Due::Full));
        looking.ended(Due::Full, &seen(Some("a/b")), day);
        assert_eq!(looking.after.as_deref(), Some("a/b"));
        // A fast look in between, and it still goes on where it was.
        looking.fast_at = Some(tomorrow);
        assert_eq!(looking.due("1", true, tomorrow, HOUR), Some(Due::Fast));
        looking.fast_at = Some(tomorrow + HOUR);
        looking.ended(Due::Fast, &seen(None), day);
        assert_eq!(looking.after.as_deref(), Some("a/b"));
        assert_eq!(looking.due("1", true, tomorrow, HOUR), Some(Due::Full));
        // Another release: all is new.
        assert_eq!(looking.due("2", true, tomorrow, HOUR), None);
        assert_eq!((looking.after.take(), looking.full_at), (None, None));
        assert_eq!(looking.fast_at, Some(tomorrow + HOUR));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_looked_at_while_it_is_put_back_and_whoever_asks_is_told_afterwards() {
        let (mut looking, start) = (Looking::default(), Instant::now());
        assert_eq!(looking.due("1", false, start, HOUR), Some(Due::Fast));
        looking.repair = Some(putting_back());
        looking.wish = Some(Wish::new(Inspect { id: 1, full: false }));
        assert_eq!(looking.due("1", true, start + 2 * HOUR, HOUR), None);
        assert_eq!(looking.wake_at(), None);
        looking.repair = None;
        assert_eq!(looking.due("1", true, start, HOUR), Some(Due::Asked));
    }

    fn putting_back() -> Repairing {
        Repairing {
            brake: Arc::default(),
            _task: AbortOnDropHandle::new(tokio::spawn(std::future::pending())),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_touched_is_looked_at_before_more_is_read_in_the_background() {
        let (mut looking, start) = (Looking::default(), Instant::now());
        let stop: Arc<AtomicBool> = Arc::default();
        looking.due("1", true, start, HOUR);
        looking.under_way = Some(Arc::clone(&stop));
        let soon = start + Duration::from_secs(1);
        looking.soon(soon);
        assert_eq!(
            looking.wake_at(),
            Some(soon),
            "not only when the slice ends"
        );
        assert_eq!(looking.due("1", true, start, HOUR), None);
        assert!(!stop.load(Ordering::Relaxed));
        assert_eq!(looking.due("1", true, soon, HOUR), None);
        assert!(stop.load(Ordering::Relaxed));
        looking.ended(Due::Full, &seen(Some("a/b")), Span::secs(86_400));
        assert_eq!(looking.due("1", true, soon, HOUR), Some(Due::Fast));
        looking.fast_at = Some(soon + HOUR);
        assert_eq!(looking.due("1", true, soon, HOUR), Some(Due::Full));
        assert_eq!(looking.after.as_deref(), Some("a/b"));
    }

    #[tokio::test]
    async fn a_switch_stops_a_look_and_a_repair() {
        let mut looking = Looking::default();
        let stop: Arc<AtomicBool> = Arc::default();
        looking.under_way = Some(Arc::clone(&stop));
        looking.repair = Some(putting_back());
        let brake = looking.stop().unwrap();
        assert!(stop.load(Ordering::Relaxed));
        // It says itself when it has ended, whatever runs by then.
        looking.due("2", true, Instant::now(), HOUR);
        assert!(looking.repairs());
        let stopped = move || brake.while_going(|go_on| Ok(go_on()));
        let said = crate::host::blocking(stopped).await.unwrap_err();
        assert_eq!(said.kind, FailureKind::Interrupted);
    }
}
