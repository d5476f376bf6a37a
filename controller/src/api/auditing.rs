//! The audit log, sent as it stands: whoever asks follows the chain themselves, and believes nobody.

use super::operator::{Answer, OperatorApi};
use super::{caller, internal, operator};
use crate::audit::{Entry, MAX_LINE};
use crate::identity::registry::Role;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::Pin;
use tamer_core::moment::{Moment, Span};
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
                        None => {
                            let file = File::open(&path)?;
                            let read = |into: &mut [u8], at| file.read_exact_at(into, at);
                            begin(&read, to, Moment(request.since_ms), request.limit)?
                        }
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

/// How far back a clock may have been set for entries behind it to be found by their time.
const SET_BACK: Span = Span::secs(2 * 24 * 3600);

/// How much is read at once from the end.
const BLOCK: u64 = 256 << 10;
const _: () = assert!(BLOCK > MAX_LINE as u64);

/// Reads that many bytes at a place.
type ReadAt<'a> = dyn Fn(&mut [u8], u64) -> io::Result<()> + 'a;

/// Where to begin in a log of this length: at the first entry of this time or later, and of those from it on at the
/// last `limit`. It is looked for from the end, and no further than needed: the log is as old as the controller.
fn begin(read: &ReadAt<'_>, to: u64, since: Moment, limit: u32) -> io::Result<u64> {
    if since == Moment(0) && limit == 0 {
        return Ok(0);
    }
    let (mut first, mut last, mut seen) = (to, 0, 0_u64);
    backwards(read, to, |place, line| {
        seen += 1;
        if seen == u64::from(limit) {
            last = place;
        }
        if since == Moment(0) {
            first = place;
            return seen < u64::from(limit);
        }
        // What is no entry of ours is sent with those around it.
        let Ok((_, entry)) = read_line::<Entry>(line) else {
            return true;
        };
        if entry.at >= since {
            first = place;
        }
        // Whatever there is further back, no more than the last `limit` are sent.
        let enough = limit > 0 && seen >= u64::from(limit) && first <= last;
        !enough && entry.at + SET_BACK >= since
    })?;
    Ok(first.max(last))
}

/// Shows the lines before this place, the last one first, each with the place where it begins, until `each` has enough.
fn backwards(
    read: &ReadAt<'_>,
    to: u64,
    mut each: impl FnMut(u64, &[u8]) -> bool,
) -> io::Result<()> {
    // What was read and not yet shown: it begins at `from`, and all behind it was shown.
    let (mut from, mut held) = (to, Vec::new());
    loop {
        while let Some((rest, line)) = split_last(&held) {
            let place = from + rest as u64;
            if !each(place, line) {
                return Ok(());
            }
            held.truncate(rest);
        }
        if from == 0 {
            return match held.strip_suffix(b"\n").unwrap_or(&held) {
                [] => Ok(()),
                line => {
                    each(0, line);
                    Ok(())
                }
            };
        }
        let size = BLOCK.min(from);
        from -= size;
        let mut block = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        read(&mut block, from)?;
        block.append(&mut held);
        held = block;
    }
}

/// The last line in these bytes that certainly begins in them: where it does, and the line without its end.
fn split_last(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let whole = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let before = whole.iter().rposition(|byte| *byte == b'\n')?;
    Some((before + 1, &whole[before + 1..]))
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
    use std::cell::Cell;
    use std::path::PathBuf;

    /// A log with an entry for each of these times; `n` is the object of the n-th.
    fn log(dir: &Path, times: impl IntoIterator<Item = u64>) -> (PathBuf, AuditLog) {
        let path = dir.join("audit.log");
        let mut log = AuditLog::open(&path).unwrap();
        let entries = times.into_iter().zip(1..).map(|(at, n)| {
            let (who, action) = ("anna".to_owned(), "deploy".to_owned());
            Entry::done(Moment(at), who, action, n.to_string())
        });
        log.append(&entries.collect::<Vec<_>>()).unwrap();
        (path, log)
    }

    /// The objects that are sent, and how many bytes were read to find where to begin.
    fn said((path, log): &(PathBuf, AuditLog), since: u64, limit: u32) -> (Vec<String>, u64) {
        let (file, bytes) = (File::open(path).unwrap(), Cell::new(0));
        let read = |into: &mut [u8], at| {
            bytes.set(bytes.get() + into.len() as u64);
            file.read_exact_at(into, at)
        };
        let from = begin(&read, log.length(), Moment(since), limit).unwrap();
        let (sender, mut received) = mpsc::channel(1000);
        assert!(send(path, from, log.length(), &sender).unwrap());
        drop(sender);
        let mut objects = Vec::new();
        while let Some(batch) = received.blocking_recv() {
            let lines = batch.unwrap().lines;
            let entries = lines.iter().map(|line| read_line::<Entry>(line).unwrap().1);
            objects.extend(entries.map(|entry| entry.object));
        }
        (objects, bytes.get())
    }

    #[test]
    fn it_begins_at_a_time_and_at_the_last_of_that() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path(), (1..=9).map(|n| n * 10));
        let said = |since, limit| said(&log, since, limit).0.concat();
        assert_eq!(said(0, 0), "123456789");
        assert_eq!(said(0, 3), "789");
        assert_eq!(said(0, 9), "123456789");
        assert_eq!(said(0, 10), "123456789");
        assert_eq!(said(45, 0), "56789");
        assert_eq!(said(45, 2), "89");
        assert_eq!(said(45, 20), "56789");
        assert_eq!(said(91, 0), "");
    }

    #[test]
    fn of_a_long_log_no_more_is_read_than_its_end() {
        const DAY: u64 = 24 * 3600 * 1000;
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path(), (1..=20_000).map(|n| n * DAY));
        assert!(log.1.length() > 10 * BLOCK);
        let (all, read) = said(&log, 0, 0);
        assert_eq!((all.len(), read), (20_000, 0));
        for (since, limit, first) in [
            (0, 3, 19_998),
            (0, 700, 19_301),
            (19_500 * DAY, 0, 19_500),
            (19_500 * DAY, 7, 19_994),
            (DAY, 7, 19_994),
        ] {
            let (objects, read) = said(&log, since, limit);
            assert_eq!(objects.len() as u64, 20_001 - first);
            assert_eq!(objects[0], first.to_string());
            assert!(read <= 2 * BLOCK, "{read} bytes for {since} {limit}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_for_a_day_hides_nothing() {
        const HOUR: u64 = 3600 * 1000;
        let dir = tempfile::tempdir().unwrap();
        let log = log(
            dir.path(),
            [100, 102, 104, 80, 106].map(|hours| hours * HOUR),
        );
        assert_eq!(said(&log, 103 * HOUR, 0).0.concat(), "345");
        assert_eq!(said(&log, 105 * HOUR, 0).0.concat(), "5");
        // Also where only some of it is asked for, and where the last one seems to be older than what is asked for.
        assert_eq!(said(&log, 103 * HOUR, 2).0.concat(), "45");
        assert_eq!(said(&log, 103 * HOUR, 4).0.concat(), "345");
        let dir = tempfile::tempdir().unwrap();
        let log = self::log(dir.path(), [100, 102, 104, 80].map(|hours| hours * HOUR));
        assert_eq!(said(&log, 103 * HOUR, 1).0.concat(), "4");
    }
}
