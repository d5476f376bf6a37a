//! Whether a component may be switched now, and by which steps.

use super::{Current, Facts, OnDisk, Shape, Step};
use crate::allowed::failure;
use crate::journal::SlotJournal;
use std::fmt;
use tamer_core::application::Hook;
use tamer_core::desired::{
    ActivationStatus, DesiredComponent, Failure, FailureKind, Grant, Purpose,
};
use tamer_core::digest::Digest;
use tamer_core::generation::Generation;
use tamer_core::moment::Moment;
use tamer_core::release::ReleaseRef;
use tamer_core::rollout::approval::PlanRef;

/// What is done about one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is switched now.
    Go(Box<Go>),
    /// The grant ends here, and nothing changes on the host.
    End(ActivationStatus),
    /// Nothing, and why.
    Wait(Waiting),
}

/// A switch, ready to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Go {
    /// Its grant; `None` for a rollback by a person on the server.
    pub grant: Option<Generation>,
    /// Forward or back.
    pub purpose: Purpose,
    /// What runs.
    pub from: Option<ReleaseRef>,
    /// What is to run.
    pub to: Option<ReleaseRef>,
    /// Steps that change nothing: if one fails, the release is refused.
    pub before: Vec<Step>,
    /// Steps that change the host, each fit to be done twice. After an interruption it is these that
    /// are done again, from the first on.
    pub change: Vec<Step>,
    /// The drift of what runs that does not stand in the way.
    pub adopted: Option<Digest>,
    /// The approved plan that brings it forward.
    pub plan: Option<PlanRef>,
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// What is desired is what is there.
    AlreadyThere,
    /// Another release is desired, and there is no leave to switch.
    NeedsGrant,
    /// The release is not ready on disk yet.
    NotStaged,
    /// The environment's signed metadata is older here than the desired state's.
    NeedsEnvironment {
        /// The version that the desired state was made with.
        needed: u64,
    },
    /// The grant has been used up: how it ended is in the report. A failure is final for its grant.
    GrantUsed(Generation),
    /// The grant is older than one that was seen before, or than the journal.
    GrantVoid(Generation),
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyThere => f.write_str("runs what is desired"),
            Self::NeedsGrant => f.write_str("waits for a grant"),
            Self::NotStaged => f.write_str("waits for its release to be staged"),
            Self::NeedsEnvironment { needed } => {
                write!(
                    f,
                    "waits for version {needed} of the environment's metadata"
                )
            }
            Self::GrantUsed(id) => write!(f, "grant {id} has been used up"),
            Self::GrantVoid(id) => write!(f, "grant {id} is void"),
        }
    }
}

/// Decides over one component.
///
/// `needed` is the version of the environment's metadata that the desired state was made with;
/// `void_through` voids grants up to it ([`crate::journal::Journal::void_through`]); `now` is the
/// controller's clock.
pub fn activation(
    wanted: &DesiredComponent,
    needed: u64,
    facts: &Facts,
    journal: &SlotJournal,
    void_through: Option<Generation>,
    now: Moment,
) -> Decision {
    let there = match (&wanted.run, &facts.current) {
        (Some(run), Current::Release(current)) => run == current,
        (None, Current::Nothing) => true,
        _ => false,
    };
    // A release that runs without having been committed is to be activated once more.
    let settled = there && journal.committed == wanted.run;
    let Some(grant) = wanted.grant else {
        return Decision::Wait(if there {
            Waiting::AlreadyThere
        } else {
            Waiting::NeedsGrant
        });
    };
    if void_through.is_some_and(|last| grant.id <= last) {
        return Decision::Wait(Waiting::GrantVoid(grant.id));
    }
    match &journal.last {
        Some(last) if last.grant == grant.id => {
            return Decision::Wait(Waiting::GrantUsed(grant.id));
        }
        Some(last) if last.grant > grant.id => {
            return Decision::Wait(Waiting::GrantVoid(grant.id));
        }
        _ => {}
    }
    if let Some(why) = &journal.hold {
        return refused(
            FailureKind::Host,
            format!("held by a person on the server: {why}"),
        );
    }
    if now > grant.start_by {
        return Decision::End(ActivationStatus::Expired);
    }
    if settled {
        return Decision::End(ActivationStatus::Done);
    }
    let to = match &wanted.run {
        None => None,
        Some(run) => match target(run, needed, facts, journal, grant) {
            Ok(on_disk) => Some(on_disk),
            Err(decision) => return *decision,
        },
    };
    if let (Current::Foreign(what), Purpose::Forward) = (&facts.current, grant.purpose) {
        return refused(FailureKind::Drift, super::foreign_said(what));
    }
    let from = facts
        .running()
        .and_then(|running| facts.find(&running.manifest));
    let (before, change) = steps(
        grant.purpose,
        from.map(|it| &it.shape),
        to.map(|it| &it.shape),
    );
    Decision::Go(Box::new(Go {
        grant: Some(grant.id),
        purpose: grant.purpose,
        from: from.map(|it| it.release.clone()),
        to: wanted.run.clone(),
        before,
        change,
        adopted: wanted.adopted,
        plan: (to.filter(|_| grant.purpose == Purpose::Forward)).and_then(|it| it.plan),
    }))
}

