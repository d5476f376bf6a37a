//! The fleet as people see it: pure conversion into what screens and JSON show. Deployments and hosts are seen
//! through an operator's [`Sight`].

mod sight;

pub use sight::Sight;

mod databases;
mod drift;
mod fetching;
pub mod history;
mod routers;

pub use databases::database;
pub use routers::routers;

use crate::fleet::Fleet;
use crate::fleet::hosts::Seat;
use std::collections::BTreeMap;
use tamer_core::check::{CheckResult, Results};
use tamer_core::desired::{ActivationStatus, ComponentReport, Failure, FailureKind, Purpose};
use tamer_core::id::{EnvironmentName, HostName};
use tamer_core::moment::Moment;
use tamer_core::rollout::deployment::{Deployment, Ending, Step, StepStatus};
use tamer_core::rollout::{Host, Outcome, Part, PartStatus, Rollout, Stage, Target, Waiting};
use tamer_proto::v1;

/// The state of a deployment that people have to approve first.
const WAITS: &str = "waits for approval";

/// The state of a deployment at a point of approval.
const POINT: &str = "waits for promotion";

/// The state of a deployment whose environment is closed, once no host is at it any more.
const CLOSED: &str = "closed";

/// How many hosts that need no attention are listed in a rollout.
const MOST_HOSTS: usize = 1000;

/// A deployment, whole.
fn deployment(fleet: &Fleet, deployment: &Deployment, now: Moment) -> v1::DeploymentStatus {
    let rollouts: Vec<v1::RolloutStatus> = deployment
        .steps
        .iter()
        .map(|step| rollout(fleet, deployment, step, now))
        .collect();
    let seen = fleet.databases(deployment);
    let application = fleet.application_option(&deployment.environment, &deployment.application);
    let stuck = databases::stuck(deployment, &application, &rollouts, &seen);
    let running = rollouts.iter().find(|r| {
        !matches!(
            r.state.as_str(),
            "waiting" | "succeeded" | "rolled back" | "failed" | "aborted"
        )
    });
    let state = match deployment.ended {
        // None could be reached, so nothing has begun.
        Some((_, Ending::HostsAway)) if !deployment.steps.iter().any(succeeded) => {
            "refused".to_owned()
        }
        Some((_, Ending::HostsAway)) if rollouts.iter().all(|r| r.state != "succeeded") => {
            "failed".to_owned()
        }
        Some((_, ending)) => ended(ending).to_owned(),
        None if stuck.is_some() => stuck
            .as_ref()
            .map_or_else(String::new, |(state, _)| (*state).to_owned()),
        None if running.is_none() && seen.iter().any(databases::is_at_it) => "migrating".to_owned(),
        None => running.map_or_else(|| "running".to_owned(), |rollout| rollout.state.clone()),
    };
    // A migration that waits has no rollout to say it.
    let shut = (deployment.ended.is_none() && running.is_none())
        .then(|| fleet.migration_closed(deployment, now))
        .flatten();
    let state = if shut.is_some() && matches!(state.as_str(), "running" | "migrating") {
        CLOSED.to_owned()
    } else {
        state
    };
    let approval = approval(fleet, deployment, now);
    // Somebody who paused it is waited for first.
    let awaited = approval.as_ref().is_some_and(|it| it.waits) && state == "running";
    let state = if awaited { WAITS.to_owned() } else { state };
    let (closed, point) = (state == CLOSED, state == POINT);
    let mut rollouts = rollouts;
    if let (Some(why), Some(first)) = (shut.filter(|_| closed), rollouts.first_mut()) {
        first.waiting_on = vec![format!("the environment to open: {why}")];
    }
    v1::DeploymentStatus {
        id: deployment.id.0,
        environment: deployment.environment.to_string(),
        application: deployment.application.to_string(),
        version: deployment
            .version
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        purpose: match deployment.purpose {
            Purpose::Forward => "deploy".to_owned(),
            Purpose::Back => "rollback".to_owned(),
        },
        by: deployment.by.clone(),
        reason: deployment.reason.clone(),
        started_ms: deployment.started_at.0,
        ended_ms: deployment.ended.map_or(0, |(at, _)| at.0),
        state,
        exit_code: deployment.ended.map_or(
            standing_still(stuck.is_some(), awaited || point, closed),
            |(_, ending)| u32::from(ending.exit_code()),
        ),
        rollouts,
        now_ms: now.0,
        databases: seen.iter().map(database).collect(),
        next: match stuck {
            Some((_, next)) => next,
            None if awaited => format!("tamer approve {}", deployment.id),
            None if point => format!("tamer promote {}", deployment.id),
            None if closed => format!("tamer watch {}", deployment.id),
            None => String::new(),
        },
        approval,
    }
}

