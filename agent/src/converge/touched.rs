//! Hears at once when `current` or the top of what runs is touched, so that it is looked at then and not
//! only with the next interval. Where the system gives no watches, the interval is all there is.

use super::{Converge, Event};
use crate::host::layout;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tamer_core::desired::Slot;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What is touched is looked at so long afterwards: who edits, seldom does one thing.
const AFTER: Duration = Duration::from_secs(1);

/// What watches the components' directories.
pub(super) struct Ears {
    inotify: Option<Arc<Inotify>>,
    shared: Arc<Shared>,
    /// What is watched for each component: its root, and what runs.
    watched: HashMap<Slot, (PathBuf, PathBuf, Vec<WatchDescriptor>)>,
    said: bool,
}

#[derive(Default)]
struct Shared {
    whose: Mutex<HashMap<WatchDescriptor, (Slot, bool)>>,
    ended: AtomicBool,
}

impl Ears {
    /// Begins to listen.
    pub(super) fn new(event: mpsc::UnboundedSender<Event>) -> Self {
        let shared: Arc<Shared> = Arc::default();
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).map(Arc::new);
        if let Err(error) = &inotify {
            tracing::warn!(%error, "nothing can be watched: releases are compared by the interval only");
        }
        if let Ok(inotify) = &inotify {
            let (inotify, shared) = (Arc::clone(inotify), Arc::clone(&shared));
            let thread = std::thread::Builder::new().name("touched".to_owned());
            if let Err(error) = thread.spawn(move || shared.listen(&inotify, &event)) {
                tracing::warn!(%error, "releases are compared by the interval only");
            }
        }
        Self {
            inotify: inotify.ok(),
            shared,
            watched: HashMap::new(),
            said: false,
        }
    }

    /// Watches what runs of a component, and its `current`.
    pub(super) fn watch(&mut self, slot: &Slot, root: &Path, release: &Path) {
        let known = self.watched.get(slot);
        let same = known.is_some_and(|it| it.0 == root && it.1 == release);
        let Some(inotify) = self.inotify.clone().filter(|_| !same) else {
            return;
        };
        if let Some((.., old)) = self.watched.remove(slot) {
            for descriptor in old {
                let _ = inotify.rm_watch(descriptor);
            }
        }
        let names = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO;
        let files = names | AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_ATTRIB;
        let only = AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DONT_FOLLOW;
        let mut descriptors = Vec::new();
        for (path, mask, is_root) in [(root, names, true), (release, files, false)] {
            match inotify.add_watch(path, mask | only) {
                Ok(descriptor) => {
                    let mut whose = self.shared.whose();
                    whose.insert(descriptor, (slot.clone(), is_root));
                    descriptors.push(descriptor);
                }
                Err(error) if !self.said => {
                    self.said = true;
                    let path = path.display();
                    tracing::warn!(%path, %error, "cannot be watched: it is compared by the interval only");
                }
                Err(_) => {}
            }
        }
        let watched = (root.to_owned(), release.to_owned(), descriptors);
        self.watched.insert(slot.clone(), watched);
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // The end of a watch is an event too: it wakes whoever listens. There is always one to end.
        if let Some(inotify) = &self.inotify
            && let Ok(last) = inotify.add_watch(
                "/",
                AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DELETE_SELF,
            )
        {
            let _ = inotify.rm_watch(last);
        }
    }
}

impl Shared {
    fn whose(&self) -> std::sync::MutexGuard<'_, HashMap<WatchDescriptor, (Slot, bool)>> {
        self.whose.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self, inotify: &Inotify, event: &mpsc::UnboundedSender<Event>) {
        while !self.ended.load(Ordering::Relaxed) {
            let heard = match inotify.read_events() {
                Ok(heard) => heard,
                Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            let whose = self.whose();
            let mut touched: Vec<&Slot> = Vec::new();
            for it in &heard {
                let Some((slot, is_root)) = whose.get(&it.wd) else {
                    continue;
                };
                let current = it.name.as_deref() == Some(OsStr::new("current"));
                if (current || !is_root) && !touched.contains(&slot) {
                    touched.push(slot);
                }
            }
            for slot in touched {
                let _ = event.send(Event::Touched(slot.clone()));
            }
        }
    }
}

impl Converge {
    /// Watches what runs.
    pub(super) fn listen(&mut self, slot: &Slot, root: &Path, name: &str) {
        let release = layout::releases(root).join(name);
        self.ears.watch(slot, root, &release);
    }

    /// Something was touched: it is looked at soon.
    pub(super) fn touched(&mut self, slot: &Slot) {
        self.state(slot).looking.soon(Instant::now() + AFTER);
    }
}
