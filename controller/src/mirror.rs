//! The mirror: a copy, beside the store's backups, of everything that the controller keeps outside its
//! store. With both of them a controller can be restored on another machine.
//!
//! ```text
//! <backups>/<time>-r<revision>.tamer-backup     the store, now and then
//! <backups>/mirror/ca/ online/ trust/           keys and signed metadata
//! <backups>/mirror/audit.log revocations.log migrations.log    continued line by line
//! <backups>/mirror/epoch controller.toml        replaced
//! <backups>/mirror/artifacts/blobs/             copied once
//! <backups>/mirror/as-of                        when all of it was whole
//! ```
//!
//! Where the backups lie elsewhere than the data, a revocation and a publication are copied *before*
//! they are acknowledged. A mirror that cannot be written stops nothing: shutting somebody out must not
//! depend on a second disk. It is said aloud instead (log, metrics, `tamer hosts`), until it is whole
//! again; were the data lost just then, what was revoked meanwhile would have to be revoked again.

mod copy;
mod restore;

pub use restore::{NoMirror, Source, is_occupied, set_aside};

use crate::config::{Config, Paths};
use crate::identity::authorities;
use crate::identity::ca::CaError;
use crate::metrics::Metrics;
use crate::utc::utc;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tamer_core::moment::Moment;
use tamer_kit::clock;
use tamer_kit::durable::{self, FileError};

/// How long somebody waits for a few lines to be copied: a network disk may hang for ever.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a publication waits for its releases to be copied.
const PATIENCE_FOR_BLOBS: Duration = Duration::from_secs(120);

/// Why something could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A CA cannot be read.
    #[error(transparent)]
    Ca(Box<CaError>),
    /// It is another controller's.
    #[error(
        "{path} is the mirror of another controller: give each its own [backups] directory",
        path = .0.display()
    )]
    NotOurs(PathBuf),
    /// The disk does not answer.
    #[error("it did not answer within {0:?}")]
    TooSlow(Duration),
}

/// The mirror of a running controller; clones are the same one.
#[derive(Debug, Clone)]
pub struct Mirror(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    plan: Plan,
    /// Held by whoever copies the logs, also while nobody waits for it any more.
    records: Arc<tokio::sync::Mutex<()>>,
    /// Held by whoever copies the rest, which may take long.
    rest: Arc<tokio::sync::Mutex<()>>,
    /// Since when it lacks something, and why.
    trouble: Mutex<Option<String>>,
    metrics: Metrics,
}

/// What is copied, and where.
#[derive(Debug, Clone)]
pub struct Plan {
    paths: Paths,
    settings: Option<PathBuf>,
    artifacts: bool,
    /// Whether it lies elsewhere than the data, so that waiting for it is worth anything.
    elsewhere: bool,
}

impl Mirror {
    /// The mirror that the configuration wants.
    pub fn new(config: &Config, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            plan: Plan::new(config),
            records: Arc::default(),
            rest: Arc::default(),
            trouble: Mutex::default(),
            metrics,
        }))
    }

    /// Copies what was appended to the logs, and the epoch, where that helps before it is acknowledged.
    pub async fn records(&self) {
        if self.0.plan.elsewhere {
            self.copy(PATIENCE, &self.0.records, Plan::records).await;
        }
    }

    /// Copies what was published, where that helps before it is acknowledged.
    pub async fn published(&self) {
        if self.0.plan.elsewhere {
            self.copy(PATIENCE_FOR_BLOBS, &self.0.rest, Plan::published)
                .await;
        }
    }

    /// Copies the CAs, where that helps before they are used.
    pub async fn authorities(&self) {
        if self.0.plan.elsewhere {
            self.copy(PATIENCE, &self.0.rest, Plan::authorities).await;
        }
    }

    async fn copy(
        &self,
        patience: Duration,
        lock: &Arc<tokio::sync::Mutex<()>>,
        what: fn(&Plan) -> Result<(), MirrorError>,
    ) {
        let (inner, lock) = (Arc::clone(&self.0), Arc::clone(lock));
        let copied = tokio::time::timeout(patience, async move {
            let busy = lock.lock_owned().await;
            let copy = move || {
                let done = what(&inner.plan);
                drop(busy);
                done
            };
            tokio::task::spawn_blocking(copy).await
        });
        match copied.await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => self.0.lacks(&error),
            Ok(Err(panicked)) => tracing::error!(%panicked, "copying to the mirror panicked"),
            Err(_) => self.0.lacks(&MirrorError::TooSlow(patience)),
        }
    }

    /// Copies everything that differs, and notes that the mirror is whole. Blocks; does nothing while
    /// somebody else copies.
    pub fn everything(&self, now: Moment) {
        let Ok(records) = Arc::clone(&self.0.records).try_lock_owned() else {
            return;
        };
        let done = self.0.plan.records();
        drop(records);
        let Ok(rest) = Arc::clone(&self.0.rest).try_lock_owned() else {
            return;
        };
        let done = done.and_then(|()| self.0.plan.rest(now));
        drop(rest);
        match done {
            Ok(()) => self.0.is_whole(now),
            Err(error) => self.0.lacks(&error),
        }
    }

    /// Why the mirror lacks something, and since when; `None` while it is whole.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.0.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Inner {
    fn lacks(&self, error: &MirrorError) {
        let directory = self.plan.paths.mirror.display();
        let why = tamer_kit::cause::chain(error);
        tracing::error!(%directory, error = why, "the mirror lacks something: were this machine lost now, it would be lost with it");
        self.metrics.mirror_failures.inc();
        self.metrics.mirror_behind.set(1);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let since = || {
            format!(
                "{directory} lacks something since {}: {why}",
                utc(clock::now())
            )
        };
        trouble.get_or_insert_with(since);
    }

    fn is_whole(&self, now: Moment) {
        self.metrics.mirror_behind.set(0);
        let seconds = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
        self.metrics.mirror_seconds.set(seconds);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.take().is_some() {
            tracing::info!(directory = %self.plan.paths.mirror.display(), "the mirror is whole again");
        }
    }
}

