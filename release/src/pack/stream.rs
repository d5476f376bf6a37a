//! The archive as it is written: this thread reads and hashes the files, others compress frames, one more
//! writes them in order. Each waits for the next, so memory holds a few frames, however large the tree is.

use super::PackError;
use crate::frames::{self, Closer, Part};
use crate::layout::{self, Layout};
use fastcdc::v2020::StreamCDC;
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
use tamer_kit::hash::{self, Hasher};

/// The most threads that compress.
const MAX_WORKERS: usize = 8;

/// Where the archive goes.
#[derive(Clone, Copy)]
pub(super) struct Out<'a> {
    pub(super) file: &'a File,
    /// For messages.
    pub(super) path: &'a Path,
}

/// A frame as it was made.
struct Closed {
    bytes: Vec<u8>,
    sha256: Digest,
    content: Option<Digest>,
}

/// A part of the tar stream, and where its frame is to be handed to.
struct Job {
    raw: Vec<u8>,
    /// Whether it is a piece of one file's content and nothing else.
    piece: bool,
    reply: SyncSender<io::Result<Closed>>,
}

/// A frame to come, in the order of the archive.
struct Coming {
    unpacked: u64,
    closed: Receiver<io::Result<Closed>>,
}

/// Writes the archive of the tree's entries, and fills in the digests of the files.
pub(super) fn write(
    tree: &Path,
    entries: &mut [Entry],
    layout: &Layout,
    parts: Vec<Part>,
    out: Out<'_>,
) -> Result<Archive, PackError> {
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(MAX_WORKERS));
    let (jobs, jobs_rx) = sync_channel::<Job>(1);
    let jobs_rx = Mutex::new(jobs_rx);
    let (order, coming) = sync_channel::<Coming>(workers + 1);
    let (read, written) = thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| compress(&jobs_rx));
        }
        let frames = Vec::with_capacity(parts.len());
        let writer = scope.spawn(move || write_frames(&coming, frames, out));
        let mut source = Source {
            tree,
            entries,
            layout,
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
        let Ok(Job { raw, piece, reply }) = next else {
            return;
        };
        let closed = match &mut closer {
            Ok(closer) => closer.close(&raw).map(|(bytes, sha256)| Closed {
                bytes,
                sha256,
                content: piece.then(|| hash::sha256(&raw)),
            }),
            Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
        };
        // A writer that is gone has said why.
        let _ = reply.send(closed);
    }
}

fn write_frames(
    coming: &Receiver<Coming>,
    mut frames: Vec<Frame>,
    mut out: Out<'_>,
) -> Result<Archive, PackError> {
    let mut hasher = Hasher::default();
    let mut written = 0;
    for Coming { unpacked, closed } in coming {
        let closed = closed
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("a thread that compressed is gone")));
        let Closed {
            bytes,
            sha256,
            content,
        } = closed.map_err(PackError::Compress)?;
        out.file
            .write_all(&bytes)
            .map_err(FileError::new("write", out.path))?;
        hasher.update(&bytes);
        let length = bytes.len() as u64;
        frames.push(Frame {
            length,
            unpacked,
            sha256,
            content,
        });
        written += length;
    }
    Ok(Archive {
        sha256: hasher.finish(),
        length: written,
        unpacked: 0,
        frames,
    })
}

/// The tar stream, made from the tree.
struct Source<'a> {
    tree: &'a Path,
    entries: &'a mut [Entry],
    layout: &'a Layout,
}

/// The other side is gone, and says why.
struct Gone;

/// Where parts of the stream are handed to.
struct Hand<'a> {
    jobs: &'a SyncSender<Job>,
    order: &'a SyncSender<Coming>,
}

impl Hand<'_> {
    fn over(&self, raw: Vec<u8>, piece: bool) -> Result<(), Gone> {
        let (reply, closed) = sync_channel(1);
        let coming = Coming {
            unpacked: raw.len() as u64,
            closed,
        };
        self.order.send(coming).map_err(|_| Gone)?;
        let job = Job { raw, piece, reply };
        self.jobs.send(job).map_err(|_| Gone)
    }
}

