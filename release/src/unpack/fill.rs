//! Fills the temporary directory as a [`Delta`] says: directories, then files on several threads, then links,
//! then what closes the tree. Chooses nothing: the plan has.

use super::work::{Task, Tree, Worker};
use super::{Arrivals, MANIFEST_PATH, UnpackError};
use crate::beneath::Beneath;
use crate::delta::{Delta, Piece, Source};
use crate::layout::Layout;
use crate::manifest::{self, ManifestError, RESERVED};
use crate::verify_tree::Record;
use rustix::fs::{Mode, Timespec, Timestamps};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use tamer_core::digest::Digest;
use tamer_core::release::{EntryKind, Manifest};
use tamer_kit::durable::FileError;

/// The most threads that fill a tree.
const MAX_WORKERS: usize = 4;

/// Where a release is unpacked to, what it is, and what it is made of.
pub(super) struct Job<'a> {
    pub(super) place: &'a Path,
    pub(super) manifest: &'a Manifest,
    /// The digest that was signed.
    pub(super) digest: &'a Digest,
    pub(super) layout: &'a Layout,
    pub(super) delta: &'a Delta,
    /// The older releases that the delta names by number.
    pub(super) older: &'a [PathBuf],
    /// Holds the delta's frames, each where it stands in the archive.
    pub(super) archive: &'a File,
    pub(super) arrivals: &'a Arrivals,
    pub(super) owner: Option<(u32, u32)>,
}

/// Fills the directory, closes it for writing, and syncs it. Gives what is known of what is in it.
pub(super) fn fill(job: &Job<'_>) -> Result<Record, UnpackError> {
    let tree = Tree::new(Beneath::open(job.place)?, job);
    let files = &job.manifest.files;
    let is_dir = |n: &usize| matches!(files[*n].kind, EntryKind::Directory { .. });
    let dirs: Vec<usize> = (0..files.len()).filter(is_dir).collect();
    let paths = dirs.iter().map(|n| files[*n].path.as_bytes());
    tree.beneath.create_dirs(paths, 0o700)?;
    contents(&tree)?;
    for entry in files {
        if let EntryKind::Link { target } = &entry.kind {
            tree.beneath
                .link(entry.path.as_bytes(), target.as_bytes())?;
        }
    }
    // In any order: what is done to a directory does not touch the one that it is in.
    several(dirs.len(), |next| {
        while let Some(n) = next() {
            let entry = tree.entry(dirs[n]);
            let path = entry.path.as_bytes();
            let dir = tree.beneath.dir(path)?;
            let mode = manifest::mode_on_disk(&entry.kind);
            close(&tree.beneath, &dir, path, mode, job)?;
            tree.fresh.note(dirs[n], &dir);
        }
        Ok(())
    })?;
    close(&tree.beneath, tree.beneath.root(), b"", 0o555, job)?;
    rustix::fs::syncfs(tree.beneath.root())
        .map_err(tree.beneath.failed("sync the file system of", b""))?;
    Ok(tree.fresh.record(job.manifest, *job.digest))
}

/// Writes all files. What older releases do not give is collected over all of them, so that it can be fetched
/// at once.
fn contents(tree: &Tree<'_>) -> Result<(), UnpackError> {
    let tasks = tasks(tree.job);
    let done = several(tasks.len(), |next| {
        let mut worker = Worker::new(tree)?;
        while let Some(n) = next() {
            let taken = worker.take(&tasks[n]);
            // Another thread may wait for a frame that is of no use any more.
            taken.inspect_err(|_| tree.job.arrivals.cut())?;
        }
        Ok(worker.spoilt)
    })?;
    let mut spoilt: Vec<_> = done.into_iter().flatten().collect();
    if spoilt.is_empty() {
        return Ok(());
    }
    spoilt.sort_by_key(|it| it.entry);
    Err(UnpackError::Spoilt(spoilt))
}

