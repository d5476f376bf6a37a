//! What is accepted, and where it ends up: mail for `*.example` becomes a file.

use mailin::response::{INTERNAL_ERROR, NO_STORAGE, OK};
use mailin::{Handler, Response};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tamer_kit::durable;

/// The largest message that is kept, in bytes.
pub const MAX_MESSAGE: usize = 10 << 20;

/// Keeps messages for recipients at `example` and `*.example` (RFC 2606 gives those names to nobody)
/// in a directory, each as `<number>.eml` with the envelope in its first lines.
#[derive(Clone)]
pub struct Mailbox {
    dir: PathBuf,
    next: Arc<AtomicU64>,
    envelope: String,
    message: Vec<u8>,
    too_large: bool,
}

impl Mailbox {
    /// Keeps messages in `dir`, which is created where it is not there; numbers go on after those
    /// that are there.
    ///
    /// # Errors
    /// The directory cannot be created or read.
    pub fn new(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        durable::create_dir_all(&dir, 0o755).map_err(io::Error::other)?;
        let mut last = 0;
        for entry in dir.read_dir()? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".eml"));
            last = last.max(number.and_then(|it| it.parse().ok()).unwrap_or(0));
        }
        Ok(Self {
            dir,
            next: Arc::new(AtomicU64::new(last + 1)),
            envelope: String::new(),
            message: Vec::new(),
            too_large: false,
        })
    }
}

impl Handler for Mailbox {
    fn rcpt(&mut self, to: &str) -> Response {
        let domain = to
            .trim_matches(['<', '>'])
            .rsplit_once('@')
            .map(|(_, it)| it);
        let domain = domain.unwrap_or_default().to_ascii_lowercase();
        if domain == "example" || domain.ends_with(".example") {
            OK
        } else {
            Response::custom(550, format!("no mailbox here for {to}"))
        }
    }

    fn data_start(&mut self, _: &str, from: &str, _: bool, to: &[String]) -> Response {
        self.envelope = format!("X-Envelope-From: {from}\r\n");
        for to in to {
            self.envelope += &format!("X-Envelope-To: {to}\r\n");
        }
        self.message.clear();
        self.too_large = false;
        OK
    }

    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        // An error here would be a response amid the data, so it has to wait for the end of it.
        self.too_large |= self.message.len() + line.len() > MAX_MESSAGE;
        if !self.too_large {
            self.message.extend_from_slice(line);
        }
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        if self.too_large {
            return NO_STORAGE;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{number:06}.eml"));
        let bytes = [self.envelope.as_bytes(), &self.message].concat();
        match durable::replace(&path, &bytes, 0o644) {
            Ok(()) => Response::custom(250, format!("kept as {number:06}")),
            Err(_) => INTERNAL_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_example_names_have_mailboxes() {
        let dir = tempfile::tempdir().unwrap();
        let mut mailbox = Mailbox::new(dir.path()).unwrap();
        let codes = [
            "a@example",
            "b@Shop.Example",
            "c@example.com",
            "d@notexample",
            "e",
        ]
        .map(|to| mailbox.rcpt(to).code);
        assert_eq!(codes, [250, 250, 550, 550, 550]);
    }

    #[test]
    fn messages_are_numbered_on_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        for number in [1, 2] {
            let mut mailbox = Mailbox::new(dir.path()).unwrap();
            mailbox.data_start("h", "a@b.example", false, &["c@d.example".to_owned()]);
            mailbox.data(b"Subject: x\r\n").unwrap();
            assert_eq!(mailbox.data_end().code, 250);
            let kept = std::fs::read_to_string(dir.path().join(format!("{number:06}.eml")));
            assert_eq!(
                kept.unwrap(),
                "X-Envelope-From: a@b.example\r\nX-Envelope-To: c@d.example\r\nSubject: x\r\n"
            );
        }
    }

    #[test]
    fn what_is_too_large_is_refused_and_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut mailbox = Mailbox::new(dir.path()).unwrap();
        mailbox.data_start("h", "a@b.example", false, &[]);
        let line = vec![b'x'; 1 << 20];
        for _ in 0..=MAX_MESSAGE >> 20 {
            mailbox.data(&line).unwrap();
        }
        assert_eq!(mailbox.data_end().code, 552);
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }
}
