//! The operator's side: the command line, and the same requests without it, for times without the start
//! of a process in them.

use super::{ENVIRONMENT, program};
use anyhow::{Context as _, anyhow, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tamer::client::{Attentive, Session};
use tamer::home::Home;
use tamer::printer::{Output, Printer};
use tamer_proto::v1::operators_client::OperatorsClient;
use tamer_proto::v1::{
    DeployRequest, InviteRequest, ListHostsRequest, RollbackRequest, WatchRequest,
};

/// The operator.
pub struct Desk {
    home: PathBuf,
    session: Option<Session>,
}

/// How a deployment went.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// From before the request was sent until its end was told to whoever had asked.
    pub wall: Duration,
    /// From the request's arrival to the last report's, by the controller's clock, to the millisecond.
    pub inside: Duration,
}

impl Desk {
    pub(super) fn new(home: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir(&home)?;
        Ok(Self {
            home,
            session: None,
        })
    }

    /// `tamer` with these arguments, not yet run.
    ///
    /// # Errors
    /// The program is not there.
    pub fn command(&self, words: &[&str]) -> anyhow::Result<Command> {
        let mut command = program::command("tamer")?;
        command.env("TAMER_HOME", &self.home).args(words);
        Ok(command)
    }

    /// Runs `tamer` with these arguments; it must end well.
    ///
    /// # Errors
    /// It does not.
    pub fn tamer(&self, words: &[&str]) -> anyhow::Result<String> {
        program::output(&mut self.command(words)?)
    }

    /// Publishes `tree` as a version of an application with one component, `app`, that has no hooks and no
    /// checks.
    ///
    /// # Errors
    /// It is refused.
    pub fn publish(&self, application: &str, version: &str, tree: &Path) -> anyhow::Result<()> {
        let folder = tree.parent().context("the tree has no parent")?;
        let name = tree.file_name().context("the tree has no name")?;
        let file = folder.join(format!("{application}.toml"));
        let text = format!(
            "application = \"{application}\"\n[component.app]\nfiles = \"{}\"\nroot = \"/srv/{application}/app\"\n",
            name.to_string_lossy()
        );
        fs::write(&file, text)?;
        self.tamer(&["publish", version, "--file", &file.display().to_string()])?;
        Ok(())
    }

    pub(super) async fn connect(&mut self) -> anyhow::Result<()> {
        let said = |error: tamer::error::Error| anyhow!("{}", error.message);
        let home = Home::find(Some(&self.home)).map_err(said)?;
        let (printer, _) = Printer::keeping(Output::Text);
        let session = Session::open(&home, None, &printer).await.map_err(said)?;
        self.session = Some(session);
        Ok(())
    }

    fn operators(&self) -> anyhow::Result<OperatorsClient<Attentive>> {
        let session = self.session.as_ref().context("not connected")?;
        Ok(session.operators())
    }

    pub(crate) async fn invite(&self) -> anyhow::Result<String> {
        let request = InviteRequest {
            kind: "host".to_owned(),
            environments: vec![ENVIRONMENT.to_owned()],
            labels: BTreeMap::from([("role".to_owned(), "web".to_owned())]),
            ..InviteRequest::default()
        };
        Ok(self.operators()?.invite(request).await?.into_inner().token)
    }

    pub(super) async fn connected(&self) -> anyhow::Result<usize> {
        let request = ListHostsRequest {
            environment: ENVIRONMENT.to_owned(),
            name: String::new(),
        };
        let answer = self.operators()?.list_hosts(request).await?.into_inner();
        let connected = answer.hosts.iter().filter(|host| host.state == "connected");
        Ok(connected.count())
    }

    /// Asks for a version on all hosts, and does not wait for it; gives the deployment's number.
    ///
    /// # Errors
    /// It is refused.
    pub async fn begin(&self, application: &str, version: &str) -> anyhow::Result<u64> {
        let request = DeployRequest {
            environment: ENVIRONMENT.to_owned(),
            application: application.to_owned(),
            version: version.to_owned(),
            ..DeployRequest::default()
        };
        let answer = self.operators()?.deploy(request).await?.into_inner();
        Ok(answer.deployment)
    }

    /// Waits until a deployment has ended.
    ///
    /// # Errors
    /// It does not end well.
    pub async fn ends(&self, deployment: u64) -> anyhow::Result<Ended> {
        self.end(self.operators()?, deployment, Instant::now())
            .await
    }

    /// Deploys a version to all hosts.
    ///
    /// # Errors
    /// It does not end well.
    pub async fn deploy(&self, application: &str, version: &str) -> anyhow::Result<Ended> {
        let request = DeployRequest {
            environment: ENVIRONMENT.to_owned(),
            application: application.to_owned(),
            version: version.to_owned(),
            ..DeployRequest::default()
        };
        let mut operators = self.operators()?;
        let begun = Instant::now();
        let answer = operators.deploy(request).await?.into_inner();
        self.end(operators, answer.deployment, begun).await
    }

    /// Asks for a version on all hosts, where there may be nothing to do; gives how long that took.
    ///
    /// # Errors
    /// It does not end well.
    pub async fn ask_for(&self, application: &str, version: &str) -> anyhow::Result<Duration> {
        let request = DeployRequest {
            environment: ENVIRONMENT.to_owned(),
            application: application.to_owned(),
            version: version.to_owned(),
            ..DeployRequest::default()
        };
        let mut operators = self.operators()?;
        let begun = Instant::now();
        let answer = operators.deploy(request).await?.into_inner();
        if answer.deployment == 0 {
            return Ok(begun.elapsed());
        }
        Ok(self.end(operators, answer.deployment, begun).await?.wall)
    }

    /// Goes back to the version before, on all hosts.
    ///
    /// # Errors
    /// It does not end well.
    pub async fn roll_back(&self, application: &str) -> anyhow::Result<Ended> {
        let request = RollbackRequest {
            environment: ENVIRONMENT.to_owned(),
            application: application.to_owned(),
            ..RollbackRequest::default()
        };
        let mut operators = self.operators()?;
        let begun = Instant::now();
        let answer = operators.rollback(request).await?.into_inner();
        self.end(operators, answer.deployment, begun).await
    }

    async fn end(
        &self,
        mut operators: OperatorsClient<Attentive>,
        deployment: u64,
        begun: Instant,
    ) -> anyhow::Result<Ended> {
        ensure!(deployment != 0, "there was nothing to do");
        let request = WatchRequest { deployment };
        let mut states = operators.watch(request).await?.into_inner();
        while let Some(state) = states.message().await? {
            if state.ended_ms == 0 {
                continue;
            }
            let wall = begun.elapsed();
            ensure!(
                state.state == "succeeded",
                "deployment {deployment}: {} (exit code {}): {:?}",
                state.state,
                state.exit_code,
                state
                    .rollouts
                    .iter()
                    .map(|it| &it.cause)
                    .collect::<Vec<_>>()
            );
            let inside = state.ended_ms.saturating_sub(state.started_ms);
            return Ok(Ended {
                wall,
                inside: Duration::from_millis(inside),
            });
        }
        Err(anyhow!("deployment {deployment} was not seen to end"))
    }
}
