//! Artifacts over HTTP: blobs by their digest, and signed metadata by its file name.
//!
//! ```text
//! PUT       /blobs/{sha256}            takes bytes with that digest, and no others
//! GET HEAD  /blobs/{sha256}            gives them, also a single range of them; or says where else
//! GET HEAD  /trust/team/{file}         the team's roots
//! GET HEAD  /trust/app/{name}/{file}   an application's metadata
//! GET HEAD  /trust/env/{name}/{file}   an environment's metadata
//! GET HEAD  /evidence/{sha256}         the evidence of the release with this manifest, a bundle a line
//! ```
//!
//! A blob that is not large is also given as a difference from another one that the caller has, see `coded`.
//!
//! 404 means that something is definitely not there, and nothing else: a client may conclude from
//! it that there is no newer root. Refusals are one line of text. What is given here is believed by
//! nobody before it is verified.

mod coded;
mod range;
#[cfg(test)]
mod tests;

use crate::artifacts::{BlobError, Blobs, Bytestream, REMEMBERED_FOR, pieces};
use crate::evidence::EvidenceFiles;
use crate::identity::peer::{Caller, Identity};
use crate::identity::registry::Denied;
use crate::metrics::Metrics;
use async_trait::async_trait;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
pub use coded::Codings;
use futures_util::TryStreamExt;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, IF_RANGE, LOCATION, RANGE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use range::Asked;
use std::path::PathBuf;
use std::sync::Arc;
use tamer_core::digest::Digest;
use tamer_release::trust::{PublicationError, PublishedRepository, PublishedTeam, RepositoryName};

/// Who may use the artifacts; asked anew for every request.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Whether the caller may read blobs and metadata.
    ///
    /// # Errors
    /// [`Denied`].
    async fn may_read(&self, caller: &Caller) -> Result<(), Denied>;

    /// Whether the caller may store blobs.
    ///
    /// # Errors
    /// [`Denied`].
    async fn may_write(&self, caller: &Caller) -> Result<(), Denied>;
}

/// Signed metadata, as published.
pub trait TrustFiles: Send + Sync + 'static {
    /// A file of a repository, or of the team's root for `None`; `None` only if it is definitely
    /// not there. Blocks.
    ///
    /// # Errors
    /// It can't be read.
    fn read(
        &self,
        repository: Option<RepositoryName>,
        file: &str,
    ) -> Result<Option<Vec<u8>>, PublicationError>;
}

/// [`TrustFiles`] in the directory where the publication keeps them.
#[derive(Debug, Clone)]
pub struct PublishedFiles {
    /// The directory of `team/`, `app/` and `env/`.
    pub base: PathBuf,
}

impl TrustFiles for PublishedFiles {
    fn read(
        &self,
        repository: Option<RepositoryName>,
        file: &str,
    ) -> Result<Option<Vec<u8>>, PublicationError> {
        match repository {
            None => PublishedTeam::new(&self.base).read(file),
            // To read takes no keys.
            Some(name) => PublishedRepository::new(&self.base, name, Vec::new()).read(file),
        }
    }
}

/// What the artifact routes work with.
#[derive(Clone)]
pub struct ArtifactApi {
    /// Where blobs lie.
    pub blobs: Arc<Blobs>,
    /// Where signed metadata lies.
    pub trust: Arc<dyn TrustFiles>,
    /// Where evidence lies.
    pub evidence: EvidenceFiles,
    /// Who may do what.
    pub gate: Arc<dyn Gate>,
    /// What is counted.
    pub metrics: Metrics,
    /// The largest blob that is taken, in bytes.
    pub max_blob: u64,
    /// Blobs as differences, as far as they are kept.
    pub codings: Arc<Codings>,
}

/// A refusal: a status and one line of text.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    said: String,
}

/// The routes; every request must carry its [`Caller`] as an extension, and counts as a stranger's
/// if it does not.
pub fn router(api: ArtifactApi) -> Router {
    Router::new()
        .route("/blobs/{digest}", get(get_blob).put(put_blob))
        .route("/trust/team/{file}", get(get_team_file))
        .route("/trust/app/{name}/{file}", get(get_app_file))
        .route("/trust/env/{name}/{file}", get(get_env_file))
        .route("/evidence/{digest}", get(get_evidence))
        .with_state(api)
}

