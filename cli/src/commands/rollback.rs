//! `tamer rollback`

use super::{Context, deploy};
use crate::args::Rollback;
use crate::error::Result;
use crate::exit::Exit;
use tamer_proto::v1::{ControlRequest, DeployResponse, RollbackRequest};

pub(super) async fn run(at: &Context<'_>, args: Rollback) -> Result<Exit> {
    let session = at.session().await?;
    let mut operators = session.operators();
    let answer = match args.deployment {
        Some(deployment) => {
            let request = ControlRequest {
                deployment,
                environment: String::new(),
                action: "rollback".to_owned(),
                reason: args.why.reason,
                with_down: args.with_down,
            };
            let answer = operators.control(request).await?.into_inner();
            DeployResponse {
                deployment: answer.deployment,
                ..DeployResponse::default()
            }
        }
        None => {
            let request = RollbackRequest {
                environment: args.environment.map(String::from).unwrap_or_default(),
                application: args.application.map(String::from).unwrap_or_default(),
                component: args.component.map(String::from).unwrap_or_default(),
                version: args.version.map(String::from).unwrap_or_default(),
                reason: args.why.reason,
                with_down: args.with_down,
                pool: args.pool.map(String::from).unwrap_or_default(),
                incomplete: args.incomplete,
            };
            operators.rollback(request).await?.into_inner()
        }
    };
    let then = deploy::Then {
        detach: args.detach,
        patient: false,
    };
    deploy::started(at, &session, &answer, then).await
}