impl Go {
    /// Whether it exchanges the agent itself.
    pub fn exchanges_agent(&self) -> bool {
        self.change.contains(&Step::HandOver)
    }

    /// Whether it may begin beside the switches under way, of which is told whether they exchange the
    /// agent. Its restart would interrupt the others, so the agent is exchanged alone.
    pub fn may_begin(&self, under_way: impl IntoIterator<Item = bool>) -> bool {
        let agent = self.exchanges_agent();
        !under_way.into_iter().any(|other| agent || other)
    }
}

/// The release to switch to, if it may be switched to now.
fn target<'a>(
    run: &ReleaseRef,
    needed: u64,
    facts: &'a Facts,
    journal: &SlotJournal,
    grant: Grant,
) -> Result<&'a OnDisk, Box<Decision>> {
    if facts.revoked.contains(&run.manifest) {
        return Err(Box::new(refused(
            FailureKind::Trust,
            format!("{run} is on the environment's signed revocation list"),
        )));
    }
    // Going back waits for nothing: what was accepted here stays accepted.
    if grant.purpose == Purpose::Forward && facts.environment_version.is_none_or(|it| it < needed) {
        return Err(Box::new(Decision::Wait(Waiting::NeedsEnvironment {
            needed,
        })));
    }
    match facts.find(&run.manifest) {
        // Whichever way it goes: a release that was never approved here never ran here, and is nothing to go back to.
        Some(on_disk)
            if on_disk.ready() && on_disk.approved && may_run(on_disk, facts, journal, grant) =>
        {
            Ok(on_disk)
        }
        _ => Err(Box::new(match &facts.staging_failure {
            Some(failure) if is_lasting(failure.kind) => {
                Decision::End(ActivationStatus::Refused(failure.clone()))
            }
            _ => Decision::Wait(Waiting::NotStaged),
        })),
    }
}

/// Whether the plan that brings a release still counts. What it has brought is gone back to after later ones too.
fn may_run(on_disk: &OnDisk, facts: &Facts, journal: &SlotJournal, grant: Grant) -> bool {
    let runs = facts.running() == Some(&on_disk.release);
    let back = grant.purpose == Purpose::Back && journal.was_brought(&on_disk.release.manifest);
    runs || back || journal.lets(on_disk.plan.as_ref())
}

/// Whether trying once more cannot help, as long as nobody changes the release or the host.
pub fn is_lasting(kind: FailureKind) -> bool {
    match kind {
        FailureKind::Trust
        | FailureKind::Evidence
        | FailureKind::NotAllowed
        | FailureKind::Unsupported => true,
        FailureKind::Fetch
        | FailureKind::Disk
        | FailureKind::Drift
        | FailureKind::PreCheck
        | FailureKind::Check
        | FailureKind::Hook
        | FailureKind::Service
        | FailureKind::Migration
        | FailureKind::Interrupted
        | FailureKind::Host => false,
    }
}

