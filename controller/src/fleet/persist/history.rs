//! What happened, as the history has it.

use serde::{Deserialize, Serialize};
use tamer_core::id::TargetKey;
use tamer_core::moment::Moment;
use tamer_core::rollout::Event;
use tamer_core::rollout::switching::{RouterKey, SwitchEvent};

/// What happened, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When.
    pub at: Moment,
    /// Where.
    pub target: String,
    /// What, in a few words.
    pub what: String,
}

// === impl HistoryEntry ===

impl HistoryEntry {
    /// An entry for events that people care about; reports and connections are too many.
    pub(in crate::fleet) fn of(key: &TargetKey, event: &Event, at: Moment) -> Option<Self> {
        let what = match event {
            Event::Connected(_)
            | Event::Lost(_)
            | Event::Reported(..)
            | Event::PolicyChanged(_)
            | Event::Opening(_)
            | Event::MayStage(_) => return None,
            Event::Line(Some(line)) => format!("the database: {line}"),
            Event::Line(None) => "it works with the database".to_owned(),
            Event::Approval(Some(how)) => format!("waits for approval: {how}"),
            Event::Approval(None) => "approved".to_owned(),
            Event::Frozen(cause) => format!("failed, and does not go back: {cause}"),
            Event::Restored => "restored from a backup: unsettled".to_owned(),
            Event::Adopted => "what runs counts as wanted".to_owned(),
            Event::Settled => "every host runs what the restored controller wants".to_owned(),
            Event::HostAdded(host) => format!("{host} was added"),
            Event::HostRemoved(host) => format!("{host} was removed"),
            Event::HostReset(host) => format!("{host} was rebuilt"),
            Event::Started(new) => {
                let to = new
                    .rollout
                    .release
                    .as_ref()
                    .map_or("nothing".to_owned(), ToString::to_string);
                format!(
                    "rollout {} to {to} started on {} hosts",
                    new.rollout.id,
                    new.waves.len()
                )
            }
            Event::Paused { by, .. } => format!("paused by {by}"),
            Event::Resumed => "resumed".to_owned(),
            Event::Promoted { by, .. } => format!("promoted by {by}"),
            Event::Aborted { by, .. } => format!("aborted by {by}"),
            Event::RollbackAsked { by, .. } => format!("rollback asked for by {by}"),
            Event::Granted {
                host, id, release, ..
            } => {
                let to = release
                    .as_ref()
                    .map_or("nothing".to_owned(), ToString::to_string);
                format!("{host} was granted {to}, grant {id}")
            }
            Event::GaveUp(host) => format!("{host} fell silent"),
            Event::WaveStarted(wave) => format!("wave {wave} started"),
            Event::WaveBaking(wave) => format!("wave {wave} is through"),
            Event::TurnedBack(cause) | Event::PausedByPolicy(cause) => format!("failed: {cause}"),
            Event::Ended(outcome) => format!("ended: {outcome:?}").chars().take(300).collect(),
        };
        Some(Self {
            at,
            target: key.to_string(),
            what,
        })
    }
}

impl HistoryEntry {
    /// The same for routers.
    pub(in crate::fleet) fn of_router(
        key: &RouterKey,
        event: &SwitchEvent,
        at: Moment,
    ) -> Option<Self> {
        let what = match event {
            SwitchEvent::Connected(_)
            | SwitchEvent::Lost(_)
            | SwitchEvent::Reported(..)
            | SwitchEvent::Weighed(..)
            | SwitchEvent::Configured(_) => return None,
            SwitchEvent::HostAdded(host) => format!("router {host} was added"),
            SwitchEvent::HostRemoved(host) => format!("router {host} was removed"),
            SwitchEvent::HostReset(host) => format!("router {host} was rebuilt"),
            SwitchEvent::Restored => "routers were restored from a backup: unsettled".to_owned(),
            SwitchEvent::Started(switch) => format!(
                "switch {} from pool {} to {} started",
                switch.id, switch.from, switch.to
            ),
            SwitchEvent::RollbackAsked { by, .. } => format!("switch back asked for by {by}"),
            SwitchEvent::Aborted { by, .. } => format!("switch aborted by {by}"),
            SwitchEvent::Accepted => "the pool is accepted, and waits for a person".to_owned(),
            SwitchEvent::Promoted { by, .. } => format!("switch promoted by {by}"),
            SwitchEvent::Turned(order) => format!("routers are switched, order {order}"),
            SwitchEvent::Arrived => "all routers are switched".to_owned(),
            SwitchEvent::TurnedBack(order, cause) => {
                format!("routers are switched back, order {order}: {cause}")
            }
            SwitchEvent::Ended(outcome) => format!("switch ended: {outcome:?}")
                .chars()
                .take(300)
                .collect(),
            SwitchEvent::Settled(pool) => format!("all routers send to pool {pool}"),
        };
        Some(Self {
            at,
            target: key.to_string(),
            what,
        })
    }
}
