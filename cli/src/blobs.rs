//! Uploads and downloads: content by digest, over plain HTTP.

use crate::client::Session;
use crate::error::{Context, Error, Result};
use crate::exit::Exit;
use crate::printer::Printer;
use futures_util::TryStreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::{Body, Response, StatusCode};
use std::path::Path;
use tamer_core::digest::Digest;
use tamer_kit::hash::Hasher;
use tamer_release::trust::names::blob_path;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

/// The most of an error's text that is shown, in bytes.
const MAX_REASON: usize = 4 << 10;

/// Uploads bytes, unless the controller has them.
///
/// # Errors
/// The controller cannot be reached, or refuses them.
pub async fn upload(session: &Session, digest: &Digest, bytes: Vec<u8>) -> Result<()> {
    if is_there(session, digest).await? {
        return Ok(());
    }
    put(session, digest, Body::from(bytes)).await
}

/// Uploads a file of `length` bytes with a progress bar, unless the controller has it. Says whether
/// anything was sent.
///
/// # Errors
/// The file cannot be read; the controller cannot be reached, or refuses it.
pub async fn upload_file(
    session: &Session,
    digest: &Digest,
    path: &Path,
    length: u64,
    title: &str,
    printer: &Printer,
) -> Result<bool> {
    if is_there(session, digest).await? {
        return Ok(false);
    }
    let what = || format!("cannot read {}", path.display());
    let file = File::open(path).await.doing(Exit::Internal, what)?;
    let bar = bar(title, length, printer);
    let seen = bar.clone();
    let stream = ReaderStream::with_capacity(file, 256 << 10)
        .inspect_ok(move |bytes| seen.inc(bytes.len() as u64));
    let sent = put(session, digest, Body::wrap_stream(stream)).await;
    bar.finish_and_clear();
    sent.map(|()| true)
}

/// Downloads a blob of `length` bytes into a file, which is made. Says whether it is what it should be.
///
/// # Errors
/// The file cannot be written; the controller cannot be reached, or does not give it.
pub async fn download(
    session: &Session,
    digest: &Digest,
    length: u64,
    path: &Path,
) -> Result<bool> {
    let url = session.url(&blob_path(digest));
    let mut answer = session.http().get(url).send().await.map_err(Error::away)?;
    if !answer.status().is_success() {
        return Err(refused("cannot get", digest, answer).await);
    }
    let what = || format!("cannot write {}", path.display());
    let mut file = File::create_new(path).await.doing(Exit::Internal, what)?;
    let (mut hasher, mut came) = (Hasher::default(), 0);
    while let Some(chunk) = answer.chunk().await.map_err(Error::away)? {
        came += chunk.len() as u64;
        if came > length {
            return Ok(false);
        }
        hasher.update(&chunk);
        file.write_all(&chunk).await.doing(Exit::Internal, what)?;
    }
    file.flush().await.doing(Exit::Internal, what)?;
    Ok(came == length && hasher.finish() == *digest)
}

/// Whether the controller has a blob.
///
/// # Errors
/// It cannot be asked.
pub async fn is_there(session: &Session, digest: &Digest) -> Result<bool> {
    let url = session.url(&blob_path(digest));
    let answer = session.http().head(url).send().await.map_err(Error::away)?;
    match answer.status() {
        StatusCode::NOT_FOUND => Ok(false),
        status if status.is_success() => Ok(true),
        _ => Err(refused("cannot ask for", digest, answer).await),
    }
}

async fn put(session: &Session, digest: &Digest, body: Body) -> Result<()> {
    let url = session.url(&blob_path(digest));
    let sent = session.http().put(url).body(body).send().await;
    let answer = sent.map_err(Error::away)?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(refused("cannot upload", digest, answer).await)
    }
}

async fn refused(what: &str, digest: &Digest, answer: Response) -> Error {
    let status = answer.status();
    let exit = match status {
        StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST => Exit::Usage,
        StatusCode::FORBIDDEN => Exit::Refused,
        _ => Exit::Internal,
    };
    let reason = answer.text().await.unwrap_or_default();
    let reason: String = reason.chars().take(MAX_REASON).collect();
    let reason = match reason.trim() {
        "" => status.to_string(),
        said => format!("{status}: {}", crate::views::human::harmless(said)),
    };
    Error::caused(exit, format!("{what} {}", digest.short()), reason)
}

fn bar(title: &str, length: u64, printer: &Printer) -> ProgressBar {
    let target = if printer.shows_progress() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    let template = "  {msg:20} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(title.to_owned());
    bar
}
