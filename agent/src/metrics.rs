//! What the agent counts, for Prometheus.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::io;
use std::sync::Arc;
use tamer_core::check::{CheckResult, Results};
use tamer_core::desired::{ActivationStatus, FailureKind, HostReport};
use tamer_core::schema::MigrationStatus;
use tamer_kit::metrics::{self, add};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The prefix of every name.
const PREFIX: &str = "tamer_agent";

/// One word: how something ended, or why it was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WordLabel {
    /// The word.
    pub result: &'static str,
}

/// Why something of the controller's was of no use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// The kind of failure, as reports say it.
    pub kind: &'static str,
}

/// A check.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CheckLabel {
    /// `application/component`; empty for the environment's checks.
    pub component: String,
    /// The check's name.
    pub check: String,
}

/// What a component runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReleaseLabel {
    /// `application/component`, with the pool where it is not the default one.
    pub component: String,
    /// The version.
    pub version: String,
    /// The manifest's digest.
    pub manifest: String,
}

/// Everything that is counted. Clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// 1 while the controller has welcomed this agent.
    pub connected: Gauge,
    /// How far this host's clock is ahead of the controller's, in seconds; 0 where they agree to five minutes.
    pub clock_offset: Gauge,
    /// Connections that came about after the first one.
    pub reconnects: Counter,
    /// Desired states that came.
    pub desired: Counter,
    /// Desired states that are not to be believed, by the reason.
    pub desired_refused: Family<WordLabel, Counter>,
    /// Releases, archives and environment files that were refused, or could not be had, by the kind of failure.
    pub refusals: Family<KindLabel, Counter>,
    /// The counter part of the newest generation taken in.
    pub generation: Gauge,
    /// Activations that ended, by how.
    pub activations: Family<WordLabel, Counter>,
    /// Checks that held, or were not tried before, and then failed.
    pub check_failures: Family<CheckLabel, Counter>,
    /// Bytes of archives and manifests fetched, as they came.
    pub fetched_bytes: Counter,
    /// Transfers of frames that were cut and went on where they were.
    pub transfers_cut: Counter,
    /// Bytes of frames that a transfer found on disk, of an earlier one that was cut.
    pub resumed_bytes: Counter,
    /// Orders to migrate a database that ended, by how.
    pub migrations: Family<WordLabel, Counter>,
    /// What runs: always 1.
    pub releases: Family<ReleaseLabel, Gauge>,
    /// How many differences there are between what runs and what was deployed.
    pub drift: Family<ReleaseLabel, Gauge>,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let r = &mut registry;
        Self {
            connected: add(
                r,
                "connected",
                "Whether the controller has welcomed this agent",
            ),
            clock_offset: add(
                r,
                "clock_offset_seconds",
                "How far this host's clock is ahead of the controller's; 0 within five minutes",
            ),
            reconnects: add(r, "reconnects", "Connections after the first one"),
            desired: add(r, "desired_states", "Desired states that came"),
            desired_refused: add(
                r,
                "desired_states_refused",
                "Desired states refused, by reason",
            ),
            refusals: add(
                r,
                "refused",
                "Releases, archives and environment files refused or not to be had, by kind of failure",
            ),
            generation: add(r, "generation", "Counter of the newest generation taken in"),
            activations: add(r, "activations", "Activations that ended, by how"),
            check_failures: add(r, "check_failures", "Checks that began to fail"),
            fetched_bytes: add(
                r,
                "fetched_bytes",
                "Bytes of archives and manifests fetched",
            ),
            transfers_cut: add(
                r,
                "transfers_cut",
                "Transfers that were cut and went on where they were",
            ),
            resumed_bytes: add(
                r,
                "resumed_bytes",
                "Bytes of archives that an earlier transfer had brought",
            ),
            migrations: add(
                r,
                "migrations",
                "Orders to migrate a database, by how they ended",
            ),
            releases: add(r, "release_info", "The releases that run here"),
            drift: add(
                r,
                "drift_differences",
                "Differences between what runs and what was deployed",
            ),
            registry: Arc::new(registry),
        }
    }

    /// Counts a desired state that is refused.
    pub fn refused(&self, reason: &'static str) {
        let label = WordLabel { result: reason };
        self.desired_refused.get_or_create(&label).inc();
    }

    /// Counts something that the controller gave, or did not, and that is of no use.
    pub fn useless(&self, kind: FailureKind) {
        let kind = word(kind);
        self.refusals.get_or_create(&KindLabel { kind }).inc();
    }

    /// Counts what is new in `report` since `before`.
    pub fn reported(&self, before: &HostReport, report: &HostReport) {
        let counter = i64::try_from(report.generation.counter).unwrap_or(i64::MAX);
        self.generation.set(counter);
        self.checks("", &before.checks, &report.checks);
        self.releases.clear();
        self.drift.clear();
        let nothing = Results::new();
        for component in &report.components {
            let old = before
                .components
                .iter()
                .find(|it| it.slot == component.slot);
            let name = component.slot.to_string();
            let checks = old.map_or(&nothing, |it| &it.checks);
            self.checks(&name, checks, &component.checks);
            if let Some(running) = &component.running {
                let label = ReleaseLabel {
                    component: name,
                    version: running.version.to_string(),
                    manifest: running.manifest.to_string(),
                };
                self.releases.get_or_create(&label).set(1);
                let drift = component.drift.as_ref().map_or(0, |drift| drift.total);
                let differences = i64::try_from(drift).unwrap_or(i64::MAX);
                self.drift.get_or_create(&label).set(differences);
            }
            let known = old.and_then(|it| it.activation.as_ref());
            if let Some(now) = &component.activation
                && known != Some(now)
                && let Some(result) = ending(&now.status)
            {
                self.activations.get_or_create(&WordLabel { result }).inc();
            }
            let known = old.and_then(|it| it.migration.as_ref());
            if let Some(now) = &component.migration
                && known != Some(now)
                && let Some(result) = migrated(&now.status)
            {
                self.migrations.get_or_create(&WordLabel { result }).inc();
            }
        }
    }

    fn checks(&self, component: &str, before: &Results, now: &Results) {
        for (check, result) in now {
            let failed = |result: &CheckResult| matches!(result, CheckResult::Failed(_));
            if failed(result) && !before.get(check).is_some_and(failed) {
                let label = CheckLabel {
                    component: component.to_owned(),
                    check: check.to_string(),
                };
                self.check_failures.get_or_create(&label).inc();
            }
        }
    }

    /// Counts what reports say until their sender is gone. What the first one says is old news.
    pub async fn follow(self, mut reports: watch::Receiver<HostReport>) {
        let mut before = reports.borrow_and_update().clone();
        self.reported(&before, &before);
        while reports.changed().await.is_ok() {
            let now = reports.borrow_and_update().clone();
            self.reported(&before, &now);
            before = now;
        }
    }

    /// Everything as OpenMetrics text.
    pub fn text(&self) -> String {
        metrics::text(&self.registry)
    }

    /// Serves `/metrics` and `/healthz` until `shutdown` is done.
    ///
    /// # Errors
    /// The listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        metrics::serve(self.registry, listener, shutdown).await
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The word for a kind of failure, as reports say it.
fn word(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Trust => "trust",
        FailureKind::Evidence => "evidence",
        FailureKind::NotAllowed => "not_allowed",
        FailureKind::Unsupported => "unsupported",
        FailureKind::Fetch => "fetch",
        FailureKind::Disk => "disk",
        FailureKind::Drift => "drift",
        FailureKind::PreCheck => "pre_check",
        FailureKind::Check => "check",
        FailureKind::Hook => "hook",
        FailureKind::Service => "service",
        FailureKind::Migration => "migration",
        FailureKind::Interrupted => "interrupted",
        FailureKind::Host => "host",
    }
}

