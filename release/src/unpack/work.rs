//! What one thread does to fill a tree: it copies a file of an older release, puts a large file together from
//! pieces, or writes what a frame holds. Every byte is hashed on its way.

use super::UnpackError;
use super::fill::{Job, close, keep_manifest};
use super::frame::differs;
use crate::beneath::Beneath;
use crate::capabilities;
use crate::delta::{Parts, Piece, Place, Source, Spoilt};
use crate::frames::Opener;
use crate::manifest::mode_on_disk;
use crate::verify_tree::fresh::Fresh;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use tamer_core::digest::Digest;
use tamer_core::release::{Entry, EntryKind};
use tamer_kit::durable::FileError;
use tamer_kit::hash::{self, Hasher};

/// So much of a file is copied at once, in bytes.
const BUFFER: usize = 256 << 10;

/// A file of fewer bytes is copied although the file system could share its blocks: that costs less.
const SHARE: u64 = 64 << 10;

/// A block of a file that is all zeros is left out: whoever reads it gets them all the same. So large are the
/// blocks of most file systems, in bytes; where they are larger, only whole ones of theirs take no room.
const BLOCK: usize = 4 << 10;

/// A tree that is being filled.
pub(super) struct Tree<'a> {
    pub(super) beneath: Beneath,
    pub(super) job: &'a Job<'a>,
    pub(super) parts: Parts<'a>,
    /// The older releases; `None` for one that cannot be opened.
    older: Vec<Option<Beneath>>,
    /// Which entries a shared frame gives their content: frame, entry, the entry whose place it has there.
    pub(super) given: Vec<(u32, u32, u32)>,
    /// The file system does not let files share blocks.
    copies: AtomicBool,
    /// What `stat` said of files and directories after their last change.
    pub(super) fresh: Fresh,
}

/// One thing to do.
pub(super) enum Task {
    /// This entry, which is empty, copied or large.
    Entry(usize),
    /// This frame, and all that it gives.
    Frame(usize),
    /// The manifest that is kept in the release.
    Manifest,
}

/// One thread's tools, and what it found out.
pub(super) struct Worker<'a> {
    pub(super) tree: &'a Tree<'a>,
    opener: Opener,
    compressed: Vec<u8>,
    buffer: Vec<u8>,
    pub(super) spoilt: Vec<Spoilt>,
}

/// Why a copy was not made.
enum NotCopied {
    /// The older release does not have it.
    Spoilt,
    /// It cannot be written.
    Failed(FileError),
}

/// A number of an entry or a frame: a manifest has far fewer.
fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

// === impl Tree ===

impl<'a> Tree<'a> {
    pub(super) fn new(beneath: Beneath, job: &'a Job<'a>) -> Self {
        let mut given: Vec<_> = job
            .delta
            .sources
            .iter()
            .enumerate()
            .filter_map(|(n, source)| match source {
                Source::Frame { frame, entry } => Some((small(*frame), small(n), small(*entry))),
                _ => None,
            })
            .collect();
        given.sort_unstable();
        Self {
            beneath,
            job,
            parts: Parts::of(&job.manifest.archive.frames),
            older: job.older.iter().map(|it| Beneath::open(it).ok()).collect(),
            given,
            copies: AtomicBool::new(false),
            fresh: Fresh::of(job.manifest),
        }
    }

