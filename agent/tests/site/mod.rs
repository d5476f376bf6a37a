//! A host for tests: a store of packed releases, an environment file, a rootless agent's directories,
//! and a [`Source`] that reads from the store.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test uses what it needs of it")]

pub(crate) mod edited;
pub(crate) mod noted;
pub(crate) mod restarts;
pub(crate) mod scenario;

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tamer_agent::allowed::AGENT_UNIT;
use tamer_agent::config::Config;
use tamer_agent::converge::{Converge, Hands};
use tamer_agent::host::services::Systemd;
use tamer_agent::own::Own;
use tamer_agent::source::{EnvironmentView, Known, Proven, Real, Source, Verified};
use tamer_agent::transfer::Count;
use tamer_core::application::Application;
use tamer_core::desired::{
    ActivationStatus, ComponentReport, Desired, DesiredComponent, Failure, FailureKind, Grant,
    HostReport, Inspection, Purpose, Slot,
};
use tamer_core::environment::Environment;
use tamer_core::generation::Generation;
use tamer_core::moment::Moment;
use tamer_core::release::{Manifest, ReleaseRef};
use tamer_core::rollout::approval::PlanRef;
use tamer_release::delta::Parts;
use tamer_release::unpack::Arrivals;
use tamer_release::{manifest, pack, verify_tree};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const QUICK: &str = "[policy]\nmin_healthy = \"0s\"\nhealthy_deadline = \"500ms\"\n";

/// A database that is a file: `up` counts its calls in another one.
const SCHEMA: &str = "[schema.main]\ncurrent = \"bin/current\"\ntarget = 42\nup = \"bin/up now\"\n";
pub(crate) const DATABASE: [(&str, &str); 2] = [
    (
        "bin/current",
        "#!/bin/sh\ncat $TAMER_SHARED/version 2>/dev/null || echo 41\n",
    ),
    (
        "bin/up",
        "#!/bin/sh\necho $1 $TAMER_SCHEMA $TAMER_SCHEMA_FROM $TAMER_SCHEMA_TARGET >> $TAMER_SHARED/ups\n\
         echo $TAMER_SCHEMA_TARGET > $TAMER_SHARED/version\n",
    ),
];

/// The directories of one host.
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
    pub(crate) config: Config,
    pub(crate) hook_timeout: &'static str,
    pub(crate) install_root: String,
    pub(crate) user: Option<&'static str>,
    /// More lines of the component in `tamer.toml`.
    pub(crate) more: &'static str,
    /// The component that releases are of.
    pub(crate) component: &'static str,
    /// Releases get no hooks and no checks.
    pub(crate) bare: bool,
    /// Releases carry the programs of a database.
    pub(crate) schema: bool,
    /// Releases are the agent itself: they name its unit, and have a `validate` hook alone.
    pub(crate) agent: bool,
}

