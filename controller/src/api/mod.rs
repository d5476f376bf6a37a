//! What the controller answers: thin. Convert, send to the driver, await, convert back.

pub mod agent;
mod approving;
pub mod artifact;
mod auditing;
mod authority;
pub mod calls;
mod closing;
mod deploying;
mod drift;
pub mod enrolment;
mod evidence;
mod inspecting;
mod inviting;
pub mod operator;
mod people;
mod publishing;
mod schemas;

use crate::acting::in_role;
use crate::catalog::NotFound;
use crate::driver::{Driver, Stopped};
use crate::fleet::Fleet;
use crate::fleet::deploy::Refused;
use crate::identity::peer::Caller;
use crate::identity::registry::{Denied, Registry, Role};
use tamer_core::id::{EnvironmentName, OperatorName};
use tamer_kit::cause::chain;
use tamer_kit::clock;
use tonic::Status;

/// Who sent a request. The server puts it there before anything else sees the request.
fn caller<T>(request: &tonic::Request<T>) -> Caller {
    request
        .extensions()
        .get::<Caller>()
        .cloned()
        .unwrap_or(Caller::Stranger)
}

/// The operator who calls, if they may do this there.
async fn operator(
    driver: &Driver,
    caller: &Caller,
    environment: Option<EnvironmentName>,
    needed: Role,
) -> Result<OperatorName, Status> {
    let ask = move |registry: &Registry, caller: &Caller| {
        let place = environment.as_ref();
        let answer = registry.authorise_operator(caller, place, needed, clock::now());
        let answer = answer.map(|(name, _)| name.clone());
        (answer, registry.role_of(caller, place))
    };
    ask_registry(driver, caller, ask).await
}

/// The operator who calls, if they may do this in any environment.
async fn operator_anywhere(
    driver: &Driver,
    caller: &Caller,
    needed: Role,
) -> Result<OperatorName, Status> {
    let ask = move |registry: &Registry, caller: &Caller| {
        let answer = registry.authorise_anywhere(caller, needed, clock::now());
        let role = answer.as_ref().ok().and_then(|(_, it)| it.roles.highest());
        (answer.map(|(name, _)| name.clone()), role)
    };
    ask_registry(driver, caller, ask).await
}

/// Asks, and notes the role for the audit log and the caller's newest key.
async fn ask_registry(
    driver: &Driver,
    caller: &Caller,
    ask: impl FnOnce(&Registry, &Caller) -> (Result<OperatorName, Denied>, Option<Role>)
    + Send
    + 'static,
) -> Result<OperatorName, Status> {
    let asked = caller.clone();
    let look = move |fleet: &Fleet| {
        let registry = &fleet.registry;
        let news = asked.peer().is_some_and(|peer| registry.is_news(peer));
        (ask(registry, &asked), news)
    };
    let ((answer, role), news) = driver.read(look).await.map_err(stopped)?;
    in_role(role);
    if news {
        let asked = caller.clone();
        let change = driver.change(move |fleet, _| fleet.see_operator(&asked));
        change.await.map_err(stopped)?;
    }
    answer.map_err(denied)
}

fn stopped(error: Stopped) -> Status {
    Status::unavailable(error.to_string())
}

fn denied(error: Denied) -> Status {
    match error {
        Denied::Stranger => Status::unauthenticated(error.to_string()),
        // Whose clock is wrong, the reader has to find out.
        Denied::Expired(_) | Denied::Early(_) => Status::unauthenticated(format!(
            "{error}; here it is {}",
            tamer_core::calendar::utc(tamer_kit::clock::now())
        )),
        Denied::NoSuchCall => Status::unimplemented(error.to_string()),
        _ => Status::permission_denied(error.to_string()),
    }
}

/// A name or a version that a request carries.
fn parse<T: std::str::FromStr>(given: &str) -> Result<T, Status>
where
    T::Err: std::fmt::Display,
{
    given
        .parse()
        .map_err(|error: T::Err| Status::invalid_argument(error.to_string()))
}

/// The same, where empty means none.
fn parse_option<T: std::str::FromStr>(given: &str) -> Result<Option<T>, Status>
where
    T::Err: std::fmt::Display,
{
    if given.is_empty() {
        Ok(None)
    } else {
        parse(given).map(Some)
    }
}

/// Codes as the exit codes of the command line want them.
fn refused(error: &Refused) -> Status {
    let message = error.to_string();
    match error {
        Refused::NoEnvironment(_)
        | Refused::NoPlace { .. }
        | Refused::NoHosts { .. }
        | Refused::NoDeployment(_) => Status::not_found(message),
        Refused::NotAdmitted(_)
        | Refused::Evidence { .. }
        | Refused::NothingBack { .. }
        | Refused::Schema(_)
        | Refused::Approval(_)
        | Refused::Drift(_)
        | Refused::Calendar(_)
        | Refused::Confirm(_)
        | Refused::Router(_)
        | Refused::Illegal(_) => Status::failed_precondition(message),
        Refused::Locked { .. } | Refused::Closed { .. } | Refused::Held(_) | Refused::Open(_) => {
            Status::aborted(message)
        }
        Refused::Unreachable { .. } => Status::out_of_range(message),
    }
}

/// What was looked for and not found, or cannot be used.
fn not_found(error: &NotFound) -> Status {
    match error {
        NotFound::Version { .. } | NotFound::Release { .. } => Status::not_found(error.to_string()),
        NotFound::Unusable { .. } | NotFound::Missing { .. } => {
            Status::failed_precondition(error.to_string())
        }
        NotFound::Publication(_)
        | NotFound::Blob(_)
        | NotFound::Evidence(_)
        | NotFound::Read(_) => internal(error),
    }
}

/// A failure of the controller's own: its log knows it as well.
fn internal(error: &(dyn std::error::Error + 'static)) -> Status {
    let message = chain(error);
    tracing::error!(error = message, "a request failed");
    Status::internal(message)
}
