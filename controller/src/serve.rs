//! Everything put together: open what is on disk, start the driver, serve the one port, stop in order.

use crate::api::agent::AgentApi;
use crate::api::artifact::{self, ArtifactApi, Gate, PublishedFiles};
use crate::api::calls;
use crate::api::enrolment::EnrolmentApi;
use crate::api::operator::OperatorApi;
use crate::artifacts::Blobs;
use crate::audit::AuditLog;
use crate::authority::Authority;
use crate::backups;
use crate::catalog::Catalog;
use crate::config::{Config, old_key};
use crate::driver::{Driver, Parts};
use crate::evidence::EvidenceFiles;
use crate::fleet::Fleet;
use crate::following;
use crate::identity::authorities::Authorities;
use crate::identity::peer::{Caller, Identity};
use crate::identity::registry::{Denied, Role};
use crate::inspections::Inspections;
use crate::metrics::Metrics;
use crate::migrations;
use crate::mirror::Mirror;
use crate::publications::Publications;
use crate::revocations;
use crate::server::{self, Connections, Limits};
use crate::sessions::Sessions;
use crate::store::sled::SledStore;
use crate::store::{Store, epoch};
use crate::transfers::Transfers;
use anyhow::Context as _;
use axum::Router;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tamer_kit::clock;
use tamer_kit::supervisor;
use tamer_proto::MAX_MESSAGE;
use tamer_proto::v1::agents_server::AgentsServer;
use tamer_proto::v1::enrolment_server::EnrolmentServer;
use tamer_proto::v1::operators_server::OperatorsServer;
use tamer_release::trust::{RepositoryName, SigningKey};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// How often snapshots and timestamps are looked at: they are signed anew at half of their life.
const RESIGN_EVERY: Duration = Duration::from_secs(3600);
/// How long a controller that stops waits for its mirror.
const LAST_COPY: Duration = Duration::from_secs(10);

/// Runs the controller until `shutdown` is done, or until something cannot be made durable.
///
/// # Errors
/// Whatever keeps it from starting or from going on, with what was tried.
pub async fn serve(
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    serve_through(config, std::convert::identity, shutdown).await
}