/// One word for how an order to migrate ended; `None` while it is under way.
fn migrated(status: &MigrationStatus) -> Option<&'static str> {
    match status {
        MigrationStatus::Working => None,
        MigrationStatus::Done(_) => Some("done"),
        MigrationStatus::NotBegun { .. } => Some("not_begun"),
        MigrationStatus::Failed { .. } => Some("failed"),
        MigrationStatus::Unknown { .. } => Some("unknown"),
    }
}

/// One word for how an activation ended; `None` while it is under way.
fn ending(status: &ActivationStatus) -> Option<&'static str> {
    match status {
        ActivationStatus::Working(_) => None,
        ActivationStatus::Done => Some("done"),
        ActivationStatus::Refused(_) => Some("refused"),
        ActivationStatus::Undone(_) => Some("undone"),
        ActivationStatus::Stuck(_) => Some("stuck"),
        ActivationStatus::Expired => Some("expired"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_core::desired::{ActivationReport, ComponentReport, Slot};
    use tamer_core::digest::Digest;
    use tamer_core::generation::Generation;
    use tamer_core::release::ReleaseRef;
    use tamer_core::schema::MigrationReport;

    fn report(counter: u64, status: ActivationStatus, failed: bool) -> HostReport {
        let grant = Generation { epoch: 1, counter };
        let release = ReleaseRef {
            version: format!("1.{counter}.0").parse().unwrap(),
            manifest: Digest::new([7; 32]),
        };
        let result = match failed {
            true => CheckResult::Failed("500".to_owned()),
            false => CheckResult::Passed,
        };
        let component = ComponentReport {
            slot: Slot {
                application: "shop".parse().unwrap(),
                component: "web".parse().unwrap(),
                pool: Default::default(),
            },
            running: Some(release.clone()),
            staged: Vec::new(),
            staging_failure: None,
            activation: Some(ActivationReport {
                grant,
                release: Some(release),
                status,
            }),
            checks: Results::from([("home".parse().unwrap(), result)]),
            hold: None,
            drift: None,
            compared: true,
            repair: None,
            migration: None,
        };
        HostReport {
            routes: vec![],
            inspection: None,
            generation: grant,
            components: vec![component],
            checks: Results::new(),
        }
    }

    #[test]
    fn the_end_of_a_migration_is_counted_once() {
        let metrics = Metrics::new();
        let with = |status: Option<MigrationStatus>| {
            let mut report = report(1, ActivationStatus::Done, false);
            report.components[0].migration = status.map(|status| MigrationReport {
                id: report.generation,
                status,
            });
            report
        };
        let done = || Some(MigrationStatus::Done(42));
        let story = [
            with(None),
            with(Some(MigrationStatus::Working)),
            with(done()),
            with(done()),
        ];
        for pair in story.windows(2) {
            metrics.reported(&pair[0], &pair[1]);
        }
        let text = metrics.text();
        let line = "tamer_agent_migrations_total{result=\"done\"} 1";
        assert!(text.contains(line), "{text}");
        assert!(!text.contains("result=\"working\""), "{text}");
    }

    #[test]
    fn ends_and_new_failures_are_counted_once_and_one_release_is_shown() {
        let metrics = Metrics::new();
        let working = || ActivationStatus::Working("switch".to_owned());
        let story = [
            report(1, ActivationStatus::Done, false),
            report(2, working(), false),
            report(2, ActivationStatus::Done, true),
            report(2, ActivationStatus::Done, true),
            report(3, ActivationStatus::Done, false),
            report(3, ActivationStatus::Done, true),
        ];
        for pair in story.windows(2) {
            metrics.reported(&pair[0], &pair[1]);
        }
        let text = metrics.text();
        for line in [
            "tamer_agent_activations_total{result=\"done\"} 2",
            "tamer_agent_check_failures_total{component=\"shop/web\",check=\"home\"} 2",
            "tamer_agent_generation 3",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let shown = text
            .lines()
            .filter(|it| it.starts_with("tamer_agent_release_info{"));
        let shown: Vec<_> = shown.collect();
        assert_eq!(shown.len(), 1, "{text}");
        assert!(shown[0].contains("version=\"1.3.0\""), "{text}");
    }
}
