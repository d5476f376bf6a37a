//! The one writer: takes batches in the order they were handed over, writes everything that waits
//! as one group, and answers all of it once it is durable.

use super::engine::{Engine, panic_text};
use super::{Gate, lock_for_writing};
use crate::store::{Batch, CommitError, StoreError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use tokio::sync::oneshot;

/// A group takes no further batch beyond so many bytes. sled holds back its log from the beginning
/// of a group to its end, so groups stay within a few of its buffers of 512 KiB.
const GROUP: usize = 1 << 20;

/// A batch that waits to be written.
pub(crate) struct Request {
    pub(crate) expected: u64,
    pub(crate) batch: Batch,
    pub(crate) answer: oneshot::Sender<Result<u64, CommitError>>,
}

/// Serves until the last sender is gone. After a failure it refuses everything: what sled holds in
/// memory may then differ from what is on disk, and a second fsync would not tell.
pub(crate) fn run(mut engine: Engine, gate: &Gate, requests: &Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let mut size = first.batch.size();
        let mut group = vec![first];
        while size < GROUP {
            let Ok(next) = requests.try_recv() else { break };
            size += next.batch.size();
            group.push(next);
        }
        serve(&mut engine, gate, group);
    }
}

fn serve(engine: &mut Engine, gate: &Gate, group: Vec<Request>) {
    let mut shared = lock_for_writing(gate);
    if let Some(why) = &shared.stopped {
        let error = CommitError::Failed(Arc::new(StoreError::Stopped { why: why.clone() }));
        refuse(group, &error);
        return;
    }
    let mut granted = Vec::with_capacity(group.len());
    let written = catch_unwind(AssertUnwindSafe(|| {
        let mut staged = engine.stage();
        for Request {
            expected, batch, ..
        } in &group
        {
            let found = staged.seal.revision;
            if *expected == found {
                engine.add(&mut staged, batch, true)?;
                granted.push(Ok(staged.seal.revision));
            } else {
                granted.push(Err(CommitError::Conflict {
                    expected: *expected,
                    found,
                }));
            }
        }
        if granted.iter().any(Result::is_ok) {
            engine.write(staged)?;
        }
        Ok(())
    }));
    let failure = match written {
        Ok(Ok(())) => {
            shared.revision = engine.seal().revision;
            drop(shared);
            for (request, answer) in group.into_iter().zip(granted) {
                // Whoever asked may have stopped waiting; the batch counts all the same.
                let _ = request.answer.send(answer);
            }
            return;
        }
        Ok(Err(error)) => error,
        Err(panic) => StoreError::Stopped {
            why: panic_text(panic.as_ref()),
        },
    };
    tracing::error!(error = %failure, "the store has stopped");
    shared.stopped = Some(failure.to_string());
    drop(shared);
    refuse(group, &CommitError::Failed(Arc::new(failure)));
}

fn refuse(group: Vec<Request>, error: &CommitError) {
    for request in group {
        let _ = request.answer.send(Err(error.clone()));
    }
}
