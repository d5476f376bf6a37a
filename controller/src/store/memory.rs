//! The twin for tests: the same behaviour without a disk, and faults on demand.

use super::{Batch, CommitError, Key, Op, Scan, Store, StoreError, Ticket};
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// A store in memory. What it calls durable outlives [`MemoryStore::crash`] only.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<State>);

type Answer = oneshot::Sender<Result<u64, CommitError>>;

#[derive(Debug, Default)]
struct State {
    revision: u64,
    objects: BTreeMap<Key, Vec<u8>>,
    waiting: VecDeque<(u64, Batch, Answer)>,
    holding: bool,
    fail_next: bool,
    stopped: Option<String>,
}

impl MemoryStore {
    /// An empty store at revision 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next batch fail as a broken disk would: it is not applied, and the store stops.
    pub fn fail_next(&self) {
        self.state().fail_next = true;
    }

    /// From now on batches wait, unanswered and not durable, until [`Self::release`].
    pub fn hold(&self) {
        self.state().holding = true;
    }

    /// Applies and answers what waits, and what comes from now on.
    pub fn release(&self) {
        let mut state = self.state();
        state.holding = false;
        state.drain();
    }

    /// The power is lost: what waits is gone and its tickets fail; gives the store as it is found
    /// at the next start. This one has stopped.
    pub fn crash(&self) -> Self {
        let mut state = self.state();
        state.waiting.clear();
        state.stopped = Some("it crashed".to_owned());
        let found = State {
            revision: state.revision,
            objects: state.objects.clone(),
            ..State::default()
        };
        Self(Mutex::new(found))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn readable(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state();
        match &state.stopped {
            None => Ok(state),
            Some(why) => Err(StoreError::Stopped { why: why.clone() }),
        }
    }
}

impl State {
    fn drain(&mut self) {
        while let Some((expected, batch, answer)) = self.waiting.pop_front() {
            let _ = answer.send(self.apply(expected, &batch));
        }
    }

    fn apply(&mut self, expected: u64, batch: &Batch) -> Result<u64, CommitError> {
        if self.stopped.is_none() && std::mem::take(&mut self.fail_next) {
            self.stopped = Some("a write failed".to_owned());
        }
        if let Some(why) = &self.stopped {
            let why = why.clone();
            return Err(CommitError::Failed(Arc::new(StoreError::Stopped { why })));
        }
        let found = self.revision;
        if expected != found {
            return Err(CommitError::Conflict { expected, found });
        }
        for op in batch.ops() {
            match op {
                Op::Put(key, value) => drop(self.objects.insert(key.clone(), value.clone())),
                Op::Delete(key) => drop(self.objects.remove(key)),
            }
        }
        self.revision += 1;
        Ok(self.revision)
    }
}

impl Store for MemoryStore {
    fn revision(&self) -> u64 {
        self.state().revision
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.readable()?.objects.get(key).cloned())
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        let state = self.readable()?;
        let wanted = state.objects.iter().filter(|(key, _)| {
            let reached = scan.from.as_ref().is_none_or(|from| {
                if scan.reverse {
                    *key <= from
                } else {
                    *key >= from
                }
            });
            reached && key.as_str().starts_with(&scan.prefix)
        });
        let owned = |(key, value): (&Key, &Vec<u8>)| (key.clone(), value.clone());
        Ok(if scan.reverse {
            wanted.rev().take(scan.limit).map(owned).collect()
        } else {
            wanted.take(scan.limit).map(owned).collect()
        })
    }

    fn visit(
        &self,
        prefix: &str,
        each: &mut dyn FnMut(&Key, &[u8]) -> ControlFlow<()>,
    ) -> Result<u64, StoreError> {
        let state = self.readable()?;
        for (key, value) in &state.objects {
            if key.as_str().starts_with(prefix) && each(key, value).is_break() {
                break;
            }
        }
        Ok(state.revision)
    }

    fn submit(&self, expected: u64, batch: Batch) -> Ticket {
        let (answer, ticket) = Ticket::new();
        let mut state = self.state();
        state.waiting.push_back((expected, batch, answer));
        if !state.holding || state.stopped.is_some() {
            state.drain();
        }
        ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str) -> Batch {
        let mut batch = Batch::default();
        batch.put(key.parse().unwrap(), b"x".to_vec()).unwrap();
        batch
    }

    #[test]
    fn a_failed_batch_is_not_there_and_the_store_stops() {
        let store = MemoryStore::new();
        store.commit(0, put("a")).unwrap();
        store.fail_next();
        let failed = store.commit(1, put("b")).unwrap_err();
        assert!(matches!(failed, CommitError::Failed(_)));
        assert!(matches!(
            store.commit(1, put("c")),
            Err(CommitError::Failed(_))
        ));
        assert!(store.load("").is_err());
        let found = store.crash().load("").unwrap();
        assert_eq!((found.revision, found.objects.len()), (1, 1));
    }

    #[test]
    fn a_crash_loses_what_was_not_answered_and_nothing_else() {
        let store = MemoryStore::new();
        store.commit(0, put("a")).unwrap();
        store.hold();
        let waiting = store.submit(1, put("b"));
        let after = store.crash();
        assert!(matches!(waiting.wait(), Err(CommitError::Failed(_))));
        assert_eq!(after.load("").unwrap().objects.len(), 1);

        after.hold();
        let (one, two) = (after.submit(1, put("b")), after.submit(2, put("c")));
        after.release();
        assert_eq!((one.wait().unwrap(), two.wait().unwrap()), (2, 3));
    }
}