impl Source<'_> {
    /// Hands out all parts; stops early when the other side is gone.
    fn feed(
        &mut self,
        parts: Vec<Part>,
        jobs: &SyncSender<Job>,
        order: &SyncSender<Coming>,
    ) -> Result<(), PackError> {
        let hand = Hand { jobs, order };
        for part in parts {
            let handed = match part {
                Part::Shared(range) => hand.over(self.part(&range)?, false),
                Part::Large(n) => self.large(n, &hand)?,
            };
            if handed.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The bytes of one part: headers and whole contents; what lies between them is zeros.
    fn part(&mut self, part: &Range<u64>) -> Result<Vec<u8>, PackError> {
        let mut raw = vec![0; (part.end - part.start) as usize];
        for n in self.layout.within(part) {
            let span = self.layout.spans[n];
            if let Some((into, from)) = overlap(part, &(span.start..span.content)) {
                raw[into].copy_from_slice(&layout::header(&self.entries[n])[from]);
            }
            // A large file's header and padding lie in other parts than its content.
            let content = span.content();
            if part.start <= content.start
                && content.end <= part.end
                && matches!(self.entries[n].kind, EntryKind::File { .. })
            {
                let from = (content.start - part.start) as usize;
                let into = from..from + span.size as usize;
                self.whole(n, &mut raw[into])?;
            }
        }
        Ok(raw)
    }

    /// Reads all of a file's content.
    fn whole(&mut self, n: usize, into: &mut [u8]) -> Result<(), PackError> {
        let mut content = self.open(n)?;
        content.read_exact(into).map_err(|e| content.failed(e))?;
        self.close(n, content)
    }

    /// Hands out a large file's content, cut where it says itself.
    fn large(&mut self, n: usize, hand: &Hand<'_>) -> Result<Result<(), Gone>, PackError> {
        let mut content = self.open(n)?;
        let (least, average, most) = frames::pieces(content.left);
        let pieces = StreamCDC::new(&mut content, least, average, most);
        let mut failed = None;
        for piece in pieces {
            match piece {
                Ok(piece) => {
                    if hand.over(piece.data, true).is_err() {
                        return Ok(Err(Gone));
                    }
                }
                Err(e) => {
                    failed = Some(e.into());
                    break;
                }
            }
        }
        match failed {
            Some(e) => Err(content.failed(e)),
            None => self.close(n, content).map(Ok),
        }
    }

    fn open(&self, n: usize) -> Result<Content, PackError> {
        let path = self.tree.join(&self.entries[n].path);
        let file = open_file(&path)?;
        Ok(Content {
            file,
            path,
            hasher: Hasher::default(),
            left: self.layout.spans[n].size,
        })
    }

    /// Sees that the content is at its end, and fills in its digest.
    fn close(&mut self, n: usize, mut content: Content) -> Result<(), PackError> {
        let more = content.file.read(&mut [0]).map_err(|e| content.failed(e))?;
        if more != 0 {
            return Err(changed(&content.path));
        }
        if let EntryKind::File { sha256, .. } = &mut self.entries[n].kind {
            *sha256 = content.hasher.finish();
        }
        Ok(())
    }
}

/// The content of a file, as long as it was when the tree was looked at.
struct Content {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    left: u64,
}

impl Content {
    fn failed(&self, e: io::Error) -> PackError {
        if e.kind() == io::ErrorKind::UnexpectedEof {
            changed(&self.path)
        } else {
            FileError::new("read", &self.path)(e).into()
        }
    }
}

impl Read for Content {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(into.len(), |left| left.min(into.len()));
        if most == 0 {
            return Ok(0);
        }
        let n = self.file.read(&mut into[..most])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.hasher.update(&into[..n]);
        self.left -= n as u64;
        Ok(n)
    }
}

fn changed(path: &Path) -> PackError {
    PackError::Refused {
        path: path.to_owned(),
        reason: "its size changed while it was packed",
    }
}

fn open_file(path: &Path) -> Result<File, PackError> {
    let opened = File::options()
        .read(true)
        .custom_flags((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32)
        .open(path);
    Ok(opened.map_err(FileError::new("open", path))?)
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
    use std::fs;

    fn what() -> super::super::PackSpec {
        let spec =
            "application = \"shop\"\n[component.web]\nfiles = \"x\"\nroot = \"/srv/shop/web\"\n";
        let spec = tamer_core::application::Application::parse("tamer.toml", spec).unwrap();
        super::super::PackSpec {
            application: spec.application,
            component: "web".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            spec: spec.components.into_values().next().unwrap(),
            mtime: 1,
        }
    }

    /// The tree was looked at, then changed, then read.
    fn pack_after(change: impl Fn(&Path), size: usize) -> PackError {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, vec![1; size]).unwrap();
        let mut entries = super::super::walk::entries(dir.path(), &what()).unwrap();
        change(&path);
        let layout = Layout::of(&entries).unwrap();
        let parts = frames::cut(&entries, &layout);
        let file = tempfile::tempfile().unwrap();
        let out = Out {
            file: &file,
            path: Path::new("out"),
        };
        write(dir.path(), &mut entries, &layout, parts, out).unwrap_err()
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
