//! The routes over a real router and a real directory, and over a real socket where a line is cut.

use super::*;
use crate::metrics::Metrics;
use axum::body::Bytes;
use http::Request;
use http_body_util::BodyExt;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::path::Path as FilePath;
use std::time::Duration;
use tamer_kit::hash::sha256;
use tower::ServiceExt;

/// Strangers may do nothing; everyone may read; only operators may write.
struct ByName;

#[async_trait]
impl Gate for ByName {
    async fn may_read(&self, caller: &Caller) -> Result<(), Denied> {
        caller.peer().map(|_| ()).ok_or(Denied::Stranger)
    }
    async fn may_write(&self, caller: &Caller) -> Result<(), Denied> {
        match &caller.peer().ok_or(Denied::Stranger)?.identity {
            crate::identity::peer::Identity::Operator { .. } => Ok(()),
            _ => Err(Denied::NotAnOperator),
        }
    }
}

/// Every file is unreadable.
struct Broken;

impl TrustFiles for Broken {
    fn read(
        &self,
        _: Option<RepositoryName>,
        file: &str,
    ) -> Result<Option<Vec<u8>>, PublicationError> {
        let failed = std::io::Error::other("the disk is gone");
        let error = tamer_kit::durable::FileError::new("read", FilePath::new(file))(failed);
        Err(error.into())
    }
}

fn caller(name: &str) -> Caller {
    Caller::Peer(Arc::new(crate::identity::peer::Peer {
        identity: name.parse().unwrap(),
        key: Digest::new([1; 32]),
        certificate: Digest::new([2; 32]),
        serial: "01".to_owned(),
        issuer: Digest::new([0; 32]),
        issued: tamer_core::moment::Moment(0),
        not_after: tamer_core::moment::Moment(u64::MAX),
    }))
}

const OPERATOR: &str = "tamer://operator/anna";
const HOST: &str = "tamer://host/production/web-01?incarnation=1";

