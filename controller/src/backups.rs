//! The automatic backups: one every so often, and one before a new version of Tamer writes.
//!
//! With them goes the [`Mirror`] of what the store does not hold, looked at every minute. Each backup is
//! a file of [`crate::store::backup`]; a failure is logged and counted, never fatal.

use crate::config::Config;
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::store::{Store, StoreError, backup, epoch};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tamer_core::moment::Moment;
use tamer_kit::clock;
use tamer_kit::durable;

/// How often is looked whether a backup is due: the wall clock decides, and it may jump.
const LOOK: Duration = Duration::from_secs(60);
/// In the state directory: the version that ran last.
pub(crate) const VERSION: &str = "version";
const MAX_VERSION: u64 = 256;

/// Makes backups as the configuration says, until `shutdown` is done. A backup under way is
/// finished first.
pub async fn run(
    store: Arc<dyn Store>,
    mirror: Mirror,
    config: &Config,
    metrics: Metrics,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = std::pin::pin!(shutdown);
    let config = Arc::new(config.clone());
    loop {
        let round = {
            let (store, config, metrics) = (Arc::clone(&store), config.clone(), metrics.clone());
            let mirror = mirror.clone();
            move || {
                let now = clock::now();
                // First, so that no backup of the store lies beside a mirror that is older.
                mirror.everything(now);
                look(&*store, &config, &metrics, now);
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(round).await {
            tracing::error!(%error, "the automatic backup panicked");
            metrics.backup_failures.inc();
        }
        tokio::select! {
            () = &mut shutdown => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Makes a backup if one is due, and keeps the metrics of backups and sizes true.
fn look(store: &dyn Store, config: &Config, metrics: &Metrics, now: Moment) {
    let directory = &config.backups.directory;
    // Whether one is due can't be told: then rather one too many.
    let due = backup::is_due(directory, now, config.backups.every).unwrap_or(true);
    if due && let Err(error) = make(store, config, now) {
        let error: &dyn std::error::Error = &error;
        tracing::error!(
            error,
            "the automatic backup failed: it is tried again in a minute"
        );
        metrics.backup_failures.inc();
    }
    let newest = backup::list(directory)
        .ok()
        .and_then(|all| made_at(all.first()?));
    let seconds = newest.map_or(0, |made| made.0 / 1000);
    metrics
        .last_backup_seconds
        .set(i64::try_from(seconds).unwrap_or(i64::MAX));
    let size = size_of(&config.paths().store);
    metrics
        .store_bytes
        .set(i64::try_from(size).unwrap_or(i64::MAX));
}

/// The bytes of all files under `dir`; what can't be seen, or is gone meanwhile, counts nothing.
fn size_of(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size_of(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Makes a backup now, then removes the oldest ones beyond those that are to be kept. Blocks.
///
/// # Errors
/// [`StoreError`]; there is then no new backup, or an old one was not removed.
pub fn make(store: &dyn Store, config: &Config, now: Moment) -> Result<PathBuf, StoreError> {
    let paths = config.paths();
    let epoch = epoch::read(&paths.state)?;
    let file = backup::backup(store, &paths.backups, epoch, now)?;
    let removed = backup::rotate(&paths.backups, config.backups.keep)?;
    tracing::info!(file = %file.display(), removed = removed.len(), "made a backup of the store");
    Ok(file)
}

/// Makes a backup if another version of Tamer than `version` ran last on this data, then notes
/// `version`. To be called after the store was opened and before anything is written. Blocks.
///
/// # Errors
/// [`StoreError`]: do not go on without this backup.
pub fn before_upgrade(
    store: &dyn Store,
    config: &Config,
    version: &str,
    now: Moment,
) -> Result<Option<PathBuf>, StoreError> {
    let state = config.paths().state;
    let note = state.join(VERSION);
    let last = durable::read_capped(&note, MAX_VERSION)?;
    if last.as_deref() == Some(version.as_bytes()) {
        return Ok(None);
    }
    let file = match last {
        // A new store: there is nothing to lose.
        None if store.revision() == 0 => None,
        _ => {
            tracing::info!(version, "another version ran last: making a backup first");
            Some(make(store, config, now)?)
        }
    };
    durable::create_dir_all(&state, 0o700)?;
    durable::replace(&note, version.as_bytes(), 0o600)?;
    Ok(file)
}

/// When a backup was made, by its name.
fn made_at(file: &impl AsRef<Path>) -> Option<Moment> {
    let name = file.as_ref().file_name()?.to_str()?;
    name.split('-').next()?.parse().ok().map(Moment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Batch;
    use crate::store::memory::MemoryStore;

    const DAY: u64 = 24 * 3600 * 1000;

    fn setting() -> (tempfile::TempDir, Config, MemoryStore) {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::defaults().unwrap();
        config.data = dir.path().to_owned();
        config.backups.directory = dir.path().join("backups");
        config.backups.keep = 2;
        let store = MemoryStore::default();
        let mut batch = Batch::default();
        batch.put("a/b".parse().unwrap(), vec![1]).unwrap();
        store.commit(0, batch).unwrap();
        (dir, config, store)
    }

    fn count(config: &Config) -> usize {
        backup::list(&config.backups.directory).unwrap().len()
    }

    #[test]
    fn one_is_made_when_it_is_due_and_the_oldest_go() {
        let (_dir, config, store) = setting();
        let metrics = Metrics::new();
        let inner = config.paths().store.join("data");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("db"), [0; 1000]).unwrap();
        std::fs::write(config.paths().store.join("head"), [0; 10]).unwrap();
        let start = 1_800_000_000_000;
        for (at, there) in [(0, 1), (DAY - 1, 1), (DAY, 2), (DAY + 1, 2), (2 * DAY, 2)] {
            look(&store, &config, &metrics, Moment(start + at));
            assert_eq!(count(&config), there, "{at}");
        }
        let newest = backup::newest(&config.backups.directory).unwrap().unwrap();
        assert_eq!(newest.1.written, Moment(start + 2 * DAY));
        assert_eq!(
            metrics.last_backup_seconds.get().unsigned_abs(),
            (start + 2 * DAY) / 1000
        );
        assert_eq!(metrics.backup_failures.get(), 0);
        assert_eq!(metrics.store_bytes.get(), 1010);
    }

    #[test]
    fn a_failure_is_counted_and_nothing_else() {
        let (dir, mut config, store) = setting();
        let metrics = Metrics::new();
        std::fs::write(dir.path().join("file"), "").unwrap();
        config.backups.directory = dir.path().join("file/backups");
        look(&store, &config, &metrics, Moment(DAY));
        assert_eq!(metrics.backup_failures.get(), 1);
        assert_eq!(metrics.last_backup_seconds.get(), 0);
    }

    #[test]
    fn another_version_finds_a_backup_from_before_it() {
        let (_dir, config, store) = setting();
        let run = |version, at| before_upgrade(&store, &config, version, Moment(at)).unwrap();
        assert!(run("0.1.0", 1).is_some(), "whoever wrote it is not known");
        assert!(run("0.1.0", 2).is_none());
        let file = run("0.2.0", 3).unwrap();
        assert_eq!(backup::verify(&file).unwrap().revision, 1);
        assert!(run("0.2.0", 4).is_none());
        assert!(run("0.1.0", 5).is_some(), "also on the way back");
        let (_dir, config, _) = setting();
        let empty = MemoryStore::default();
        let first = before_upgrade(&empty, &config, "0.1.0", Moment(1)).unwrap();
        assert_eq!((first, count(&config)), (None, 0));
    }

    #[test]
    fn the_first_is_made_at_once_and_a_stop_ends_it() {
        let (_dir, config, store) = setting();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let made = config.clone();
        let stopper = async move {
            while count(&made) == 0 {
                tokio::task::yield_now().await;
            }
            stop.send(()).unwrap();
        };
        let mirror = Mirror::new(&config, Metrics::new());
        let run = run(Arc::new(store), mirror, &config, Metrics::new(), async {
            let _ = stopped.await;
        });
        let both = async { tokio::join!(run, stopper) };
        let limited = async { tokio::time::timeout(Duration::from_secs(20), both).await };
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        assert!(runtime.block_on(limited).is_ok());
    }
}