fn refused(kind: FailureKind, message: String) -> Decision {
    Decision::End(ActivationStatus::Refused(failure(kind, message)))
}

/// The steps of a switch: those that change nothing, and those that do.
pub fn steps(purpose: Purpose, from: Option<&Shape>, to: Option<&Shape>) -> (Vec<Step>, Vec<Step>) {
    let has = |shape: Option<&Shape>, hook| shape.is_some_and(|it| it.hooks.contains(&hook));
    let mut before = Vec::new();
    if purpose == Purpose::Forward && to.is_some() {
        before.push(Step::PreChecks);
        if has(to, Hook::PreActivate) {
            before.push(Step::PreActivate);
        }
    }
    let mut change = Vec::new();
    let mut add = |wanted: bool, step| {
        if wanted {
            change.push(step);
        }
    };
    add(has(from, Hook::Drain), Step::Drain);
    let agent = is_agent(from, to);
    let proves = agent && purpose == Purpose::Forward && to.is_some();
    add(
        !agent && (has(from, Hook::Stop) || unit_ends(from, to)),
        Step::Stop,
    );
    add(true, Step::Switch);
    add(!agent && starts(to), Step::Start);
    add(agent, Step::HandOver);
    add(proves, Step::CheckIn);
    add(to.is_some(), Step::Validate);
    add(has(to, Hook::Admit), Step::Admit);
    add(proves, Step::Confirm);
    add(true, Step::Commit);
    (before, change)
}

/// Whether the switch exchanges the agent itself: nothing stops or starts it but systemd.
pub(super) fn is_agent(from: Option<&Shape>, to: Option<&Shape>) -> bool {
    from.into_iter().chain(to).any(Shape::is_agent)
}

/// Whether something has to be done for a release to start.
pub(super) fn starts(shape: Option<&Shape>) -> bool {
    shape.is_some_and(|it| it.hooks.contains(&Hook::Start) || it.service.is_some())
}

/// Whether the unit of `from` must be stopped: the same unit under `to` is restarted at once.
pub(super) fn unit_ends(from: Option<&Shape>, to: Option<&Shape>) -> bool {
    let unit = |shape: Option<&Shape>| shape.and_then(|it| it.service.clone());
    unit(from).is_some() && unit(from) != unit(to)
}

/// Where a rollback by a person on the server leads, and how.
///
/// # Errors
/// A sentence that says why there is nowhere to go.
pub fn local_rollback(facts: &Facts, journal: &SlotJournal) -> Result<Go, String> {
    let running = facts.running();
    let Some(to) = journal.previous(running) else {
        return Err(format!(
            "{}: no other release has run well here",
            journal.slot
        ));
    };
    let on_disk = match facts.find(&to.manifest) {
        _ if facts.revoked.contains(&to.manifest) => {
            return Err(format!(
                "{}: {to} is on the environment's signed revocation list",
                journal.slot
            ));
        }
        Some(on_disk) if on_disk.ready() && on_disk.approved => on_disk,
        Some(_) => return Err(format!("{}: {to} is not whole on disk", journal.slot)),
        None => return Err(format!("{}: {to} is not on disk any more", journal.slot)),
    };
    let from = running.and_then(|running| facts.find(&running.manifest));
    let (before, change) = steps(
        Purpose::Back,
        from.map(|it| &it.shape),
        Some(&on_disk.shape),
    );
    Ok(Go {
        grant: None,
        purpose: Purpose::Back,
        from: from.map(|it| it.release.clone()),
        to: Some(to.clone()),
        before,
        change,
        adopted: None,
        plan: None,
    })
}

/// The failure that a report shows for a desired release that may not be staged.
pub(super) fn revoked(release: &ReleaseRef) -> Failure {
    failure(
        FailureKind::Trust,
        format!("{release} is on the environment's signed revocation list"),
    )
}
