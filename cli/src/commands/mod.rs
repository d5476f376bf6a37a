//! What each command does: one file a command, or a family of small ones.

mod approve;
mod attest;
mod audit;
mod build;
mod ca;
mod closing;
mod control;
mod deploy;
mod drift;
mod env;
mod follow;
mod history;
mod hosts;
mod init;
mod invite;
mod live;
mod login;
mod operators;
mod pack;
mod plan;
mod project;
mod publish;
mod releases;
mod reuse;
mod review;
mod rollback;
mod schema;
mod status;
mod trust;
mod verify;
mod watch;
mod whoami;

use crate::args::{Cli, Command, HostCommand, OperatorCommand};
use crate::client::Session;
use crate::error::{Context as _, Result};
use crate::exit::Exit;
use crate::home::Home;
use crate::printer::Printer;
use clap::CommandFactory;
use tamer_kit::address::Address;
use tamer_kit::manual;
use tamer_proto::v1::{RemoveOperatorRequest, WhoAmIRequest};

/// What every command gets.
#[derive(Debug)]
struct Context<'a> {
    home: Home,
    controller: Option<Address>,
    printer: &'a Printer,
}

impl Context<'_> {
    async fn session(&self) -> Result<Session> {
        Session::open(&self.home, self.controller.as_ref(), self.printer).await
    }
}

/// Runs a command to its end.
///
/// # Errors
/// What failed, with its exit code and what to type next.
pub async fn run(cli: Cli, printer: &Printer) -> Result<Exit> {
    // These need no home and no controller.
    let command = match cli.command {
        Command::Init(args) => return init::run(&args, printer),
        Command::Pack(args) => return pack::run(&args, printer).await,
        Command::Completions { shell } => {
            let script = manual::completions(shell, Cli::command());
            printer.raw(&String::from_utf8_lossy(&script));
            return Ok(Exit::Done);
        }
        command => command,
    };
    let context = Context {
        home: Home::find(cli.global.home.as_deref())?,
        controller: cli.global.controller,
        printer,
    };
    let done = with_controller(&context, command).await;
    come_over(&context).await;
    done.map_err(
        |error| match context.home.login(context.controller.as_ref()) {
            Ok(login) => error.at(&login.address),
            Err(_) => error,
        },
    )
}

/// Where the controller has said that its CAs have changed, trusts the new ones, and shows that it does. What fails is
/// tried again by the next command.
async fn come_over(at: &Context<'_>) {
    let due = at.home.login(at.controller.as_ref());
    if !due.is_ok_and(|login| login.renewal_due().exists()) {
        return;
    }
    let shown = async {
        let session = at.session().await?;
        session.operators().who_am_i(WhoAmIRequest {}).await?;
        Ok::<_, crate::error::Error>(())
    };
    if let Err(error) = shown.await {
        tracing::debug!(%error, "the certificate was not renewed after a change of CAs");
    }
}

async fn with_controller(at: &Context<'_>, command: Command) -> Result<Exit> {
    match command {
        Command::Login(args) => login::run(at, &args).await,
        Command::Whoami => whoami::run(at).await,
        Command::Trust(command) => trust::run(at, &command).await,
        Command::Env(command) => env::run(at, &command).await,
        Command::Ca(command) => ca::run(at, command).await,
        Command::Host(HostCommand::Invite(args)) => invite::host(at, &args).await,
        Command::Host(HostCommand::Remove { name, why }) => {
            hosts::remove(at, &name, why.reason).await
        }
        Command::Host(HostCommand::TakeBack { name, why }) => {
            hosts::take_back(at, &name, why.reason).await
        }
        Command::Hosts(args) => hosts::run(at, &args).await,
        Command::Drift(args) => drift::run(at, &args).await,
        Command::Operator(OperatorCommand::Invite(args)) => invite::operator(at, &args).await,
        Command::Operator(OperatorCommand::List) => operators::list(at).await,
        Command::Operator(OperatorCommand::Remove {
            name,
            environment,
            everywhere,
            why,
        }) => {
            let request = RemoveOperatorRequest {
                name: name.to_string(),
                reason: why.reason,
                environment: environment.map(|it| it.to_string()).unwrap_or_default(),
                everywhere,
            };
            operators::remove(at, request).await
        }
        Command::Build(args) => build::run(at, &args).await,
        Command::Attest(command) => attest::run(at, &command).await,
        Command::Review(command) => review::run(at, &command).await,
        Command::Verify(args) => verify::run(at, &args).await,
        Command::Publish(args) => publish::run(at, &args).await,
        Command::Releases(args) => releases::run(at, &args).await,
        Command::Plan(args) => plan::run(at, args).await,
        Command::Schema(command) => schema::run(at, command).await,
        Command::Deploy(args) => deploy::run(at, args).await,
        Command::Approve(args) => approve::run(at, &args).await,
        Command::Status(args) => status::run(at, &args).await,
        Command::Watch(args) => watch::run(at, &args).await,
        Command::Rollback(args) => rollback::run(at, args).await,
        Command::Pause(args) => control::run(at, args, control::Action::Pause).await,
        Command::Resume(args) => control::run(at, args, control::Action::Resume).await,
        Command::Promote(args) => control::run(at, args, control::Action::Promote).await,
        Command::Abort(args) => control::run(at, args, control::Action::Abort).await,
        Command::Freeze(args) => closing::freeze(at, args).await,
        Command::Unfreeze(args) => closing::unfreeze(at, args).await,
        Command::Lock(args) => closing::lock(at, args).await,
        Command::Unlock(args) => closing::unlock(at, args).await,
        Command::History(args) => history::run(at, &args).await,
        Command::Audit(args) => audit::run(at, &args).await,
        // Run above, before a home was looked for.
        Command::Init(_) | Command::Pack(_) | Command::Completions { .. } => Ok(Exit::Done),
    }
}

/// Runs work that blocks (packing, compressing) beside the async threads.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .doing(Exit::Internal, || format!("{what} was cut off"))?
}
