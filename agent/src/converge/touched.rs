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
    watched: HashMap<Slot, Watched>,
    said: bool,
}

/// What is watched of a component: its root, and what runs. What cannot be watched is tried again.
struct Watched {
    paths: [PathBuf; 2],
    descriptors: [Option<WatchDescriptor>; 2],
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

    /// Watches what runs of a component, and its `current`, as far as that is not done yet.
    pub(super) fn watch(&mut self, slot: &Slot, root: &Path, release: &Path) {
        let Some(inotify) = self.inotify.clone() else {
            return;
        };
        let other = |it: &&mut Watched| it.paths != [root, release];
        if let Some(old) = self.watched.get_mut(slot).filter(other) {
            for descriptor in old.descriptors.iter_mut().filter_map(Option::take) {
                let _ = inotify.rm_watch(descriptor);
            }
            old.paths = [root.to_owned(), release.to_owned()];
        }
        let watched = self.watched.entry(slot.clone()).or_insert_with(|| Watched {
            paths: [root.to_owned(), release.to_owned()],
            descriptors: [None, None],
        });
        let names = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO;
        let files = names | AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_ATTRIB;
        let only = AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DONT_FOLLOW;
        let all = watched.paths.iter().zip(&mut watched.descriptors);
        for ((path, descriptor), mask) in all.zip([names, files]) {
            if descriptor.is_some() {
                continue;
            }
            match inotify.add_watch(path, mask | only) {
                Ok(new) => {
                    let mut whose = self.shared.whose();
                    whose.insert(new, (slot.clone(), mask == names));
                    *descriptor = Some(new);
                }
                Err(error) if !self.said => {
                    self.said = true;
                    let path = path.display();
                    tracing::warn!(%path, %error, "cannot be watched: until that works it is compared by the interval only");
                }
                Err(_) => {}
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn what_could_not_be_watched_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let slot = Slot {
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            pool: Default::default(),
        };
        let (event, mut events) = mpsc::unbounded_channel();
        let mut ears = Ears::new(event);
        let (root, release) = (dir.path().join("web"), dir.path().join("web/releases/1"));
        let mut heard = async |ears: &mut Ears, touch: &Path| {
            ears.watch(&slot, &root, &release);
            fs::write(touch, "x").unwrap();
            matches!(events.recv().await, Some(Event::Touched(it)) if it == slot)
        };
        ears.watch(&slot, &root, &release);
        fs::create_dir(&root).unwrap();
        assert!(heard(&mut ears, &root.join("current")).await);
        fs::create_dir_all(&release).unwrap();
        assert!(heard(&mut ears, &release.join("by-hand")).await);
    }
}
