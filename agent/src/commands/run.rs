//! `run`: puts the agent's parts together, and lets them end in order.

use super::{DEFAULT_STATE, Failure};
use anyhow::Context;
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use std::sync::Arc;
use tamer_agent::clock::ControllerClock;
use tamer_agent::config::Config;
use tamer_agent::control::Control;
use tamer_agent::converge::{Converge, Hands, Request};
use tamer_agent::host::services::Systemd;
use tamer_agent::identity::{Enrolled, Home, Keys, Shown, renew};
use tamer_agent::link::Link;
use tamer_agent::metrics::Metrics;
use tamer_agent::own::Own;
use tamer_agent::process::enclosure;
use tamer_agent::remote::Remote;
use tamer_agent::remote::http::Http;
use tamer_agent::source::Real;
use tamer_kit::address::Address;
use tamer_kit::supervisor;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// The agent's hands, and what its line to the controller shares with them.
pub(super) struct Parts {
    pub(super) hands: Hands,
    clock: Arc<ControllerClock>,
    metrics: Metrics,
    shown: watch::Sender<Shown>,
    welcomed: watch::Sender<bool>,
}

/// Who this host is: the configuration must say what was fixed when it joined.
pub(super) fn enrolled(config: &Config) -> Result<(Enrolled, Keys), Failure> {
    let (enrolled, keys) = Home::new(&config.state).load()?;
    if (&config.name, &config.environment) != (&enrolled.name, &enrolled.environment) {
        return Err(Failure::usage(format!(
            "agent.toml says {} in {}, and this host joined as {} in {}: correct it there; to move a host to \
             another environment, invite it anew",
            config.name, config.environment, enrolled.name, enrolled.environment
        )));
    }
    Ok((enrolled, keys))
}

/// Where the controller listens.
pub(super) fn address(config: &Config) -> Result<Address, Failure> {
    let address = config.controller.parse();
    address
        .context("agent.toml: `controller`")
        .map_err(Failure::Usage)
}

/// Puts the hands together; nothing moves yet. `as_unit` where this process is the agent and not a
/// command beside it.
pub(super) fn hands(
    config: Arc<Config>,
    (enrolled, keys): &(Enrolled, Keys),
    address: &Address,
    as_unit: bool,
) -> Result<Parts, Failure> {
    let first = keys.shown();
    let first = first.map_err(|e| Failure::Internal(e.into()))?;
    let (shown, certificate) = watch::channel(first);
    let http = Http::new(address.clone(), certificate)
        .context("cannot set up HTTP")
        .map_err(Failure::Internal)?;
    let (metrics, clock) = (Metrics::new(), Arc::new(ControllerClock::default()));
    let remote = Remote::new(
        &config.state,
        enrolled.environment.clone(),
        enrolled.trust_root,
        Arc::new(http),
        metrics.clone(),
    )
    .at(config.pace());
    let told = Arc::clone(&clock);
    let (welcomed, seen) = watch::channel(false);
    let own = own(&config, seen, as_unit)?;
    let hands = Hands {
        config,
        source: Arc::new(remote),
        probe: Arc::new(Real),
        services: Arc::new(Systemd),
        own: Arc::new(own),
        clock: Arc::new(move || told.now()),
        fetching: watch::channel(None).0,
    };
    Ok(Parts {
        hands,
        clock,
        metrics,
        shown,
        welcomed,
    })
}

/// The agent as a component: only one that systemd watches over can be exchanged, and that looks for a
/// trial where the unit's `agent-trial` does.
fn own(config: &Config, welcomed: watch::Receiver<bool>, as_unit: bool) -> Result<Own, Failure> {
    if !as_unit {
        return Ok(Own::command(&config.state));
    }
    if !supervisor::listens() {
        let why = "it was not started by systemd; next, on this server: systemctl enable --now tamer-agent";
        return Ok(Own::alone(why.to_owned(), &config.state));
    }
    let watched = std::env::var_os("TAMER_AGENT_STATE");
    let watched = watched.map_or_else(|| PathBuf::from(DEFAULT_STATE), PathBuf::from);
    if config.state != watched {
        let (state, watched) = (config.state.display(), watched.display());
        let why = format!(
            "its state is in {state}, and systemd would look for it in {watched}; next, on this server: \
             write TAMER_AGENT_STATE={state} into /etc/default/tamer-agent, then systemctl restart tamer-agent"
        );
        return Ok(Own::alone(why, &config.state));
    }
    let program = std::env::current_exe().context("cannot tell where this program lies");
    let program = program.map_err(Failure::Internal)?;
    Ok(Own::unit(program, &config.state, welcomed))
}

