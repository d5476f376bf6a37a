//! Whether a release holds, once it has been switched to: its own checks must, its unit must be up and
//! stay up, and none of the environment's checks may be worse than before.

use super::{End, Executor, Job};
use crate::allowed::{AGENT_UNIT, failure};
use crate::checks::seconds;
use crate::host::unit::{Verdict, Vigil};
use crate::journal::Baseline;
use std::time::Duration;
use tamer_core::check::{CheckResult, Results, worse};
use tamer_core::desired::{Failure, FailureKind, Purpose};
use tamer_core::id::CheckName;
use tokio::time::{Instant, sleep};

/// The first and the longest wait between two tries that failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The shortest time between two questions to systemd.
const ASK: Duration = Duration::from_millis(250);

/// How often a release that holds is tried while it must go on holding.
const HOLDING: Duration = Duration::from_secs(1);

/// What is demanded of a release.
struct Demand<'a> {
    end: &'a End,
    /// The environment's checks count unless they failed before; `None`: they do not count at all.
    environment: Option<&'a Results>,
    /// The component's checks count unless they failed before.
    component: Results,
    /// For how long it must hold.
    min_healthy: Duration,
    /// Whether the desired state may end the waiting.
    can_be_withdrawn: bool,
    /// Whether its unit must not end even once; otherwise what systemd starts again may hold later.
    strict: bool,
}

/// Why a release does not hold at one look.
struct Problem {
    failure: Failure,
    /// Nothing that comes later can make up for it.
    last: bool,
    /// The run of its unit whose log tells more; empty for the newest lines.
    invocation: String,
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            last: false,
            invocation: String::new(),
        }
    }
}

/// Waits until the new release has held for as long as the policy says.
///
/// Going back, the release's own checks count alone, and once is enough: it was good before, and each
/// moment more is one in which the fleet waits to be rescued.
///
/// # Errors
/// What still failed when the policy's `healthy_deadline` was over.
pub(super) async fn new_release(
    executor: &Executor,
    job: &Job,
    end: &End,
    baseline: &Baseline,
) -> Result<(), Failure> {
    let forward = job.go.purpose == Purpose::Forward;
    let demand = Demand {
        end,
        environment: forward.then_some(&baseline.environment),
        component: Results::new(),
        min_healthy: if forward {
            job.view.policy.min_healthy.0
        } else {
            Duration::ZERO
        },
        can_be_withdrawn: forward,
        // A new release whose unit ends by itself once is not one to go on with. The agent's own unit may
        // have been restarted by what interrupted the activation.
        strict: forward && end.place.unit.as_deref() != Some(AGENT_UNIT),
    };
    hold(executor, job, &demand).await
}

/// Waits until the old release is no worse than it was before the switch.
///
/// # Errors
/// What still failed when the policy's `healthy_deadline` was over.
pub(super) async fn old_release(
    executor: &Executor,
    job: &Job,
    end: &End,
    baseline: &Baseline,
) -> Result<(), Failure> {
    let demand = Demand {
        end,
        environment: Some(&baseline.environment),
        component: baseline.component.clone(),
        min_healthy: Duration::ZERO,
        can_be_withdrawn: false,
        strict: false,
    };
    hold(executor, job, &demand).await
}