impl Site {
    /// A host in `dir`, which need not be there yet.
    pub(crate) fn at(dir: &Path) -> Self {
        for name in ["store", "host"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let text = format!(
            "controller = \"https://c:1\"\nname = \"web-1\"\nenvironment = \"staging\"\nrootless = true\n\
             disk_reserve = \"0%\"\nstate = \"{0}/host/state\"\nroot_prefix = \"{0}/host\"\n",
            dir.display()
        );
        Self {
            dir: dir.to_owned(),
            config: tamer_core::text::parse("agent.toml", &text).unwrap(),
            hook_timeout: "10s",
            install_root: "/srv/shop/web".to_owned(),
            user: None,
            more: "",
            component: "web",
            bare: false,
            schema: false,
            agent: false,
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        let prefix = self.config.root_prefix.clone().unwrap_or("/".into());
        prefix.join(self.install_root.trim_start_matches('/'))
    }

    pub(crate) fn shared(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.root().join("shared").join(name)).ok()
    }

    /// Writes the environment's file.
    pub(crate) fn environment(&self, text: &str) {
        fs::write(self.dir.join("store/environment.toml"), text).unwrap();
    }

    /// There is no store any more.
    pub(crate) fn environment_gone(&self) {
        assert!(!self.dir.join("store").exists());
        fs::create_dir(self.dir.join("store")).unwrap();
    }

    /// Packs a release into the store. Its hooks note their names in `shared/log`; `start` writes the
    /// version into `shared/running` and `stop` removes that; its check demands `running` to be its
    /// version, and the files of `more` may replace any script.
    pub(crate) fn publish(&self, version: &str, more: &[(&str, &str)]) -> ReleaseRef {
        let note = |hook: &str, more: &str| {
            format!("#!/bin/sh\necho {hook} $TAMER_VERSION >> $TAMER_SHARED/log\n{more}\n")
        };
        let mut files = BTreeMap::from([
            ("bin/pre-activate".to_owned(), note("pre-activate", "")),
            ("bin/drain".to_owned(), note("drain", "")),
            (
                "bin/stop".to_owned(),
                note("stop", "rm -f $TAMER_SHARED/running"),
            ),
            (
                "bin/start".to_owned(),
                note("start", "printf %s $TAMER_VERSION > $TAMER_SHARED/running"),
            ),
            ("bin/validate".to_owned(), note("validate", "")),
            ("bin/admit".to_owned(), note("admit", "")),
            (
                "bin/check".to_owned(),
                "#!/bin/sh\ntest \"$(cat $TAMER_SHARED/running)\" = $TAMER_VERSION\n".to_owned(),
            ),
            ("page.html".to_owned(), format!("shop {version}\n")),
        ]);
        for (path, content) in more {
            files.insert((*path).to_owned(), (*content).to_owned());
        }
        let tree = tempfile::tempdir().unwrap();
        for (path, content) in &files {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            let mode = if path.ends_with("page.html") {
                0o644
            } else {
                0o755
            };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let hooks = [
            "pre-activate",
            "drain",
            "stop",
            "start",
            "validate",
            "admit",
        ]
        .map(|hook| format!("{hook} = \"bin/{hook}\"\n"))
        .concat();
        let user = self
            .user
            .map_or(String::new(), |user| format!("user = \"{user}\"\n"));
        let text = format!(
            "application = \"shop\"\n[component.web]\nfiles = \"x\"\nroot = \"{}\"\n{}\
             shared = [\"media/\", \"local.env\"]\nhook_timeout = \"{}\"\n{}[component.web.hooks]\n{hooks}\
             [component.web.checks.home]\ntype = \"command\"\nrun = [\"bin/check\"]\n",
            self.install_root, user, self.hook_timeout, self.more
        );
        let text = match text.split_once("[component.web.hooks]") {
            Some((plain, _)) if self.bare => plain.to_owned(),
            Some((plain, _)) if self.agent => format!(
                "{plain}service = \"{}\"\n[component.web.hooks]\nvalidate = \"bin/validate\"\n",
                AGENT_UNIT
            ),
            _ => text,
        };
        let text = match self.schema {
            true => {
                text.replacen(
                    "hook_timeout",
                    "works_with = { main = \"41..=42\" }\nhook_timeout",
                    1,
                ) + SCHEMA
            }
            false => text,
        };
        let text = text.replace("component.web", &format!("component.{}", self.component));
        let application = Application::parse("tamer.toml", &text).unwrap();
        let component = self.component.parse().unwrap();
        let what = pack::PackSpec {
            application: application.application.clone(),
            version: version.parse().unwrap(),
            spec: application.spec(&component).unwrap(),
            component,
            mtime: 1_700_000_000,
        };
        let archive = tree.path().with_extension("tar.zst");
        let packed = pack::pack(tree.path(), &what, &archive).unwrap();
        let store = self.dir.join("store");
        fs::copy(&archive, store.join(format!("{}.tar.zst", packed.digest))).unwrap();
        fs::remove_file(&archive).unwrap();
        fs::write(
            store.join(format!("{}.json", packed.digest)),
            packed.manifest_bytes(),
        )
        .unwrap();
        ReleaseRef {
            version: what.version,
            manifest: packed.digest,
        }
    }

    /// What the agent is made of here.
    pub(crate) fn hands(&self) -> Hands {
        Hands {
            config: Arc::new(self.config.clone()),
            source: Arc::new(Store(self.dir.join("store"))),
            probe: Arc::new(Real),
            services: Arc::new(Systemd),
            own: Arc::new(Own::command(&self.config.state)),
            clock: Arc::new(now),
            fetching: watch::channel(None).0,
        }
    }

    /// The release that `current` points to, which must be whole; `None` where there is no `current`.
    pub(crate) fn running(&self) -> Option<String> {
        let link = fs::read_link(self.root().join("current")).ok()?;
        let dir = self.root().join(link);
        let bytes =
            fs::read(dir.join(".tamer/manifest.json")).expect("current points to a release");
        let manifest = manifest::parse(&bytes).unwrap();
        assert_eq!(verify_tree::verify(&dir, &manifest).unwrap(), []);
        assert!(fs::read_link(dir.join("media")).is_ok(), "shared is linked");
        Some(manifest.version.to_string())
    }
}

pub(crate) fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Moment(since.as_millis() as u64)
}

pub(crate) fn slot() -> Slot {
    Slot {
        application: "shop".parse().unwrap(),
        component: "web".parse().unwrap(),
        pool: Default::default(),
    }
}

/// Desired state number `counter`, with a grant of that number to run `run`.
pub(crate) fn granted(counter: u64, run: Option<&ReleaseRef>, purpose: Purpose) -> Desired {
    let id = Generation { epoch: 1, counter };
    Desired {
        inspect: None,
        routes: vec![],
        generation: id,
        environment: "staging".parse().unwrap(),
        environment_version: 1,
        components: vec![DesiredComponent {
            slot: slot(),
            run: run.cloned(),
            stage: vec![],
            keep: vec![],
            grant: Some(Grant {
                id,
                start_by: Moment(now().0 + 600_000),
                purpose,
            }),
            migrate: None,
            waits_for_approval: false,
            adopted: None,
            repair: None,
        }],
    }
}

/// Releases and the environment's file from a directory.
pub(crate) struct Store(pub(crate) PathBuf);

fn fetch(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|e| Failure {
        kind: FailureKind::Fetch,
        message: format!("{}: {e}", path.display()),
        check: None,
        output: String::new(),
    })
}