/// The exit code of one that has not ended: what it waits for.
fn standing_still(stuck: bool, awaited: bool, closed: bool) -> u32 {
    match (stuck, awaited, closed) {
        (true, ..) => 7,
        (false, true, _) => 8,
        (false, false, true) => 4,
        (false, false, false) => 0,
    }
}

/// How the approval of a deployment stands; `None` where nobody has to approve it.
pub fn approval(fleet: &Fleet, deployment: &Deployment, now: Moment) -> Option<v1::ApprovalStatus> {
    let standing = fleet.standing(deployment, now)?;
    let by = standing.by.iter().map(|(who, until)| v1::ApprovedBy {
        who: who.clone(),
        until_ms: until.0,
    });
    Some(v1::ApprovalStatus {
        needed: standing.needed,
        by: by.collect(),
        until_ms: standing.until().map_or(0, |it| it.0),
        waits: fleet.awaited(deployment, now).is_some(),
    })
}

fn succeeded(step: &Step) -> bool {
    matches!(&step.status, StepStatus::Ended(_, summary) if summary.outcome == Outcome::Succeeded)
}

fn ended(ending: Ending) -> &'static str {
    match ending {
        Ending::Succeeded | Ending::HostsAway => "succeeded",
        Ending::Refused | Ending::PreChecksFailed | Ending::Drifted => "refused",
        Ending::RolledBack => "rolled back",
        Ending::NotRolledBack => "failed",
        Ending::Aborted => "aborted",
    }
}

fn rollout(fleet: &Fleet, deployment: &Deployment, step: &Step, now: Moment) -> v1::RolloutStatus {
    let version = |release: &Option<tamer_core::release::ReleaseRef>| {
        release
            .as_ref()
            .map_or_else(String::new, |release| release.version.to_string())
    };
    let mut status = v1::RolloutStatus {
        component: step.target.component.to_string(),
        pool: step.target.pool.to_string(),
        from: version(&step.from),
        to: version(&step.release),
        state: "waiting".to_owned(),
        leaves: step
            .leaves
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        ..v1::RolloutStatus::default()
    };
    let id = match &step.status {
        StepStatus::Waiting => return status,
        StepStatus::Impossible(reason) => {
            status.state = "failed".to_owned();
            status.cause.clone_from(reason);
            return status;
        }
        StepStatus::Running(id) => *id,
        StepStatus::Ended(id, summary) => {
            status.state = outcome(&summary.outcome).to_owned();
            status.cause = cause(&summary.outcome);
            *id
        }
    };
    status.id = id.0;
    if step.is_switch() {
        if let Some(router) = fleet.router_of(&step.target) {
            routers::switch(fleet, router, id, now, &mut status);
        }
        return status;
    }
    let Some(target) = fleet.targets.get(&step.target) else {
        return status;
    };
    let Some(rollout) = target.rollout.as_ref().filter(|rollout| rollout.id == id) else {
        return status;
    };
    details(&mut status, target, rollout, now, fleet.epoch);
    if deployment.ended.is_none() && rollout.has_ended() {
        status.waiting_on.clear();
    }
    status
}

fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::RolledBack(_) => "rolled back",
        Outcome::NotRolledBack(_) => "failed",
        Outcome::Aborted { .. } => "aborted",
    }
}

fn cause(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded => String::new(),
        Outcome::RolledBack(cause) | Outcome::NotRolledBack(cause) => cause.to_string(),
        Outcome::Aborted { by, reason } if reason.is_empty() => format!("aborted by {by}"),
        Outcome::Aborted { by, reason } => format!("aborted by {by}: {reason}"),
    }
}