    pub(super) fn entry(&self, n: usize) -> &'a Entry {
        &self.job.manifest.files[n]
    }

    /// Opens a file of an older release; `None` if it cannot be.
    fn old(&self, place: &Place, n: usize) -> Option<File> {
        let release = self.older.get(place.release)?.as_ref()?;
        let path = place.path(&self.entry(n).path).as_bytes();
        release.file(path, false).ok()
    }

    pub(super) fn create(&self, entry: &Entry) -> Result<File, FileError> {
        self.beneath.create(entry.path.as_bytes(), 0o600)
    }

    pub(super) fn close(&self, file: &File, n: usize) -> Result<(), FileError> {
        let entry = self.entry(n);
        let (path, mode) = (entry.path.as_bytes(), mode_on_disk(&entry.kind));
        close(&self.beneath, file, path, mode, self.job)?;
        // After the owner: a change of that takes them away.
        if let Some(wanted) = self.job.manifest.capabilities(&entry.path) {
            capabilities::set(file, wanted)
                .map_err(self.beneath.failed("set the capabilities of", path))?;
        }
        self.fresh.note(n, file);
        Ok(())
    }

    pub(super) fn failed(&self, operation: &'static str, entry: &Entry, e: io::Error) -> FileError {
        FileError::new(operation, &self.job.place.join(&entry.path))(e)
    }

    /// Lets the new file share the blocks of the old one, where the file system can.
    fn share(&self, new: &File, old: &File) -> bool {
        if self.copies.load(Ordering::Relaxed) {
            return false;
        }
        match rustix::fs::ioctl_ficlone(new, old) {
            Ok(()) => true,
            Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::NOSYS | Errno::PERM) => {
                self.copies.store(true, Ordering::Relaxed);
                false
            }
            Err(_) => false,
        }
    }
}

// === impl Worker ===

impl<'a> Worker<'a> {
    pub(super) fn new(tree: &'a Tree<'a>) -> Result<Self, UnpackError> {
        Ok(Self {
            tree,
            opener: Opener::new().map_err(UnpackError::Start)?,
            compressed: Vec::new(),
            buffer: Vec::new(),
            spoilt: Vec::new(),
        })
    }

    pub(super) fn take(&mut self, task: &Task) -> Result<(), UnpackError> {
        match *task {
            Task::Frame(n) => {
                let raw = self.frame(n)?;
                self.tree.place(n, &raw)
            }
            Task::Entry(n) => self.entry(n),
            Task::Manifest => keep_manifest(self.tree),
        }
    }

    fn entry(&mut self, n: usize) -> Result<(), UnpackError> {
        let entry = self.tree.entry(n);
        let EntryKind::File { size, sha256, .. } = entry.kind else {
            return Ok(());
        };
        match &self.tree.job.delta.sources[n] {
            Source::Nothing => self.tree.whole(n, sha256, &[]),
            Source::Copy(place) => match self.copy(n, entry, place, size, sha256) {
                Ok(file) => Ok(self.tree.close(&file, n)?),
                Err(NotCopied::Failed(error)) => Err(error.into()),
                Err(NotCopied::Spoilt) => {
                    let pieces = Vec::new();
                    self.spoilt.push(Spoilt { entry: n, pieces });
                    Ok(())
                }
            },
            Source::Pieces(pieces) => self.large(n, entry, pieces),
            Source::Frame { .. } => Ok(()),
        }
    }

    /// A frame's part of the tar stream, verified, once it is there.
    fn frame(&mut self, n: usize) -> Result<Vec<u8>, UnpackError> {
        self.tree.job.arrivals.wait(n)?;
        let bytes = self.tree.parts.bytes(n);
        let frame = &self.tree.parts.frames()[n];
        // A frame's length was judged: it is bounded by what it unpacks to, and that by a constant.
        self.compressed.resize(frame.length as usize, 0);
        let archive = self.tree.job.archive;
        archive
            .read_exact_at(&mut self.compressed, bytes.start)
            .map_err(|e| {
                if e.kind() == io::ErrorKind::UnexpectedEof {
                    let frames = self.tree.parts.frames().len();
                    UnpackError::Truncated { frame: n, frames }
                } else {
                    UnpackError::Read(e)
                }
            })?;
        let opened = self.opener.open(frame, &self.compressed);
        opened.map_err(|source| UnpackError::Frame { frame: n, source })
    }

