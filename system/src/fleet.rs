//! A fleet: a controller, an engineer's desk and hosts.

use crate::app::App;
use crate::controller::Controller;
use crate::host::{Host, HostOptions};
use crate::process::{Said, Typed, at_a_terminal, bound, until};
use crate::programs::program;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The environment of most tests: one canary, then one host after the other, all of it quick.
pub const ENVIRONMENT: &str = r#"
[place]
"shop/web" = { role = "web" }
[policy]
canary = 1
max_parallel = 1
min_healthy = "100ms"
healthy_deadline = "3s"
progress_deadline = "20s"
"#;

/// A fleet. Its processes end with it.
#[derive(Debug)]
pub struct Fleet {
    // In this order: agents end before the controller, and the files last.
    hosts: Vec<Host>,
    /// The controller.
    pub controller: Controller,
    dir: tempfile::TempDir,
}

impl Fleet {
    /// A controller, and a desk that has logged in, has the team's keys, and has applied this
    /// environment file as `production`.
    pub fn new(environment: &str) -> Self {
        Self::below(&std::env::temp_dir(), environment, "")
    }

    /// The same, with these tables in the controller's configuration.
    pub fn with_store(environment: &str, tables: &str) -> Self {
        Self::below(&std::env::temp_dir(), environment, tables)
    }

    /// The same, below a directory that only root can change: what an agent that is root insists on.
    pub fn of_root(environment: &str) -> Self {
        Self::below(Path::new("/var/lib"), environment, "")
    }

    fn below(dir: &Path, environment: &str, tables: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("tamer-system-")
            .tempdir_in(dir)
            .unwrap();
        let (controller, token) = Controller::new(dir.path(), tables);
        let fleet = Self {
            hosts: Vec::new(),
            controller,
            dir,
        };
        fleet.login(&token, &[]).ends(0);
        fleet.tamer(&["trust", "init"]).ends(0);
        fleet.environment("production", environment);
        fleet
    }

    /// A fleet of so many hosts, `web-1` and so on, in [`ENVIRONMENT`], that has the version 1.0.0.
    pub fn with_hosts(count: usize) -> Self {
        let mut fleet = Self::new(ENVIRONMENT);
        for n in 1..=count {
            fleet.add(&format!("web-{n}"), &HostOptions::default());
        }
        fleet.publish(&App::version("1.0.0"));
        fleet.all_connected();
        fleet
    }

    /// The same, and 1.0.0 runs on every host.
    pub fn that_runs(count: usize) -> Self {
        let fleet = Self::with_hosts(count);
        fleet.deploy("1.0.0").ends(0);
        fleet.all_run("1.0.0");
        fleet
    }

    /// A path at the desk.
    pub fn desk(&self, path: &str) -> PathBuf {
        self.dir.path().join("desk").join(path)
    }

    fn command(&self, words: &[&str]) -> Command {
        let repository = self.desk("shop");
        fs::create_dir_all(&repository).unwrap();
        let mut command = bound(&program("tamer"));
        command.args(words).current_dir(repository);
        command.env("TAMER_HOME", self.desk("home"));
        command
    }

    /// Begins a command of `tamer` at the desk, in the application's repository.
    pub fn begins(&self, words: &[&str]) -> Typed {
        Typed::begin(self.command(words), format!("tamer {}", words.join(" ")))
    }

    /// Begins a command of `tamer` at a terminal, where it asks and somebody answers.
    pub fn begins_at_a_terminal(&self, words: &[&str]) -> Typed {
        let command = at_a_terminal(&self.command(words));
        Typed::begin(command, format!("tamer {}", words.join(" ")))
    }

    /// Types a command of `tamer` at the desk, in the application's repository.
    pub fn tamer(&self, words: &[&str]) -> Said {
        self.begins(words).end()
    }

    /// Logs in with a token, which no list of processes shows.
    pub fn login(&self, token: &str, more: &[&str]) -> Said {
        let file = self.desk("token");
        fs::create_dir_all(self.desk("")).unwrap();
        fs::write(&file, token).unwrap();
        let words = ["login", "--token-file", file.to_str().unwrap()];
        self.tamer(&[&words[..], more].concat())
    }

    /// The token of an invitation for an operator, with these options.
    pub fn invite_operator(&self, name: &str, options: &[&str]) -> String {
        let invited = self.json(&[&["operator", "invite", name], options].concat());
        invited["token"].as_str().unwrap().to_owned()
    }

    /// An operator of this role, logged in from a home of their own: `--home`.
    pub fn operator(&self, name: &str, role: &str) -> String {
        let token = self.invite_operator(name, &["--role", role]);
        let home = self.desk(name).to_str().unwrap().to_owned();
        self.login(&token, &["--home", &home]).ends(0);
        home
    }

    /// What a command of `tamer` prints as JSON.
    pub fn json(&self, words: &[&str]) -> Value {
        let said = self.tamer(&[words, &["--output", "json"]].concat()).ends(0);
        serde_json::from_str(&said.out).unwrap()
    }

