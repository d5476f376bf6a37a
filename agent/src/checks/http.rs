//! `http`: a request is answered with the expected status, and text.

use super::{Doing, Tried, reason, tls_reason};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, Url};
use rustls::ClientConfig;
use tamer_kit::cause::cause;

/// How much of a body is looked at, in bytes.
const MAX_BODY: usize = 64 << 10;

/// How much of a body is quoted in a failure, in bytes.
const MAX_QUOTE: usize = 300;

pub(super) async fn try_it(
    url: &str,
    expected: u16,
    contains: Option<&str>,
    doing: &Doing,
) -> Tried {
    let parsed = Url::parse(url).map_err(|error| format!("`{url}` is not a URL: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(format!("`{url}` must begin with http:// or https://"));
    }
    let host = parsed.host_str().unwrap_or_default().to_owned();
    // A client for this try alone, so that its connection is a new one. Redirects are answers.
    let client = tls(parsed.scheme() == "https")
        .and_then(|tls| {
            tamer_kit::http::builder(tls)
                .build()
                .map_err(|e| e.to_string())
        })
        .map_err(|error| format!("cannot ask {url}: {error}"))?;
    doing.now(format!("asking {url}"));
    let answer = client.get(parsed).send().await;
    let mut answer = answer.map_err(|error| failure(url, &host, &error))?;
    let status = answer.status().as_u16();
    if status != expected {
        let said = match quotable(&answer) {
            true => body(&mut answer, MAX_QUOTE).await.unwrap_or_default(),
            false => Vec::new(),
        };
        let ended = format!("{status} from {url} (expected {expected})");
        return Err(match String::from_utf8_lossy(&said).trim() {
            "" => ended,
            said => format!("{ended}: {said}"),
        });
    }
    let Some(contains) = contains else {
        return Ok(());
    };
    doing.now(format!("reading what {url} answers"));
    let found = body(&mut answer, MAX_BODY)
        .await
        .map_err(|error| failure(url, &host, &error))?;
    if String::from_utf8_lossy(&found).contains(contains) {
        return Ok(());
    }
    Err(format!(
        "{status} from {url}, but without {contains:?} in its first 64 KiB"
    ))
}

/// The first `cap` bytes of a body.
async fn body(answer: &mut Response, cap: usize) -> reqwest::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < cap {
        let Some(chunk) = answer.chunk().await? else {
            break;
        };
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(cap);
    Ok(bytes)
}

/// Whether a body reads well within a sentence.
fn quotable(answer: &Response) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE);
    kind.and_then(|it| it.to_str().ok())
        .is_some_and(|it| it.starts_with("text/plain") || it.starts_with("application/json"))
}

/// Nobody is trusted where no TLS is spoken.
fn tls(needed: bool) -> Result<ClientConfig, String> {
    let config = match needed {
        true => tamer_kit::tls::public_client_config(None),
        false => tamer_kit::tls::nobody_client_config(),
    };
    config.map_err(|error| error.to_string())
}

fn failure(url: &str, host: &str, error: &reqwest::Error) -> String {
    if let Some(error) = cause::<rustls::Error>(error) {
        return format!("cannot ask {url}: {}", tls_reason(error, host));
    }
    if let Some(error) = cause::<std::io::Error>(error) {
        return format!("connection to {url} {}", reason(error));
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    format!("cannot ask {url}: {innermost}")
}
