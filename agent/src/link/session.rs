//! One session with the controller: greeting, welcome, then states in both directions until it ends.

use super::Link;
use super::trouble::Trouble;
use crate::identity::authorities::Told;
use crate::transfer::Fetching;
use std::time::Duration;
use tamer_core::desired::{ComponentReport, Desired, HostReport};
use tamer_core::digest::Digest;
use tamer_core::moment::Moment;
use tamer_kit::{channel, supervisor};
use tamer_proto::convert::{digest_bytes, tell_transfer};
use tamer_proto::v1::agent_message::Kind as Say;
use tamer_proto::v1::agents_client::AgentsClient;
use tamer_proto::v1::controller_message::Kind as Said;
use tamer_proto::v1::{AgentMessage, Greeting, Welcome};
use tamer_proto::{MAX_MESSAGE, PROTOCOL_MAX, PROTOCOL_MIN, v1};
use tamer_release::manifest::SUPPORTED_FEATURES;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;

/// How long the controller may take to welcome.
const WELCOME_TIME: Duration = Duration::from_secs(30);

/// How often the two clocks are compared while nothing is said.
const COMPARE: Duration = Duration::from_secs(15);

/// How long a report may wait for the next one, so that many small changes are one message. What ends
/// an activation or a staging is never held up: a rollout waits for it.
const GATHER: Duration = Duration::from_millis(15);

/// How a session ended.
pub(super) enum End {
    /// Something is wrong with the line, or with the other side.
    Trouble(Trouble),
    /// There is a new certificate.
    Renewed,
    /// This host's clock was set since the greeting told it.
    ClockSet,
    /// There is nobody any more to bring the host to what is desired.
    Gone,
}

/// One session.
pub(super) struct Session<'a> {
    pub(super) link: &'a mut Link,
    pub(super) run_id: &'a str,
    pub(super) welcomed: bool,
    /// How far this host's clock was off when that was told last.
    pub(super) off: &'a mut Option<crate::clock::Off>,
}