/// The same, with `through` around whatever answers on the port: how a test makes a controller that lies.
///
/// # Errors
/// As [`serve`].
pub async fn serve_through(
    config: Config,
    through: impl FnOnce(Router) -> Router + Send,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let paths = config.paths();
    let now = clock::now();
    let authorities = Authorities::load(&paths.ca)
        .context("cannot load the CA: was `tamer-controller init` run?")?;
    let online = online_keys(&[&paths.snapshot_key, &paths.timestamp_key])?;
    let online_keys = [public_json(&online[0])?, public_json(&online[1])?];
    let publications =
        Publications::open(&paths.trust, online).context("cannot read the signed metadata")?;
    let blobs = Blobs::open(&config.artifacts, &config.direct, &paths.incoming)?;
    let blobs = Arc::new(blobs);
    let catalog = Catalog {
        publications: publications.clone(),
        blobs: Arc::clone(&blobs),
        evidence: EvidenceFiles::new(&paths.trust),
    };
    let store = open_store(&paths.store)?;
    backups::before_upgrade(&*store, &config, env!("CARGO_PKG_VERSION"), now)
        .context("cannot make a backup before the upgrade")?;
    let stored = store.load("").context("cannot read the store")?;
    let mut fleet = Fleet::load(
        &stored,
        epoch::read(&paths.state)?,
        epoch::held(&paths.state)?,
        now,
    )?;
    drop(stored);
    fleet.restored_from = epoch::restored_from(&paths.state)?;
    if let Some(why) = &fleet.held {
        tracing::warn!(
            why,
            "this controller was restored and is held: it decides and sends nothing until `tamer-controller unhold`"
        );
    }
    fleet.begin_restored(now);
    let (revocations, revoked) = revocations::open(&paths.revocations).with_context(|| {
        format!(
            "cannot tell who was shut out, so nobody is let in: put the copy of it in {} in place",
            paths.mirror.display()
        )
    })?;
    fleet.keep_out(&revoked, now);
    let (migrations, records) = migrations::open(&paths.migrations).with_context(|| {
        format!(
            "cannot tell what was begun on databases, so nothing is migrated: put the copy of it in {} in place",
            paths.mirror.display()
        )
    })?;
    fleet.remember(&records);
    take_in_environments(&mut fleet, &catalog).await?;
    let metrics = Metrics::new();
    let mirror = Mirror::new(&config, metrics.clone());
    let sessions = Arc::new(Sessions::default());
    let inspections = Arc::new(Inspections::default());
    let transfers = Arc::new(Transfers::default());
    let connections = Connections::default();
    let authority = Authority::open(
        authorities,
        &config.names,
        fleet.registry.hosts.len(),
        mirror.clone(),
        connections.clone(),
    )?;
    fleet.registry.issuing = Some(authority.issuing());
    let stop = CancellationToken::new();
    let (driver, driving) = Driver::new(
        Parts {
            fleet,
            store: Arc::clone(&store),
            audit: AuditLog::open(&paths.audit).context("cannot open the audit log")?,
            revocations,
            migrations,
            epoch: (paths.state.clone(), epoch::read(&paths.state)?),
            mirror: mirror.clone(),
            sessions: Arc::clone(&sessions),
            connections: connections.clone(),
            metrics: metrics.clone(),
        },
        stop.clone(),
    );
    let gate = Arc::new(RegistryGate {
        driver: driver.clone(),
        metrics: metrics.clone(),
    });
    let artifacts = artifact::router(ArtifactApi {
        blobs,
        trust: Arc::new(PublishedFiles {
            base: paths.trust.clone(),
        }),
        evidence: catalog.evidence.clone(),
        gate,
        metrics: metrics.clone(),
        max_blob: config.max_artifact,
        codings: Arc::default(),
    });
    // The port closes first, then the driver, so that whatever was answered has been stored.
    let port = CancellationToken::new();
    let agents = AgentApi {
        driver: driver.clone(),
        authorities: authority.told(),
        sessions: Arc::clone(&sessions),
        inspections: Arc::clone(&inspections),
        transfers: Arc::clone(&transfers),
        metrics: metrics.clone(),
        closing: port.clone(),
    };
    let enrolment = EnrolmentApi {
        driver: driver.clone(),
        authority: authority.clone(),
        publications: publications.clone(),
        metrics: metrics.clone(),
        attempts: Default::default(),
    };
    let looked_up = catalog.clone();
    let operators = OperatorApi {
        driver: driver.clone(),
        catalog,
        publications: publications.clone(),
        public: config.public.clone(),
        authority: authority.clone(),
        online_keys,
        mirror: mirror.clone(),
        inspections,
        transfers,
        audit: paths.audit.clone(),
        closing: port.clone(),
    };
    let agents = AgentsServer::new(agents).max_decoding_message_size(MAX_MESSAGE);
    let operators = OperatorsServer::new(operators).max_decoding_message_size(MAX_MESSAGE);
    let router = Routes::new(agents)
        .add_service(EnrolmentServer::new(enrolment))
        .add_service(operators)
        .into_axum_router()
        .layer(axum::middleware::from_fn_with_state(
            (metrics.clone(), authority.told()),
            calls::gate,
        ))
        .merge(artifacts);
    let listener = server::listen(config.listen)
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let mut chores = tokio::task::JoinSet::new();
    chores.spawn(resign(
        publications,
        metrics.clone(),
        mirror.clone(),
        stop.clone(),
    ));
    let (following, published, stopping) = (driver.clone(), looked_up, stop.clone());
    chores.spawn(async move {
        following::take_in_published(&following, &published).await;
        following::run(following, published, stopping).await;
    });
    chores.spawn(authority.clone().keep(driver.clone(), stop.clone()));
    let (kept, copied, settings, counted, end) = (
        Arc::clone(&store),
        mirror.clone(),
        config.clone(),
        metrics.clone(),
        stopped(stop.clone()),
    );
    chores.spawn(async move { backups::run(kept, copied, &settings, counted, end).await });
    if let Some(address) = config.metrics {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} for metrics"))?;
        let serving = metrics.serve(listener, stopped(stop.clone()));
        chores.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "metrics are not served any more");
            }
        });
    }
    chores.spawn(supervisor::watchdog(goes_on(driver.clone()), stop.clone()));
    // Bound already: who connects now is served.
    supervisor::ready();
    let serving = server::serve(
        listener,
        authority.tls(),
        through(router),
        connections,
        Limits::default(),
        stopped(port.clone()),
    );
    let (mut serving, mut driving) = (Box::pin(serving), Box::pin(driving));
    let result = tokio::select! {
        result = &mut serving => result.context("cannot serve"),
        result = &mut driving => result,
        () = shutdown => {
            supervisor::stopping();
            port.cancel();
            // Agents stay connected for ever otherwise, and the stop would wait for them in vain.
            sessions.close_all();
            let served = tokio::select! {
                served = &mut serving => served.context("cannot serve"),
                driven = &mut driving => driven,
            };
            stop.cancel();
            served.and(driving.await)
        }
    };
    stop.cancel();
    while chores.join_next().await.is_some() {}
    // Nothing writes any more: what came since the last look goes along.
    let last = tokio::task::spawn_blocking(move || mirror.everything(clock::now()));
    if tokio::time::timeout(LAST_COPY, last).await.is_err() {
        tracing::warn!("the mirror did not answer in time: it may lack what came last");
    }
    result
}

