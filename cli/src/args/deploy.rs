//! Deploying, watching, going back.

use super::EvidenceKeyFile;
use clap::Args;
use std::fmt;
use std::str::FromStr;
use tamer_core::id::{ApplicationName, ComponentName, EnvironmentName, PoolName};
use tamer_core::moment::Span;
use tamer_core::version::Version;

/// What to deploy: `1.4.2`, or one component as `web@1.4.3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct What {
    /// The component; `None`: the whole application.
    pub component: Option<ComponentName>,
    /// The version.
    pub version: Version,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.component {
            Some(component) => write!(f, "{component}@{}", self.version),
            None => self.version.fmt(f),
        }
    }
}

impl FromStr for What {
    type Err = String;
    fn from_str(given: &str) -> Result<Self, String> {
        let (component, version) = match given.split_once('@') {
            Some((component, version)) => (
                Some(component.parse().map_err(|e| format!("{e}"))?),
                version,
            ),
            None => (None, given),
        };
        let version = version.parse().map_err(|e| format!("{e}"))?;
        Ok(Self { component, version })
    }
}

/// Why something is done.
#[derive(Debug, Clone, Args)]
pub struct Why {
    /// Why, for the log.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub reason: String,
}

/// `tamer deploy`
#[derive(Debug, Args)]
#[command(after_help = "\
Ctrl-C stops watching, never the rollout.

Examples:
  tamer deploy staging 1.4.2
  tamer deploy production web@1.4.3 --reason 'fixes the login'
  tamer deploy production 1.4.2 --wait      waits for what is in the way, and for approval
  tamer deploy production 1.4.2 --detach    starts it and does not watch
  tamer deploy production 1.4.2 --override-freeze --reason 'orders are lost'")]
pub struct Deploy {
    /// The environment.
    pub environment: EnvironmentName,
    /// The version, or COMPONENT@VERSION.
    pub what: What,
    /// The application [default: the only one that the environment places].
    #[arg(long, short, value_name = "NAME")]
    pub application: Option<ApplicationName>,
    /// Starts the rollout and does not watch it.
    #[arg(long)]
    pub detach: bool,
    /// Waits for the rollout that is in the way, for approval, and for the environment to open, instead of giving up.
    #[arg(long)]
    pub wait: bool,
    /// Brings the database to where what runs does not work with it: nothing leads back then.
    #[arg(long, requires = "reason")]
    pub no_way_back: bool,
    /// Shows what it would do, and does nothing: `tamer plan`.
    #[arg(long)]
    pub dry_run: bool,
    /// Does not ask, where the environment wants it confirmed: for scripts.
    #[arg(long, short)]
    pub yes: bool,
    /// Passes over windows and freezes, not over locks: an admin's to do.
    #[arg(long, requires = "reason")]
    pub override_freeze: bool,
    /// Why.
    #[command(flatten)]
    pub why: Why,
}

/// `tamer approve`
#[derive(Debug, Args)]
#[command(after_help = "\
Where an environment demands approval, a deployment is staged and then waits for it. What you
sign is shown first: one plan, for one environment, until a moment.

Examples:
  tamer approve 318
  tamer approve 318 --check                 shows what would be approved
  tamer approve 318 --key anna.pem --expires 1h --reason 'seen on staging'")]
pub struct ApproveDeployment {
    /// The deployment.
    pub deployment: u64,
    /// For how long it counts.
    #[arg(long, value_name = "TIME", default_value = "8h")]
    pub expires: Span,
    /// Shows what would be approved, and approves nothing.
    #[arg(long)]
    pub check: bool,
    /// Why.
    #[command(flatten)]
    pub why: Why,
    /// The key that signs.
    #[command(flatten)]
    pub key: EvidenceKeyFile,
}

/// `tamer rollback`
#[derive(Debug, Args)]
#[command(after_help = "\
Going back flips a link to a release that is still on the servers: nothing is downloaded or proven anew.
Where a component has two pools, its routers send to the other one again, which still runs what ran before.

Examples:
  tamer rollback production
  tamer rollback production 1.4.0 --reason 'orders are lost'
  tamer rollback production --component web
  tamer rollback production --component web --pool blue     has all routers send there
  tamer rollback production --with-down --reason 'loses the new addresses'
  tamer rollback --deployment 318           turns this deployment back")]
