//! The agents' stream.

use super::{caller, denied, stopped};
use crate::authority::Told;
use crate::driver::Driver;
use crate::fleet::hosts::{Session, SessionId};
use crate::identity::peer::Caller;
use crate::inspections::Inspections;
use crate::metrics::Metrics;
use crate::sessions::Sessions;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tamer_core::desired::{Desired, HostReport};
use tamer_core::id::{EnvironmentName, HostName};
use tamer_core::moment::Moment;
use tamer_proto::v1::agent_message::Kind as Said;
use tamer_proto::v1::agents_server::Agents;
use tamer_proto::v1::controller_message::Kind as Answer;
use tamer_proto::v1::{AgentMessage, ControllerMessage, Greeting, Welcome};
use tamer_proto::{PROTOCOL_MAX, PROTOCOL_MIN};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// How long a new connection has to greet.
const GREETING_TIME: Duration = Duration::from_secs(20);

/// How often an agent may report for long, and how many reports may come at once before that.
const REPORT_EVERY: Duration = Duration::from_millis(50);
const REPORTS_AT_ONCE: u32 = 64;

/// The service.
#[derive(Clone)]
pub struct AgentApi {
    /// The writer.
    pub driver: Driver,
    /// The controller's CAs, which agents are told.
    pub authorities: watch::Receiver<Told>,
    /// Who is connected.
    pub sessions: Arc<Sessions>,
    /// Who waits to hear what differs.
    pub inspections: Arc<Inspections>,
    /// What to count.
    pub metrics: Metrics,
    /// Set while the controller stops: it is not the hosts then that go away.
    pub closing: CancellationToken,
}

#[tonic::async_trait]
impl Agents for AgentApi {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<ControllerMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let caller = caller(&request);
        let (host, environment) = self.host(&caller).await?;
        let mut incoming = request.into_inner();
        let greeting = tokio::time::timeout(GREETING_TIME, incoming.next())
            .await
            .map_err(|_| Status::deadline_exceeded("no greeting came"))?;
        let Some(Ok(AgentMessage {
            kind: Some(Said::Greeting(greeting)),
        })) = greeting
        else {
            return Err(Status::invalid_argument(
                "the first message must be the greeting",
            ));
        };
        let protocol = check(&greeting, &environment)?;
        let mut report = report(greeting.report)?;
        // Of an earlier line; it comes again if it is still asked for.
        report.inspection = None;
        let (id, outgoing) = self.sessions.open(&host);
        let session = Session {
            id,
            run_id: greeting.run_id,
            agent_version: greeting.agent_version,
            clock_ahead: clock_ahead(greeting.now_ms, tamer_kit::clock::now()),
        };
        let name = host.clone();
        let desired = self
            .driver
            .change(move |fleet, now| fleet.connected(&name, session, report, now))
            .await
            .map_err(stopped)?
            .map_err(Status::failed_precondition)?;
        if let Some(desired) = desired {
            self.sessions.send(&host, desired);
        }
        tracing::info!(%host, "connected");
        self.metrics.agents.set(self.sessions.count() as i64);
        let gone = CancellationToken::new();
        let until_gone = gone.clone().drop_guard();
        tokio::spawn(self.clone().listen((incoming, gone), host, id));
        let welcome = Welcome {
            protocol,
            now_ms: tamer_kit::clock::now().0,
            controller_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let welcome = tokio_stream::once(Ok(ControllerMessage {
            kind: Some(Answer::Welcome(welcome)),
        }));
        // Dropped with the answer: when the line is gone, or the session is over.
        let answers = welcome
            .chain(states(outgoing, self.authorities.clone()))
            .map(move |answer| {
                let _ = &until_gone;
                answer
            });
        Ok(Response::new(Box::pin(answers)))
    }
}

impl AgentApi {
    /// The host that calls. Its certificate has been verified in the handshake; the registry decides.
    async fn host(&self, caller: &Caller) -> Result<(HostName, EnvironmentName), Status> {
        let caller = caller.clone();
        self.driver
            .change(move |fleet, now| fleet.authorise_host(&caller, now))
            .await
            .map_err(stopped)?
            .map_err(denied)
    }

