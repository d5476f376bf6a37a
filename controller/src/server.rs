//! The one port: TLS, who calls, HTTP/1.1 and HTTP/2 side by side.
//!
//! gRPC services (mounted with `tonic::service::Routes`), artifacts and pages live in one axum
//! router. Every request carries a [`Caller`] as an extension; this file decides nothing about
//! what a caller may do, but a stranger's connection is short and there are not many of them, and
//! [`doorway`] sees to it that whoever only stands there keeps nobody out.
//!
//! Memory is counted per connected agent, so buffers and windows are small and TLS keeps nothing
//! for a resumption.

pub(crate) mod doorway;
mod silence;

use crate::acting::Source;
use crate::identity::peer::{Caller, Peer};
use axum::Router;
use doorway::{Crowd, Doorway, Place};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use silence::Line;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tamer_core::digest::Digest;
use tamer_kit::channel::SILENCE;
use tamer_kit::clock;
use tamer_kit::tls::ServerTls;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// What a server allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections before the end of their TLS handshake. When there are more, those that have not got on
    /// make room, those of the largest crowd first.
    pub handshakes: usize,
    /// How long a handshake may take.
    pub handshake_time: Duration,
    /// Open connections of strangers; more are closed.
    pub strangers: usize,
    /// So many of them from one address (of IPv6: from one network of 64 bits).
    pub strangers_of_one_address: usize,
    /// Open connections with one key, be it a host's or an operator's; more are closed.
    pub connections_of_one_key: usize,
    /// How long a stranger's connection, or one with a certificate that is not valid now, may last: long enough
    /// to redeem a token or to renew.
    pub stranger_time: Duration,
    /// An HTTP/2 line on which nothing comes for so long is dead.
    pub silence: Duration,
    /// How long open connections may take to end after a stop was asked for.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes: 512,
            handshake_time: Duration::from_secs(10),
            strangers: 512,
            strangers_of_one_address: 64,
            connections_of_one_key: 128,
            stranger_time: Duration::from_secs(60),
            silence: SILENCE,
            drain: Duration::from_secs(5),
        }
    }
}

/// HTTP/2 flow control: what the other side may send before it is read, on one stream and on all.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;
/// What may wait to be sent on one stream.
const SEND_BUFFER: usize = 64 << 10;
const MAX_STREAMS: u32 = 64;
const MAX_HEADERS: u32 = 16 << 10;
/// How many connections the kernel keeps that have not been accepted yet; `net.core.somaxconn` may allow fewer. When a
/// controller starts anew its whole fleet comes within seconds. Where there is no room the kernel drops the first
/// packet, and whoever sent it sends it again after 1, 3 and 7 seconds.
const BACKLOG: u32 = 4096;
/// After `accept` failed, for instance for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The open connections by their peer's key, so that a revocation can close them.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    by_key: HashMap<Digest, HashMap<u64, CancellationToken>>,
}

/// Takes the connection off the list when it ends, however it ends.
struct Listed {
    connections: Connections,
    key: Digest,
    number: u64,
    closed: CancellationToken,
}

// === impl Connections ===

impl Connections {
    /// Closes every connection of this key at once, and says how many there were.
    ///
    /// Revoke first, then close: a connection is listed before its first request is looked at, so
    /// whatever was authorised before the revocation is found here.
    pub fn close(&self, key: Digest) -> usize {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = open.by_key.get(&key);
        found.map_or(0, |connections| {
            connections.values().for_each(CancellationToken::cancel);
            connections.len()
        })
    }

    /// How many connections of known peers are open.
    pub fn count(&self) -> usize {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.by_key.values().map(HashMap::len).sum()
    }

    /// Lists one more of this key, unless there are `most` already.
    fn list(&self, key: Digest, most: usize) -> Option<Listed> {
        let closed = CancellationToken::new();
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = open.next;
        open.next += 1;
        let of_key = open.by_key.entry(key).or_default();
        if of_key.len() >= most {
            return None;
        }
        of_key.insert(number, closed.clone());
        Some(Listed {
            connections: self.clone(),
            key,
            number,
            closed,
        })
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut open = self
            .connections
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(of_key) = open.by_key.get_mut(&self.key) {
            of_key.remove(&self.number);
            if of_key.is_empty() {
                open.by_key.remove(&self.key);
            }
        }
    }
}

/// Everything that one connection needs to know.
struct Shared {
    tls: ServerTls,
    router: Router,
    connections: Connections,
    limits: Limits,
    strangers: Arc<Semaphore>,
    crowd: Crowd,
    /// Asks connections to end in their own time.
    stop: CancellationToken,
}

