//! The agents' stream.

mod line;

use super::{caller, denied, stopped};
use crate::authority::Told;
use crate::driver::Driver;
use crate::fleet::hosts::Session;
use crate::identity::peer::Caller;
use crate::inspections::Inspections;
use crate::metrics::Metrics;
use crate::sessions::Sessions;
use crate::transfers::Transfers;
use line::Line;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tamer_core::desired::{Desired, HostReport};
use tamer_core::id::{EnvironmentName, HostName};
use tamer_core::moment::Moment;
use tamer_proto::convert::{BadMessage, take_transfers};
use tamer_proto::v1::agent_message::Kind as Said;
use tamer_proto::v1::agents_server::Agents;
use tamer_proto::v1::controller_message::Kind as Answer;
use tamer_proto::v1::{AgentMessage, ControllerMessage, Greeting, Welcome};
use tamer_proto::{PROTOCOL_MAX, PROTOCOL_MIN};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// How long a new connection has to greet.
const GREETING_TIME: Duration = Duration::from_secs(20);

/// The service.
pub struct AgentApi {
    /// The writer.
    pub driver: Driver,
    /// The controller's CAs, which agents are told.
    pub authorities: watch::Receiver<Told>,
    /// Who is connected.
    pub sessions: Arc<Sessions>,
    /// Who waits to hear what differs.
    pub inspections: Arc<Inspections>,
    /// What hosts fetch now.
    pub transfers: Arc<Transfers>,
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
        let mut said = greeting.report.unwrap_or_default();
        let fetched = take_transfers(&mut said).map_err(unreadable)?;
        let mut report = HostReport::try_from(said).map_err(unreadable)?;
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
        self.transfers.heard(&host, id, fetched);
        tracing::info!(%host, "connected");
        self.metrics.agents.set(self.sessions.count() as i64);
        let gone = CancellationToken::new();
        let until_gone = gone.clone().drop_guard();
        let line = Line {
            driver: self.driver.clone(),
            sessions: Arc::clone(&self.sessions),
            inspections: Arc::clone(&self.inspections),
            transfers: Arc::clone(&self.transfers),
            metrics: self.metrics.clone(),
            closing: self.closing.clone(),
            host,
            id,
        };
        tokio::spawn(line.listen(incoming, gone));
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

fn unreadable(error: BadMessage) -> Status {
    Status::invalid_argument(error.to_string())
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