#[async_trait]
impl Source for Store {
    async fn admit(
        &self,
        _: &Slot,
        release: &ReleaseRef,
        _: u64,
        _: Option<&Known>,
        _: bool,
        _: Option<&PlanRef>,
    ) -> Result<Verified, Failure> {
        let manifest_bytes = fetch(&self.0.join(format!("{}.json", release.manifest)))?;
        Ok(Verified {
            proven: Default::default(),
            manifest: manifest::parse(&manifest_bytes).unwrap(),
            digest: release.manifest,
        })
    }

    async fn approved(
        &self,
        _: &Slot,
        _: &ReleaseRef,
        _: u64,
        _: Option<&PlanRef>,
    ) -> Result<Proven, Failure> {
        Ok(Proven::default())
    }

    /// Gives what was asked for and nothing else, and notes how many bytes that were.
    async fn frames(
        &self,
        manifest: &Manifest,
        wanted: &[usize],
        into: &Path,
        arrivals: &Arrivals,
        count: &Count,
    ) -> Result<(), Failure> {
        let digest = manifest::digest(manifest);
        let archive = fetch(&self.0.join(format!("{digest}.tar.zst")))?;
        let file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(into)
            .unwrap();
        let parts = Parts::of(&manifest.archive.frames);
        let mut given = 0;
        for frame in wanted {
            let bytes = parts.bytes(*frame);
            let part = &archive[bytes.start as usize..bytes.end as usize];
            file.write_all_at(part, bytes.start).unwrap();
            given += part.len();
        }
        arrivals.came(wanted);
        count.begin(given as u64, 0);
        count.came(given as u64);
        let note = fs::File::options()
            .create(true)
            .append(true)
            .open(self.0.join("given"));
        writeln!(note.unwrap(), "{given}").unwrap();
        Ok(())
    }

    async fn environment(&self, _: u64) -> Result<EnvironmentView, Failure> {
        let text = String::from_utf8(fetch(&self.0.join("environment.toml"))?).unwrap();
        let environment = Environment::parse("environment.toml", &text).unwrap();
        Ok(EnvironmentView::of(environment, 1))
    }
}

/// An agent that runs in this process, on a thread and a runtime of its own: when it has stopped, nothing of
/// it goes on.
pub(crate) struct Agent {
    pub(crate) desired: watch::Sender<Option<Desired>>,
    pub(crate) reports: watch::Receiver<HostReport>,
    pub(crate) requests: tokio::sync::mpsc::Sender<tamer_agent::converge::Request>,
    stop: CancellationToken,
    thread: std::thread::JoinHandle<()>,
}

