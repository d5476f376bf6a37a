//! Desired state: from the controller to the agent.

use super::{
    BadMessage, MAX_COMPONENTS, MAX_RELEASES, digest_bytes, digest_if_any, digest_or_nothing,
    digests, list, needed, no_slot_twice, optional, parsed,
};
use crate::v1;
use tamer_core::desired::{Desired, DesiredComponent, Grant, Purpose};
use tamer_core::moment::Moment;
use tamer_core::schema::{MigrationOrder, Task};

impl From<&Desired> for v1::Desired {
    fn from(desired: &Desired) -> Self {
        Self {
            generation: Some((&desired.generation).into()),
            environment: desired.environment.to_string(),
            environment_version: desired.environment_version,
            components: desired.components.iter().map(Into::into).collect(),
            inspect: desired.inspect.as_ref().map(Into::into),
            routes: desired.routes.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Desired> for Desired {
    type Error = BadMessage;
    fn try_from(desired: v1::Desired) -> Result<Self, BadMessage> {
        let components = list(
            "components",
            MAX_COMPONENTS,
            desired.components,
            DesiredComponent::try_from,
        )?;
        no_slot_twice(components.iter().map(|component| &component.slot))?;
        let routes = list("routes", MAX_COMPONENTS, desired.routes, TryInto::try_into)?;
        Ok(Self {
            generation: needed("generation", desired.generation)?,
            environment: parsed("environment", desired.environment)?,
            environment_version: desired.environment_version,
            components,
            routes,
            inspect: desired.inspect.map(Into::into),
        })
    }
}

impl From<&DesiredComponent> for v1::DesiredComponent {
    fn from(component: &DesiredComponent) -> Self {
        Self {
            slot: Some((&component.slot).into()),
            run: component.run.as_ref().map(Into::into),
            stage: component.stage.iter().map(Into::into).collect(),
            keep: component.keep.iter().map(digest_bytes).collect(),
            grant: component.grant.as_ref().map(Into::into),
            migrate: component.migrate.as_ref().map(Into::into),
            adopted: digest_or_nothing(component.adopted.as_ref()),
            repair: digest_or_nothing(component.repair.as_ref()),
            waits_for_approval: component.waits_for_approval,
        }
    }
}

impl TryFrom<v1::DesiredComponent> for DesiredComponent {
    type Error = BadMessage;
    fn try_from(component: v1::DesiredComponent) -> Result<Self, BadMessage> {
        Ok(Self {
            slot: needed("slot", component.slot)?,
            run: optional("run", component.run)?,
            stage: list("stage", MAX_RELEASES, component.stage, TryInto::try_into)?,
            keep: digests("keep", &component.keep)?,
            grant: optional("grant", component.grant)?,
            migrate: optional("migrate", component.migrate)?,
            adopted: digest_if_any("adopted", &component.adopted)?,
            repair: digest_if_any("repair", &component.repair)?,
            waits_for_approval: component.waits_for_approval,
        })
    }
}

impl From<&Grant> for v1::Grant {
    fn from(grant: &Grant) -> Self {
        Self {
            id: Some((&grant.id).into()),
            start_by_ms: grant.start_by.0,
            purpose: v1::Purpose::from(grant.purpose).into(),
        }
    }
}

impl TryFrom<v1::Grant> for Grant {
    type Error = BadMessage;
    fn try_from(grant: v1::Grant) -> Result<Self, BadMessage> {
        Ok(Self {
            id: needed("id", grant.id)?,
            start_by: Moment(grant.start_by_ms),
            purpose: v1::Purpose::try_from(grant.purpose)
                .map_err(|e| BadMessage::new("purpose", e))?
                .try_into()?,
        })
    }
}

impl From<Purpose> for v1::Purpose {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Forward => Self::Forward,
            Purpose::Back => Self::Back,
        }
    }
}

impl TryFrom<v1::Purpose> for Purpose {
    type Error = BadMessage;
    fn try_from(purpose: v1::Purpose) -> Result<Self, BadMessage> {
        match purpose {
            v1::Purpose::Forward => Ok(Self::Forward),
            v1::Purpose::Back => Ok(Self::Back),
            v1::Purpose::Unspecified => Err(BadMessage::new(
                "purpose",
                "it says neither forward nor back",
            )),
        }
    }
}

impl From<&MigrationOrder> for v1::MigrationOrder {
    fn from(order: &MigrationOrder) -> Self {
        let task = match order.task {
            Task::Read => v1::Task::Read,
            Task::Up => v1::Task::Up,
            Task::Down => v1::Task::Down,
        };
        Self {
            id: Some((&order.id).into()),
            schema: order.schema.to_string(),
            task: task.into(),
            release: Some((&order.release).into()),
            from: order.from,
            to: order.to,
            start_by_ms: order.start_by.0,
        }
    }
}

impl TryFrom<v1::MigrationOrder> for MigrationOrder {
    type Error = BadMessage;
    fn try_from(order: v1::MigrationOrder) -> Result<Self, BadMessage> {
        let task = v1::Task::try_from(order.task).map_err(|e| BadMessage::new("task", e))?;
        Ok(Self {
            id: needed("id", order.id)?,
            schema: parsed("schema", order.schema)?,
            task: match task {
                v1::Task::Read => Task::Read,
                v1::Task::Up => Task::Up,
                v1::Task::Down => Task::Down,
                v1::Task::Unspecified => {
                    return Err(BadMessage::new("task", "it does not say what to do"));
                }
            },
            release: needed("release", order.release)?,
            from: order.from,
            to: order.to,
            start_by: Moment(order.start_by_ms),
        })
    }
}