    /// Copies a file of an older release, unless its content is another one by now. Never a hard link: whoever
    /// may write to the one must not write to the other.
    fn copy(
        &mut self,
        n: usize,
        entry: &Entry,
        place: &Place,
        size: u64,
        wanted: Digest,
    ) -> Result<File, NotCopied> {
        let tree = self.tree;
        let mut old = tree.old(place, n).ok_or(NotCopied::Spoilt)?;
        let new = tree.create(entry).map_err(NotCopied::Failed)?;
        let shared = size >= SHARE && tree.share(&new, &old);
        if shared {
            // What is read from here on is the new file: nobody changes that any more.
            old = new
                .try_clone()
                .map_err(|e| NotCopied::Failed(tree.failed("open", entry, e)))?;
        }
        self.buffer.resize(BUFFER, 0);
        let mut hasher = Hasher::default();
        let (mut at, mut ends) = (0, true);
        while at < size {
            let most = usize::try_from(size - at).map_or(BUFFER, |left| left.min(BUFFER));
            let read = match old.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(NotCopied::Spoilt),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(NotCopied::Spoilt),
            };
            let bytes = &self.buffer[..read];
            hasher.update(bytes);
            ends = bytes.last().is_none_or(|byte| *byte != 0);
            if !shared {
                write(&new, bytes, at)
                    .map_err(|e| NotCopied::Failed(tree.failed("write", entry, e)))?;
            }
            at += read as u64;
        }
        if hasher.finish() != wanted {
            return Err(NotCopied::Spoilt);
        }
        // Zeros at its end may have been left out, and an old file that is longer be shared.
        if shared || !ends {
            new.set_len(size)
                .map_err(|e| NotCopied::Failed(tree.failed("write", entry, e)))?;
        }
        Ok(new)
    }

    /// Puts a large file together.
    fn large(&mut self, n: usize, entry: &Entry, pieces: &[Piece]) -> Result<(), UnpackError> {
        let tree = self.tree;
        let EntryKind::File { size, sha256, .. } = entry.kind else {
            return Ok(());
        };
        let file = tree.create(entry)?;
        let failed = |e| UnpackError::from(tree.failed("write", entry, e));
        file.set_len(size).map_err(failed)?;
        let (mut hasher, mut at) = (Hasher::default(), 0);
        let mut spoilt = Vec::new();
        let mut open: Option<(&Place, Option<File>)> = None;
        for (number, piece) in pieces.iter().enumerate() {
            let (bytes, length) = match piece {
                Piece::Frame(frame) => {
                    let raw = self.frame(*frame)?;
                    let length = raw.len() as u64;
                    (Some(raw), length)
                }
                Piece::Old {
                    place,
                    offset,
                    frame,
                } => {
                    // Mostly it is one older file, piece by piece.
                    if open.as_ref().is_none_or(|(there, _)| *there != place) {
                        open = Some((place, tree.old(place, n)));
                    }
                    let old = open.as_ref().and_then(|(_, file)| file.as_ref());
                    let signed = &tree.parts.frames()[*frame];
                    let bytes = old.and_then(|old| {
                        let mut bytes = vec![0; signed.unpacked as usize];
                        old.read_exact_at(&mut bytes, *offset).ok()?;
                        (Some(hash::sha256(&bytes)) == signed.content).then_some(bytes)
                    });
                    (bytes, signed.unpacked)
                }
            };
            match bytes {
                Some(bytes) => {
                    hasher.update(&bytes);
                    write(&file, &bytes, at).map_err(failed)?;
                }
                None => spoilt.push(number),
            }
            at += length;
        }
        if !spoilt.is_empty() {
            self.spoilt.push(Spoilt {
                entry: n,
                pieces: spoilt,
            });
            return Ok(());
        }
        if at != size || hasher.finish() != sha256 {
            return Err(differs(entry, "its content has another digest"));
        }
        Ok(tree.close(&file, n)?)
    }
}

/// Writes a part of a new file. Blocks of zeros are left out: where the file's length is set without them, they
/// are there. What a part has of a block that it shares with another part is a block by itself.
pub(super) fn write(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    // What is to be written at once, counted from the part's start.
    let mut run = 0..0;
    let mut next = 0;
    while next < bytes.len() {
        let block = next;
        let left = BLOCK - (at + block as u64) as usize % BLOCK;
        next = bytes.len().min(block + left);
        if bytes[block..next].iter().any(|byte| *byte != 0) {
            if run.end != block {
                file.write_all_at(&bytes[run.clone()], at + run.start as u64)?;
                run.start = block;
            }
            run.end = next;
        }
    }
    file.write_all_at(&bytes[run.clone()], at + run.start as u64)
}
