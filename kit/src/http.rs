//! HTTP clients with time limits and Tamer's own TLS: what fetches releases and evidence.

use reqwest::{Client, ClientBuilder, redirect};
use rustls::ClientConfig;
use std::time::Duration;

/// How long a connection may take to come about, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a response may stand still before it counts as dead. There is no limit on its whole
/// length: a large release over a slow line is no error.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that speaks only https, follows no redirect, and heeds no proxy variables, so that
/// nothing but `tls` decides whom it trusts.
///
/// # Errors
/// The client cannot be set up; with a configuration from [`crate::tls`] that does not happen.
pub fn client(tls: ClientConfig) -> Result<Client, reqwest::Error> {
    builder(tls).https_only(true).build()
}

/// What [`client`] builds from, for callers with other wishes, as checks that ask plain http.
pub fn builder(mut tls: ClientConfig) -> ClientBuilder {
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .user_agent(concat!("tamer/", env!("CARGO_PKG_VERSION")))
}
