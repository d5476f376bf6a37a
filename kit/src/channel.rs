//! A gRPC channel to the controller, over this crate's TLS.
//!
//! The agent's one long stream runs over it, so it notices a dead line by itself: HTTP/2 pings
//! every 15 s, also while idle, answered within 10 s. The controller sends none: it hears that they come.

use crate::address::Address;
use crate::cause::cause;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

/// How long a connection may take to come about, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a quiet line is asked whether it lives.
pub const PING_INTERVAL: Duration = Duration::from_secs(15);
/// How long the answer may take.
pub const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A controller on whose line nothing came for so long takes it for dead: two questions are missing by then, and the
/// time for an answer has passed.
pub const SILENCE: Duration = Duration::from_secs(40);
/// How many bytes the other side may send ahead on one stream, and on the whole connection.
/// Messages are small (releases travel over plain HTTP); what is not read is held in memory.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// Messages queued between a caller and the connection; tonic's 1024 cost 16 KiB a channel.
const QUEUE: usize = 64;

/// Why there is no channel to the controller.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The host part of the address cannot stand in a certificate.
    #[error("{address}: the host is not a name that a certificate can have")]
    Name {
        /// The address as given.
        address: Address,
        /// What is wrong with it.
        #[source]
        source: InvalidDnsNameError,
    },
    /// The address is not one that gRPC can use.
    #[error("{address} is not an address for gRPC")]
    Endpoint {
        /// The address as given.
        address: Address,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
    /// Whoever answers shows a certificate of a CA that is not trusted here.
    #[error("{address} shows a certificate of another CA than is known here")]
    OtherCa {
        /// Whom was called.
        address: Address,
        /// How the handshake ended.
        #[source]
        source: tonic::transport::Error,
    },
    /// Nobody answered, or the TLS handshake failed.
    #[error("cannot connect to {address}")]
    Connect {
        /// Whom was called.
        address: Address,
        /// Why it failed.
        #[source]
        source: tonic::transport::Error,
    },
}

impl ChannelError {
    /// Whether the other side's certificate is not valid at this machine's time: its clock is wrong, or it expired.
    pub fn is_of_time(&self) -> bool {
        use rustls::CertificateError as Bad;
        let Self::Connect { source, .. } = self else {
            return false;
        };
        matches!(
            cause(source),
            Some(rustls::Error::InvalidCertificate(
                Bad::Expired
                    | Bad::ExpiredContext { .. }
                    | Bad::NotValidYet
                    | Bad::NotValidYetContext { .. }
            ))
        )
    }
}

/// Connects to the controller; reconnects by itself when a later call finds the line dead.
///
/// In TLS 1.3 a server refuses a client's certificate only after the client's handshake is done:
/// such a refusal is seen at the first call, not here.
///
/// # Errors
/// [`ChannelError`].
pub async fn connect(address: &Address, tls: ClientConfig) -> Result<Channel, ChannelError> {
    let (endpoint, connector) = prepare(address, tls)?;
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|source| {
            let address = address.clone();
            if is_other_ca(&source) {
                ChannelError::OtherCa { address, source }
            } else {
                ChannelError::Connect { address, source }
            }
        })
}

/// Whether this is, at its root, a server's certificate that no trusted CA has issued.
pub fn is_other_ca(error: &(dyn std::error::Error + 'static)) -> bool {
    use rustls::CertificateError::{BadSignature, UnknownIssuer};
    matches!(
        cause(error),
        Some(rustls::Error::InvalidCertificate(
            UnknownIssuer | BadSignature
        ))
    )
}

/// Whether this is, somewhere below, the word of the other side that it does not know the CA of the certificate shown
/// here. Only words are left of it where a call fails: h2 keeps no more.
pub fn is_unknown_there(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut layer = Some(error);
    while let Some(error) = layer {
        // The alert's name in RFC 8446, 6.2, as rustls writes it.
        if error.to_string().contains("alert: UnknownCA") {
            return true;
        }
        layer = error.source();
    }
    false
}

/// Like [`connect`], but connects at the first call.
///
/// # Errors
/// [`ChannelError`], never its `Connect`. Must be called inside a tokio runtime.
pub fn connect_lazy(address: &Address, tls: ClientConfig) -> Result<Channel, ChannelError> {
    let (endpoint, connector) = prepare(address, tls)?;
    Ok(endpoint.connect_with_connector_lazy(connector))
}

type Io = TokioIo<TlsStream<TcpStream>>;

fn prepare(
    address: &Address,
    mut tls: ClientConfig,
) -> Result<
    (
        Endpoint,
        impl Service<http::Uri, Response = Io, Error = io::Error, Future: Send> + Send + 'static,
    ),
    ChannelError,
> {
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsConnector::from(Arc::new(tls));
    let name =
        ServerName::try_from(address.host().to_owned()).map_err(|source| ChannelError::Name {
            address: address.clone(),
            source,
        })?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(60)));
    let connector = tower::service_fn(move |uri: http::Uri| {
        let (tls, name, mut tcp) = (tls.clone(), name.clone(), tcp.clone());
        async move {
            let connecting = async {
                std::future::poll_fn(|cx| tcp.poll_ready(cx))
                    .await
                    .map_err(io::Error::other)?;
                let stream = tcp.call(uri).await.map_err(io::Error::other)?;
                tls.connect(name, stream.into_inner()).await
            };
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(result) => result.map(TokioIo::new),
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
                )),
            }
        }
    });
    let endpoint = Endpoint::from_shared(address.to_string())
        .map_err(|source| ChannelError::Endpoint {
            address: address.clone(),
            source,
        })?
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .buffer_size(QUEUE);
    Ok((endpoint, connector))
}
