//! `tamer status`

use super::Context;
use crate::args::Status;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::views::{self, failures, notes, routers, status};
use tamer_core::id::EnvironmentName;
use tamer_kit::clock;
use tamer_proto::v1::{DeploymentStatus, GetStatusRequest};

pub(super) async fn run(at: &Context<'_>, args: &Status) -> Result<Exit> {
    let request = request(args.which.as_deref())?;
    let session = at.session().await?;
    let answer = session.operators().get_status(request).await?.into_inner();
    at.printer.json(&answer);
    if answer.deployments.is_empty() {
        at.printer.line("Nothing was deployed yet.");
        at.printer.next("tamer releases");
        at.printer.lines(routers::lines(&answer.routers));
        at.printer.lines(notes::lines(&answer.notes));
        return Ok(Exit::Done);
    }
    for (n, deployment) in answer.deployments.iter().enumerate() {
        if n > 0 {
            at.printer.line("");
        }
        at.printer.lines(screen(deployment, at.printer.width()));
    }
    if !answer.routers.is_empty() {
        at.printer.line("");
        at.printer.lines(routers::lines(&answer.routers));
    }
    at.printer.lines(notes::lines(&answer.notes));
    let ending = views::trust::ending(&session.published().await?, clock::now().0);
    at.printer.lines(ending);
    Ok(Exit::Done)
}

fn screen(deployment: &DeploymentStatus, width: usize) -> Vec<String> {
    let mut lines = status::render(deployment, width);
    if deployment.ended_ms > 0 {
        lines.push(format!("  {}", status::summary(deployment)));
        if deployment.exit_code != 0 {
            lines.extend(failures::explain(deployment, None));
        }
    } else if deployment.exit_code != 0 {
        lines.extend(failures::explain(deployment, None));
    }
    lines
}

/// A number is a deployment, a name an environment, nothing is all.
fn request(which: Option<&str>) -> Result<GetStatusRequest> {
    let mut request = GetStatusRequest::default();
    if let Some(which) = which {
        if let Ok(deployment) = which.parse() {
            request.deployment = deployment;
        } else {
            let environment: EnvironmentName = which.parse().map_err(|error| {
                Error::usage(format!("{error}; or write a deployment's number"))
                    .next("tamer status")
            })?;
            request.environment = environment.to_string();
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::sample::rolled_back;

    #[test]
    fn a_number_is_a_deployment_and_a_name_an_environment() {
        assert_eq!(request(Some("318")).unwrap().deployment, 318);
        assert_eq!(
            request(Some("production")).unwrap().environment,
            "production"
        );
        assert_eq!(request(None).unwrap(), GetStatusRequest::default());
        assert_eq!(request(Some("Prod!")).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn what_failed_is_explained() {
        insta::assert_snapshot!(screen(&rolled_back(), 110).join("\n"));
    }
}
