//! Fills the temporary directory: directories, then files frame by frame on several threads, then links, then
//! what closes the tree. Chooses nothing: the manifest has.

use super::frame::Tree;
use super::{MANIFEST_PATH, UnpackError};
use crate::beneath::Beneath;
use crate::frames::Opener;
use crate::layout::Layout;
use crate::manifest::RESERVED;
use rustix::fs::{Mode, Timespec, Timestamps};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use tamer_core::release::{EntryKind, Manifest};
use tamer_kit::durable::FileError;
use tamer_kit::hash::Hasher;

/// The most threads that unpack frames.
const MAX_WORKERS: usize = 4;

/// Where a release is unpacked to, and what it is.
pub(super) struct Job<'a> {
    pub(super) place: &'a Path,
    pub(super) manifest: &'a Manifest,
    pub(super) layout: &'a Layout,
    pub(super) owner: Option<(u32, u32)>,
}

/// Fills the directory, closes it for writing, and syncs it.
pub(super) fn fill(
    archive: impl Read,
    job: &Job<'_>,
    manifest_bytes: &[u8],
) -> Result<(), UnpackError> {
    let tree = Tree::new(Beneath::open(job.place)?, job);
    let files = &job.manifest.files;
    for entry in files {
        if matches!(entry.kind, EntryKind::Directory { .. }) {
            tree.beneath.create_dir(&entry.path, 0o700)?;
        }
    }
    tree.prepare()?;
    frames(archive, &tree)?;
    tree.finish()?;
    for entry in files {
        if let EntryKind::Link { target } = &entry.kind {
            tree.beneath.link(&entry.path, target)?;
        }
    }
    keep_manifest(&tree.beneath, manifest_bytes)?;
    // Children before their parents, so that a parent's time stays as it was set.
    for entry in files.iter().rev() {
        if matches!(entry.kind, EntryKind::Directory { .. }) {
            let dir = tree.beneath.dir(&entry.path)?;
            close(&tree.beneath, &dir, &entry.path, 0o555, job)?;
        }
    }
    close(&tree.beneath, tree.beneath.root(), "", 0o555, job)?;
    rustix::fs::syncfs(tree.beneath.root())
        .map_err(tree.beneath.failed("sync the file system of", ""))?;
    Ok(())
}

/// Gives a finished file or directory its owner, its mode and its time.
///
/// In this order: a change of the owner clears bits of the mode.
pub(super) fn close(
    beneath: &Beneath,
    fd: impl AsFd,
    path: &str,
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

fn keep_manifest(beneath: &Beneath, bytes: &[u8]) -> Result<(), FileError> {
    beneath.create_dir(RESERVED, 0o700)?;
    let mut file = beneath.create(MANIFEST_PATH, 0o600)?;
    file.write_all(bytes)
        .map_err(|e| kept(beneath, "write", &e))?;
    let mode = |fd: &dyn AsFd, path: &str, mode| {
        rustix::fs::fchmod(fd.as_fd(), Mode::from_raw_mode(mode))
            .map_err(beneath.failed("change the mode of", path))
    };
    mode(&file, MANIFEST_PATH, 0o444)?;
    mode(&beneath.dir(RESERVED)?, RESERVED, 0o555)
}

fn kept(beneath: &Beneath, operation: &'static str, e: &io::Error) -> FileError {
    let errno = rustix::io::Errno::from_io_error(e).unwrap_or(rustix::io::Errno::IO);
    beneath.failed(operation, MANIFEST_PATH)(errno)
}

/// Reads the archive on this thread, and unpacks its frames on others.
fn frames(archive: impl Read, tree: &Tree<'_>) -> Result<(), UnpackError> {
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(MAX_WORKERS));
    let workers = workers.min(tree.frames().len());
    let (jobs, jobs_rx) = sync_channel::<(usize, Vec<u8>)>(workers);
    let failed = Mutex::new(None);
    // Shared by the workers alone: when the last one stops, the reader's next send fails.
    let jobs_rx = std::sync::Arc::new(Mutex::new(jobs_rx));
    let read = thread::scope(|scope| {
        for _ in 0..workers {
            let jobs_rx = std::sync::Arc::clone(&jobs_rx);
            let failed = &failed;
            scope.spawn(move || {
                if let Err(error) = work(&jobs_rx, tree)
                    && let Ok(mut failed) = failed.lock()
                {
                    failed.get_or_insert(error);
                }
            });
        }
        drop(jobs_rx);
        let done = read(archive, tree, |n, bytes| {
            let stop = failed.lock().map_or(true, |failed| failed.is_some());
            !stop && jobs.send((n, bytes)).is_ok()
        });
        // The workers end when no more frames can come.
        drop(jobs);
        done
    });
    let failed = failed.into_inner().unwrap_or_else(|e| e.into_inner());
    failed.map_or(read, Err)
}

fn work(jobs: &Mutex<Receiver<(usize, Vec<u8>)>>, tree: &Tree<'_>) -> Result<(), UnpackError> {
    let mut opener = Opener::new().map_err(UnpackError::Start)?;
    loop {
        let next = match jobs.lock() {
            Ok(jobs) => jobs.recv(),
            Err(_) => return Ok(()),
        };
        let Ok((n, bytes)) = next else {
            return Ok(());
        };
        let raw = opener
            .open(&tree.frames()[n], &bytes)
            .map_err(|source| UnpackError::Frame { frame: n, source })?;
        tree.place(n, &raw)?;
    }
}

/// Reads frame after frame and hands each on while the other side wants more; then judges the whole.
fn read(
    mut archive: impl Read,
    tree: &Tree<'_>,
    mut hand_on: impl FnMut(usize, Vec<u8>) -> bool,
) -> Result<(), UnpackError> {
    let mut hasher = Hasher::default();
    for (n, frame) in tree.frames().iter().enumerate() {
        // A frame's length was judged: it is bounded by what it unpacks to, and that by a constant.
        let mut bytes = vec![0; frame.length as usize];
        archive.read_exact(&mut bytes).map_err(|e| {
            if e.kind() == io::ErrorKind::UnexpectedEof {
                UnpackError::Truncated {
                    frame: n,
                    frames: tree.frames().len(),
                }
            } else {
                UnpackError::Read(e)
            }
        })?;
        hasher.update(&bytes);
        if !hand_on(n, bytes) {
            return Ok(());
        }
    }
    let signed = &tree.job.manifest.archive;
    if hasher.finish() != signed.sha256 {
        return Err(UnpackError::Archive);
    }
    match archive.read(&mut [0]).map_err(UnpackError::Read)? {
        0 => Ok(()),
        _ => Err(UnpackError::Trailing(signed.length)),
    }
}