async fn put_blob(
    State(api): State<ArtifactApi>,
    caller: Option<Extension<Caller>>,
    Path(digest): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    api.admit(caller, true).await?;
    let digest = parse_digest(&digest)?;
    let announced = headers.get(CONTENT_LENGTH).and_then(|n| n.to_str().ok());
    let announced = announced.and_then(|n| n.parse::<u64>().ok());
    if announced.is_some_and(|length| length > api.max_blob) {
        return Err(BlobError::TooLarge { max: api.max_blob }.into());
    }
    let stored = api
        .blobs
        .put(digest, body.into_data_stream(), api.max_blob)
        .await?;
    api.metrics.artifact_bytes_received.inc_by(stored);
    Ok((StatusCode::CREATED, format!("stored {stored} bytes\n")).into_response())
}

async fn get_blob(
    State(api): State<ArtifactApi>,
    caller: Option<Extension<Caller>>,
    Path(digest): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    // A desk may be where only the controller is reached.
    let is_host = matches!(&caller, Some(Extension(Caller::Peer(peer)))
        if matches!(peer.identity, Identity::Host { .. }));
    api.admit(caller, false).await?;
    let digest = parse_digest(&digest)?;
    let codings = coded::asked(&method, &headers);
    // Before it is looked for elsewhere: a store knows no differences.
    if let Some(coded) = api.codings.get(&api.blobs, digest, &codings).await? {
        let body = api.counted(pieces(coded.file, 0..coded.length));
        return Response::builder()
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_ENCODING, coded.coding.name())
            .header(CONTENT_LENGTH, coded.length)
            .header(CACHE_CONTROL, "private, max-age=31536000, immutable")
            .header(VARY, coded::VARY)
            .body(body)
            .map_err(|error| Refusal::internal(&error));
    }
    if is_host && let Some(there) = api.blobs.straight(&digest).await? {
        api.metrics.artifact_redirects.inc();
        // Temporarily, for a signed URL does not last; the method stays.
        let kept = format!("private, max-age={}", REMEMBERED_FOR.as_secs());
        return Ok((
            StatusCode::TEMPORARY_REDIRECT,
            [(LOCATION, there), (CACHE_CONTROL, kept)],
        )
            .into_response());
    }
    let length = api.blobs.head(&digest).await?;
    let length = length.ok_or_else(|| Refusal::absent(&format!("blob {digest}")))?;
    let etag = format!("\"{digest}\"");
    let mut answer = Response::builder()
        .header(ETAG, &etag)
        .header(ACCEPT_RANGES, "bytes")
        .header(VARY, coded::VARY)
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CACHE_CONTROL, "private, max-age=31536000, immutable");
    let range = match asked(&headers, &method, &etag, length) {
        Asked::Whole => {
            answer = answer.header(CONTENT_LENGTH, length);
            None
        }
        Asked::Part(range) => {
            let (first, last) = (range.start, range.end - 1);
            answer = answer
                .status(StatusCode::PARTIAL_CONTENT)
                .header(CONTENT_RANGE, format!("bytes {first}-{last}/{length}"))
                .header(CONTENT_LENGTH, range.end - range.start);
            Some(range)
        }
        Asked::Nothing => {
            return Ok((
                StatusCode::RANGE_NOT_SATISFIABLE,
                [(CONTENT_RANGE, format!("bytes */{length}"))],
                format!("the blob has {length} bytes: the range lies behind its end\n"),
            )
                .into_response());
        }
    };
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let bytes = api.blobs.get(&digest, range).await?;
        let bytes = bytes.ok_or_else(|| Refusal::absent(&format!("blob {digest}")))?;
        api.counted(bytes)
    };
    answer.body(body).map_err(|error| Refusal::internal(&error))
}

/// What part of a blob of this length is asked for.
fn asked(headers: &HeaderMap, method: &Method, etag: &str, length: u64) -> Asked {
    // RFC 9110, 14.2: a range is for GET alone; 13.1.5: and only while its condition holds.
    let holds = headers.get(IF_RANGE).is_none_or(|tag| tag == etag);
    let mut ranges = headers.get_all(RANGE).iter();
    match (ranges.next(), ranges.next()) {
        (Some(range), None) if holds && method == Method::GET => range
            .to_str()
            .map_or(Asked::Whole, |r| range::ask(r, length)),
        _ => Asked::Whole,
    }
}

async fn get_team_file(
    State(api): State<ArtifactApi>,
    caller: Option<Extension<Caller>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    api.admit(caller, false).await?;
    api.trust_file(None, file, &headers).await
}