    /// Applies an environment file.
    pub fn environment(&self, name: &str, text: &str) -> Said {
        let file = self.desk(&format!("environments/{name}.toml"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        self.tamer(&["env", "apply", file.to_str().unwrap()])
            .ends(0)
    }

    /// Publishes a version.
    pub fn publish(&self, app: &App) {
        app.write(&self.desk("shop"));
        self.tamer(&["publish", &app.version]).ends(0);
    }

    /// Deploys a version to production, and waits for its end.
    pub fn deploy(&self, version: &str) -> Said {
        self.tamer(&["deploy", "production", version])
    }

    /// A host token for production.
    pub fn invite(&self, more: &[&str]) -> String {
        let usual = ["host", "invite", "--environment", "production"];
        let said = self
            .tamer(&[&usual[..], &["--label", "role=web"], more].concat())
            .ends(0);
        let token = said.out.trim().rsplit(' ').next().unwrap();
        token.to_owned()
    }

    /// A host that has not joined and does not run; it is the caller's.
    pub fn stranger(&self, name: &str, options: &HostOptions) -> Host {
        self.stranger_to("production", name, options)
    }

    fn stranger_to(&self, environment: &str, name: &str, options: &HostOptions) -> Host {
        Host::new(
            self.dir.path().join(name),
            name,
            &self.controller.address().to_string(),
            environment,
            options,
        )
    }

    /// A host that joins production as a web server, and whose agent is started.
    pub fn add(&mut self, name: &str, options: &HostOptions) -> &mut Host {
        let mut host = self.stranger(name, options);
        host.enroll(&self.invite(&[])).ends(0);
        host.start();
        self.hosts.push(host);
        self.hosts.last_mut().unwrap()
    }

    /// A host that joins production with these labels alone, and whose agent is started.
    pub fn add_labelled(&mut self, name: &str, labels: &[&str], options: &HostOptions) {
        self.add_to("production", name, labels, options);
    }

    /// The same in another environment, which has been applied.
    pub fn add_to(
        &mut self,
        environment: &str,
        name: &str,
        labels: &[&str],
        options: &HostOptions,
    ) {
        let mut words = vec!["host", "invite", "--environment", environment];
        words.extend(labels.iter().flat_map(|label| ["--label", label]));
        let said = self.tamer(&words).ends(0);
        let token = said.out.trim().rsplit(' ').next().unwrap().to_owned();
        let mut host = self.stranger_to(environment, name, options);
        host.enroll(&token).ends(0);
        host.start();
        self.hosts.push(host);
    }

    /// The same, with this token.
    pub fn add_with_token(&mut self, name: &str, token: &str) -> &mut Host {
        let mut host = self.stranger(name, &HostOptions::default());
        host.enroll_with(token, &[]).ends(0);
        host.start();
        self.hosts.push(host);
        self.hosts.last_mut().unwrap()
    }

    /// A host, by its number from 1.
    pub fn host(&self, number: usize) -> &Host {
        &self.hosts[number - 1]
    }

    /// A host, by its number from 1, to be changed.
    pub fn host_mut(&mut self, number: usize) -> &mut Host {
        &mut self.hosts[number - 1]
    }

    /// What the controller says of a host.
    pub fn row(&self, name: &str) -> Value {
        self.json(&["hosts", name])["hosts"][0].clone()
    }

    /// Waits until the controller says this of a host's component; `path` as in `/state`.
    pub fn component_says(&self, host: usize, path: &str, word: &str) -> Value {
        let name = self.host(host).name();
        until(&format!("{name} to have `{word}` in {path}"), || {
            let row = self.row(name);
            let component = row["components"][0].clone();
            let found = component.pointer(path).map(Value::to_string);
            found
                .is_some_and(|text| text.contains(word))
                .then_some(component)
        })
    }

    /// Waits until the controller says that a host is in this state.
    pub fn host_is(&self, host: usize, state: &str) {
        let name = self.host(host).name();
        until(&format!("{name} to be {state}"), || {
            (self.row(name)["state"] == state).then_some(())
        });
    }

    /// Waits until all hosts are connected.
    pub fn all_connected(&self) {
        until("all hosts to connect", || {
            let rows = self.json(&["hosts"])["hosts"].clone();
            let rows = rows.as_array().cloned().unwrap_or_default();
            let connected = rows.iter().filter(|row| row["state"] == "connected");
            (connected.count() == self.hosts.len()).then_some(())
        });
    }

    /// Waits until all hosts are connected that the controller knows, but these.
    pub fn all_connected_but(&self, others: &[&str]) {
        until("all hosts to connect but a few", || {
            let rows = self.json(&["hosts"])["hosts"].clone();
            let rows = rows.as_array().cloned().unwrap_or_default();
            let is_other = |row: &Value| others.iter().any(|it| row["name"] == **it);
            let well = |row: &Value| is_other(row) || row["state"] == "connected";
            rows.iter().all(well).then_some(())
        });
    }

    /// What every host runs, from its own disk.
    ///
    /// # Panics
    /// One runs something else.
    #[track_caller]
    pub fn all_run(&self, version: &str) {
        for host in &self.hosts {
            assert_eq!(host.runs().as_deref(), Some(version), "{}", host.name());
        }
    }

    /// The number of the newest deployment, and its status.
    pub fn newest(&self) -> (String, Value) {
        let status = self.json(&["status", "production"])["deployments"][0].clone();
        (
            status["id"].to_string().trim_matches('"').to_owned(),
            status,
        )
    }

    /// Waits until the newest deployment is in this state; gives its status.
    pub fn newest_is(&self, state: &str) -> Value {
        until(&format!("the newest deployment to be {state}"), || {
            let (_, status) = self.newest();
            (status["state"] == state).then_some(status)
        })
    }
}
