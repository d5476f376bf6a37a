//! Whether a release holds, once it has been switched to: its own checks must, its unit must be
//! active, and none of the environment's checks may be worse than before.

use super::{End, Executor, Job};
use crate::allowed::failure;
use crate::checks::seconds;
use crate::journal::Baseline;
use std::time::Duration;
use tamer_core::check::{CheckResult, Results, worse};
use tamer_core::desired::{Failure, FailureKind, Purpose};
use tamer_core::id::CheckName;
use tokio::time::{Instant, sleep};

/// The first and the longest wait between two tries that failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

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
    };
    hold(executor, job, &demand).await
}

async fn hold(executor: &Executor, job: &Job, demand: &Demand<'_>) -> Result<(), Failure> {
    let started = Instant::now();
    let deadline = started + job.view.policy.healthy_deadline.0;
    let mut tries = 0_u32;
    let mut wait = RETRY.0;
    let mut holds_since: Option<Instant> = None;
    loop {
        tries += 1;
        let over = holds_since.is_some_and(|since| since.elapsed() >= demand.min_healthy);
        // The environment's checks may be costly (one sends mail): they are tried at the beginning and
        // at the end of the time that it must hold, not all along.
        let with_environment = holds_since.is_none() || over;
        match look(executor, job, demand, with_environment).await {
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
                    wait = RETRY.0;
                }
                if Instant::now() + wait >= deadline {
                    let spent = match started.elapsed() {
                        long if long.as_secs() >= 10 => Duration::from_secs(long.as_secs()),
                        short => short,
                    };
                    let tries = match tries {
                        1 => "1 try".to_owned(),
                        n => format!("{n} tries"),
                    };
                    return Err(Failure {
                        message: format!("{}, {tries} in {}", problem.message, seconds(spent)),
                        ..problem
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

/// Looks once.
async fn look(
    executor: &Executor,
    job: &Job,
    demand: &Demand<'_>,
    with_environment: bool,
) -> Result<(), Failure> {
    let end = demand.end;
    if let Some(unit) = &end.place.unit {
        executor.services.active(unit).await?;
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
            judge(before, &now)
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