impl Session<'_> {
    /// Runs it to its end; says whether the controller had welcomed.
    pub(super) async fn run(mut self) -> (End, bool) {
        let end = match self.talk().await {
            Ok(end) => end,
            Err(trouble) => End::Trouble(trouble),
        };
        (end, self.welcomed)
    }

    async fn talk(&mut self) -> Result<End, Trouble> {
        let shown = self.link.shown.borrow_and_update().clone();
        let channel = channel::connect(&self.link.address, shown.tls)
            .await
            .map_err(Trouble::Connect)?;
        let mut client = AgentsClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let asked = std::time::Instant::now();
        let mut sent = self.news();
        // One message ahead: what is newer replaces what waits here, not what waits in a queue.
        let (say, messages) = mpsc::channel(1);
        let greeting = message(Say::Greeting(self.greeting(&sent)));
        if say.send(greeting).await.is_err() {
            return Ok(End::Gone);
        }
        let answer = timeout(WELCOME_TIME, client.connect(ReceiverStream::new(messages))).await;
        let mut incoming = answer
            .map_err(|_| Trouble::Silent)?
            .map_err(|status| Trouble::Status(Box::new(status)))?
            .into_inner();
        let first = timeout(WELCOME_TIME, incoming.message()).await;
        let first = first.map_err(|_| Trouble::Silent)?;
        match first.map_err(|status| Trouble::Status(Box::new(status)))? {
            None => return Err(Trouble::Closed),
            Some(v1::ControllerMessage {
                kind: Some(Said::Welcome(welcome)),
            }) => {
                self.welcome(&welcome, asked);
            }
            Some(_) => return Err(Trouble::Odd("the first message was no welcome".to_owned())),
        }
        let mut due: Option<Instant> = None;
        self.link.tell_clock(self.off);
        let mut compare = tokio::time::interval(COMPARE);
        loop {
            tokio::select! {
                _ = compare.tick() => if self.is_greeting_stale() {
                    return Ok(End::ClockSet);
                },
                said = incoming.message() => match said {
                    Ok(Some(message)) => {
                        self.hear(message);
                        if self.is_greeting_stale() {
                            return Ok(End::ClockSet);
                        }
                    }
                    Ok(None) => return Err(Trouble::Closed),
                    Err(status) => return Err(Trouble::Status(Box::new(status))),
                },
                changed = self.link.reports.changed() => {
                    if changed.is_err() {
                        return Ok(End::Gone);
                    }
                    let now = Instant::now();
                    let wait = if ends(&sent.0, &self.link.reports.borrow()) { now } else { now + GATHER };
                    due = Some(due.map_or(wait, |due| due.min(wait)));
                }
                Ok(()) = self.link.fetching.changed() => {
                    due.get_or_insert_with(|| Instant::now() + GATHER);
                }
                // The newest report is taken only when there is room for it.
                room = async {
                    sleep_until(due.unwrap_or_else(Instant::now)).await;
                    say.reserve().await
                }, if due.is_some() => {
                    let Ok(room) = room else { return Err(Trouble::Closed) };
                    due = None;
                    let news = self.news();
                    if news != sent {
                        room.send(message(Say::Report(wire(&news))));
                        sent = news;
                    }
                }
                Ok(()) = self.link.shown.changed() => {
                    // Whom to trust is for the next line.
                    if self.link.shown.borrow_and_update().certificate != shown.certificate {
                        return Ok(End::Renewed);
                    }
                }
            }
        }
    }

    /// What there is to say now.
    fn news(&mut self) -> News {
        let report = self.link.reports.borrow_and_update().clone();
        (report, self.link.fetching.borrow_and_update().clone())
    }

    fn greeting(&self, news: &News) -> Greeting {
        Greeting {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            environment: self.link.environment.to_string(),
            trust_root: digest_bytes(&self.link.trust_root),
            features: SUPPORTED_FEATURES.iter().map(|&it| it.to_owned()).collect(),
            run_id: self.run_id.to_owned(),
            report: Some(wire(news)),
            now_ms: tamer_kit::clock::now().0,
        }
    }

    fn welcome(&mut self, welcome: &Welcome, asked: std::time::Instant) {
        self.link.clock.set(Moment(welcome.now_ms), asked);
        self.link.metrics.connected.set(1);
        self.welcomed = true;
        self.link.welcomed.send_replace(true);
        supervisor::status(&format!("connected to {}", self.link.address));
        tracing::info!(address = %self.link.address, controller = %welcome.controller_version, "connected");
    }

    /// Whether this host's clock was set, so that the greeting tells a wrong one. With a clock that is behind, the
    /// controller's certificate may not be valid yet: the line that is up is kept.
    fn is_greeting_stale(&mut self) -> bool {
        self.link.tell_clock(self.off) && self.off.is_none_or(|off| off.ahead)
    }

    /// Passes on what the host should be. Whether that is to be believed is decided where the journal
    /// is; here it is counted.
    fn hear(&self, message: v1::ControllerMessage) {
        let wire = match message.kind {
            Some(Said::Desired(wire)) => wire,
            Some(Said::Authorities(told)) => {
                let told = Told {
                    ca: told.ca_pem,
                    within: Duration::from_millis(told.within_ms),
                };
                self.link.authorities.send_replace(Some(told));
                return;
            }
            _ => {
                tracing::debug!("the controller said something that this agent does not know");
                return;
            }
        };
        let metrics = &self.link.metrics;
        metrics.desired.inc();
        match Desired::try_from(wire) {
            Err(error) => {
                metrics.refused("malformed");
                tracing::error!(%error, "desired state refused: it cannot be read; upgrade the older one of agent and controller");
            }
            Ok(desired) => {
                let newest = self.link.reports.borrow().generation;
                if desired.environment != self.link.environment {
                    metrics.refused("other_environment");
                } else if desired.generation < newest {
                    metrics.refused("older");
                } else if desired.generation.epoch
                    > crate::plan::highest_epoch(newest, tamer_kit::clock::now())
                {
                    metrics.refused("ahead");
                }
                tracing::debug!(generation = %desired.generation, "desired state came");
                self.link.desired.send_replace(Some(desired));
            }
        }
    }
}

