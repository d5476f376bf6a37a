//! What an agent says after its greeting, for as long as its line lasts.

use crate::driver::{Driver, Stopped};
use crate::fleet::hosts::SessionId;
use crate::inspections::Inspections;
use crate::metrics::Metrics;
use crate::sessions::Sessions;
use crate::transfers::Transfers;
use std::sync::Arc;
use std::time::Duration;
use tamer_core::desired::HostReport;
use tamer_core::id::HostName;
use tamer_proto::convert::take_transfers;
use tamer_proto::v1;
use tamer_proto::v1::AgentMessage;
use tamer_proto::v1::agent_message::Kind as Said;
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How often an agent may report for long, and how many reports may come at once before that.
const REPORT_EVERY: Duration = Duration::from_millis(50);
const REPORTS_AT_ONCE: u32 = 64;

/// The line of one agent, and where what comes over it goes.
pub(super) struct Line {
    pub(super) driver: Driver,
    pub(super) sessions: Arc<Sessions>,
    pub(super) inspections: Arc<Inspections>,
    pub(super) transfers: Arc<Transfers>,
    pub(super) metrics: Metrics,
    /// Set while the controller stops: it is not the hosts then that go away.
    pub(super) closing: CancellationToken,
    pub(super) host: HostName,
    pub(super) id: SessionId,
}

impl Line {
    /// Hears the agent until it has gone.
    pub(super) async fn listen(
        self,
        mut incoming: impl Stream<Item = Result<AgentMessage, Status>> + Unpin,
        gone: CancellationToken,
    ) {
        let mut pace = Pace::new(Instant::now());
        let mut while_fetching = WhileFetching::default();
        while let Some(Ok(message)) = incoming.next().await {
            if let Some(until) = pace.wait(Instant::now()) {
                // What is not read is not sent either, once the windows are full.
                let waits = tokio::time::sleep_until(until);
                if gone.run_until_cancelled(waits).await.is_none() {
                    // Nobody is there who could send more: what is left is not worth the wait.
                    break;
                }
            }
            let Some(Said::Report(mut wire)) = message.kind else {
                continue;
            };
            self.metrics.reports.inc();
            let read = take_transfers(&mut wire).and_then(|fetched| {
                let news = while_fetching.is_news(&wire, !fetched.is_empty());
                self.transfers.heard(&self.host, self.id, fetched);
                news.then(|| HostReport::try_from(wire)).transpose()
            });
            match read {
                Ok(None) => {}
                Ok(Some(report)) => {
                    if self.take(report).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    let host = &self.host;
                    tracing::warn!(%host, %error, "a report cannot be read: the connection is closed");
                    break;
                }
            }
        }
        self.end().await;
    }

    async fn take(&self, mut report: HostReport) -> Result<(), Stopped> {
        // It may be long, and is for whoever waits: the fleet only hears that it came.
        let inspection = report.inspection.take();
        let answered = inspection.as_ref().map(|it| it.id);
        let (name, id) = (self.host.clone(), self.id);
        let told = self.driver.cast(move |fleet, now| {
            if fleet.is_current(&name, id) {
                fleet.reported(&name, report, now);
                fleet.ask_no_more(
                    &answered
                        .map(|it| (name, it))
                        .into_iter()
                        .collect::<Vec<_>>(),
                );
            }
        });
        told.await?;
        // Whoever looks at the fleet now sees it with this report.
        if let Some(inspection) = inspection {
            self.inspections.answer(&self.host, &inspection);
        }
        Ok(())
    }

    async fn end(self) {
        let (host, id) = (self.host, self.id);
        self.sessions.close(&host, id);
        self.transfers.ended(&host, id);
        self.metrics.agents.set(self.sessions.count() as i64);
        tracing::info!(%host, "disconnected");
        if self.closing.is_cancelled() {
            // Whoever was there now is looked for when the controller is back, as after a kill.
            return;
        }
        // A driver that has stopped needs no word of it.
        let _ = self
            .driver
            .cast(move |fleet, now| fleet.lost(&host, id, now))
            .await;
    }
}

/// Tells reports that say nothing new but how far a release has come. Only while something is fetched is the report
/// before kept: most of the time nothing is, and a fleet may be large.
#[derive(Default)]
struct WhileFetching(Option<v1::HostReport>);