    /// Hears what a host says of itself, until its line or its session ends.
    async fn listen(
        self,
        (mut incoming, gone): (Streaming<AgentMessage>, CancellationToken),
        host: HostName,
        id: SessionId,
    ) {
        let mut pace = Pace::new(Instant::now());
        while let Some(Ok(message)) = incoming.next().await {
            if let Some(until) = pace.wait(Instant::now()) {
                // What is not read is not sent either, once the windows are full.
                let waits = tokio::time::sleep_until(until);
                if gone.run_until_cancelled(waits).await.is_none() {
                    // Nobody is there who could send more: what is left is not worth the wait.
                    break;
                }
            }
            let Some(Said::Report(wire)) = message.kind else {
                continue;
            };
            self.metrics.reports.inc();
            let mut report = match report(Some(wire)) {
                Ok(report) => report,
                Err(error) => {
                    tracing::warn!(%host, %error, "a report cannot be read: the connection is closed");
                    break;
                }
            };
            // It may be long, and is for whoever waits: the fleet only hears that it came.
            let inspection = report.inspection.take();
            let answered = inspection.as_ref().map(|it| it.id);
            let name = host.clone();
            let told = self
                .driver
                .cast(move |fleet, now| {
                    if fleet.is_current(&name, id) {
                        fleet.reported(&name, report, now);
                        fleet.ask_no_more(
                            &answered
                                .map(|it| (name, it))
                                .into_iter()
                                .collect::<Vec<_>>(),
                        );
                    }
                })
                .await;
            if told.is_err() {
                break;
            }
            // Whoever looks at the fleet now sees it with this report.
            if let Some(inspection) = inspection {
                self.inspections.answer(&host, &inspection);
            }
        }
        self.sessions.close(&host, id);
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

fn check(greeting: &Greeting, environment: &EnvironmentName) -> Result<u32, Status> {
    let protocol = greeting.protocol_max.min(PROTOCOL_MAX);
    if protocol < greeting.protocol_min.max(PROTOCOL_MIN) {
        return Err(Status::failed_precondition(format!(
            "the agent speaks protocols {} to {}, this controller {PROTOCOL_MIN} to {PROTOCOL_MAX}: upgrade the older one",
            greeting.protocol_min, greeting.protocol_max
        )));
    }
    if greeting.environment != environment.as_str() {
        return Err(Status::failed_precondition(format!(
            "the host says that it belongs to `{}`, and joined `{environment}`",
            greeting.environment
        )));
    }
    Ok(protocol)
}

/// How far a clock that stands at `said` is ahead of one that stands at `now`, in seconds; 0 where it was not said.
fn clock_ahead(said: u64, now: Moment) -> i64 {
    if said == 0 {
        return 0;
    }
    let millis = i128::from(said) - i128::from(now.0);
    i64::try_from(millis / 1000).unwrap_or(i64::MAX)
}

fn report(wire: Option<tamer_proto::v1::HostReport>) -> Result<HostReport, Status> {
    wire.unwrap_or_default()
        .try_into()
        .map_err(|error: tamer_proto::convert::BadMessage| {
            Status::invalid_argument(error.to_string())
        })
}

/// The CAs to trust, and whatever the agent should be: at first and whenever it has changed, until the session is
/// replaced or closed.
fn states(
    newest: watch::Receiver<Option<Desired>>,
    authorities: watch::Receiver<Told>,
) -> impl Stream<Item = Result<ControllerMessage, Status>> + Send {
    let told = WatchStream::new(authorities).map(|told| Some(Answer::Authorities((&told).into())));
    let states = WatchStream::new(newest)
        .map(|desired| desired.as_ref().map(|it| Answer::Desired(it.into())));
    // The session's end is the end of both.
    told.map(Some)
        .merge(states.map(Some).chain(tokio_stream::once(None)))
        .map_while(|answer| answer)
        .filter_map(|kind| kind.is_some().then_some(Ok(ControllerMessage { kind })))
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
}
