//! `tamer watch`

use super::{Context, follow};
use crate::args::Watch;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::views::status::header;
use tamer_proto::v1::{DeploymentStatus, GetStatusRequest};

pub(super) async fn run(at: &Context<'_>, args: &Watch) -> Result<Exit> {
    let session = at.session().await?;
    let deployment = match args.deployment {
        Some(deployment) => deployment,
        None => {
            let request = GetStatusRequest::default();
            let answer = session.operators().get_status(request).await?.into_inner();
            match under_way(&answer.deployments)? {
                Some(deployment) => deployment,
                None => {
                    at.printer.json(&answer);
                    at.printer.line("Nothing is under way.");
                    at.printer.next("tamer status");
                    return Ok(Exit::Done);
                }
            }
        }
    };
    follow::run(&session, deployment, true, at.printer).await
}

/// The only deployment that is under way.
fn under_way(deployments: &[DeploymentStatus]) -> Result<Option<u64>> {
    let running: Vec<_> = deployments
        .iter()
        .filter(|status| status.ended_ms == 0)
        .collect();
    match running[..] {
        [] => Ok(None),
        [one] => Ok(Some(one.id)),
        _ => {
            let all: Vec<_> = running
                .iter()
                .map(|status| format!("\n  {}", header(status)))
                .collect();
            let error = Error::usage(format!("several are under way:{}", all.concat()));
            Err(error.next(format!("tamer watch {}", running[0].id)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::sample::{baking, rolled_back};

    #[test]
    fn one_is_chosen_and_of_several_none() {
        assert_eq!(under_way(&[rolled_back()]).unwrap(), None);
        assert_eq!(under_way(&[rolled_back(), baking()]).unwrap(), Some(318));
        let mut other = baking();
        other.id = 319;
        let said = under_way(&[other, baking()]).unwrap_err().report();
        assert!(
            said.contains("deployment 318") && said.contains("tamer watch 319"),
            "{said}"
        );
    }
}