async fn hold(executor: &Executor, job: &Job, demand: &Demand<'_>) -> Result<(), Failure> {
    let started = Instant::now();
    let deadline = started + job.view.policy.healthy_deadline.0;
    let mut tries = 0_u32;
    let first = match demand.end.place.unit {
        Some(_) => ASK,
        None => RETRY.0,
    };
    let mut wait = first;
    let mut vigil = match demand.strict && !demand.end.installed.spec.reload {
        true => Vigil::since_its_start(),
        false => Vigil::from_now(),
    };
    let mut holds_since: Option<Instant> = None;
    loop {
        tries += 1;
        let over = holds_since.is_some_and(|since| since.elapsed() >= demand.min_healthy);
        // The environment's checks may be costly (one sends mail): they are tried at the beginning and
        // at the end of the time that it must hold, not all along.
        let with_environment = holds_since.is_none() || over;
        match look(executor, job, demand, &mut vigil, with_environment).await {
            Ok(()) => {
                let since = *holds_since.get_or_insert_with(Instant::now);
                if over || demand.min_healthy.is_zero() {
                    return Ok(());
                }
                if Instant::now() >= deadline {
                    return Err(failure(
                        FailureKind::Check,
                        format!(
                            "its checks have not held for {} without a break within {}",
                            seconds(demand.min_healthy),
                            seconds(job.view.policy.healthy_deadline.0)
                        ),
                    ));
                }
                let left = demand.min_healthy.saturating_sub(since.elapsed());
                wait = left.min(HOLDING);
            }
            Err(problem) => {
                if holds_since.take().is_some() {
                    wait = first;
                }
                if problem.last || Instant::now() + wait >= deadline {
                    let spent = match started.elapsed() {
                        long if long.as_secs() >= 10 => Duration::from_secs(long.as_secs()),
                        short => short,
                    };
                    let tries = match tries {
                        1 => "1 try".to_owned(),
                        n => format!("{n} tries"),
                    };
                    let message = match problem.last {
                        true => problem.failure.message.clone(),
                        false => {
                            format!("{}, {tries} in {}", problem.failure.message, seconds(spent))
                        }
                    };
                    return Err(Failure {
                        message,
                        ..with_log(executor, demand.end, problem).await
                    });
                }
            }
        }
        tokio::select! {
            () = sleep(wait) => {}
            () = job.withdrawn.cancelled(), if demand.can_be_withdrawn => {
                return Err(failure(
                    FailureKind::Interrupted,
                    "the controller does not want it any more",
                ));
            }
        }
        if holds_since.is_none() {
            wait = (wait * 2).min(RETRY.1);
        }
    }
}

/// A failure with the last lines of the unit, if it has none of its own yet.
async fn with_log(executor: &Executor, end: &End, problem: Problem) -> Failure {
    let mut failure = problem.failure;
    if let (Some(unit), true) = (&end.place.unit, failure.output.is_empty()) {
        let mut invocation = problem.invocation;
        if invocation.is_empty() {
            let now = executor.services.look(unit).await;
            invocation = now.map(|it| it.invocation).unwrap_or_default();
        }
        failure.output = executor.services.log(unit, &invocation).await;
    }
    failure
}

/// Looks once.
async fn look(
    executor: &Executor,
    job: &Job,
    demand: &Demand<'_>,
    vigil: &mut Vigil,
    with_environment: bool,
) -> Result<(), Problem> {
    let end = demand.end;
    if let Some(unit) = &end.place.unit {
        let now = executor.services.look(unit).await?;
        let said = |why: String| failure(FailureKind::Service, format!("{unit} {why}"));
        match vigil.see(&now) {
            Verdict::Up => {}
            Verdict::Coming(why) => return Err(said(why).into()),
            Verdict::Down { why, invocation } => {
                return Err(Problem {
                    failure: said(why),
                    last: demand.strict,
                    invocation,
                });
            }
        }
    }
    let around = executor.around_component(&job.slot, end);
    let own = executor
        .probe
        .run(&end.installed.spec.checks, &around)
        .await;
    judge(&demand.component, &own)?;
    match demand.environment {
        Some(before) if with_environment => {
            let around = executor.around_environment();
            let now = executor.probe.run(&job.view.checks, &around).await;
            Ok(judge(before, &now)?)
        }
        _ => Ok(()),
    }
}

fn judge(before: &Results, now: &Results) -> Result<(), Failure> {
    match worse(before, now).first() {
        None => Ok(()),
        Some((name, why)) => Err(failed(FailureKind::Check, name, "after the switch", why)),
    }
}

/// A check's failure as a report shows it.
fn failed(kind: FailureKind, name: &CheckName, when: &str, why: &str) -> Failure {
    Failure {
        check: Some(name.clone()),
        ..failure(kind, format!("check `{name}` failed {when}: {why}"))
    }
}

/// Looks at the host before anything changes. The environment's checks must hold; those of the release
/// that runs are only noted: a host that is not healthy may be helped by the new release.
///
/// # Errors
/// [`FailureKind::PreCheck`] with the first environment check that failed.
pub(super) async fn before(executor: &Executor, job: &Job) -> Result<Baseline, Failure> {
    let around = executor.around_environment();
    let environment = executor.probe.run(&job.view.checks, &around);
    let component = async {
        match &job.from {
            None => Results::new(),
            Some(end) => {
                let around = executor.around_component(&job.slot, end);
                executor
                    .probe
                    .run(&end.installed.spec.checks, &around)
                    .await
            }
        }
    };
    let (environment, component) = tokio::join!(environment, component);
    for (name, result) in &environment {
        if let CheckResult::Failed(why) = result {
            return Err(failed(
                FailureKind::PreCheck,
                name,
                "before anything changed",
                why,
            ));
        }
    }
    Ok(Baseline {
        environment,
        component,
    })
}
