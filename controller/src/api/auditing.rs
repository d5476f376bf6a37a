//! The audit log, sent as it stands: whoever asks follows the chain themselves, and believes nobody.

use super::operator::{Answer, OperatorApi};
use super::{caller, internal, operator};
use crate::audit::{Entry, MAX_LINE};
use crate::identity::registry::Role;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::pin::Pin;
use tamer_core::moment::Moment;
use tamer_kit::chain::read_line;
use tamer_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// About how many bytes are sent in one message.
const BATCH: usize = 128 << 10;

/// Lines of the log, again and again.
pub(super) type Lines = Pin<Box<dyn Stream<Item = Result<v1::AuditLines, Status>> + Send>>;

type Sender = mpsc::Sender<Result<v1::AuditLines, Status>>;

impl OperatorApi {
    /// A chain can be verified only whole, so whoever may read the log reads all of it: those who may deploy
    /// everywhere, and admins.
    pub(super) async fn audit_lines(&self, request: Request<v1::AuditRequest>) -> Answer<Lines> {
        operator(&self.driver, &caller(&request), None, Role::Deployer).await?;
        let request = request.into_inner();
        let (sender, receiver) = mpsc::channel(2);
        let (path, closing) = (self.audit.clone(), self.closing.clone());
        let mut grown = self.driver.audited();
        tokio::spawn(async move {
            let mut from = None;
            loop {
                let to = *grown.borrow_and_update();
                let (path, to_whom) = (path.clone(), sender.clone());
                let reading = tokio::task::spawn_blocking(move || {
                    let from = match from {
                        Some(from) => from,
                        None => begin(&path, to, Moment(request.since_ms), request.limit)?,
                    };
                    send(&path, from, to, &to_whom)
                });
                match reading.await {
                    Ok(Ok(true)) => from = Some(to),
                    Ok(Ok(false)) | Err(_) => return,
                    Ok(Err(error)) => {
                        // Whoever asked is told, if they still listen.
                        let _ = sender.send(Err(internal(&error))).await;
                        return;
                    }
                }
                if !request.follow {
                    return;
                }
                tokio::select! {
                    changed = grown.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                    () = closing.cancelled() => return,
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// The lines between two places of the log, one after the other: each with the place where it begins.
fn lines(
    path: &Path,
    from: u64,
    to: u64,
) -> io::Result<impl Iterator<Item = io::Result<(u64, Vec<u8>)>>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut input = BufReader::new(file.take(to.saturating_sub(from)));
    let mut at = from;
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        // What is no line of ours is sent as it is: who verifies sees it.
        let most = MAX_LINE as u64 + 1;
        match (&mut input).take(most).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(n) => {
                let begin = at;
                at += n as u64;
                line.pop_if(|last| *last == b'\n');
                Some(Ok((begin, line)))
            }
            Err(error) => Some(Err(error)),
        }
    }))
}

/// Where to begin: at the first entry of this time or later, and of those from it on at the last `limit`.
fn begin(path: &Path, to: u64, since: Moment, limit: u32) -> io::Result<u64> {
    if since == Moment(0) && limit == 0 {
        return Ok(0);
    }
    let (mut begun, mut last) = (since == Moment(0), VecDeque::new());
    for line in lines(path, 0, to)? {
        let (place, line) = line?;
        begun = begun || read_line::<Entry>(&line).is_ok_and(|(_, entry)| entry.at >= since);
        if !begun {
            continue;
        }
        if limit == 0 {
            return Ok(place);
        }
        if last.len() as u64 == u64::from(limit) {
            last.pop_front();
        }
        last.push_back(place);
    }
    Ok(last.front().copied().unwrap_or(to))
}

/// Sends the lines between two places; says whether somebody still listens.
fn send(path: &Path, from: u64, to: u64, to_whom: &Sender) -> io::Result<bool> {
    let mut batch = v1::AuditLines::default();
    let mut size = 0;
    for line in lines(path, from, to)? {
        let (_, line) = line?;
        size += line.len();
        batch.lines.push(line);
        if size >= BATCH {
            size = 0;
            if to_whom
                .blocking_send(Ok(std::mem::take(&mut batch)))
                .is_err()
            {
                return Ok(false);
            }
        }
    }
    // Also an empty one: then the caller knows that this is all.
    Ok(to_whom.blocking_send(Ok(batch)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditLog;

    #[test]
    fn it_begins_at_a_time_and_at_the_last_of_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut log = AuditLog::open(&path).unwrap();
        for n in 1..=9 {
            let (who, action) = ("anna".to_owned(), "deploy".to_owned());
            log.append(&[Entry::done(Moment(n * 10), who, action, n.to_string())])
                .unwrap();
        }
        let said = |since, limit| {
            let from = begin(&path, log.length(), Moment(since), limit).unwrap();
            let (sender, mut received) = mpsc::channel(4);
            assert!(send(&path, from, log.length(), &sender).unwrap());
            let lines = received.try_recv().unwrap().unwrap().lines;
            let entries = lines.iter().map(|line| read_line::<Entry>(line).unwrap().1);
            entries.map(|entry| entry.object).collect::<String>()
        };
        assert_eq!(said(0, 0), "123456789");
        assert_eq!(said(0, 3), "789");
        assert_eq!(said(45, 0), "56789");
        assert_eq!(said(45, 2), "89");
        assert_eq!(said(45, 20), "56789");
        assert_eq!(said(91, 0), "");
    }
}
