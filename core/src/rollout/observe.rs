//! What a host's report changes in a target.

use super::event::{Illegal, Observation, Touched};
use super::state::{Host, PartStatus, Rollout, Stage, Target, Tried};
use crate::desired::{ActivationStatus, Failure, FailureKind, Purpose};
use crate::id::HostName;
use crate::moment::Moment;

impl Target {
    pub(super) fn observe(
        &mut self,
        name: &HostName,
        seen: &Observation,
        at: Moment,
    ) -> Result<Touched, Illegal> {
        let Self { rollout, hosts, .. } = self;
        let mut rollout = rollout.as_mut().filter(|rollout| !rollout.has_ended());
        let host = hosts
            .get_mut(name)
            .ok_or_else(|| Illegal::NoSuchHost(name.clone()))?;
        let spoken = seen
            .activation
            .as_ref()
            .map_or_else(Default::default, |activation| {
                (activation.grant, activation.status.is_final())
            });
        if spoken < host.answered {
            return Ok(Touched::default());
        }
        let before = host.clone();
        // Only a controller that was restored has an open grant older than what the host speaks of.
        if host.grant.as_ref().is_some_and(|grant| grant.id < spoken.0) {
            host.grant = None;
        }
        host.answered = spoken;
        host.last_grant = host.last_grant.max(spoken.0);
        host.known = true;
        host.running.clone_from(&seen.running);
        host.staged.clone_from(&seen.staged);
        host.unhealthy.clone_from(&seen.unhealthy);
        host.hold.clone_from(&seen.hold);
        let answer = seen
            .activation
            .as_ref()
            .filter(|a| host.grant.as_ref().is_some_and(|g| g.id == a.grant));
        if let Some(answer) = answer {
            take_answer(host, &answer.status, rollout.as_deref());
        }
        if let Some(rollout) = rollout.as_deref() {
            judge(host, seen, rollout);
        }
        if *host == before {
            return Ok(Touched::default());
        }
        let answered = host.grant != before.grant && host.expired.is_none();
        let got_somewhere = host.part != before.part
            || answered
            || host.staged != before.staged
            || host.running != before.running;
        let touched = Touched::host(name);
        match rollout.as_mut().filter(|_| got_somewhere) {
            Some(rollout) => {
                rollout.progress_at = at;
                Ok(touched.and_head())
            }
            None => Ok(touched),
        }
    }

    // === after a restore ===
}

/// The host has spoken of its open grant.
fn take_answer(host: &mut Host, status: &ActivationStatus, rollout: Option<&Rollout>) {
    if let ActivationStatus::Working(step) = status {
        if let Some(grant) = &mut host.grant {
            grant.step = Some(step.clone());
            host.expired = None;
        }
        return;
    }
    let Some(grant) = host.grant.take() else {
        return;
    };
    host.expired = (*status == ActivationStatus::Expired).then_some(grant.start_by);
    let failure = match status {
        ActivationStatus::Refused(f) | ActivationStatus::Undone(f) | ActivationStatus::Stuck(f) => {
            Some(f)
        }
        ActivationStatus::Working(_) | ActivationStatus::Done | ActivationStatus::Expired => None,
    };
    host.tried = failure.map(|failure| Tried {
        release: grant.release.clone(),
        failure: failure.clone(),
    });
    let Some(rollout) = rollout else { return };
    let Some(part) = host.part.as_mut().filter(|part| part.rollout == rollout.id) else {
        return;
    };
    let brought = grant.release == rollout.release;
    let stayed = matches!(status, ActivationStatus::Done | ActivationStatus::Stuck(_));
    part.moved |= brought && stayed;
    let going_back = matches!(rollout.stage, Stage::RollingBack { .. });
    part.status = match status {
        ActivationStatus::Done if brought && !going_back => PartStatus::Done,
        ActivationStatus::Refused(f) if brought && !going_back => PartStatus::Refused(f.clone()),
        ActivationStatus::Undone(f) if brought => PartStatus::Failed(f.clone()),
        ActivationStatus::Stuck(f) if brought => PartStatus::Failed(f.clone()),
        ActivationStatus::Refused(f) | ActivationStatus::Undone(f) | ActivationStatus::Stuck(f)
            if going_back && !brought =>
        {
            PartStatus::NotBack(f.clone())
        }
        _ => return,
    };
}

/// What the report means for a host's part, whether or not it answers a grant.
fn judge(host: &mut Host, seen: &Observation, rollout: &Rollout) {
    let Some(part) = host.part.as_mut().filter(|part| part.rollout == rollout.id) else {
        return;
    };
    if rollout.wave().is_none() {
        return;
    }
    match part.status {
        PartStatus::Waiting if host.grant.is_none() => {
            if let Some(failure) = &seen.staging_failure {
                part.status = PartStatus::Refused(failure.clone());
            } else if let Some(reason) = &seen.hold {
                let message = format!("it was put on hold on the server: {reason}");
                part.status = PartStatus::Refused(Failure::seen(FailureKind::Host, message));
            } else if seen.running == rollout.release {
                part.status = PartStatus::Done;
            }
        }
        // Going back is not stopped by anything, so only going forward is judged after the switch.
        PartStatus::Done if part.moved && rollout.purpose == Purpose::Forward => {
            if seen.running != rollout.release {
                let message = "it was moved away from the release on the server";
                part.status = PartStatus::Failed(Failure::seen(FailureKind::Host, message));
            } else if let Some(failure) = &seen.unhealthy {
                part.status = PartStatus::Failed(failure.clone());
            }
        }
        _ => {}
    }
}
