//! The archive as it is written: this thread reads and hashes the files, others compress frames, one more
//! writes them in order. Each waits for the next, so memory holds a few frames, however large the tree is.

use super::PackError;
use crate::frames::Closer;
use crate::layout::{self, Layout};
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use tamer_core::digest::Digest;
use tamer_core::release::{Archive, Entry, EntryKind, Frame};
use tamer_kit::durable::FileError;
use tamer_kit::hash::Hasher;

/// The most threads that compress.
const MAX_WORKERS: usize = 8;

/// Where the archive goes.
#[derive(Clone, Copy)]
pub(super) struct Out<'a> {
    pub(super) file: &'a File,
    /// For messages.
    pub(super) path: &'a Path,
}

type Closed = io::Result<(Vec<u8>, Digest)>;

/// A part of the tar stream, and where its frame is to be handed to.
struct Job {
    raw: Vec<u8>,
    reply: SyncSender<Closed>,
}

/// A frame to come, in the order of the archive.
struct Coming {
    unpacked: u64,
    closed: Receiver<Closed>,
}

/// Writes the archive of the tree's entries, and fills in the digests of the files.
pub(super) fn write(
    tree: &Path,
    entries: &mut [Entry],
    layout: &Layout,
    parts: &[Range<u64>],
    out: Out<'_>,
) -> Result<Archive, PackError> {
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(MAX_WORKERS));
    let (jobs, jobs_rx) = sync_channel::<Job>(1);
    let jobs_rx = Mutex::new(jobs_rx);
    let (order, coming) = sync_channel::<Coming>(workers + 1);
    let (read, written) = thread::scope(|scope| {
        for _ in 0..workers.min(parts.len()) {
            scope.spawn(|| compress(&jobs_rx));
        }
        let writer = scope.spawn(move || write_frames(&coming, out));
        let mut source = Source {
            tree,
            entries,
            layout,
            open: None,
        };
        let read = source.feed(parts, &jobs, &order);
        drop((jobs, order));
        (read, writer.join())
    });
    read?;
    let mut archive = written.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    archive.unpacked = layout.total;
    Ok(archive)
}

fn compress(jobs: &Mutex<Receiver<Job>>) {
    let mut closer = Closer::new();
    loop {
        let next = match jobs.lock() {
            Ok(jobs) => jobs.recv(),
            Err(_) => return,
        };
        let Ok(Job { raw, reply }) = next else {
            return;
        };
        let closed = match &mut closer {
            Ok(closer) => closer.close(&raw),
            Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
        };
        // A writer that is gone has said why.
        let _ = reply.send(closed);
    }
}

fn write_frames(coming: &Receiver<Coming>, mut out: Out<'_>) -> Result<Archive, PackError> {
    let mut hasher = Hasher::default();
    let mut frames = Vec::new();
    let mut offset = 0;
    for Coming { unpacked, closed } in coming {
        let closed = closed
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("a thread that compressed is gone")));
        let (bytes, sha256) = closed.map_err(PackError::Compress)?;
        out.file
            .write_all(&bytes)
            .map_err(FileError::new("write", out.path))?;
        hasher.update(&bytes);
        let length = bytes.len() as u64;
        frames.push(Frame {
            offset,
            length,
            unpacked,
            sha256,
        });
        offset += length;
    }
    Ok(Archive {
        sha256: hasher.finish(),
        length: offset,
        unpacked: 0,
        frames,
    })
}

/// The tar stream, made from the tree.
struct Source<'a> {
    tree: &'a Path,
    entries: &'a mut [Entry],
    layout: &'a Layout,
    /// The file whose content goes on in the next part.
    open: Option<Open>,
}

struct Open {
    file: File,
    path: PathBuf,
    hasher: Hasher,
}

