//! Routes: where routers should send, and where they do.

use super::report::{checks_in, checks_out};
use super::{BadMessage, needed, optional, parsed};
use crate::v1;
use tamer_core::id::ComponentPath;
use tamer_core::router::{AcceptanceReport, DesiredRoute, RouteOrder, RouteReport};

impl From<&DesiredRoute> for v1::DesiredRoute {
    fn from(route: &DesiredRoute) -> Self {
        Self {
            application: route.component.application.to_string(),
            component: route.component.component.to_string(),
            send: route.send.as_ref().map(Into::into),
            accept: route.accept.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::DesiredRoute> for DesiredRoute {
    type Error = BadMessage;
    fn try_from(route: v1::DesiredRoute) -> Result<Self, BadMessage> {
        Ok(Self {
            component: path(route.application, route.component)?,
            send: optional("send", route.send)?,
            accept: optional("accept", route.accept)?,
        })
    }
}

impl From<&RouteOrder> for v1::RouteOrder {
    fn from(order: &RouteOrder) -> Self {
        Self {
            id: Some((&order.id).into()),
            pool: order.pool.to_string(),
        }
    }
}

impl TryFrom<v1::RouteOrder> for RouteOrder {
    type Error = BadMessage;
    fn try_from(order: v1::RouteOrder) -> Result<Self, BadMessage> {
        Ok(Self {
            id: needed("id", order.id)?,
            pool: parsed("pool", order.pool)?,
        })
    }
}

impl From<&RouteReport> for v1::RouteReport {
    fn from(report: &RouteReport) -> Self {
        let pool = report.sends_to.as_ref();
        Self {
            application: report.component.application.to_string(),
            component: report.component.component.to_string(),
            answered: Some((&report.answered).into()),
            sends_to: pool.map_or_else(String::new, ToString::to_string),
            failure: report.failure.as_ref().map(Into::into),
            acceptance: report.acceptance.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::RouteReport> for RouteReport {
    type Error = BadMessage;
    fn try_from(report: v1::RouteReport) -> Result<Self, BadMessage> {
        Ok(Self {
            component: path(report.application, report.component)?,
            answered: needed("answered", report.answered)?,
            sends_to: match report.sends_to.as_str() {
                "" => None,
                _ => Some(parsed("sends_to", report.sends_to)?),
            },
            failure: optional("failure", report.failure)?,
            acceptance: optional("acceptance", report.acceptance)?,
        })
    }
}

impl From<&AcceptanceReport> for v1::AcceptanceReport {
    fn from(report: &AcceptanceReport) -> Self {
        Self {
            id: Some((&report.id).into()),
            results: checks_out(&report.results),
            failure: report.failure.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::AcceptanceReport> for AcceptanceReport {
    type Error = BadMessage;
    fn try_from(report: v1::AcceptanceReport) -> Result<Self, BadMessage> {
        Ok(Self {
            id: needed("id", report.id)?,
            results: checks_in(report.results)?,
            failure: optional("failure", report.failure)?,
        })
    }
}

fn path(application: String, component: String) -> Result<ComponentPath, BadMessage> {
    Ok(ComponentPath {
        application: parsed("application", application)?,
        component: parsed("component", component)?,
    })
}
