//! Follows a deployment until it ends: live on a terminal, a line a transition elsewhere, a JSON
//! object a change for programs.

use super::live::Live;
use crate::client::Session;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::printer::Printer;
use crate::views::failures;
use crate::views::status::{render, summary};
use crate::views::transitions::transitions;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use std::pin::pin;
use std::time::Duration;
use tamer_kit::backoff::Backoff;
use tamer_proto::v1::{DeploymentStatus, WatchRequest};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status};

/// How often a live view counts on by itself.
const TICK: Duration = Duration::from_secs(1);

/// How long the controller may be away before watching gives up. The rollout does not.
const GIVE_UP: Duration = Duration::from_secs(600);

/// What comes from the controller, or does not.
#[derive(Debug)]
enum Event {
    Status(Box<DeploymentStatus>),
    /// The line is down; another try follows.
    Lost,
    /// There is nothing to wait for.
    Over(Status),
}

/// Follows a deployment; with `patient` also while it waits for approval or is closed.
///
/// # Errors
/// There is none, or the controller was away for too long.
pub(super) async fn run(
    session: &Session,
    deployment: u64,
    patient: bool,
    printer: &Printer,
) -> Result<Exit> {
    let operators = session.operators();
    let open = move || {
        let mut operators = operators.clone();
        async move {
            let stream = operators
                .watch(WatchRequest { deployment })
                .await?
                .into_inner();
            Ok::<BoxStream<'static, _>, Status>(stream.boxed())
        }
    };
    let (events, mut received) = mpsc::channel(16);
    let pump = tokio::spawn(pump(open, events, rand::random::<f64>));
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    let mut tick = tokio::time::interval(TICK);
    let mut show = Show::new(printer, patient);
    let exit = loop {
        tokio::select! {
            _ = &mut interrupt => break Ok(detached(deployment, printer)),
            _ = tick.tick() => show.tick(),
            event = received.recv() => match event {
                Some(Event::Status(status)) => {
                    if let Some(exit) = show.status(*status) {
                        break Ok(exit);
                    }
                }
                Some(Event::Lost) => show.lost(),
                Some(Event::Over(status)) => break Err(given_up(status, deployment)),
                None => break Err(given_up(Status::unavailable("no answer came"), deployment)),
            },
        }
    };
    pump.abort();
    exit
}

fn detached(deployment: u64, printer: &Printer) -> Exit {
    printer.note(format!(
        "\nStopped watching; deployment {deployment} goes on. next: tamer watch {deployment} · tamer pause {deployment} · tamer rollback --deployment {deployment}"
    ));
    Exit::Detached
}

fn given_up(status: Status, deployment: u64) -> Error {
    let away = status.code() == Code::Unavailable;
    let error = Error::from(status);
    if away {
        error.next(format!(
            "the rollout does not need this terminal; later: tamer watch {deployment}"
        ))
    } else {
        error
    }
}

/// Asks again and again until the deployment has ended, there is nothing to ask for, or the
/// controller was away for [`GIVE_UP`].
async fn pump<O, F, S>(open: O, events: mpsc::Sender<Event>, random: impl Fn() -> f64)
where
    O: Fn() -> F,
    F: Future<Output = std::result::Result<S, Status>>,
    S: Stream<Item = std::result::Result<DeploymentStatus, Status>> + Unpin,
{
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
    let mut heard = Instant::now();
    loop {
        let lost = match open().await {
            Err(status) => status,
            Ok(mut stream) => loop {
                match stream.next().await {
                    Some(Ok(status)) => {
                        heard = Instant::now();
                        backoff.reset();
                        let ended = status.ended_ms > 0;
                        if events.send(Event::Status(Box::new(status))).await.is_err() || ended {
                            return;
                        }
                    }
                    Some(Err(status)) => break status,
                    None => {
                        break Status::unavailable("the stream ended before the deployment did");
                    }
                }
            },
        };
        if !passes(lost.code()) || heard.elapsed() > GIVE_UP {
            // A receiver that is gone needs no answer.
            let _ = events.send(Event::Over(lost)).await;
            return;
        }
        if events.send(Event::Lost).await.is_err() {
            return;
        }
        tokio::time::sleep(backoff.next(random())).await;
    }
}

/// Whether it may be better in a moment: the network or the controller is away, or was restarted.
fn passes(code: Code) -> bool {
    !matches!(
        code,
        Code::NotFound
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::Unimplemented
    )
}

/// What is shown, and what it was made from.
struct Show<'a> {
    printer: &'a Printer,
    /// Whether it goes on while approval is waited for, or an environment that is closed.
    patient: bool,
    live: Live,
    last: Option<(DeploymentStatus, Instant)>,
    /// When it was first seen to go back, by the controller's clock in milliseconds.
    turned: Option<u64>,
    lost: bool,
}

impl<'a> Show<'a> {
    fn new(printer: &'a Printer, patient: bool) -> Self {
        Self {
            printer,
            patient,
            live: Live::default(),
            last: None,
            turned: None,
            lost: false,
        }
    }

