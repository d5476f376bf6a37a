//! What differs on hosts now: they are asked through their desired state, a hundred at a time, and each row is
//! passed on when it comes. Nothing of it is kept.

use super::operator::{Answer, OperatorApi};
use super::{caller, operator, parse_option, stopped};
use crate::driver::{Driver, Stopped};
use crate::fleet::Fleet;
use crate::identity::registry::Role;
use crate::inspections::{Inspections, Ticket};
use crate::status::Sight;
use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tamer_core::desired::Inspection;
use tamer_core::drift::Inspect;
use tamer_core::id::{EnvironmentName, HostName, OperatorName};
use tamer_proto::v1;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// How many hosts are asked at a time: so many long answers are held at most.
const AT_ONCE: usize = 100;

/// How long is waited where nobody says how long, and at most.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// Hosts, as they answer.
pub(super) type Hosts = Pin<Box<dyn Stream<Item = Result<v1::InspectedHost, Status>> + Send>>;

/// One request.
struct Asking {
    driver: Driver,
    inspections: Arc<Inspections>,
    closing: CancellationToken,
    by: OperatorName,
    full: bool,
    until: Instant,
    patience: Duration,
    say: mpsc::Sender<Result<v1::InspectedHost, Status>>,
}

/// Nobody listens any more, or nobody answers.
struct Over;

impl From<Stopped> for Over {
    fn from(_: Stopped) -> Self {
        Self
    }
}

impl OperatorApi {
    pub(super) async fn inspect(&self, request: Request<v1::InspectDriftRequest>) -> Answer<Hosts> {
        let by = operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        let request = request.into_inner();
        let environment: Option<EnvironmentName> = parse_option(&request.environment)?;
        let host: Option<HostName> = parse_option(&request.host)?;
        let (given, most) = (Duration::from_millis(request.patience_ms), PATIENCE.1);
        let patience = match request.patience_ms {
            0 => PATIENCE.0,
            _ => given.min(most),
        };
        let read = move |fleet: &Fleet| chosen(fleet, environment.as_ref(), host.as_ref());
        let hosts = self.driver.read(read).await.map_err(stopped)?;
        let (say, said) = mpsc::channel(1);
        let asking = Asking {
            driver: self.driver.clone(),
            inspections: Arc::clone(&self.inspections),
            closing: self.closing.clone(),
            by,
            full: request.full,
            until: Instant::now() + patience,
            patience,
            say,
        };
        tokio::spawn(async move {
            let mut ticket = asking.inspections.open(tamer_kit::clock::now().0);
            // Whoever has gone is told no more.
            let _ = asking.all(hosts, &mut ticket).await;
            let left = asking.inspections.close(&ticket);
            let _ = asking
                .driver
                .cast(move |fleet, _| fleet.ask_no_more(&left))
                .await;
        });
        Ok(Response::new(Box::pin(
            tokio_stream::wrappers::ReceiverStream::new(said),
        )))
    }
}

/// The hosts that are asked, each with why it cannot be.
fn chosen(
    fleet: &Fleet,
    environment: Option<&EnvironmentName>,
    host: Option<&HostName>,
) -> Vec<(HostName, Option<String>)> {
    let chosen = fleet.registry.hosts.iter().filter(|(name, registered)| {
        host.map_or(!registered.revoked, |host| host == *name)
            && environment.is_none_or(|it| *it == registered.environment)
    });
    let unseen = |name: &HostName| {
        let seat = fleet.seats.get(name);
        let state = |why: &str| Some(why.to_owned());
        match seat {
            Some(seat) if seat.is_shut_out() => state("it is quarantined"),
            Some(seat) if seat.session.is_some() => fleet
                .held
                .is_some()
                .then(|| "the controller is held, and asks nobody".to_owned()),
            _ => state("it is away"),
        }
    };
    chosen
        .map(|(name, _)| (name.clone(), unseen(name)))
        .collect()
}

impl Asking {
    async fn all(
        &self,
        hosts: Vec<(HostName, Option<String>)>,
        ticket: &mut Ticket,
    ) -> Result<(), Over> {
        let mut ahead: VecDeque<HostName> = VecDeque::new();
        let mut unseen = Vec::new();
        for (name, why) in hosts {
            match why {
                Some(why) => unseen.push((name, why)),
                None => ahead.push_back(name),
            }
        }
        let mut left = ahead.len();
        self.send(None, String::new(), left).await?;
        for (name, why) in unseen {
            let row = self.row(&name, None).await?;
            self.send(row, why, left).await?;
        }
        let mut asked: BTreeSet<HostName> = BTreeSet::new();
        while left > 0 {
            let more = ahead.len().min(AT_ONCE - asked.len());
            if more > 0 {
                let hosts: Vec<HostName> = ahead.drain(..more).collect();
                asked.extend(hosts.iter().cloned());
                let id = self.inspections.wait_for(ticket, &hosts);
                let inspect = Inspect {
                    id,
                    full: self.full,
                };
                let change = move |fleet: &mut Fleet, _| fleet.ask_what_differs(&hosts, inspect);
                self.driver.change(change).await?;
            }
            tokio::select! {
                answer = ticket.answers.recv() => {
                    let (name, inspection) = answer.ok_or(Over)?;
                    asked.remove(&name);
                    left -= 1;
                    let row = self.row(&name, Some(inspection)).await?;
                    self.send(row, String::new(), left).await?;
                }
                () = sleep_until(self.until) => break,
                () = self.say.closed() => return Err(Over),
                () = self.closing.cancelled() => return Err(Over),
            }
        }
        for name in asked.into_iter().chain(ahead) {
            left -= 1;
            let row = self.row(&name, None).await?;
            let away = row.as_ref().is_some_and(|row| row.state != "connected");
            let why = match away {
                true => "it went away".to_owned(),
                false => format!("it has not answered in {} s", self.patience.as_secs()),
            };
            self.send(row, why, left).await?;
        }
        Ok(())
    }

    /// A host as it is known, with what it answered.
    async fn row(
        &self,
        name: &HostName,
        inspection: Option<Inspection>,
    ) -> Result<Option<v1::HostRow>, Over> {
        let (name, by) = (name.clone(), self.by.clone());
        let read = move |fleet: &Fleet| {
            let sight = Sight::of(fleet, &by);
            match inspection {
                None => sight.host(&name),
                Some(inspection) => sight.inspected(&name, &inspection),
            }
        };
        Ok(self.driver.read(read).await?)
    }

    async fn send(
        &self,
        host: Option<v1::HostRow>,
        unseen: String,
        left: usize,
    ) -> Result<(), Over> {
        let message = v1::InspectedHost {
            host,
            unseen,
            left: u32::try_from(left).unwrap_or(u32::MAX),
        };
        self.say.send(Ok(message)).await.map_err(|_| Over)
    }
}
