//! Join tokens, for hosts and for operators.

use super::operator::{Answer, OperatorApi};
use super::{caller, denied, operator, parse, refused, stopped};
use crate::fleet::people::NotInvited;
use crate::identity::registry::{NotGiven, Role, Roles};
use crate::identity::tokens::Grant;
use std::collections::BTreeSet;
use tamer_core::id::{EnvironmentName, HostName, OperatorName};
use tamer_core::moment::Span;
use tamer_core::selector::{Labels, parse_label};
use tamer_kit::token::{JoinToken, Secret, TokenKind};
use tamer_proto::v1;
use tonic::{Request, Response, Status};

/// The most labels of a host.
const MAX_LABELS: usize = 64;

/// The most environments of one invitation.
const MAX_ENVIRONMENTS: usize = 64;

/// How long a token may be used, unless it is said otherwise.
const TOKEN_LIFE: Span = Span::secs(3600);

/// How long a token may be used at most.
const TOKEN_LIFE_MAX: Span = Span::secs(30 * 24 * 3600);

impl OperatorApi {
    pub(super) async fn give_out(
        &self,
        request: Request<v1::InviteRequest>,
    ) -> Answer<v1::InviteResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let environments = environments(&request.environments)?;
        // Whoever invites into several is an admin in each of them: that is asked when the token is given out.
        let first = environments.first().cloned();
        let by = operator(&self.driver, &caller, first, Role::Admin).await?;
        let (kind, grant) = grant(&request, environments)?;
        let root = self
            .publications
            .first_team_root()
            .await
            .map_err(|error| super::internal(&error))?;
        if root.is_none() && kind == TokenKind::Host {
            return Err(Status::failed_precondition(
                "there is no trust root that the host could pin: run `tamer trust init` first",
            ));
        }
        let valid = if request.valid_ms == 0 {
            TOKEN_LIFE
        } else {
            Span::millis(request.valid_ms).min(TOKEN_LIFE_MAX)
        };
        let secret = Secret::random().map_err(|error| super::internal(&error))?;
        let digest = secret.digest();
        let change = self
            .driver
            .change(move |fleet, now| fleet.invite(digest, grant, valid, &by, now));
        let expires = change.await.map_err(stopped)?.map_err(not_invited)?;
        let token = JoinToken {
            kind,
            controller: self.public.clone(),
            ca: self.authority.pinned(),
            trust_root: root.map(|root| tamer_kit::hash::sha256(&root)),
            secret,
        };
        Ok(Response::new(v1::InviteResponse {
            token: token.to_string(),
            expires_ms: expires.0,
        }))
    }
}

fn not_invited(error: NotInvited) -> Status {
    match error {
        NotInvited::NotGiven(NotGiven::Denied(error)) => denied(error),
        NotInvited::NotGiven(error) => Status::permission_denied(error.to_string()),
        NotInvited::Refused(error) => refused(&error),
    }
}

/// Labels as they may be written, and no more of them than anybody needs.
fn labels(given: &Labels) -> Result<Labels, Status> {
    if given.len() > MAX_LABELS {
        return Err(Status::invalid_argument(format!(
            "there are {} labels, and {MAX_LABELS} are the most",
            given.len()
        )));
    }
    let labels = given.iter().map(|(key, value)| {
        let label = format!("{key}={value}");
        parse_label(&label).map_err(|_| {
            let shown: String = label.chars().take(80).collect();
            Status::invalid_argument(format!("{shown:?} is not a label"))
        })
    });
    labels.collect()
}

/// Names of environments, each once.
fn environments(given: &[String]) -> Result<BTreeSet<EnvironmentName>, Status> {
    if given.len() > MAX_ENVIRONMENTS {
        return Err(Status::invalid_argument(format!(
            "there are {} environments, and {MAX_ENVIRONMENTS} are the most",
            given.len()
        )));
    }
    given.iter().map(|it| parse(it)).collect()
}

fn grant(
    request: &v1::InviteRequest,
    environments: BTreeSet<EnvironmentName>,
) -> Result<(TokenKind, Grant), Status> {
    match request.kind.as_str() {
        "host" => {
            let mut environments = environments.into_iter();
            let (Some(environment), None) = (environments.next(), environments.next()) else {
                let said = "a host belongs to one environment: say --environment, once";
                return Err(Status::invalid_argument(said));
            };
            let replaces = if request.replace {
                Some(parse::<HostName>(&request.name)?)
            } else {
                None
            };
            Ok((
                TokenKind::Host,
                Grant::Host {
                    environment,
                    labels: labels(&request.labels)?,
                    replaces,
                },
            ))
        }
        "operator" => {
            let name: OperatorName = parse(&request.name)?;
            let role = match request.role.as_str() {
                "" if environments.is_empty() => {
                    // A new key for what they are already.
                    let roles = Roles::default();
                    return Ok((TokenKind::Operator, Grant::Operator { name, roles }));
                }
                "viewer" => Role::Viewer,
                "deployer" => Role::Deployer,
                "admin" => Role::Admin,
                other => {
                    return Err(Status::invalid_argument(format!(
                        "`{other}` is not a role: viewer, deployer or admin"
                    )));
                }
            };
            let roles = if environments.is_empty() {
                Roles::everywhere(role)
            } else {
                Roles {
                    everywhere: None,
                    environments: environments.into_iter().map(|it| (it, role)).collect(),
                }
            };
            Ok((TokenKind::Operator, Grant::Operator { name, roles }))
        }
        other => Err(Status::invalid_argument(format!(
            "`{other}` cannot be invited: host or operator"
        ))),
    }
}