/// What the host says of itself, and beside it what it fetches.
type News = (HostReport, Fetching);

fn wire((report, fetching): &News) -> v1::HostReport {
    let mut wire = v1::HostReport::from(report);
    if let Some((slot, transfer)) = fetching {
        tell_transfer(&mut wire, slot, transfer);
    }
    wire
}

fn message(kind: Say) -> AgentMessage {
    AgentMessage { kind: Some(kind) }
}

/// Whether an activation or a staging has ended since the last report that was sent.
fn ends(sent: &HostReport, now: &HostReport) -> bool {
    let ended = |component: &ComponentReport| {
        let activation = component.activation.clone();
        activation.filter(|activation| activation.status.is_final())
    };
    now.components.iter().any(|component| {
        let before = sent.components.iter().find(|it| it.slot == component.slot);
        let after = ended(component);
        let is_staged = |it: &Digest| before.is_some_and(|before| before.staged.contains(it));
        let failed = before.and_then(|before| before.staging_failure.as_ref());
        after.is_some() && after != before.and_then(ended)
            || component.staged.iter().any(|it| !is_staged(it))
            || component.staging_failure.is_some() && component.staging_failure.as_ref() != failed
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_core::check::Results;
    use tamer_core::desired::{ActivationReport, ActivationStatus, FailureKind, Slot};
    use tamer_core::generation::Generation;

    fn report(counter: u64, status: Option<ActivationStatus>) -> HostReport {
        let activation = status.map(|status| ActivationReport {
            grant: Generation { epoch: 1, counter },
            release: None,
            status,
        });
        HostReport {
            routes: vec![],
            inspection: None,
            generation: Generation { epoch: 1, counter },
            components: vec![ComponentReport {
                slot: Slot {
                    application: "shop".parse().unwrap(),
                    component: "web".parse().unwrap(),
                    pool: Default::default(),
                },
                running: None,
                staged: Vec::new(),
                staging_failure: None,
                activation,
                checks: Results::new(),
                hold: None,
                drift: None,
                compared: true,
                repair: None,
                migration: None,
            }],
            checks: Results::new(),
        }
    }

    #[test]
    fn only_a_new_end_of_what_a_rollout_waits_for_is_urgent() {
        let working = || Some(ActivationStatus::Working("switch".to_owned()));
        let done = || Some(ActivationStatus::Done);
        assert!(ends(&report(1, working()), &report(1, done())));
        assert!(
            ends(&report(1, done()), &report(2, done())),
            "another grant"
        );
        assert!(!ends(&report(1, done()), &report(1, done())));
        assert!(!ends(&report(1, done()), &report(2, working())));
        assert!(!ends(&report(1, None), &report(2, working())));
        let staged = |releases: &[u8]| {
            let mut report = report(1, None);
            report.components[0].staged = releases.iter().map(|n| Digest::new([*n; 32])).collect();
            report
        };
        assert!(ends(&staged(&[1]), &staged(&[1, 2])));
        assert!(!ends(&staged(&[1, 2]), &staged(&[2])), "pruned");
        let mut failed = staged(&[1]);
        let failure = crate::allowed::failure(FailureKind::Fetch, "no line");
        failed.components[0].staging_failure = Some(failure);
        assert!(ends(&staged(&[1]), &failed));
        assert!(!ends(&failed, &failed));
        let mut empty = report(1, None);
        empty.components.clear();
        assert!(ends(&empty, &report(1, done())), "a component that is new");
    }
}
