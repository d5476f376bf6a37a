//! A store is opened: with our own HTTP client, so that there is one TLS and one list of authorities.

use super::place::{S3, Web};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{HttpClient, HttpConnector};
use object_store::http::HttpBuilder;
use object_store::{ClientOptions, RetryConfig};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tamer_core::text;
use tamer_kit::durable::{self, FileError};
use tamer_kit::tls;

/// How often, and how long, a request to a store is repeated: an agent that waits for it asks again
/// itself.
const RETRIES: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

/// The largest credentials file that is read, in bytes.
const MAX_CREDENTIALS: u64 = 16 << 10;

/// The largest file of certificate authorities that is read, in bytes.
const MAX_CA: u64 = 1 << 20;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file that is named cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The credentials are not as they should be.
    #[error("{}: {reason}", file.display())]
    Credentials {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("cannot speak TLS with the artifact store")]
    Tls(#[from] tls::TlsError),
    /// The client cannot be set up.
    #[error("cannot speak HTTP with the artifact store")]
    Http(#[from] reqwest::Error),
    /// The store refuses its settings.
    #[error("cannot open the artifact store")]
    Open(#[source] object_store::Error),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    access_key_id: String,
    secret_access_key: String,
}

/// A client of the store with the system's authorities, and those of `ca`.
///
/// # Errors
/// [`OpenError`].
pub(super) fn client(ca: Option<&Path>) -> Result<reqwest::Client, OpenError> {
    let pem = match ca {
        None => None,
        Some(file) => Some(durable::read_capped(file, MAX_CA)?.unwrap_or_default()),
    };
    let tls = tls::public_client_config(pem.as_deref())?;
    Ok(tamer_kit::http::builder(tls).build()?)
}

/// Our client in the hands of `object_store`.
#[derive(Debug)]
struct Ours(reqwest::Client);

impl HttpConnector for Ours {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

fn retry() -> RetryConfig {
    RetryConfig {
        max_retries: RETRIES,
        retry_timeout: RETRY_TIMEOUT,
        ..RetryConfig::default()
    }
}

/// Opens a bucket. Nothing is asked of it yet.
///
/// # Errors
/// [`OpenError`].
pub(super) fn s3(place: &S3) -> Result<AmazonS3, OpenError> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&place.bucket)
        .with_http_connector(Ours(client(place.ca.as_deref())?))
        // That the line is secret is for the endpoint's URL to say: what comes is verified anyway.
        .with_allow_http(true)
        .with_retry(retry());
    if let Some(endpoint) = &place.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &place.region {
        builder = builder.with_region(region);
    }
    if let Some(file) = &place.credentials {
        let given = credentials(file)?;
        builder = builder
            .with_access_key_id(given.access_key_id)
            .with_secret_access_key(given.secret_access_key);
    }
    builder.build().map_err(OpenError::Open)
}

/// Opens what a web server keeps, for reading.
///
/// # Errors
/// [`OpenError`].
pub(super) fn http(
    place: &Web,
    client: &reqwest::Client,
) -> Result<object_store::http::HttpStore, OpenError> {
    HttpBuilder::new()
        .with_url(&place.url)
        .with_http_connector(Ours(client.clone()))
        .with_retry(retry())
        .build()
        .map_err(OpenError::Open)
}

fn credentials(file: &Path) -> Result<Credentials, OpenError> {
    use std::os::unix::fs::PermissionsExt;
    let refused = |reason: String| OpenError::Credentials {
        file: file.to_owned(),
        reason,
    };
    let name = file.display().to_string();
    let bytes = durable::read_capped(file, MAX_CREDENTIALS)?
        .ok_or_else(|| refused("there is no such file".to_owned()))?;
    let meta = std::fs::metadata(file).map_err(FileError::new("look at", file))?;
    if meta.permissions().mode() & 0o007 != 0 {
        return Err(refused(format!(
            "everybody on this machine may read or write it: chmod 0640 {name}"
        )));
    }
    let content = String::from_utf8(bytes).map_err(|_| refused("it is not text".to_owned()))?;
    // Not with the line that is wrong: it may be the secret.
    text::parse(&name, &content).map_err(|_| {
        refused(
            "it must have two lines, access_key_id = \"…\" and secret_access_key = \"…\""
                .to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_secret_and_are_not_shown() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s3.toml");
        let write = |content: &str, mode| {
            std::fs::write(&file, content).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            credentials(&file)
        };
        let good = "access_key_id = \"a\"\nsecret_access_key = \"s3cret\"\n";
        assert_eq!(write(good, 0o640).unwrap().secret_access_key, "s3cret");
        let said = write(good, 0o644).err().unwrap().to_string();
        assert!(said.contains("chmod 0640"), "{said}");
        let said = write("access_key_id = \"a\"\nsecret_access_key = s3cret", 0o600);
        let said = said.err().unwrap().to_string();
        assert!(
            said.contains("two lines") && !said.contains("s3cret"),
            "{said}"
        );
    }
}