pub struct Rollback {
    /// The environment.
    #[arg(required_unless_present = "deployment")]
    pub environment: Option<EnvironmentName>,
    /// The version to go back to [default: the last good one].
    pub version: Option<Version>,
    /// The application [default: the only one that the environment places].
    #[arg(long, short, value_name = "NAME")]
    pub application: Option<ApplicationName>,
    /// One component [default: all].
    #[arg(long, short, value_name = "NAME")]
    pub component: Option<ComponentName>,
    /// A deployment that is under way, to turn back.
    #[arg(long, value_name = "N", conflicts_with_all = ["environment", "version", "application", "component"])]
    pub deployment: Option<u64>,
    /// Brings the database down first, where what would run again needs that.
    #[arg(long, requires = "reason")]
    pub with_down: bool,
    /// Has all routers of the component send to this pool, whatever they do now.
    #[arg(long, value_name = "NAME", requires = "component", conflicts_with_all = ["version", "deployment"])]
    pub pool: Option<PoolName>,
    /// Has routers send also to a pool that does not serve with all of its hosts.
    #[arg(long, requires = "reason", conflicts_with = "deployment")]
    pub incomplete: bool,
    /// Starts going back and does not watch it.
    #[arg(long)]
    pub detach: bool,
    /// Why.
    #[command(flatten)]
    pub why: Why,
}

/// `tamer pause`, `tamer resume`, `tamer promote`, `tamer abort`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tamer pause 318
  tamer resume --environment production
  tamer promote 318 --reason 'orders look right'
  tamer abort 318 --reason 'the supplier is down'")]
pub struct Control {
    /// The deployment.
    #[arg(
        required_unless_present = "environment",
        conflicts_with = "environment"
    )]
    pub deployment: Option<u64>,
    /// The environment whose deployment is meant.
    #[arg(long, short, value_name = "NAME")]
    pub environment: Option<EnvironmentName>,
    /// Why.
    #[command(flatten)]
    pub why: Why,
}

/// `tamer status`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tamer status               what runs, and what ended last, everywhere
  tamer status production
  tamer status 318")]
pub struct Status {
    /// A deployment's number or an environment's name.
    #[arg(value_name = "DEPLOYMENT|ENVIRONMENT")]
    pub which: Option<String>,
}

/// `tamer watch`
#[derive(Debug, Args)]
#[command(after_help = "\
Ends with the deployment's exit code; Ctrl-C stops watching, never the rollout.

Examples:
  tamer watch                the only deployment that is under way
  tamer watch 318")]
pub struct Watch {
    /// The deployment.
    pub deployment: Option<u64>,
}

/// `tamer history`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tamer history\n  tamer history production --limit 50")]
pub struct History {
    /// One environment [default: all].
    pub environment: Option<EnvironmentName>,
    /// How many, the newest first.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    #[test]
    fn a_version_or_one_component_of_it() {
        let what: What = "web@1.4.3".parse().unwrap();
        assert_eq!(what.component.unwrap().as_str(), "web");
        assert_eq!("1.4.2".parse::<What>().unwrap().component, None);
        assert!("web@".parse::<What>().is_err());
        assert!("@1.0.0".parse::<What>().is_err());
        assert!(
            "Web@1.0.0"
                .parse::<What>()
                .unwrap_err()
                .contains("component name")
        );
    }

    #[test]
    fn going_back_needs_an_environment_or_a_deployment() {
        let parse = |words: &[&str]| Cli::try_parse_from([&["tamer", "rollback"], words].concat());
        assert!(parse(&[]).is_err());
        assert!(parse(&["production", "--deployment", "3"]).is_err());
        assert!(parse(&["production", "1.0.0"]).is_ok());
        let Command::Rollback(rollback) = parse(&["--deployment", "3"]).unwrap().command else {
            panic!("not a rollback");
        };
        assert_eq!(rollback.deployment, Some(3));
    }

    #[test]
    fn pausing_needs_to_know_what() {
        for (words, good) in [
            (vec!["pause"], false),
            (vec!["pause", "3"], true),
            (vec!["abort", "--environment", "staging"], true),
            (vec!["resume", "3", "--environment", "staging"], false),
        ] {
            let parsed = Cli::try_parse_from([vec!["tamer"], words.clone()].concat());
            assert_eq!(parsed.is_ok(), good, "{words:?}");
        }
    }
}