struct Site {
    dir: tempfile::TempDir,
    api: ArtifactApi,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: http::HeaderName) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("trust");
        let api = ArtifactApi {
            blobs: Arc::new(Blobs::local(&dir.path().join("artifacts")).unwrap()),
            evidence: EvidenceFiles::new(&base),
            trust: Arc::new(PublishedFiles { base }),
            gate: Arc::new(ByName),
            metrics: Metrics::new(),
            max_blob: 500_000,
            codings: Arc::default(),
        };
        Self { dir, api }
    }

    async fn ask(
        &self,
        who: Option<&str>,
        method: Method,
        path: &str,
        headers: &[(http::HeaderName, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let mut request = request.body(body.into()).unwrap();
        if let Some(who) = who {
            request.extensions_mut().insert(caller(who));
        }
        let answer = router(self.api.clone()).oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    async fn get(&self, path: &str, headers: &[(http::HeaderName, &str)]) -> Answer {
        self.ask(Some(HOST), Method::GET, path, headers, Body::empty())
            .await
    }

    async fn put(&self, digest: Digest, body: impl Into<Body>) -> Answer {
        let path = format!("/blobs/{digest}");
        self.ask(Some(OPERATOR), Method::PUT, &path, &[], body)
            .await
    }

    fn stored(&self) -> usize {
        let blobs = self.dir.path().join("artifacts/blobs");
        std::fs::read_dir(blobs).unwrap().count()
    }

    async fn until_stored(&self, wanted: usize) {
        let wait = async {
            while self.stored() != wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(waited.is_ok(), "{} files, not {wanted}", self.stored());
    }
}

#[tokio::test]
async fn a_blob_goes_in_and_comes_out() {
    let site = Site::new();
    let digest = sha256(b"hello");
    let path = format!("/blobs/{digest}");
    assert_eq!(site.get(&path, &[]).await.status, StatusCode::NOT_FOUND);
    for _ in 0..2 {
        let put = site.put(digest, "hello").await;
        assert_eq!(
            (put.status, put.text()),
            (StatusCode::CREATED, "stored 5 bytes\n")
        );
    }
    let whole = site.get(&path, &[]).await;
    assert_eq!((whole.status, whole.text()), (StatusCode::OK, "hello"));
    assert_eq!(whole.header(CONTENT_LENGTH), "5");
    assert_eq!(whole.header(ETAG), format!("\"{digest}\""));
    assert_eq!(whole.header(ACCEPT_RANGES), "bytes");
    let range = [(RANGE, "bytes=1-2")];
    let head = site
        .ask(Some(HOST), Method::HEAD, &path, &range, Body::empty())
        .await;
    assert_eq!((head.status, head.text()), (StatusCode::OK, ""));
    assert_eq!(head.header(CONTENT_LENGTH), "5");
    assert_eq!(site.api.metrics.artifact_bytes_received.get(), 10);
    assert_eq!(site.api.metrics.artifact_bytes_sent.get(), 5);
}

#[tokio::test]
async fn a_range_holds_only_while_its_condition_does() {
    let site = Site::new();
    let digest = sha256(b"hello");
    let path = format!("/blobs/{digest}");
    site.put(digest, "hello").await;
    let tag = format!("\"{digest}\"");
    for (tag, status) in [
        (tag.as_str(), StatusCode::PARTIAL_CONTENT),
        ("\"other\"", StatusCode::OK),
    ] {
        let headers = [(RANGE, "bytes=1-2"), (IF_RANGE, tag)];
        assert_eq!(site.get(&path, &headers).await.status, status);
    }
    let twice = [(RANGE, "bytes=1-2"), (RANGE, "bytes=3-4")];
    assert_eq!(site.get(&path, &twice).await.status, StatusCode::OK);
    let behind = site.get(&path, &[(RANGE, "bytes=5-")]).await;
    assert_eq!(behind.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(behind.header(CONTENT_RANGE), "bytes */5");
}

#[test]
fn every_range_is_the_slice() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let site = Site::new();
    // Lengths below and above the size in which files are read, 64 KiB.
    let place = || prop_oneof![0usize..3_000, 0usize..450_000];
    let cases = (place(), place(), place(), 0u8..3);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(120));
    let test = |(length, a, b, kind): (usize, usize, usize, u8)| {
        let bytes: Vec<u8> = (0..length)
            .map(|n| u8::try_from((n * 7 + length) % 251).unwrap())
            .collect();
        let (first, last) = (a.min(b), a.max(b));
        // The slice is what a reader of the header's words would cut out by hand.
        let (header, slice) = match kind {
            0 => (
                format!("bytes={first}-{last}"),
                bytes.get(first..=last).or(bytes.get(first..)),
            ),
            1 => (format!("bytes={first}-"), bytes.get(first..)),
            _ => (
                format!("bytes=-{first}"),
                Some(&bytes[length.saturating_sub(first)..]),
            ),
        };
        let slice = slice.filter(|slice| !slice.is_empty());
        runtime.block_on(async {
            let digest = sha256(&bytes);
            assert_eq!(
                site.put(digest, bytes.clone()).await.status,
                StatusCode::CREATED
            );
            let answer = site
                .get(&format!("/blobs/{digest}"), &[(RANGE, header.as_str())])
                .await;
            match slice {
                None => prop_assert_eq!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE),
                Some(slice) => {
                    prop_assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
                    prop_assert!(answer.body == slice);
                    let length = slice.len().to_string();
                    prop_assert_eq!(answer.header(CONTENT_LENGTH), length);
                    let said = answer.header(CONTENT_RANGE).strip_prefix("bytes ").unwrap();
                    let (said, total) = said.split_once('/').unwrap();
                    let (from, to) = said.split_once('-').unwrap();
                    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
                    prop_assert_eq!(total, bytes.len().to_string());
                    prop_assert!(&bytes[from..=to] == slice);
                }
            }
            Ok(())
        })
    };
    runner.run(&cases, test).unwrap();
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let site = Site::new();
    let digest = sha256(b"right");
    let wrong = site.put(digest, "wrong").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        wrong.text().contains(&sha256(b"wrong").to_string()),
        "{}",
        wrong.text()
    );
    let large = vec![0; 500_001];
    // Announced, it is refused before any of it has come.
    let silent = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let path = format!("/blobs/{}", sha256(&large));
    let length = [(CONTENT_LENGTH, "500001")];
    let silent = Body::from_stream(silent);
    let announced = site.ask(Some(OPERATOR), Method::PUT, &path, &length, silent);
    let announced = tokio::time::timeout(Duration::from_secs(20), announced).await;
    assert_eq!(announced.unwrap().status, StatusCode::PAYLOAD_TOO_LARGE);
    let pieces = futures_util::stream::iter(vec![Ok::<_, std::io::Error>(large.clone())]);
    let streamed = site.put(sha256(&large), Body::from_stream(pieces)).await;
    assert_eq!(streamed.status, StatusCode::PAYLOAD_TOO_LARGE);
    let cut = futures_util::stream::iter(vec![
        Ok("ri"),
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
    ]);
    let cut = site.put(digest, Body::from_stream(cut)).await;
    assert_eq!(cut.status, StatusCode::BAD_REQUEST);
    site.until_stored(0).await;
    let path = format!("/blobs/{digest}");
    assert_eq!(site.get(&path, &[]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_upload_over_a_cut_line_leaves_nothing() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let site = Site::new();
    let digest = sha256(b"0123456789");
    let app = router(site.api.clone()).layer(Extension(caller(OPERATOR)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let head = format!("PUT /blobs/{digest} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n");
    let mut line = tokio::net::TcpStream::connect(address).await.unwrap();
    line.write_all(head.as_bytes()).await.unwrap();
    line.write_all(b"01234").await.unwrap();
    site.until_stored(1).await;
    drop(line);
    site.until_stored(0).await;
    assert_eq!(site.api.blobs.head(&digest).await.unwrap(), None);

    let mut line = tokio::net::TcpStream::connect(address).await.unwrap();
    line.write_all(head.as_bytes()).await.unwrap();
    line.write_all(b"0123456789").await.unwrap();
    let mut answer = [0; 12];
    line.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 201");
    assert_eq!(site.stored(), 1);
    server.abort();
}

#[tokio::test]
async fn only_those_who_may_do() {
    let site = Site::new();
    let digest = sha256(b"x");
    let path = format!("/blobs/{digest}");
    site.put(digest, "x").await;
    let paths = [&path, "/trust/team/1.root.json", "/trust/app/shop/x"];
    for path in paths {
        let stranger = site.ask(None, Method::GET, path, &[], Body::empty()).await;
        assert_eq!(stranger.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(
            stranger.text().contains("join with a token"),
            "{}",
            stranger.text()
        );
    }
    let other = sha256(b"y");
    let put = format!("/blobs/{other}");
    let host = site.ask(Some(HOST), Method::PUT, &put, &[], "y").await;
    assert_eq!(host.status, StatusCode::FORBIDDEN);
    assert_eq!(site.stored(), 1);
}

#[tokio::test]
async fn names_that_would_leave_their_place_are_refused() {
    let site = Site::new();
    std::fs::create_dir_all(site.dir.path().join("trust/app/shop")).unwrap();
    std::fs::write(site.dir.path().join("trust/app/secret.json"), "{}").unwrap();
    std::fs::write(site.dir.path().join("trust/app/shop/key.pem"), "{}").unwrap();
    for path in [
        "/blobs/..%2F..%2Ftrust%2Fapp%2Fsecret.json",
        "/blobs/../trust/app/secret.json",
        "/blobs/%2e%2e",
        "/trust/app/shop/..%2Fsecret.json",
        "/trust/app/..%2Fapp/secret.json",
        "/trust/app/../app/secret.json",
        "/trust/app/shop/key.pem",
        "/trust/app/shop/",
        "/trust/app/shop/1.root.json%00",
        "/trust/team/..%2Fapp%2Fsecret.json",
        "/trust/env/%2Fetc/passwd",
        "/trust/other/shop/1.root.json",
    ] {
        let answer = site.get(path, &[]).await;
        let refused = [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST];
        assert!(
            refused.contains(&answer.status),
            "{path}: {}",
            answer.status
        );
        assert!(!answer.text().contains("{}"), "{path}");
    }
    let upper = format!("/blobs/{}", sha256(b"").to_string().to_uppercase());
    assert_eq!(site.get(&upper, &[]).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn metadata_is_given_and_only_what_is_not_there_is_not_found() {
    let mut site = Site::new();
    for (place, name, cache) in [
        ("team", "1.root.json", "private, max-age=300"),
        ("app/shop", "2.targets.json", "private, max-age=300"),
        ("env/production", "timestamp.json", "no-cache"),
    ] {
        let path = format!("/trust/{place}/{name}");
        let absent = site.get(&path, &[]).await;
        assert_eq!(absent.status, StatusCode::NOT_FOUND);
        assert_eq!(absent.header(CACHE_CONTROL), "no-store");
        let dir = site.dir.path().join("trust").join(place);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(name), place).unwrap();
        let found = site.get(&path, &[]).await;
        assert_eq!((found.status, found.text()), (StatusCode::OK, place));
        assert_eq!(found.header(CACHE_CONTROL), cache);
        assert_eq!(found.header(CONTENT_TYPE), "application/json");
    }
    // A directory in the file's place can't be read: that is no "not found".
    std::fs::create_dir_all(site.dir.path().join("trust/team/2.root.json")).unwrap();
    let unreadable = site.get("/trust/team/2.root.json", &[]).await;
    assert_eq!(unreadable.status, StatusCode::INTERNAL_SERVER_ERROR);
    site.api.trust = Arc::new(Broken);
    let broken = site.get("/trust/team/1.root.json", &[]).await;
    assert_eq!(broken.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!broken.text().contains("disk"), "{}", broken.text());
}

/// What a request with these headers gets, unpacked.
async fn coded(site: &Site, digest: Digest, known: Option<Digest>) -> (String, usize, Bytes) {
    use base64::Engine as _;
    let path = format!("/blobs/{digest}");
    let named = known.map_or(String::new(), |it| {
        let engine = base64::engine::general_purpose::STANDARD;
        format!(":{}:", engine.encode(it.as_bytes()))
    });
    let headers = [
        (http::header::ACCEPT_ENCODING, "tamer-pieces, zstd"),
        (
            http::HeaderName::from_static("available-dictionary"),
            named.as_str(),
        ),
    ];
    let answer = site.get(&path, &headers).await;
    assert_eq!(answer.status, StatusCode::OK);
    let coding = answer.header(CONTENT_ENCODING).to_owned();
    assert!(answer.header(VARY).contains("available-dictionary"));
    (coding, answer.body.len(), answer.body)
}

#[tokio::test]
async fn a_small_blob_is_given_as_a_difference_from_one_that_the_caller_has() {
    use tamer_release::patch;
    let site = Site::new();
    let lines = |odd: u32| -> Vec<u8> {
        let line = |n: u32| sha256(&(if n == 77 { odd } else { n }).to_le_bytes()).to_string();
        (0..2_000).map(line).collect::<String>().into_bytes()
    };
    let (old, new) = (lines(0), lines(1));
    for blob in [&old, &new] {
        site.put(sha256(blob), blob.clone()).await;
    }
    let (coding, length, body) = coded(&site, sha256(&new), Some(sha256(&old))).await;
    assert_eq!(coding, "tamer-pieces");
    assert!(length < 400, "{length}");
    let opened = patch::open(&body, &old, &sha256(&old), 1 << 20).unwrap();
    assert_eq!(opened, new);
    // One that is not here is no help: then it is compressed, and without a word it goes as it is.
    let (coding, _, body) = coded(&site, sha256(&new), Some(sha256(b"other"))).await;
    assert_eq!(coding, "zstd");
    assert_eq!(patch::decompress(&body, 1 << 20).unwrap(), new);
    let plain = site.get(&format!("/blobs/{}", sha256(&new)), &[]).await;
    assert_eq!(
        (plain.header(CONTENT_ENCODING), &plain.body[..]),
        ("", &new[..])
    );
}

#[tokio::test]
async fn what_is_damaged_on_disk_is_not_made_into_differences() {
    let site = Site::new();
    let (old, new) = (vec![1; 5_000], vec![2; 5_000]);
    for blob in [&old, &new] {
        site.put(sha256(blob), blob.clone()).await;
    }
    let file = site
        .dir
        .path()
        .join(format!("artifacts/blobs/{}", sha256(&new)));
    std::fs::write(&file, [2; 4_999]).unwrap();
    let (coding, ..) = coded(&site, sha256(&new), Some(sha256(&old))).await;
    assert_eq!(coding, "", "it goes as it is, and the caller sees");
    std::fs::write(&file, &new).unwrap();
    let (coding, ..) = coded(&site, sha256(&new), Some(sha256(&old))).await;
    assert_eq!(coding, "tamer-pieces");
}

#[tokio::test]
async fn metadata_is_compressed_for_whoever_asks() {
    let site = Site::new();
    let base = site.dir.path().join("published");
    let text = "{\"signed\": 1}".repeat(100);
    std::fs::create_dir_all(base.join("team")).unwrap();
    std::fs::write(base.join("team/1.root.json"), &text).unwrap();
    let api = ArtifactApi {
        trust: Arc::new(PublishedFiles { base }),
        ..site.api.clone()
    };
    let site = Site { dir: site.dir, api };
    let headers = [(http::header::ACCEPT_ENCODING, "zstd")];
    let answer = site.get("/trust/team/1.root.json", &headers).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header(CONTENT_ENCODING), "zstd");
    let opened = tamer_release::patch::decompress(&answer.body, 1 << 20).unwrap();
    assert_eq!(opened, text.as_bytes());
}