/// Does `count` things on several threads: each asks for the number of its next one, until there is none, or
/// until one of them has failed.
fn several<T: Send>(
    count: usize,
    work: impl Fn(&mut dyn FnMut() -> Option<usize>) -> Result<T, UnpackError> + Sync,
) -> Result<Vec<T>, UnpackError> {
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(MAX_WORKERS));
    let workers = workers.min(count).max(1);
    let (taken, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let done = work(&mut || {
            let n = taken.fetch_add(1, Ordering::Relaxed);
            (n < count && !stop.load(Ordering::Relaxed)).then_some(n)
        });
        if done.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        done
    };
    let done: Vec<_> = thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let mut done = vec![work()];
        for other in others {
            let other = other.join();
            done.push(other.unwrap_or_else(|it| std::panic::resume_unwind(it)));
        }
        done
    });
    let (mut all, mut cut) = (Vec::new(), None);
    for done in done {
        match done {
            Ok(done) => all.push(done),
            // Whoever waited in vain may have done so because of what happened to another one.
            Err(error) if error.is_cut() => cut = Some(error),
            Err(error) => return Err(error),
        }
    }
    cut.map_or(Ok(all), Err)
}

/// What is to be done: what needs no frame, then the rest in the order of the frames, in which they come.
fn tasks(job: &Job<'_>) -> Vec<Task> {
    // Each with the first frame that it needs.
    let mut tasks = vec![(None, Task::Manifest)];
    for (n, (entry, source)) in job
        .manifest
        .files
        .iter()
        .zip(&job.delta.sources)
        .enumerate()
    {
        let first = match source {
            Source::Nothing if !matches!(entry.kind, EntryKind::File { .. }) => continue,
            Source::Frame { .. } => continue,
            Source::Nothing | Source::Copy(_) => None,
            Source::Pieces(pieces) => pieces.iter().find_map(|piece| match piece {
                Piece::Frame(frame) => Some(*frame),
                Piece::Old { .. } => None,
            }),
        };
        tasks.push((first, Task::Entry(n)));
    }
    let frames = &job.manifest.archive.frames;
    let shared = |n: &&usize| frames[**n].content.is_none();
    let shared = job.delta.frames.iter().filter(shared);
    tasks.extend(shared.map(|n| (Some(*n), Task::Frame(*n))));
    tasks.sort_by_key(|(first, _)| *first);
    tasks.into_iter().map(|(_, task)| task).collect()
}

/// Gives a finished file or directory its owner, its mode and its time.
///
/// In this order: a change of the owner clears bits of the mode.
pub(super) fn close(
    beneath: &Beneath,
    fd: impl AsFd,
    path: &[u8],
    mode: u32,
    job: &Job<'_>,
) -> Result<(), FileError> {
    if let Some((user, group)) = job.owner {
        let user = rustix::fs::Uid::from_raw(user);
        let group = rustix::fs::Gid::from_raw(group);
        rustix::fs::fchown(&fd, Some(user), Some(group))
            .map_err(beneath.failed("change the owner of", path))?;
    }
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))
        .map_err(beneath.failed("change the mode of", path))?;
    let time = Timespec {
        tv_sec: i64::try_from(job.manifest.mtime).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::futimens(fd, &times).map_err(beneath.failed("set the time of", path))
}

/// Keeps the manifest in the release; what is written must be what was signed.
pub(super) fn keep_manifest(tree: &Tree<'_>) -> Result<(), UnpackError> {
    let (beneath, job) = (&tree.beneath, tree.job);
    let path = MANIFEST_PATH.as_bytes();
    beneath.create_dir(RESERVED.as_bytes(), 0o700)?;
    let file = beneath.create(path, 0o600)?;
    let written = manifest::write(job.manifest, &file).map_err(|e| {
        let errno = rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO);
        beneath.failed("write", path)(errno)
    })?;
    if written != *job.digest {
        return Err(ManifestError::Spelling.into());
    }
    let mode = |fd: &dyn AsFd, path: &[u8], mode| {
        rustix::fs::fchmod(fd.as_fd(), Mode::from_raw_mode(mode))
            .map_err(beneath.failed("change the mode of", path))
    };
    mode(&file, path, 0o444)?;
    let dir = beneath.dir(RESERVED.as_bytes())?;
    Ok(mode(&dir, RESERVED.as_bytes(), 0o555)?)
}
