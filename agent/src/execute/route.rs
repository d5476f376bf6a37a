//! The commands of a router, as the environment's signed file has them: one that says where it sends, and one that
//! has it send elsewhere.

use super::Executor;
use super::program::enclosed;
use crate::allowed::failure;
use crate::checks::{self, Surroundings, seconds};
use crate::process::{self, Command, Exit, Outcome};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tamer_core::check::expand;
use tamer_core::desired::{Failure, FailureKind};
use tamer_core::id::{ComponentPath, PoolName};
use tamer_core::router::{Pools, RouterSpec};

/// One component's routing on this host.
#[derive(Debug, Clone)]
pub struct RouteJob {
    /// Of which component.
    pub component: ComponentPath,
    /// What its routers run.
    pub router: RouterSpec,
    /// The pools that there are.
    pub pools: Pools,
}

/// Where a router sends after it was to be switched, and why that is not where it should.
pub type Switched = (Option<PoolName>, Option<Failure>);

impl Executor {
    /// Asks a router where it sends.
    ///
    /// # Errors
    /// [`FailureKind::Host`]: the command failed, or what it printed is none of the pools.
    pub async fn look(&self, job: &RouteJob) -> Result<PoolName, Failure> {
        let command = self.command(job, &job.router.active, None).await?;
        let said = process::run_by(self.config.runner.as_deref(), &command).await;
        let outcome = ended(said, "active", job)?;
        let printed = outcome.output.trim();
        match printed.parse::<PoolName>() {
            Ok(pool) if job.pools.contains_key(&pool) => Ok(pool),
            _ => {
                let pools: Vec<_> = job.pools.keys().map(PoolName::as_str).collect();
                let shown: String = printed.chars().take(80).collect();
                let why = format!(
                    "the router's `active` printed `{}`, which is neither of {}",
                    shown.escape_debug(),
                    pools.join(" and ")
                );
                Err(failure(FailureKind::Host, why))
            }
        }
    }

    /// Has a router send to a pool. One that does so already is left alone; afterwards it is asked again, for what
    /// counts is what it does.
    pub async fn switch_router(&self, job: &RouteJob, pool: &PoolName) -> Switched {
        if self.look(job).await.as_ref() == Ok(pool) {
            return (Some(pool.clone()), None);
        }
        let failed = self.switch_it(job, pool).await.err();
        match self.look(job).await {
            Ok(found) if found == *pool => (Some(found), None),
            Ok(found) => {
                let why =
                    format!("the router's `switch` ended well, and it still sends to {found}");
                (
                    Some(found),
                    failed.or(Some(failure(FailureKind::Host, why))),
                )
            }
            Err(lost) => (None, failed.or(Some(lost))),
        }
    }

    async fn switch_it(&self, job: &RouteJob, pool: &PoolName) -> Result<(), Failure> {
        let command = self.command(job, &job.router.switch, Some(pool)).await?;
        let ComponentPath {
            application,
            component,
        } = &job.component;
        let name = format!("tamer-hook-route-{application}-{component}");
        // What an agent that dies leaves of it is ended by the next one, before that switches anything.
        let said = enclosed(&self.config, &name, command).await;
        ended(said, "switch", job).map(drop)
    }

    async fn command(
        &self,
        job: &RouteJob,
        line: &[String],
        pool: Option<&PoolName>,
    ) -> Result<Command, Failure> {
        let bad = |why: String| failure(FailureKind::Host, why);
        let variables = &self.config.variables;
        let expanded = line.iter().map(|word| expand(word, variables));
        let mut words: Vec<String> = expanded.collect::<Result<_, _>>().map_err(bad)?;
        if words.is_empty() {
            return Err(bad("the router's command names no program".to_owned()));
        }
        let program = PathBuf::from(words.remove(0));
        let user = match &job.router.user {
            Some(name) => checks::user_named(name, &Surroundings::default()).await,
            None => Ok(None),
        };
        let mut command = Command {
            args: words,
            env: self.about(&job.component, pool),
            user: user.map_err(bad)?,
            time_limit: job.router.timeout.0,
            ..Command::new(program)
        };
        if let Some(user) = &command.user {
            let home = user.home.display().to_string();
            command.env.insert("HOME".to_owned(), home);
            command.env.insert("USER".to_owned(), user.name.clone());
        }
        Ok(command)
    }

    /// What a router's commands, and the acceptance checks that are commands, find in their environment.
    pub fn about(
        &self,
        component: &ComponentPath,
        pool: Option<&PoolName>,
    ) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([
            (
                "TAMER_APPLICATION".to_owned(),
                component.application.to_string(),
            ),
            (
                "TAMER_COMPONENT".to_owned(),
                component.component.to_string(),
            ),
            (
                "TAMER_ENVIRONMENT".to_owned(),
                self.config.environment.to_string(),
            ),
            ("TAMER_HOST".to_owned(), self.config.name.to_string()),
        ]);
        if let Some(pool) = pool {
            env.insert("TAMER_POOL".to_owned(), pool.to_string());
        }
        for (name, value) in &self.config.variables {
            env.insert(format!("TAMER_VAR_{}", name.to_uppercase()), value.clone());
        }
        env
    }

    /// What acceptance checks know of the host, and of the pool that they are tried on: `{pool}` in their text.
    pub fn around_pool(&self, component: &ComponentPath, pool: &PoolName) -> Surroundings {
        let mut around = self.around_environment();
        around.variables.insert("pool".to_owned(), pool.to_string());
        around.env = self.about(component, Some(pool));
        around
    }
}

fn ended(said: std::io::Result<Outcome>, what: &str, job: &RouteJob) -> Result<Outcome, Failure> {
    let program = match what {
        "active" => job.router.active.first(),
        _ => job.router.switch.first(),
    };
    let program = program.map_or("", String::as_str);
    let told = |how: String| {
        failure(
            FailureKind::Host,
            format!("the router's `{what}` ({program}) {how}"),
        )
    };
    let outcome = said.map_err(|error| told(format!("cannot be run: {error}")))?;
    let how = match outcome.status {
        Exit::Code(0) => return Ok(outcome),
        Exit::Code(code) => format!("ended with exit code {code}"),
        Exit::Signal(signal) => format!("was ended by signal {signal}"),
        Exit::TimedOut => format!("did not end within {}", seconds(job.router.timeout.0)),
        Exit::NoScope => "was not started".to_owned(),
    };
    Err(Failure {
        output: outcome.output,
        ..told(how)
    })
}