/// What runs other people's programs outside of the sandbox that the agent's unit is: this binary, started by systemd.
/// An agent that nobody has put into one needs none.
fn runner(config: &Config) -> Option<PathBuf> {
    let boxed = supervisor::listens() && enclosure::scopes() && !config.rootless;
    std::env::current_exe().ok().filter(|_| boxed)
}

/// Asks the hands whether they still move: what systemd's watchdog is told.
fn alive(requests: mpsc::Sender<Request>) -> impl Fn() -> BoxFuture<'static, bool> {
    move || {
        let requests = requests.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            requests.send(Request::Alive { reply }).await.is_ok() && answer.await.is_ok()
        })
    }
}

/// Runs the agent until SIGTERM or SIGINT. An activation under way is taken up again by the next start.
pub(super) async fn run(config: Config) -> Result<(), Failure> {
    let identity = enrolled(&config)?;
    let address = address(&config)?;
    let config = Arc::new(Config {
        runner: runner(&config),
        ..config
    });
    let parts = hands(Arc::clone(&config), &identity, &address, true)?;
    let (enrolled, keys) = identity;
    let (desired, incoming) = watch::channel(None);
    let fetching = parts.hands.fetching.subscribe();
    let opened = Converge::open(parts.hands, incoming).await;
    let (converge, reports, requests) = opened?;
    // From here on the state directory is locked: this is its only agent.
    let control = Control::open(&config.state).map_err(|e| Failure::Internal(e.into()))?;
    let listener = match config.metrics {
        None => None,
        Some(at) => Some(
            TcpListener::bind(at)
                .await
                .with_context(|| format!("cannot serve metrics on {at} (`metrics` in agent.toml)"))
                .map_err(Failure::Usage)?,
        ),
    };
    let stop = CancellationToken::new();
    let _stop_all = stop.clone().drop_guard();
    let refused = Arc::new(Notify::new());
    tracing::info!(host = %enrolled.name, environment = %enrolled.environment, controller = %address, "the agent runs");
    let (authorities, told) = watch::channel(None);
    let link = Link {
        authorities,
        address: address.clone(),
        name: enrolled.name,
        environment: enrolled.environment,
        trust_root: enrolled.trust_root,
        shown: parts.shown.subscribe(),
        desired,
        reports: reports.clone(),
        fetching,
        clock: Arc::clone(&parts.clock),
        welcomed: parts.welcomed,
        refused: Arc::clone(&refused),
        metrics: parts.metrics.clone(),
    };
    tokio::spawn(parts.metrics.clone().follow(reports));
    tokio::spawn(supervisor::watchdog(alive(requests.clone()), stop.clone()));
    let control = tokio::spawn(control.run(requests, stop.clone()));
    let clock = parts.clock;
    tokio::spawn(renew::keep(
        Home::new(&config.state),
        address,
        keys,
        parts.shown,
        renew::Early { told, refused },
        move || clock.now(),
        stop.clone(),
    ));
    if let Some(listener) = listener {
        let shutdown = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            if let Err(error) = parts.metrics.serve(listener, shutdown).await {
                tracing::error!(%error, "the metrics are not served any more");
            }
        });
    }
    let link = tokio::spawn(link.run(stop.clone()));
    let mut hands = tokio::spawn(converge.run(stop.clone()));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut hands => {
            let why = ended.err().map_or(String::new(), |e| format!(": {e}"));
            return Err(Failure::internal(format!("internal error: the agent's hands stopped{why}")));
        }
    }
    supervisor::stopping();
    tracing::info!("stopping");
    stop.cancel();
    let stopped = async {
        let _ = tokio::join!(hands, link, control);
    };
    tokio::select! {
        () = stopped => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
