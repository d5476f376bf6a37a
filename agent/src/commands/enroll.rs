//! `enroll`: joins, writes the configuration where there is none, and says what comes next.

use super::{DEFAULT_CONFIG, DEFAULT_STATE, Failure, Places, absolute, template};
use anyhow::Context;
use clap::Args;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tamer_agent::config::Config;
use tamer_agent::identity::enrol::{Join, enrol};
use tamer_agent::identity::{Enrolled, Home};
use tamer_agent::journal::StateLock;
use tamer_core::id::HostName;
use tamer_kit::address::Address;
use tamer_kit::durable;
use tamer_kit::token::{self, JoinToken, NotGiven};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tamer-agent enroll
  tamer-agent enroll <<< tamer-join-…
  tamer-agent enroll --token-file token --name web-07.internal
  tamer-agent enroll --rootless --state ~/fleet/web-1 --root-prefix ~/fleet/web-1/root <<< tamer-join-…

Asks for the token, and does not show it; or reads it from the variable TAMER_JOIN_TOKEN, or
from standard input where that is no terminal. It is no word of the command: those stand in the
list of processes, for everybody on the machine.")]
pub(super) struct Enroll {
    /// The file that holds the token that `tamer host invite` printed; `-` is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The host's name in the fleet [default: this machine's name]
    #[arg(long, value_name = "NAME")]
    name: Option<HostName>,
    /// Another address of the controller than the token's
    #[arg(long, value_name = "ADDRESS")]
    controller: Option<Address>,
    /// Without root: any install root, no user switch, no units
    #[arg(long)]
    rootless: bool,
    /// Put before every install root; needs --rootless
    #[arg(long, value_name = "DIR", requires = "rootless")]
    root_prefix: Option<PathBuf>,
    /// Where Prometheus may fetch metrics, for instance 127.0.0.1:7402
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Join again although this host has joined before
    #[arg(long)]
    force: bool,
}

/// Joins.
pub(super) async fn enroll(
    places: &Places,
    args: &Enroll,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let told = std::env::var("TAMER_JOIN_TOKEN").ok();
    let told = told.filter(|it| args.token_file.is_none() && !it.is_empty());
    let token: Result<JoinToken, NotGiven> = match told {
        Some(token) => token.parse().map_err(NotGiven::Bad),
        None => token::given(args.token_file.as_deref()),
    };
    let token = token.context("cannot join").map_err(Failure::Usage)?;
    let file = absolute(&places.file())?;
    let known = match file.exists() {
        true => Some(Config::load(&file).map_err(Failure::Usage)?),
        false => None,
    };
    let state = match (&places.state, &known) {
        (Some(state), _) => absolute(state)?,
        (None, Some(config)) => config.state.clone(),
        (None, None) => PathBuf::from(DEFAULT_STATE),
    };
    let name = match (&args.name, &known) {
        (Some(name), _) => name.clone(),
        (None, Some(config)) => config.name.clone(),
        (None, None) => own_name()?,
    };
    if let Some(config) = &known
        && config.name != name
    {
        return Err(Failure::usage(format!(
            "{} calls this host {}, not {name}: change it there, or leave --name out",
            file.display(),
            config.name
        )));
    }
    let prefix = args.root_prefix.as_deref().map(absolute).transpose()?;
    let lock = StateLock::take(&state)?;
    let home = Home::new(&state);
    let join = Join {
        token: &token,
        controller: args.controller.as_ref(),
        name: &name,
        force: args.force,
    };
    let (enrolled, _) = enrol(&home, &join).await?;
    drop(lock);
    writeln!(
        out,
        "{} has joined {} and belongs to {}.",
        enrolled.name, enrolled.controller, enrolled.environment
    )?;
    writeln!(out, "  keys        {}", state.join("identity").display())?;
    match known {
        Some(config) => compare(&file, &config, &enrolled)?,
        None => {
            let text = template::template(&template::Chosen {
                controller: &enrolled.controller,
                name: enrolled.name.as_str(),
                environment: enrolled.environment.as_str(),
                state: &state,
                rootless: args.rootless,
                root_prefix: prefix.as_deref(),
                metrics: args.metrics,
            });
            let written = file
                .parent()
                .map_or(Ok(()), |dir| durable::create_dir_all(dir, 0o755))
                .and_then(|()| durable::replace(&file, text.as_bytes(), 0o644));
            written
                .context("the host has joined, but its configuration was not written")
                .map_err(Failure::Internal)?;
        }
    }
    writeln!(out, "  settings    {}", file.display())?;
    writeln!(out, "  trust root  {}", enrolled.trust_root)?;
    writeln!(out, "\nnext: {}", next(&file, args.rootless))?;
    Ok(())
}

/// A configuration that was there before must say what the controller says.
fn compare(file: &Path, config: &Config, enrolled: &Enrolled) -> Result<(), Failure> {
    if config.environment == enrolled.environment {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "the host has joined {}, and {} says `environment = \"{}\"`: correct it there",
        enrolled.environment,
        file.display(),
        config.environment
    )))
}

fn next(file: &Path, rootless: bool) -> String {
    if file == Path::new(DEFAULT_CONFIG) && !rootless && Path::new("/run/systemd/system").exists() {
        "systemctl enable --now tamer-agent".to_owned()
    } else if file == Path::new(DEFAULT_CONFIG) {
        "tamer-agent run".to_owned()
    } else {
        format!("tamer-agent run --config {}", file.display())
    }
}

/// This machine's name, in small letters.
fn own_name() -> Result<HostName, Failure> {
    let name = nix::unistd::gethostname().ok();
    let name = name.and_then(|name| name.into_string().ok());
    let name = name.unwrap_or_default().to_ascii_lowercase();
    name.parse().map_err(|error| {
        Failure::usage(format!(
            "this machine's name cannot be the host's: {error}; choose one with --name"
        ))
    })
}