/// Listens on this address, with room for a fleet that comes all at once.
///
/// # Errors
/// Somebody else listens there, or the address is not this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of a controller that ended just now do not keep the next one from listening.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `router` until `shutdown` is done; then accepts nothing more, asks every connection to
/// end, and closes what is still open after [`Limits::drain`].
///
/// # Errors
/// The listener has no address. Failures of single connections are logged.
pub async fn serve(
    listener: TcpListener,
    tls: &ServerTls,
    router: Router,
    connections: Connections,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    tracing::info!(address = %listener.local_addr()?, "serving");
    let shared = Arc::new(Shared {
        tls: tls.clone(),
        // Without this, axum would finish the router anew for every request.
        router: router.with_state(()),
        connections,
        limits,
        strangers: Arc::new(Semaphore::new(limits.strangers)),
        crowd: Crowd::default(),
        stop: CancellationToken::new(),
    });
    let doorway = Doorway::new(limits.handshakes);
    let tasks = TaskTracker::new();
    let abandon = CancellationToken::new();
    let accepting = async {
        loop {
            doorway.room().await;
            match listener.accept().await {
                Ok((stream, from)) => {
                    let place = doorway.enter(from.ip());
                    let connection = connection(Arc::clone(&shared), stream, from.ip(), place);
                    tasks.spawn(abandon.clone().run_until_cancelled_owned(connection));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown => {}
    }
    drop(listener);
    shared.stop.cancel();
    tasks.close();
    if tokio::time::timeout(limits.drain, tasks.wait())
        .await
        .is_err()
    {
        tracing::info!(open = tasks.len(), "closing what is still open");
        abandon.cancel();
        tasks.wait().await;
    }
    Ok(())
}

/// One connection from its first byte to its last.
async fn connection(shared: Arc<Shared>, stream: TcpStream, from: IpAddr, place: Place) {
    // A connection that is gone already fails in the handshake, with a better message.
    let _ = stream.set_nodelay(true);
    let handshake = async {
        stream.readable().await?;
        place.speaks();
        let stream = TlsAcceptor::from(shared.tls.config())
            .accept(stream)
            .await?;
        // It is handed on a few times, and each hand would keep room for all of it.
        io::Result::Ok(Box::new(stream))
    };
    // What is large lies in boxes of its own: a handshake's room is given back when the connection serves.
    let handshake = Box::pin(tokio::time::timeout(
        shared.limits.handshake_time,
        handshake,
    ));
    let stream = match place.away.run_until_cancelled(handshake).await {
        Some(Ok(Ok(stream))) => stream,
        Some(Ok(Err(error))) => return tracing::debug!(%error, "a TLS handshake failed"),
        Some(Err(_)) => return tracing::debug!("a TLS handshake took too long"),
        None => return tracing::debug!("a TLS handshake made room for others"),
    };
    drop(place);
    let caller = match caller(&stream) {
        Ok(caller) => caller,
        Err(error) => return tracing::warn!(%error, "a certificate of this CA names nobody"),
    };
    let now = clock::now();
    let known = caller
        .peer()
        .is_some_and(|peer| !peer.expired(now) && !peer.early(now));
    let serving = Box::pin(serve_listed(&shared, stream, caller));
    if known {
        return serving.await;
    }
    let most = shared.limits.strangers_of_one_address;
    let (Some(_counted), Ok(_permit)) = (
        shared.crowd.join(from, most),
        shared.strangers.try_acquire(),
    ) else {
        return tracing::debug!(%from, "too many strangers: one is turned away");
    };
    if tokio::time::timeout(shared.limits.stranger_time, serving)
        .await
        .is_err()
    {
        tracing::debug!("a stranger stayed too long");
    }
}

/// A stream after its handshake.
type Stream = Box<TlsStream<TcpStream>>;

/// Who showed which certificate in the handshake.
fn caller(stream: &TlsStream<TcpStream>) -> Result<Caller, crate::identity::peer::BadPeer> {
    match stream.get_ref().1.peer_certificates() {
        Some([certificate, ..]) => Ok(Caller::Peer(Arc::new(Peer::from_der(certificate)?))),
        _ => Ok(Caller::Stranger),
    }
}

async fn serve_listed(shared: &Shared, stream: Stream, caller: Caller) {
    let key = caller.peer().map(|peer| peer.key);
    let most = shared.limits.connections_of_one_key;
    let listed = key.map(|key| shared.connections.list(key, most));
    let Ok(listed) = listed.map(|it| it.ok_or(())).transpose() else {
        return tracing::warn!("too many connections with one key: one is closed");
    };
    let closed = listed
        .as_ref()
        .map_or_else(CancellationToken::new, |listed| listed.closed.clone());
    // Dropping the connection is what closes it.
    let _ = closed
        .run_until_cancelled(serve_http(shared, stream, caller))
        .await;
}

async fn serve_http(shared: &Shared, stream: Stream, caller: Caller) {
    let router = shared.router.clone();
    let source = stream.get_ref().0.peer_addr().ok();
    let source = source.map(|it| Source(it.ip().to_canonical()));
    let service = hyper::service::service_fn(move |mut request: http::Request<_>| {
        request.extensions_mut().insert(caller.clone());
        if let Some(source) = source {
            request.extensions_mut().insert(source);
        }
        router.clone().oneshot(request)
    });
    // What was agreed on in the handshake, and nothing else.
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let line = Line::new(stream);
    let heard = line.heard();
    let silent = async move {
        match is_http2 {
            true => heard.nothing_for(shared.limits.silence).await,
            // Who speaks HTTP/1.1 says nothing while it listens; between requests its time is bounded.
            false => std::future::pending().await,
        }
    };
    let builder = builder(is_http2);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(line), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = silent => return tracing::debug!("a line fell silent: it is closed"),
        () = shared.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(error, "a connection broke");
    }
}

fn builder(is_http2: bool) -> auto::Builder<TokioExecutor> {
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = match is_http2 {
        true => builder.http2_only(),
        false => builder.http1_only(),
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_buf_size(MAX_HEADERS as usize);
    builder
        .http2()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS);
    builder
}
