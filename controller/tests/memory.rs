//! What passes through the artifact routes is not held: what is allocated at most is told, not what the kernel gives.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use peak_alloc::PeakAlloc;
use std::io;
use std::sync::Arc;
use tamer_controller::api::artifact::{ArtifactApi, Gate, PublishedFiles, router};
use tamer_controller::artifacts::Blobs;
use tamer_controller::evidence::EvidenceFiles;
use tamer_controller::identity::peer::Caller;
use tamer_controller::identity::registry::Denied;
use tamer_controller::metrics::Metrics;
use tamer_core::digest::Digest;
use tamer_kit::hash::{Hasher, sha256};
use tamer_release::patch;
use tower::ServiceExt as _;

#[global_allocator]
static METER: PeakAlloc = PeakAlloc;

/// How long the documents are, in bytes: as long as a manifest of 60,000 files.
const LENGTH: usize = 16 << 20;

/// How much is sent at once, in bytes.
const CHUNK: usize = 64 << 10;

struct Open;

#[async_trait]
impl Gate for Open {
    async fn may_read(&self, _: &Caller) -> Result<(), Denied> {
        Ok(())
    }
    async fn may_write(&self, _: &Caller) -> Result<(), Denied> {
        Ok(())
    }
}

/// A document of lines that hardly repeat, chunk by chunk; in each chunk the last line is another one for another
/// `seed`.
fn chunks(seed: u64) -> impl Iterator<Item = Bytes> {
    (0..(LENGTH / CHUNK) as u64).map(move |n| {
        let lines = (0..CHUNK / 64).map(|line| {
            let last = (line + 1 == CHUNK / 64).then_some(seed);
            let number = n * CHUNK as u64 + line as u64;
            let digest = sha256(&[number.to_le_bytes(), last.unwrap_or(0).to_le_bytes()].concat());
            format!("{:.63}\n", digest.to_string())
        });
        Bytes::from(lines.collect::<String>())
    })
}

fn digest(seed: u64) -> Digest {
    let mut hasher = Hasher::default();
    chunks(seed).for_each(|chunk| hasher.update(&chunk));
    hasher.finish()
}

async fn ask(router: &Router, request: Request<Body>) -> Response<Body> {
    router.clone().oneshot(request).await.unwrap()
}

/// How many bytes come.
async fn drained(answer: Response<Body>) -> usize {
    let mut body = answer.into_body();
    let mut came = 0;
    while let Some(frame) = body.frame().await {
        came += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    came
}

/// What is allocated meanwhile at most, above what was allocated before; in MiB.
async fn taken<T>(work: impl Future<Output = T>) -> (T, usize) {
    METER.reset_peak_usage();
    let before = METER.current_usage();
    let done = work.await;
    (done, METER.peak_usage().saturating_sub(before) >> 20)
}

#[tokio::test]
async fn documents_are_taken_in_and_given_out_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let router = router(ArtifactApi {
        blobs: Arc::new(Blobs::local(&dir.path().join("artifacts")).unwrap()),
        trust: Arc::new(PublishedFiles {
            base: dir.path().join("trust"),
        }),
        gate: Arc::new(Open),
        metrics: Metrics::new(),
        max_blob: u64::MAX,
        codings: Arc::default(),
        evidence: EvidenceFiles::new(&dir.path().join("trust")),
    });
    let (old, new) = (digest(1), digest(2));
    for (seed, digest) in [(1, old), (2, new)] {
        let body = stream::iter(chunks(seed)).map(Ok::<_, io::Error>);
        let request = Request::builder().method(Method::PUT);
        let request = request.uri(format!("/blobs/{digest}"));
        let request = request.body(Body::from_stream(body)).unwrap();
        let (answer, most) = taken(ask(&router, request)).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        assert!(most < 4, "an upload takes {most} MiB");
    }
    for (headers, coding) in [
        (vec![], ""),
        (vec![("accept-encoding", "zstd".to_owned())], "zstd"),
        (
            vec![
                ("accept-encoding", patch::CODING.to_owned()),
                (
                    "available-dictionary",
                    format!(":{}:", STANDARD.encode(old.as_bytes())),
                ),
            ],
            patch::CODING,
        ),
    ] {
        let mut request = Request::builder().uri(format!("/blobs/{new}"));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::empty()).unwrap();
        let work = async {
            let answer = ask(&router, request).await;
            let coded = answer.headers().get("content-encoding").cloned();
            (coded, drained(answer).await)
        };
        let ((coded, came), most) = taken(work).await;
        let coded = coded.map_or(String::new(), |it| it.to_str().unwrap().to_owned());
        assert_eq!(coded, coding);
        assert!(if coding == patch::CODING {
            came < LENGTH / 50
        } else {
            came > LENGTH / 3
        });
        assert!(most < 6, "to give it as `{coding}` takes {most} MiB");
    }
}
