//! What the controller counts, for Prometheus.

mod fleet;
mod routers;

use crate::identity::registry::Denied;
use crate::publications::Glance;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tamer_core::schema::{Record, What};
use tamer_kit::metrics::{self, add, register};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;

/// The prefix of every name.
const PREFIX: &str = "tamer_controller";

/// A state of rollouts: `rolling`, `baking`, `paused` …; or of switches: `preparing`, `turning` …
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    /// The state.
    pub state: &'static str,
}

/// How a deployment ended: `done`, `rolled_back` …
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EndingLabel {
    /// The ending.
    pub ending: &'static str,
}

/// What became of a migration: `started`, `done`, `failed`, `not_begun`, `unknown`, `settled`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MigrationLabel {
    /// What became of it.
    pub result: &'static str,
}

/// A signed document that ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DocumentLabel {
    /// The repository: `app/shop`.
    pub repository: String,
    /// `root`, `targets`, `snapshot` or `timestamp`.
    pub document: &'static str,
}

/// A kind of peers: `host`, `operator`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PeerLabel {
    /// The kind.
    pub kind: &'static str,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// The reason, as one word.
    pub reason: &'static str,
}

/// Everything that is counted. Clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Agents with an open stream.
    pub agents: Gauge,
    /// Reports taken from agents.
    pub reports: Counter,
    /// Batches made durable.
    pub commits: Counter,
    /// How long a commit took, from handing it over until it was durable, in seconds.
    pub commit_seconds: Histogram,
    /// Events applied to the fleet's state.
    pub events: Counter,
    /// Activations that were granted and not yet reported.
    pub grants_open: Gauge,
    /// Rollouts under way, by state.
    pub rollouts: Family<StateLabel, Gauge>,
    /// Switches of routers under way, by state.
    pub switches: Family<StateLabel, Gauge>,
    /// Routers that do not do what they were told.
    pub routers_astray: Gauge,
    /// Deployments that ended since the start, by how.
    pub deployments: Family<EndingLabel, Counter>,
    /// Which deployments were counted.
    counted: Arc<Mutex<Option<fleet::Counted>>>,
    /// Migrations of databases since the start, by what became of them.
    pub migrations: Family<MigrationLabel, Counter>,
    /// Migrations that have begun and of which it is not known yet how they ended.
    pub migrations_open: Gauge,
    /// Of these, those that wait for a person to look.
    pub migrations_unknown: Gauge,
    /// Desired states sent to agents.
    pub desired_sent: Counter,
    /// Hosts and operators that joined with a token.
    pub joins: Counter,
    /// Requests refused for who asked, by reason.
    pub denied_requests: Family<ReasonLabel, Counter>,
    /// Bytes of artifacts stored.
    pub artifact_bytes_received: Counter,
    /// Bytes of artifacts sent.
    pub artifact_bytes_sent: Counter,
    /// Requests for artifacts that were sent on to the store.
    pub artifact_redirects: Counter,
    /// The size of the store's files, in bytes.
    pub store_bytes: Gauge,
    /// When the newest backup was made, in seconds since 1970; 0 if there is none.
    pub last_backup_seconds: Gauge,
    /// Automatic backups that failed.
    pub backup_failures: Counter,
    /// When the mirror of what the store does not hold was last whole, in seconds since 1970.
    pub mirror_seconds: Gauge,
    /// 1 while the mirror lacks something.
    pub mirror_behind: Gauge,
    /// Copies to the mirror that failed.
    pub mirror_failures: Counter,
    /// When each signed document ends, in seconds since 1970.
    pub trust_ends: Family<DocumentLabel, Gauge>,
    /// 1 while the controller is held after a restore.
    pub held: Gauge,
    /// Targets that nobody has decided about since a restore.
    pub unsettled: Gauge,
    /// Hosts whose certificate is good and that the restored store does not know.
    pub strangers: Gauge,
    /// Hosts and operators that have not come over to the CA that issues certificates now.
    pub behind: Family<PeerLabel, Gauge>,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let r = &mut registry;
        // From 0.1 ms, the sync of a good disk, to 1.6 s.
        let seconds = Histogram::new(exponential_buckets(0.0001, 2.0, 15));
        Self {
            agents: add(r, "agents_connected", "Agents with an open stream"),
            reports: add(r, "reports", "Reports taken from agents"),
            commits: add(r, "commits", "Batches made durable"),
            commit_seconds: register(
                r,
                "commit_seconds",
                "Time until a batch was durable",
                seconds,
            ),
            events: add(r, "events", "Events applied to the state of the fleet"),
            grants_open: add(r, "grants_open", "Activations granted and not yet reported"),
            rollouts: add(r, "rollouts", "Rollouts by state"),
            switches: add(r, "switches", "Switches of routers by state"),
            routers_astray: add(
                r,
                "routers_astray",
                "Routers that do not do what they were told",
            ),
            deployments: add(r, "deployments", "Deployments that ended, by how"),
            migrations: add(
                r,
                "migrations",
                "Migrations of databases, by what became of them",
            ),
            migrations_open: add(
                r,
                "migrations_open",
                "Migrations whose end is not known yet",
            ),
            migrations_unknown: add(
                r,
                "migrations_unknown",
                "Migrations that wait for a person to look at the database",
            ),
            desired_sent: add(r, "desired_sent", "Desired states sent to agents"),
            joins: add(r, "joins", "Hosts and operators that joined with a token"),
            denied_requests: add(r, "denied_requests", "Requests refused for who asked"),
            artifact_bytes_received: add(r, "artifact_received_bytes", "Bytes of artifacts stored"),
            artifact_bytes_sent: add(r, "artifact_sent_bytes", "Bytes of artifacts sent"),
            artifact_redirects: add(
                r,
                "artifact_redirects",
                "Requests for artifacts sent on to the store",
            ),
            store_bytes: add(r, "store_bytes", "Size of the files of the store"),
            last_backup_seconds: add(
                r,
                "last_backup_timestamp_seconds",
                "When the newest backup was made",
            ),
            backup_failures: add(r, "backup_failures", "Automatic backups that failed"),
            mirror_seconds: add(
                r,
                "mirror_timestamp_seconds",
                "When the mirror of what the store does not hold was last whole",
            ),
            mirror_behind: add(r, "mirror_behind", "1 while the mirror lacks something"),
            mirror_failures: add(r, "mirror_failures", "Copies to the mirror that failed"),
            trust_ends: add(
                r,
                "trust_ends_timestamp_seconds",
                "When the team's root (repository `team`) and the signed documents of each repository end",
            ),
            held: add(r, "held", "1 while the controller is held after a restore"),
            unsettled: add(
                r,
                "unsettled_targets",
                "Targets that nobody has decided about since a restore",
            ),
            strangers: add(
                r,
                "unknown_hosts",
                "Hosts with a good certificate that the restored store does not know",
            ),
            behind: add(
                r,
                "peers_on_old_ca",
                "Hosts and operators without a certificate of the CA that issues them now",
            ),
            counted: Arc::default(),
            registry: Arc::new(registry),
        }
    }

    /// Takes over when signed documents end.
    pub fn trust_ends<'a>(&self, all: impl IntoIterator<Item = &'a Glance>) {
        const DOCUMENTS: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];
        for glance in all {
            for (document, ends) in DOCUMENTS.into_iter().zip(&glance.expires) {
                let Ok(ends) = OffsetDateTime::parse(ends, &Rfc3339) else {
                    continue;
                };
                let repository = glance.name.clone();
                let label = DocumentLabel {
                    repository,
                    document,
                };
                let gauge = self.trust_ends.get_or_create(&label);
                gauge.set(ends.unix_timestamp());
            }
        }
    }

    /// Counts a refusal by its reason.
    pub fn denied(&self, denied: &Denied) {
        let reason = reason(denied);
        self.denied_requests
            .get_or_create(&ReasonLabel { reason })
            .inc();
    }

    /// Counts a batch that became durable, and how long that took.
    pub fn committed(&self, took: Duration) {
        self.commits.inc();
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// Counts what was written down of databases.
    pub fn recorded(&self, records: &[Record]) {
        for record in records {
            let result = match record.what {
                What::Read { .. } => continue,
                What::Started(_) => "started",
                What::Done { .. } => "done",
                What::Failed { .. } => "failed",
                What::NotBegun { .. } => "not_begun",
                What::Unknown { .. } => "unknown",
                What::Settled { .. } => "settled",
            };
            let label = MigrationLabel { result };
            self.migrations.get_or_create(&label).inc();
        }
    }

    /// Counts a desired state that was sent to an agent.
    pub fn desired_sent(&self) {
        self.desired_sent.inc();
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

/// One word for a label: names of hosts and operators would make a series each.
fn reason(denied: &Denied) -> &'static str {
    match denied {
        Denied::Stranger => "stranger",
        Denied::NotAHost => "not_a_host",
        Denied::NotAnOperator => "not_an_operator",
        Denied::NoSuchCall => "no_such_call",
        Denied::Unknown(_) => "unknown",
        Denied::Revoked(_) => "revoked",
        Denied::OldKey(_) => "old_key",
        Denied::LastAdmin(_) => "last_admin",
        Denied::Expired(_) => "expired",
        Denied::Early(_) => "early",
        Denied::TooLate(_) => "too_late",
        Denied::KeyTaken(_) => "key_taken",
        Denied::Role { .. } => "role",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of a series in OpenMetrics text.
    fn value<'a>(text: &'a str, series: &str) -> Option<&'a str> {
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
    }

    #[test]
    fn what_is_counted_is_shown_under_its_name() {
        let metrics = Metrics::new();
        let clone = metrics.clone();
        clone.agents.set(30);
        clone.reports.inc_by(2);
        clone.committed(Duration::from_micros(1500));
        clone.denied(&Denied::Stranger);
        clone.denied(&Denied::Revoked("web-01".to_owned()));
        clone.artifact_bytes_received.inc_by(7);
        let text = metrics.text();
        for (series, expected) in [
            ("agents_connected", "30"),
            ("reports_total", "2"),
            ("commit_seconds_count", "1"),
            ("commit_seconds_bucket{le=\"0.0008\"}", "0"),
            ("commit_seconds_bucket{le=\"0.0016\"}", "1"),
            ("denied_requests_total{reason=\"stranger\"}", "1"),
            ("denied_requests_total{reason=\"revoked\"}", "1"),
            ("commits_total", "1"),
            ("artifact_received_bytes_total", "7"),
            ("grants_open", "0"),
        ] {
            let series = format!("tamer_controller_{series}");
            assert_eq!(value(&text, &series), Some(expected), "{series}\n{text}");
        }
        assert!(!text.contains("web-01"));
        assert!(text.ends_with("# EOF\n"));
    }
}