impl Agent {
    pub(crate) async fn start(hands: Hands) -> Self {
        let (desired, incoming) = watch::channel(None);
        let stop = CancellationToken::new();
        let (opened, ready) = tokio::sync::oneshot::channel();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let (converge, reports, requests) = Converge::open(hands, incoming).await.unwrap();
                opened.send((reports, requests)).ok().unwrap();
                converge.run(stopped).await;
            });
        });
        let (reports, requests) = ready.await.expect("the agent opens");
        Self {
            desired,
            reports,
            requests,
            stop,
            thread,
        }
    }

    /// Waits for a report of the component that satisfies `wanted`.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&ComponentReport) -> bool,
    ) -> ComponentReport {
        let mut found = None;
        let all = self.reports.clone();
        let waited = tokio::time::timeout(
            PATIENCE,
            self.reports.wait_for(|report| {
                let component = report.components.iter().find(|it| it.slot == slot());
                found = component.filter(|it| wanted(it)).cloned();
                found.is_some()
            }),
        )
        .await;
        match waited {
            Ok(result) => drop(result.expect("the agent is alive")),
            Err(_) => panic!("not {what} in time: {:#?}", *all.borrow()),
        }
        found.unwrap()
    }

    /// Gives a grant and waits for its end.
    pub(crate) async fn grant(
        &mut self,
        counter: u64,
        run: Option<&ReleaseRef>,
        purpose: Purpose,
    ) -> ComponentReport {
        self.desired
            .send_replace(Some(granted(counter, run, purpose)));
        self.ended(counter).await
    }

    /// Waits for the answer to this wish to hear what differs.
    pub(crate) async fn inspected(&mut self, id: u64) -> Inspection {
        let answers = |report: &HostReport| report.inspection.clone().filter(|it| it.id == id);
        let all = self.reports.clone();
        let waited = self.reports.wait_for(|report| answers(report).is_some());
        match tokio::time::timeout(PATIENCE, waited).await {
            Ok(report) => answers(&report.expect("the agent is alive")).unwrap(),
            Err(_) => panic!("wish {id} is not answered in time: {:#?}", *all.borrow()),
        }
    }

    /// Waits until the order to migrate has ended.
    pub(crate) async fn migrated(&mut self, counter: u64) -> ComponentReport {
        self.until(&format!("order {counter} ended"), |it| {
            it.migration.as_ref().is_some_and(|migration| {
                migration.id.counter == counter && migration.status.is_final()
            })
        })
        .await
    }

    pub(crate) async fn ended(&mut self, counter: u64) -> ComponentReport {
        self.until(&format!("grant {counter} ended"), |it| {
            it.activation.as_ref().is_some_and(|activation| {
                activation.grant.counter == counter && activation.status.is_final()
            })
        })
        .await
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        let ended = tokio::task::spawn_blocking(|| self.thread.join());
        ended.await.unwrap().unwrap();
    }
}

pub(crate) fn status(report: &ComponentReport) -> &ActivationStatus {
    &report.activation.as_ref().unwrap().status
}

pub(crate) fn failure(report: &ComponentReport) -> &Failure {
    match status(report) {
        ActivationStatus::Refused(failure)
        | ActivationStatus::Undone(failure)
        | ActivationStatus::Stuck(failure) => failure,
        other => panic!("no failure but {other:?}"),
    }
}

pub(crate) fn a_site() -> (tempfile::TempDir, Site) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::at(dir.path());
    site.environment(QUICK);
    (dir, site)
}

pub(crate) fn log(site: &Site) -> Vec<String> {
    let log = site.shared("log").unwrap_or_default();
    let _ = fs::remove_file(site.root().join("shared/log"));
    log.lines().map(str::to_owned).collect()
}

/// A root agent's host, whose components run as `nobody`; where the tests are not root's, a rootless one.
pub(crate) fn a_hosts_site() -> (tempfile::TempDir, Site) {
    if !nix::unistd::geteuid().is_root() {
        return a_site();
    }
    // /tmp is everybody's, and so no place for a root agent's releases.
    let dir = tempfile::tempdir_in("/var/lib").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut site = Site::at(dir.path());
    site.environment(QUICK);
    site.config.rootless = false;
    site.config.root_prefix = None;
    site.install_root = dir.path().join("web").display().to_string();
    site.user = Some("nobody");
    let allowed = format!(
        "roots = [\"{}\"]\nusers = [\"nobody\"]\nunits = [\"shop-*.service\"]\n",
        dir.path().display()
    );
    let allowed = tamer_core::text::parse("allowed", &allowed).unwrap();
    site.config.applications.insert(slot().application, allowed);
    (dir, site)
}