fn details(
    status: &mut v1::RolloutStatus,
    target: &Target,
    rollout: &Rollout,
    now: Moment,
    epoch: u64,
) {
    let paused = rollout.paused.is_some();
    let frozen = rollout.paused.as_ref().is_some_and(|pause| pause.frozen);
    status.state = match &rollout.stage {
        Stage::Ended { outcome: how, .. } => outcome(how).to_owned(),
        _ if frozen => "frozen".to_owned(),
        _ if paused => "paused".to_owned(),
        Stage::RollingBack { .. } => "rolling back".to_owned(),
        Stage::Rolling { .. } | Stage::Baking { .. } => "running".to_owned(),
    };
    if let Stage::RollingBack { cause } = &rollout.stage {
        status.cause = cause.to_string();
    }
    let waiting_on = target.decide(now, epoch).waiting_on;
    let at_it = |it: &Waiting| matches!(it, Waiting::Switching(_));
    let closed = |it: &Waiting| matches!(it, Waiting::Closed { .. });
    if waiting_on.iter().any(|it| matches!(it, Waiting::Point(_))) {
        status.state = POINT.to_owned();
    }
    if waiting_on.iter().any(closed) && !waiting_on.iter().any(at_it) {
        status.state = CLOSED.to_owned();
    }
    status.waiting_on = waiting_on.iter().map(Waiting::to_string).collect();
    if let Some(pause) = rollout.paused.as_ref().filter(|pause| pause.frozen) {
        status.cause.clone_from(&pause.reason);
        status.waiting_on = vec!["a person to decide".to_owned()];
    }
    status.total = rollout.total;
    status.waves = rollout
        .waves
        .iter()
        .enumerate()
        .map(|(number, wave)| v1::WaveStatus {
            name: wave.name.clone(),
            ..wave_of(target, rollout, number as u32)
        })
        .collect();
    let release = rollout.release.as_ref();
    for (name, host, part) in target.parts() {
        status.staged += u32::from(host.has(release));
        let row = host_row(name, host, part, release.map(|release| release.manifest));
        let calm =
            matches!(part.status, PartStatus::Done | PartStatus::Waiting) && host.grant.is_none();
        if !calm || status.hosts.len() < MOST_HOSTS {
            status.hosts.push(row);
        }
    }
}

fn wave_of(target: &Target, rollout: &Rollout, number: u32) -> v1::WaveStatus {
    let mut wave = v1::WaveStatus::default();
    for (_, host, part) in target.parts().filter(|(_, _, part)| part.wave == number) {
        wave.total += 1;
        wave.done += u32::from(part.status == PartStatus::Done);
        wave.failed += u32::from(part.status.is_failure());
        wave.working += u32::from(host.grant.is_some());
    }
    let state = match &rollout.stage {
        Stage::Rolling { wave } if number < *wave => "done",
        Stage::Rolling { wave } if number == *wave => "rolling",
        Stage::Baking { wave, .. } if number < *wave => "done",
        Stage::Baking { wave, .. } if number == *wave => "baking",
        Stage::Ended {
            outcome: Outcome::Succeeded,
            ..
        } => "done",
        _ if wave.done + wave.failed > 0 => "done",
        _ => "waiting",
    };
    if let Stage::Baking {
        wave: baking,
        since,
    } = &rollout.stage
        && *baking == number
    {
        wave.baked_at_ms = (*since + rollout.policy.bake).0;
    }
    state.clone_into(&mut wave.state);
    wave
}

fn host_row(
    name: &HostName,
    host: &Host,
    part: &Part,
    wanted: Option<tamer_core::digest::Digest>,
) -> v1::RolloutHost {
    let state = match (&part.status, &host.grant) {
        (_, Some(grant)) => match &grant.step {
            Some(step) => format!("working: {step}"),
            None => "granted".to_owned(),
        },
        (PartStatus::Waiting, None)
            if wanted.is_some_and(|wanted| host.staged.contains(&wanted)) =>
        {
            "staged".to_owned()
        }
        (PartStatus::Waiting, None) => "waiting".to_owned(),
        (PartStatus::Done, None) => "done".to_owned(),
        (PartStatus::Refused(_), None) => "refused".to_owned(),
        (PartStatus::Failed(_) | PartStatus::NotBack(_), None) => "failed".to_owned(),
        (PartStatus::Silent, None) => "silent".to_owned(),
    };
    let running = host.running.as_ref();
    v1::RolloutHost {
        host: name.to_string(),
        wave: part.wave,
        state: if part.moved && running.map(|r| r.manifest) != wanted && host.grant.is_none() {
            "back".to_owned()
        } else {
            state
        },
        running: running.map_or_else(String::new, |release| release.version.to_string()),
        failure: match &part.status {
            PartStatus::Silent => Some(failure(&host.silence())),
            status => status.failure().map(failure),
        },
        transfer: None,
    }
}

fn failure(failure: &Failure) -> v1::Failure {
    failure.into()
}

/// A host, whole.
fn host(fleet: &Fleet, name: &HostName) -> Option<v1::HostRow> {
    let registered = fleet.registry.hosts.get(name)?;
    let nobody = Seat::default();
    let seat = fleet.seats.get(name).unwrap_or(&nobody);
    let state = match (&seat.session, seat.is_shut_out(), registered.revoked) {
        (_, _, true) => "removed",
        (_, true, _) => "quarantined",
        (Some(_), _, _) => "connected",
        (None, _, _) => "away",
    };
    let keys = fleet.targets_of(name);
    let components = keys.iter().filter_map(|key| {
        let target = fleet.targets.get(key)?;
        let host = target.hosts.get(name)?;
        let said = seat.components.iter().find(|said| {
            said.slot.application == key.application
                && said.slot.component == key.component
                && said.slot.pool == key.pool
        });
        let mut row = component(target, host, said);
        if let Some(said) = said {
            drift::show(fleet, name, key, said, &mut row);
        }
        Some(row)
    });
    Some(v1::HostRow {
        name: name.to_string(),
        environment: registered.environment.to_string(),
        labels: registered.labels.clone(),
        state: state.to_owned(),
        since_ms: seat.since.0,
        agent_version: seat
            .session
            .as_ref()
            .map_or_else(String::new, |session| session.agent_version.clone()),
        components: components.collect(),
        checks: checks(&seat.checks),
    })
}

