//! `serve`: a runtime, and the signals that end it.

use super::Failure;
use anyhow::Context;
use tamer_controller::config::Config;
use tokio::signal::unix::{SignalKind, signal};

/// Runs the controller until SIGTERM or SIGINT, then lets it end in its own time. A second signal
/// ends it at once: nothing that was acknowledged is lost by that.
pub(super) fn serve(config: Config) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (asked, shutdown) = tokio::sync::oneshot::channel::<()>();
        let serving = tamer_controller::serve::serve(config, async {
            let _ = shutdown.await;
        });
        let signals = async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::info!("stopping: a second signal stops at once");
            // The other end is gone only if serving has ended by itself.
            let _ = asked.send(());
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        tokio::select! {
            result = Box::pin(serving) => result,
            () = signals => Err(anyhow::anyhow!("stopped at once by a second signal")),
        }
    });
    Ok(result?)
}