impl Source<'_> {
    /// Hands out all parts; stops early when the other side is gone, which then says why.
    fn feed(
        &mut self,
        parts: &[Range<u64>],
        jobs: &SyncSender<Job>,
        order: &SyncSender<Coming>,
    ) -> Result<(), PackError> {
        for part in parts {
            let raw = self.part(part)?;
            let (reply, closed) = sync_channel(1);
            let coming = Coming {
                unpacked: raw.len() as u64,
                closed,
            };
            if order.send(coming).is_err() || jobs.send(Job { raw, reply }).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The bytes of one part: headers and contents; what lies between them is zeros.
    fn part(&mut self, part: &Range<u64>) -> Result<Vec<u8>, PackError> {
        let mut raw = vec![0; (part.end - part.start) as usize];
        for n in self.layout.within(part) {
            let span = self.layout.spans[n];
            if let Some((into, from)) = overlap(part, &(span.start..span.content)) {
                raw[into].copy_from_slice(&layout::header(&self.entries[n])[from]);
            }
            if !matches!(self.entries[n].kind, EntryKind::File { .. }) {
                continue;
            }
            let content = span.content();
            // An empty file overlaps nothing; it is read with its header, to see that it is still empty.
            let into = match overlap(part, &content) {
                Some((into, _)) => into,
                None if span.size == 0 && part.contains(&span.start) => 0..0,
                None => continue,
            };
            let ends = content.end <= part.end;
            self.content(n, &mut raw[into], ends)?;
        }
        Ok(raw)
    }

    /// Reads the next bytes of a file's content; at its end, that it is the end, and fills in the digest.
    fn content(&mut self, n: usize, into: &mut [u8], ends: bool) -> Result<(), PackError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => open_file(self.tree.join(&self.entries[n].path))?,
        };
        let failed = |e: io::Error| -> PackError {
            if e.kind() == io::ErrorKind::UnexpectedEof {
                changed(&open.path)
            } else {
                FileError::new("read", &open.path)(e).into()
            }
        };
        open.file.read_exact(into).map_err(failed)?;
        open.hasher.update(into);
        if !ends {
            self.open = Some(open);
            return Ok(());
        }
        if open.file.read(&mut [0]).map_err(failed)? != 0 {
            return Err(changed(&open.path));
        }
        if let EntryKind::File { sha256, .. } = &mut self.entries[n].kind {
            *sha256 = open.hasher.finish();
        }
        Ok(())
    }
}

fn changed(path: &Path) -> PackError {
    PackError::Refused {
        path: path.to_owned(),
        reason: "its size changed while it was packed",
    }
}

fn open_file(path: PathBuf) -> Result<Open, PackError> {
    let file = File::options()
        .read(true)
        .custom_flags((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32)
        .open(&path)
        .map_err(FileError::new("open", &path))?;
    Ok(Open {
        file,
        path,
        hasher: Hasher::default(),
    })
}

/// The common bytes of a part and a range of the stream, counted from the start of each.
pub(crate) fn overlap(
    part: &Range<u64>,
    range: &Range<u64>,
) -> Option<(Range<usize>, Range<usize>)> {
    let start = part.start.max(range.start);
    let end = part.end.min(range.end);
    let from = |base: u64| (start - base) as usize..(end - base) as usize;
    (start < end).then(|| (from(part.start), from(range.start)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames;
    use std::fs;

    /// The tree was looked at, then changed, then read.
    fn pack_after(change: impl Fn(&Path), size: usize) -> PackError {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, vec![1; size]).unwrap();
        let mut entries = super::super::walk::entries(dir.path()).unwrap();
        change(&path);
        let layout = Layout::of(&entries).unwrap();
        let parts = frames::cut(&entries, &layout);
        let file = tempfile::tempfile().unwrap();
        let out = Out {
            file: &file,
            path: Path::new("out"),
        };
        write(dir.path(), &mut entries, &layout, &parts, out).unwrap_err()
    }

    #[test]
    fn a_file_that_changes_its_size_while_it_is_packed_is_named() {
        for size in [0, 10, 3_000_000] {
            let longer = |path: &Path| fs::write(path, vec![1; size + 1]).unwrap();
            let said = pack_after(longer, size).to_string();
            assert!(
                said.ends_with("/f: its size changed while it was packed"),
                "{said}"
            );
        }
        for size in [10, 3_000_000] {
            let shorter = |path: &Path| fs::write(path, vec![1; size - 1]).unwrap();
            let said = pack_after(shorter, size).to_string();
            assert!(said.contains("its size changed"), "{said}");
        }
    }

    #[test]
    fn a_file_that_becomes_a_link_is_not_followed() {
        let swap = |path: &Path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        };
        let said = pack_after(swap, 10).to_string();
        assert!(said.starts_with("cannot open "), "{said}");
    }
}