impl WhileFetching {
    /// Whether a report, without what it says of what is fetched, is another one than that before.
    fn is_news(&mut self, report: &v1::HostReport, fetches: bool) -> bool {
        let news = self.0.as_ref() != Some(report);
        match fetches {
            true if news => self.0 = Some(report.clone()),
            true => {}
            false => self.0 = None,
        }
        news
    }
}

/// Reads what comes too fast later, so that one host takes no more of the driver than its part.
struct Pace {
    /// When all that has come would have come at the steady pace.
    even: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { even: now }
    }

    /// Counts a message, and says until when the next one has to wait, if it has to.
    fn wait(&mut self, now: Instant) -> Option<Instant> {
        self.even = self.even.max(now) + REPORT_EVERY;
        let at = self.even.checked_sub(REPORT_EVERY * REPORTS_AT_ONCE)?;
        (at > now).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditLog;
    use crate::config::Config;
    use crate::driver::Parts;
    use crate::fleet::Fleet;
    use crate::fleet::hosts::Session;
    use crate::identity::tokens::{Grant, Token};
    use crate::mirror::Mirror;
    use crate::server::Connections;
    use crate::store::Store;
    use crate::store::memory::MemoryStore;
    use crate::{migrations, revocations};
    use tamer_core::digest::Digest;
    use tamer_core::environment::Environment;
    use tamer_core::id::{EnvironmentName, TargetKey};
    use tamer_core::moment::Span;
    use tamer_core::selector::Labels;
    use tamer_kit::clock;
    use tokio_util::task::AbortOnDropHandle;

    #[test]
    fn reports_that_come_too_fast_are_read_at_a_steady_pace() {
        let begun = Instant::now() + Duration::from_secs(3600);
        let mut pace = Pace::new(begun);
        for _ in 0..REPORTS_AT_ONCE {
            assert_eq!(pace.wait(begun), None);
        }
        let mut now = begun;
        for _ in 0..10 {
            let until = pace.wait(now);
            assert_eq!(until, Some(now + REPORT_EVERY));
            now += REPORT_EVERY;
        }
        // After some silence many may come at once again.
        now += REPORT_EVERY * REPORTS_AT_ONCE;
        assert_eq!(pace.wait(now), None);
    }

    #[test]
    fn of_progress_alone_the_fleet_hears_nothing() {
        let report = |counter| v1::HostReport {
            generation: Some(v1::Generation { epoch: 1, counter }),
            ..v1::HostReport::default()
        };
        let mut while_fetching = WhileFetching::default();
        for (counter, fetches, news) in [
            (1, false, true),
            // Nothing is kept of what was said before.
            (1, true, true),
            (1, true, false),
            (2, true, true),
            (2, true, false),
            (2, false, false),
            (2, false, true),
        ] {
            assert_eq!(while_fetching.is_news(&report(counter), fetches), news);
        }
    }

    fn transfer(done: u64) -> v1::Transfer {
        v1::Transfer {
            release: vec![7; 32],
            done,
            total: 1000,
            rate: 10,
        }
    }

    fn report(staged: u8, fetched: Option<u64>) -> AgentMessage {
        let component = v1::ComponentReport {
            slot: Some(v1::Slot {
                application: "shop".into(),
                component: "web".into(),
                pool: "main".into(),
            }),
            staged: vec![vec![staged; 32]],
            transfer: fetched.map(transfer),
            ..v1::ComponentReport::default()
        };
        let report = v1::HostReport {
            generation: Some(v1::Generation::default()),
            components: vec![component],
            ..v1::HostReport::default()
        };
        AgentMessage {
            kind: Some(Said::Report(report)),
        }
    }

    /// A host of production that is placed there.
    fn joined(host: &HostName) -> Fleet {
        let (mut fleet, now) = (Fleet::new(1, None), clock::now());
        let environment: EnvironmentName = "production".parse().unwrap();
        let text = "[place]\n\"shop/web\" = {}\n";
        let file = Environment::parse("production.toml", text).unwrap();
        fleet.set_environment(&environment, 1, text.to_owned(), file, now);
        let secret = Digest::new([1; 32]);
        let grant = Grant::Host {
            environment,
            labels: Labels::new(),
            replaces: None,
        };
        let token = Token {
            grant,
            expires: now + Span::secs(60),
            created_by: None,
            used: None,
        };
        fleet.tokens.issue(secret, token);
        let key = Digest::new([2; 32]);
        fleet.join(secret, Some(host), key, now).unwrap();
        fleet
    }

    #[tokio::test]
    async fn how_far_a_host_has_come_is_known_and_never_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::defaults().unwrap();
        config.data = dir.path().join("data");
        config.backups.directory = dir.path().join("backups");
        let paths = config.paths();
        std::fs::create_dir_all(&config.data).unwrap();
        let host: HostName = "web-1".parse().unwrap();
        let (store, metrics) = (Arc::new(MemoryStore::new()), Metrics::new());
        let parts = Parts {
            fleet: joined(&host),
            store: Arc::clone(&store) as Arc<dyn Store>,
            audit: AuditLog::open(&paths.audit).unwrap(),
            revocations: revocations::open(&paths.revocations).unwrap().0,
            migrations: migrations::open(&paths.migrations).unwrap().0,
            epoch: (paths.state.clone(), 1),
            mirror: Mirror::new(&config, metrics.clone()),
            sessions: Arc::default(),
            connections: Connections::default(),
            metrics: metrics.clone(),
        };
        let (driver, driving) = Driver::new(parts, CancellationToken::new());
        let driving = AbortOnDropHandle::new(tokio::spawn(driving));
        let sessions = Arc::new(Sessions::default());
        let (id, _outgoing) = sessions.open(&host);
        let session = Session {
            id,
            run_id: "a run".to_owned(),
            agent_version: String::new(),
            clock_ahead: 0,
        };
        let greeting = HostReport::try_from(v1::HostReport {
            generation: Some(v1::Generation::default()),
            ..v1::HostReport::default()
        });
        let (name, greeting) = (host.clone(), greeting.unwrap());
        let connected =
            move |fleet: &mut Fleet, now| fleet.connected(&name, session, greeting, now);
        driver.change(connected).await.unwrap().unwrap();

        let (transfers, key) = (Arc::new(Transfers::default()), key());
        let line = Line {
            driver: driver.clone(),
            sessions,
            inspections: Arc::default(),
            transfers: Arc::clone(&transfers),
            metrics: metrics.clone(),
            closing: CancellationToken::new(),
            host: host.clone(),
            id,
        };
        let (say, said) = tokio::sync::mpsc::channel(1);
        let said = tokio_stream::wrappers::ReceiverStream::new(said);
        let listening = tokio::spawn(line.listen(said, CancellationToken::new()));
        // Whoever looks at the fleet sees it after all that was said before.
        let heard = async |reports: u64| {
            while metrics.reports.get() < reports {
                tokio::task::yield_now().await;
            }
            driver.read(|_| ()).await.unwrap();
            let fetched = transfers.of(&key, &Digest::new([7; 32]), |_| true);
            (store.revision(), fetched.get(&host).map(|it| it.done))
        };
        say.send(Ok(report(1, Some(0)))).await.unwrap();
        let (before, done) = heard(1).await;
        assert_eq!(done, Some(0));
        for n in 1..=30 {
            say.send(Ok(report(1, Some(n * 10)))).await.unwrap();
            assert_eq!(heard(1 + n).await, (before, Some(n * 10)));
        }
        // Anything else that it says is written, and does not carry it along.
        say.send(Ok(report(2, Some(310)))).await.unwrap();
        let (after, done) = heard(32).await;
        assert!(after > before, "what is staged is written");
        assert_eq!(done, Some(310));
        let stored = store.load("").unwrap().objects;
        let (host_, text) = (host.clone(), |it: &[u8]| {
            String::from_utf8_lossy(it).into_owned()
        });
        assert!(
            stored
                .iter()
                .any(|(_, value)| text(value).contains(&"02".repeat(32)))
        );
        assert!(
            stored
                .iter()
                .all(|(_, value)| !text(value).contains(&"07".repeat(32)))
        );
        // With its line it is gone.
        drop(say);
        listening.await.unwrap();
        assert_eq!(
            transfers
                .of(&key, &Digest::new([7; 32]), |it| *it == host_)
                .len(),
            0
        );
        drop(driving);
    }

    fn key() -> TargetKey {
        TargetKey {
            environment: "production".parse().unwrap(),
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
            pool: Default::default(),
        }
    }
}