async fn get_app_file(
    State(api): State<ArtifactApi>,
    caller: Option<Extension<Caller>>,
    Path((name, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    api.admit(caller, false).await?;
    let name = name.parse().map(RepositoryName::Application);
    let name = name.map_err(|_| Refusal::absent("such application"))?;
    api.trust_file(Some(name), file, &headers).await
}

async fn get_env_file(
    State(api): State<ArtifactApi>,
    caller: Option<Extension<Caller>>,
    Path((name, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    api.admit(caller, false).await?;
    let name = name.parse().map(RepositoryName::Environment);
    let name = name.map_err(|_| Refusal::absent("such environment"))?;
    api.trust_file(Some(name), file, &headers).await
}

async fn get_evidence(
    State(api): State<ArtifactApi>,
    caller: Option<Extension<Caller>>,
    Path(digest): Path<String>,
) -> Result<Response, Refusal> {
    api.admit(caller, false).await?;
    let manifest = parse_digest(&digest)?;
    let file = api.evidence.of(manifest).await;
    let file = file.map_err(|error| Refusal::internal(&error))?;
    if file.is_empty() {
        return Err(Refusal::absent(&format!("evidence of {manifest}")));
    }
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/jsonl")),
        // More may be added at any time.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    Ok((headers, file).into_response())
}

fn parse_digest(given: &str) -> Result<Digest, Refusal> {
    given.parse().map_err(|error| Refusal {
        status: StatusCode::BAD_REQUEST,
        said: format!("{error}"),
    })
}

// === impl ArtifactApi ===

impl ArtifactApi {
    /// What is sent, and counted on the way.
    fn counted(&self, bytes: Bytestream) -> Body {
        let sent = self.metrics.artifact_bytes_sent.clone();
        Body::from_stream(bytes.inspect_ok(move |chunk| {
            sent.inc_by(chunk.len() as u64);
        }))
    }

    async fn admit(&self, caller: Option<Extension<Caller>>, write: bool) -> Result<(), Refusal> {
        let caller = caller.map_or(Caller::Stranger, |Extension(caller)| caller);
        let answer = if write {
            self.gate.may_write(&caller).await
        } else {
            self.gate.may_read(&caller).await
        };
        // The gate counts what it denies.
        answer.map_err(|denied| Refusal {
            status: match denied {
                Denied::Stranger => StatusCode::UNAUTHORIZED,
                _ => StatusCode::FORBIDDEN,
            },
            said: denied.to_string(),
        })
    }

    async fn trust_file(
        self,
        repository: Option<RepositoryName>,
        file: String,
        asked: &HeaderMap,
    ) -> Result<Response, Refusal> {
        let place = repository
            .as_ref()
            .map_or_else(|| "team".to_owned(), ToString::to_string);
        let (trust, name) = (self.trust, file.clone());
        let zstd = coded::accepts(asked, "zstd");
        let read = tokio::task::spawn_blocking(move || {
            let bytes = trust.read(repository, &name)?;
            // Most of it is digests and names that are much alike.
            let packed = bytes.as_ref().filter(|_| zstd);
            let packed = packed.and_then(|it| tamer_release::patch::compress(it).ok());
            Ok::<_, PublicationError>((bytes, packed))
        });
        let read = read.await.map_err(|error| Refusal::internal(&error))?;
        let (bytes, packed) = read.map_err(|error| Refusal::internal(&error))?;
        let bytes = bytes.ok_or_else(|| Refusal::absent(&format!("{place}/{file}")))?;
        // Everything but the timestamp carries its version in its name.
        let cache = match file.as_str() {
            "timestamp.json" => "no-cache",
            _ => "private, max-age=300",
        };
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CACHE_CONTROL, HeaderValue::from_static(cache)),
            (VARY, HeaderValue::from_static("accept-encoding")),
        ];
        Ok(match packed {
            Some(packed) => (headers, [(CONTENT_ENCODING, "zstd")], packed).into_response(),
            None => (headers, bytes).into_response(),
        })
    }
}

// === impl Refusal ===

impl Refusal {
    fn absent(what: &str) -> Self {
        let what: String = what.chars().take(200).collect();
        Self {
            status: StatusCode::NOT_FOUND,
            said: format!("there is no {what} here"),
        }
    }

    /// What went wrong in here is for the log, not for the caller.
    fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "an artifact request failed");
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            said: "the controller could not read or write it: its log says why".to_owned(),
        }
    }
}

impl From<BlobError> for Refusal {
    fn from(error: BlobError) -> Self {
        let status = match &error {
            BlobError::WrongDigest { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            BlobError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            BlobError::Cut { .. } => StatusCode::BAD_REQUEST,
            _ => return Self::internal(&error),
        };
        Self {
            status,
            said: error.to_string(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let headers = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        (self.status, headers, format!("{}\n", self.said)).into_response()
    }
}
