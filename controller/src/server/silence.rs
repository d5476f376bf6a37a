//! When a line is dead. Whoever keeps an HTTP/2 line to a controller asks again and again whether the controller is
//! there ([`tamer_kit::channel::PING_INTERVAL`], and so does [`tamer_kit::http::client`] while it waits), and HTTP/2
//! answers. One question with its answer tells both sides, so the controller asks nobody: a line on which nothing
//! comes for long enough is dead.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// When something came last on a line; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Heard(Arc<Mutex<Instant>>);

/// A line, with a note of when something came.
#[derive(Debug)]
pub(super) struct Line<S> {
    stream: S,
    heard: Heard,
}

// === impl Heard ===

impl Heard {
    /// Done once nothing has come for so long.
    pub(super) async fn nothing_for(&self, silence: Duration) {
        loop {
            let until = *self.last() + silence;
            if until <= Instant::now() {
                return;
            }
            // What comes meanwhile is noted and wakes nobody: it is looked at when it would be too late without it.
            sleep_until(until).await;
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Line ===

impl<S> Line<S> {
    /// This line, on which something came just now.
    pub(super) fn new(stream: S) -> Self {
        let heard = Heard(Arc::new(Mutex::new(Instant::now())));
        Self { stream, heard }
    }

    /// When something came last.
    pub(super) fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut line.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            *line.heard.last() = Instant::now();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::sleep;

    const LIMIT: Duration = Duration::from_secs(40);

    #[tokio::test(start_paused = true)]
    async fn a_line_is_dead_once_nothing_has_come_for_long_enough_whatever_is_sent() {
        let (mut far, near) = duplex(64);
        let mut line = Line::new(near);
        let (begun, heard) = (Instant::now(), line.heard());
        let talk = async {
            // Somebody who asks in time is never cut off, however long it lasts.
            for _ in 0..10 {
                sleep(LIMIT - Duration::from_millis(2)).await;
                far.write_all(b"?").await.unwrap();
                assert_eq!(line.read_u8().await.unwrap(), b'?');
            }
            let last = begun.elapsed();
            // What is said into the silence is no sign of life.
            loop {
                sleep(Duration::from_secs(1)).await;
                line.write_all(b"!").await.unwrap();
                assert_eq!(far.read_u8().await.unwrap(), b'!');
                assert!(begun.elapsed() < last + LIMIT * 2);
            }
        };
        tokio::select! {
            () = heard.nothing_for(LIMIT) => {}
            () = talk => {}
        }
        let asked = (LIMIT - Duration::from_millis(2)) * 10;
        let after = begun.elapsed() - asked;
        assert!(
            after >= LIMIT && after < LIMIT + Duration::from_secs(1),
            "{after:?}"
        );
    }
}