    /// Shows a status; gives the exit code when it is the last one.
    fn status(&mut self, status: DeploymentStatus) -> Option<Exit> {
        let printer = self.printer;
        printer.json(&status);
        if self.turned.is_none() && status.state == "rolling back" {
            self.turned = Some(status.now_ms);
        }
        let over = Some(status.ended_ms).filter(|at| *at > 0);
        let took = over
            .zip(self.turned)
            .map(|(end, begun)| end.saturating_sub(begun));
        if !printer.is_live() {
            let before = self.last.as_ref().map(|(status, _)| status);
            printer.lines(transitions(before, &status, took));
        }
        self.lost = false;
        self.last = Some((status, Instant::now()));
        self.tick();
        let (status, _) = self.last.as_ref()?;
        // It may also stand still until a person has decided.
        let exit = Exit::of_deployment(status.exit_code);
        let waits = matches!(exit, Exit::Approval | Exit::Locked);
        let goes_on = exit == Exit::Done || waits && self.patient;
        if status.ended_ms == 0 && goes_on {
            return None;
        }
        printer.line(summary(status));
        if exit != Exit::Done {
            // Where transitions were printed, the failures stand above already.
            let told = if printer.is_live() {
                failures::explain(status, took)
            } else {
                vec![failures::next(status)]
            };
            printer.lines(told);
        } else if status.purpose != "rollback" {
            let command = failures::rollback_command(status);
            printer.note(format!("  to go back: {command}"));
        }
        Some(exit)
    }

    /// Draws the live view anew, its clock advanced by what has passed since the last status.
    fn tick(&mut self) {
        let Some((status, at)) = &self.last else {
            return;
        };
        if !self.printer.is_live() {
            return;
        }
        let mut now = status.clone();
        if now.ended_ms == 0 {
            let passed = u64::try_from(at.elapsed().as_millis()).unwrap_or(0);
            now.now_ms = now.now_ms.saturating_add(passed);
        }
        let mut lines = render(&now, self.printer.width());
        if self.lost {
            lines.push(
                "  the controller is away; the rollout needs no watching, trying again …"
                    .to_owned(),
            );
        }
        self.live.draw(&lines, self.printer);
    }

    fn lost(&mut self) {
        if !self.lost {
            self.lost = true;
            if self.printer.is_live() && self.last.is_some() {
                self.tick();
            } else {
                self.printer.note(
                    "  the controller is away; the rollout needs no watching, trying again …",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::Output;
    use crate::views::sample::{baking, rolled_back};
    use futures_util::stream;
    use std::sync::Mutex;

    type Answer = std::result::Result<Vec<std::result::Result<DeploymentStatus, Status>>, Status>;

    /// What the pump says when its tries are answered like this, the last one for ever.
    async fn pumped(answers: Vec<Answer>) -> Vec<Event> {
        let answers = Mutex::new(answers);
        let open = || {
            let mut answers = answers.lock().unwrap();
            let answer = if answers.len() > 1 {
                answers.remove(0)
            } else {
                answers[0].clone()
            };
            async move { answer.map(stream::iter) }
        };
        let (events, mut received) = mpsc::channel(16);
        let collect = async {
            let mut all = Vec::new();
            while let Some(event) = received.recv().await {
                all.push(event);
            }
            all
        };
        tokio::join!(pump(open, events, || 1.0), collect).1
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_line_is_taken_up_again() {
        let away = || Status::unavailable("gone");
        let events = pumped(vec![
            Ok(vec![Ok(baking()), Err(away())]),
            Err(away()),
            Ok(vec![Ok(baking())]),
            Ok(vec![Ok(rolled_back())]),
        ])
        .await;
        let told: Vec<_> = events
            .iter()
            .map(|event| match event {
                Event::Status(status) => status.state.as_str(),
                Event::Lost => "lost",
                Event::Over(_) => "over",
            })
            .collect();
        assert_eq!(
            told,
            ["running", "lost", "lost", "running", "lost", "rolled back"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_get_better_ends_it_and_so_does_patience() {
        let events = pumped(vec![Err(Status::not_found("no deployment 9"))]).await;
        assert!(matches!(&events[..], [Event::Over(status)] if status.code() == Code::NotFound));
        let before = Instant::now();
        let events = pumped(vec![Err(Status::unavailable("gone"))]).await;
        assert!(matches!(events.last(), Some(Event::Over(_))));
        let waited = before.elapsed();
        assert!(waited > GIVE_UP && waited < GIVE_UP * 2, "{waited:?}");
    }

    #[test]
    fn the_exit_code_is_the_deployment_s() {
        let (printer, kept) = Printer::keeping(Output::Text);
        let mut show = Show::new(&printer, false);
        assert_eq!(show.status(baking()), None);
        show.lost();
        assert_eq!(show.status(rolled_back()), Some(Exit::RolledBack));
        let kept = kept.lock().unwrap().clone();
        insta::assert_snapshot!(kept.out);
        assert!(kept.err.contains("trying again"));
    }

    #[test]
    fn whoever_does_not_wait_for_approval_hears_what_to_type() {
        let mut waits = baking();
        waits.state = "waits for approval".into();
        waits.exit_code = 8;
        waits.next = "tamer approve 318".into();
        waits.approval = Some(tamer_proto::v1::ApprovalStatus {
            needed: 1,
            waits: true,
            ..Default::default()
        });
        let (printer, kept) = Printer::keeping(Output::Text);
        let mut show = Show::new(&printer, false);
        assert_eq!(show.status(waits.clone()), Some(Exit::Approval));
        let said = kept.lock().unwrap().out.clone();
        for words in ["waits for approval: 0 of 1 approved", "tamer approve 318"] {
            assert!(said.contains(words), "{said}");
        }
        let (printer, _) = Printer::keeping(Output::Text);
        let mut show = Show::new(&printer, true);
        assert_eq!(show.status(waits), None);
        assert_eq!(show.status(rolled_back()), Some(Exit::RolledBack));
    }

    #[test]
    fn programs_get_an_object_a_change_and_nothing_else() {
        let (printer, kept) = Printer::keeping(Output::Json);
        let mut show = Show::new(&printer, false);
        show.status(baking());
        show.status(rolled_back());
        let kept = kept.lock().unwrap().clone();
        let states: Vec<_> = kept
            .out
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["state"].clone())
            .collect();
        assert_eq!(states, ["running", "rolled back"]);
        assert_eq!(kept.err, "");
    }
}
