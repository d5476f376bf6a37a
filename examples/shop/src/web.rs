//! The shop's pages.

use crate::orders::{Order, Orders};
use crate::release::Release;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How many orders the page shows.
const SHOWN: usize = 20;

/// The largest request body, in bytes.
const MAX_BODY: usize = 4 << 10;

/// How long requests under way may take once the shop is to stop.
const FAREWELL: Duration = Duration::from_secs(5);

struct Shop {
    release: Release,
    orders: Orders,
}

/// Takes the port, also from connections of a shop before this one that are still being forgotten.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

/// Serves until TERM or INT.
pub(crate) async fn serve(
    listener: TcpListener,
    release: Release,
    orders: Orders,
) -> io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let (leave, leaving) = oneshot::channel::<()>();
    let farewell = async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        let _ = leave.send(());
        tokio::time::sleep(FAREWELL).await;
    };
    let served = axum::serve(listener, pages(Shop { release, orders }))
        .with_graceful_shutdown(async move { drop(leaving.await) });
    tokio::select! {
        ended = served.into_future() => ended,
        () = farewell => Ok(()),
    }
}

fn pages(shop: Shop) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/version", get(version))
        .route("/health", get(health))
        .route("/orders", post(order))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(shop))
}

async fn home(State(shop): State<Arc<Shop>>) -> Response {
    let orders = match shop.orders.latest(SHOWN) {
        Ok(orders) => orders,
        Err(error) => return unwell(format!("cannot read the orders: {error}")),
    };
    let title = escape(shop.release.setting("title").unwrap_or("Shop"));
    let version = escape(&shop.release.version);
    let rows: String = orders
        .iter()
        .map(|it| format!("<li>{} for {}</li>\n", escape(&it.item), escape(&it.name)))
        .collect();
    Html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body>\n<h1>{title}</h1>\n<form method=\"post\" action=\"/orders\">\n\
         <input name=\"item\" placeholder=\"What\" required> <input name=\"name\" placeholder=\"For whom\" required>\n\
         <button>Order</button>\n</form>\n<ul>\n{rows}</ul>\n<footer>version {version}</footer>\n</body>\n</html>\n"
    ))
    .into_response()
}

async fn version(State(shop): State<Arc<Shop>>) -> String {
    format!("{}\n", shop.release.version)
}

async fn health(State(shop): State<Arc<Shop>>) -> Response {
    if let Err(reason) = shop.release.setting("payment_url") {
        return unwell(reason);
    }
    match shop.orders.probe() {
        Ok(()) => "well\n".into_response(),
        Err(error) => unwell(format!("cannot keep orders: {error}")),
    }
}

async fn order(State(shop): State<Arc<Shop>>, Form(order): Form<Order>) -> Response {
    if !order.is_whole() {
        return (StatusCode::UNPROCESSABLE_ENTITY, "who wants what?\n").into_response();
    }
    if let Err(reason) = shop.release.setting("payment_url") {
        return unwell(reason);
    }
    match shop.orders.add(&order) {
        Ok(()) => Redirect::to("/").into_response(),
        Err(error) => unwell(format!("cannot keep the order: {error}")),
    }
}

fn unwell(reason: String) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, reason + "\n").into_response()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