// === impl Plan ===

impl Plan {
    /// What is copied where, as the configuration says.
    pub fn new(config: &Config) -> Self {
        Self {
            paths: config.paths(),
            settings: config.file.clone(),
            artifacts: config.backups.artifacts,
            elsewhere: !config.backups.directory.starts_with(&config.data),
        }
    }

    fn to(&self, name: &str) -> PathBuf {
        self.paths.mirror.join(name)
    }

    /// The mirror is this controller's, or new.
    fn check_ours(&self) -> Result<(), MirrorError> {
        // It may have missed a rotation of the CA, and another controller shares none with this one.
        let ever =
            |dir: &Path| authorities::ever(dir).map_err(|error| MirrorError::Ca(Box::new(error)));
        let (theirs, ours) = (ever(&self.to("ca"))?, ever(&self.paths.ca)?);
        if theirs.is_empty() || theirs.iter().any(|it| ours.contains(it)) {
            return Ok(());
        }
        Err(MirrorError::NotOurs(self.paths.mirror.clone()))
    }

    fn authorities(&self) -> Result<(), MirrorError> {
        self.check_ours()?;
        authorities::copy(&self.paths.ca, &self.to("ca"))
            .map_err(|error| MirrorError::Ca(Box::new(error)))
    }

    /// Copies what was appended to the logs, and the epoch. Blocks.
    ///
    /// # Errors
    /// [`MirrorError`].
    pub fn records(&self) -> Result<(), MirrorError> {
        self.check_ours()?;
        copy::log(&self.paths.revocations, &self.to("revocations.log"))?;
        copy::log(&self.paths.migrations, &self.to("migrations.log"))?;
        copy::log(&self.paths.audit, &self.to("audit.log"))?;
        copy::file(&self.paths.state.join("epoch"), &self.to("epoch"))?;
        Ok(())
    }

    fn published(&self) -> Result<(), MirrorError> {
        self.check_ours()?;
        // Releases first: metadata that is there names nothing that is missing.
        // What lies on another machine is that one's to keep.
        if let Some(artifacts) = self.paths.artifacts.as_ref().filter(|_| self.artifacts) {
            copy::blobs(&artifacts.join("blobs"), &self.to("artifacts/blobs"))?;
        }
        copy::tree(&self.paths.trust, &self.to("trust"))?;
        Ok(())
    }

    /// Copies everything that differs, and notes when it was whole. Blocks.
    ///
    /// # Errors
    /// [`MirrorError`].
    pub fn everything(&self, now: Moment) -> Result<(), MirrorError> {
        self.records()?;
        self.rest(now)
    }

    fn rest(&self, now: Moment) -> Result<(), MirrorError> {
        self.published()?;
        copy::tree(&self.paths.online, &self.to("online"))?;
        if let Some(settings) = &self.settings {
            copy::file(settings, &self.to("controller.toml"))?;
        }
        self.authorities()?;
        let text = format!("{}\n", now.0);
        Ok(durable::replace(&self.to("as-of"), text.as_bytes(), 0o600)?)
    }

    /// When the mirror was last whole; `None` where no controller has run yet that would have made it.
    ///
    /// # Errors
    /// It is not there, is another controller's, or lacks lines of the logs that it should have had before
    /// they were acknowledged.
    pub fn check(&self) -> Result<Option<Moment>, MirrorError> {
        if !self.paths.mirror.exists() && !self.paths.state.join(crate::backups::VERSION).exists() {
            return Ok(None);
        }
        self.check_ours()?;
        let as_of = self.to("as-of");
        let missing = |what: &str| std::io::Error::other(what.to_owned());
        let found = durable::read_capped(&as_of, 64)?.and_then(|bytes| {
            let text = String::from_utf8(bytes).ok()?;
            text.trim().parse().ok().map(Moment)
        });
        let found = found.ok_or_else(|| {
            let why = "the mirror is not there, or was never whole yet";
            FileError::new("read", &as_of)(missing(why))
        })?;
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
        for (from, name) in [
            (&self.paths.revocations, "revocations.log"),
            (&self.paths.migrations, "migrations.log"),
            (&self.paths.audit, "audit.log"),
        ] {
            let to = self.to(name);
            if self.elsewhere && length(&to) < length(from) {
                let lacks = missing("it lacks lines that the controller has");
                return Err(FileError::new("rely on", &to)(lacks).into());
            }
        }
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests;
