//! What is noted of a release while it is unpacked, so that nothing must be walked through to be recorded.

use super::entries::{Entries, Known, Stat};
use super::record::Record;
use std::os::fd::AsFd;
use std::sync::Mutex;
use tamer_core::digest::Digest;
use tamer_core::release::Manifest;

/// Of a release with more entries than these nothing is noted while it is unpacked: it would be kept in memory, about
/// 64 bytes an entry.
const NOTED: usize = 32 << 10;

/// What `stat` said of a release's entries, each after its last change, while the release was unpacked.
pub(crate) struct Fresh(Option<Mutex<Vec<(u32, Stat)>>>);

// === impl Fresh ===

impl Fresh {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let few = manifest.files.len() <= NOTED;
        Self(few.then(|| Mutex::new(Vec::with_capacity(manifest.files.len()))))
    }

    /// Notes what `stat` says of the entry with this number; nothing changes it any more. What cannot be noted is
    /// looked at later.
    pub(crate) fn note(&self, n: usize, fd: impl AsFd) {
        if let Some(noted) = &self.0
            && let Ok(stat) = rustix::fs::fstat(fd)
            && let Ok(n) = u32::try_from(n)
            && let Ok(mut noted) = noted.lock()
        {
            noted.push((n, Stat::from(&stat)));
        }
    }

    /// What was noted, as a record of the release with this manifest.
    pub(crate) fn record(self, manifest: &Manifest, digest: Digest) -> Record {
        let mut entries = Entries::default();
        if let Some(Ok(mut noted)) = self.0.map(Mutex::into_inner) {
            noted.sort_unstable_by_key(|(n, _)| *n);
            let mut noted = noted.into_iter().peekable();
            for (n, entry) in manifest.files.iter().enumerate() {
                let stat = noted.next_if(|it| it.0 as usize == n).map(|it| it.1);
                // What has none, as links, is still named: it is looked at.
                let known = Known {
                    stat: stat.filter(Stat::is_fine),
                    verdict: None,
                };
                entries.push(entry.path.as_bytes(), &known);
            }
        }
        Record {
            manifest: digest,
            read: None,
            entries,
        }
    }
}
