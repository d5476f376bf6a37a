//! Metrics for Prometheus, and the little server that shows them.
//!
//! `/metrics` is OpenMetrics text, `/healthz` answers 200 while the process serves. Both are plain
//! HTTP for loopback: nothing here is secret, and nothing here asks who is there.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::registry::{Metric, Registry};
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;

/// What a scraper is told it gets, by the OpenMetrics specification 1.0.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A new metric at zero, under `name`.
pub fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    register(registry, name, help, M::default())
}

/// This metric, under `name`: a clone counts together with it.
pub fn register<M: Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// Everything as OpenMetrics text.
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing into a string does not fail, and every label of Tamer's can be written.
    if let Err(error) = text::encode(&mut text, registry) {
        tracing::error!(%error, "cannot write the metrics");
    }
    text
}

/// Serves `/metrics` and `/healthz` until `shutdown` is done.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    registry: Arc<Registry>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    tracing::info!(address = %listener.local_addr()?, "serving metrics");
    let shown = move || {
        let text = text(&registry);
        async move { ([(CONTENT_TYPE, OPENMETRICS)], text) }
    };
    let router = Router::new()
        .route("/metrics", get(shown))
        .route("/healthz", get(|| async { "ok\n" }));
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn metrics_and_health_are_served_until_the_stop() {
        let mut registry = Registry::with_prefix("tamer_test");
        let joins: Counter = add(&mut registry, "joins", "Who joined");
        joins.inc();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(Arc::new(registry), listener, async {
            let _ = stopped.await;
        }));
        let ask = async |path: &str| {
            let mut line = TcpStream::connect(address).await.unwrap();
            let ask = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            line.write_all(ask.as_bytes()).await.unwrap();
            let mut answer = String::new();
            line.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = ask("/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("application/openmetrics-text"), "{answer}");
        assert!(answer.contains("tamer_test_joins_total 1"), "{answer}");
        assert!(answer.ends_with("# EOF\n"), "{answer}");
        assert!(ask("/healthz").await.ends_with("\r\n\r\nok\n"));
        assert!(ask("/other").await.starts_with("HTTP/1.1 404"));
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }
}