fn component(target: &Target, host: &Host, said: Option<&ComponentReport>) -> v1::HostComponent {
    let version = |release: Option<&tamer_core::release::ReleaseRef>| {
        release.map_or_else(String::new, |release| release.version.to_string())
    };
    let goal = target.goal(host);
    let held = host.hold.as_ref().map(|reason| {
        let message = format!("held on the server: {reason}");
        failure(&Failure::seen(FailureKind::Host, message))
    });
    let tried = host.tried.as_ref().map(|tried| failure(&tried.failure));
    let state = if host.hold.is_some() {
        "held".to_owned()
    } else if let Some(grant) = &host.grant {
        grant
            .step
            .as_ref()
            .map_or_else(|| "granted".to_owned(), |step| format!("working: {step}"))
    } else if host.running.as_ref() == goal {
        "settled".to_owned()
    } else if host.tried.is_some() {
        "failed".to_owned()
    } else {
        "waiting".to_owned()
    };
    let staging = said.and_then(|said| said.staging_failure.as_ref());
    let problem = held.or(tried).or_else(|| staging.map(failure));
    let stuck = said
        .and_then(|said| said.activation.as_ref())
        .and_then(|activation| match &activation.status {
            ActivationStatus::Stuck(stuck) => Some(failure(stuck)),
            _ => None,
        });
    v1::HostComponent {
        application: target.key.application.to_string(),
        component: target.key.component.to_string(),
        pool: target.key.pool.to_string(),
        running: version(host.running.as_ref()),
        wanted: version(goal),
        state,
        failure: problem.or(stuck),
        checks: said.map_or_else(Vec::new, |said| checks(&said.checks)),
        ..v1::HostComponent::default()
    }
}

fn checks(results: &Results) -> Vec<v1::CheckState> {
    let failure = |result: &CheckResult| match result {
        CheckResult::Passed => String::new(),
        CheckResult::Failed(why) => why.clone(),
    };
    results
        .iter()
        .map(|(name, result)| v1::CheckState {
            name: name.to_string(),
            failure: failure(result),
        })
        .collect()
}

/// An environment at a glance.
pub fn environment(
    fleet: &Fleet,
    name: &EnvironmentName,
    now: Moment,
) -> Option<v1::EnvironmentRow> {
    let place = fleet.environments.get(name)?;
    let ours = || {
        fleet
            .registry
            .hosts
            .iter()
            .filter(|(_, host)| host.environment == *name && !host.revoked)
    };
    let connected = |host: &HostName| {
        fleet
            .seats
            .get(host)
            .is_some_and(|seat| seat.session.is_some())
    };
    let targets = fleet
        .targets
        .values()
        .filter(|target| target.key.environment == *name)
        .map(|target| {
            let there = target
                .hosts
                .values()
                .filter(|host| host.running.is_some() && host.running == target.release);
            v1::TargetRow {
                application: target.key.application.to_string(),
                component: target.key.component.to_string(),
                pool: target.key.pool.to_string(),
                version: target
                    .release
                    .as_ref()
                    .map_or_else(String::new, |release| release.version.to_string()),
                manifest: target
                    .release
                    .as_ref()
                    .map_or_else(String::new, |release| release.manifest.to_string()),
                hosts: target.hosts.len() as u32,
                there: there.count() as u32,
            }
        });
    Some(v1::EnvironmentRow {
        name: name.to_string(),
        version: place.version,
        text: place.text.clone(),
        hosts: ours().count() as u32,
        connected: ours().filter(|(host, _)| connected(host)).count() as u32,
        targets: targets.collect(),
        follows: crate::notes::following(fleet, Some(name), now),
    })
}

/// Where each release runs, and where it was found bad: environments by the digest of its manifest.
pub fn whereabouts(
    fleet: &Fleet,
) -> BTreeMap<tamer_core::digest::Digest, (Vec<String>, Vec<String>)> {
    let mut all: BTreeMap<_, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for target in fleet.targets.values() {
        let environment = target.key.environment.to_string();
        if let Some(release) = &target.release {
            all.entry(release.manifest)
                .or_default()
                .0
                .push(environment.clone());
        }
        for bad in &target.bad {
            all.entry(*bad).or_default().1.push(environment.clone());
        }
    }
    all
}