/// Asks the driver whether it still goes on: what systemd's watchdog is told.
fn goes_on(driver: Driver) -> impl Fn() -> BoxFuture<'static, bool> {
    move || {
        let driver = driver.clone();
        Box::pin(async move { driver.read(|_| ()).await.is_ok() })
    }
}

/// The online keys, and after them those that a rotation took out: roots may name them still.
fn online_keys(files: &[&std::path::Path]) -> anyhow::Result<Vec<Arc<SigningKey>>> {
    let old: Vec<_> = files.iter().map(|file| old_key(file)).collect();
    let old = old.iter().map(std::path::PathBuf::as_path);
    let old = old.filter(|file| file.exists());
    let load = |file: &std::path::Path| {
        let key = SigningKey::load(file)
            .with_context(|| format!("cannot load the online key {}", file.display()))?;
        Ok(Arc::new(key))
    };
    files.iter().copied().chain(old).map(load).collect()
}

fn public_json(key: &SigningKey) -> anyhow::Result<String> {
    Ok(serde_json::to_string(key.public())?)
}

fn open_store(dir: &std::path::Path) -> anyhow::Result<Arc<dyn Store>> {
    let exe = std::env::current_exe().context("cannot tell where this program lies")?;
    Ok(Arc::new(
        SledStore::open(dir, &exe).context("cannot open the store")?,
    ))
}

/// The signed files are the truth of environments. One that cannot be used keeps its targets as they
/// were stored, and says so.
async fn take_in_environments(fleet: &mut Fleet, catalog: &Catalog) -> anyhow::Result<()> {
    for name in catalog.publications.names().await {
        let RepositoryName::Environment(name) = name else {
            continue;
        };
        match catalog.environment(&name).await {
            Ok(Some((version, text, file))) => {
                fleet.set_environment(&name, version, text, file, clock::now());
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(environment = %name, error = &error as &dyn std::error::Error, "cannot use the environment's file");
            }
        }
    }
    Ok(())
}

async fn resign(
    publications: Publications,
    metrics: Metrics,
    mirror: Mirror,
    stop: CancellationToken,
) {
    loop {
        publications.resign(clock::now()).await;
        match publications.glance().await {
            Ok((team, all)) => metrics.trust_ends(std::iter::once(&team).chain(&all)),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot read the signed metadata"
                );
            }
        }
        mirror.published().await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RESIGN_EVERY) => {}
        }
    }
}

async fn stopped(stop: CancellationToken) {
    stop.cancelled().await;
}

/// Blobs and metadata are for everyone who is known; storing them takes a deployer of any environment.
struct RegistryGate {
    driver: Driver,
    metrics: Metrics,
}

#[async_trait::async_trait]
impl Gate for RegistryGate {
    async fn may_read(&self, caller: &Caller) -> Result<(), Denied> {
        self.ask(caller, false).await
    }

    async fn may_write(&self, caller: &Caller) -> Result<(), Denied> {
        self.ask(caller, true).await
    }
}

impl RegistryGate {
    async fn ask(&self, caller: &Caller, write: bool) -> Result<(), Denied> {
        let asked = caller.clone();
        let now = clock::now();
        let read = move |fleet: &Fleet| match asked.peer().map(|peer| &peer.identity) {
            None => Err(Denied::Stranger),
            Some(Identity::Host { .. }) if write => Err(Denied::NotAnOperator),
            Some(Identity::Host { .. }) => fleet.registry.authorise_host(&asked, now).map(|_| ()),
            Some(Identity::Operator { .. }) => {
                let needed = if write { Role::Deployer } else { Role::Viewer };
                let registry = &fleet.registry;
                registry.authorise_anywhere(&asked, needed, now).map(|_| ())
            }
        };
        // A controller that is stopping knows nobody.
        let answer = self
            .driver
            .read(read)
            .await
            .unwrap_or(Err(Denied::Stranger));
        if let Err(denied) = &answer {
            self.metrics.denied(denied);
        }
        answer
    }
}
