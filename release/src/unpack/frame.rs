//! One frame's part of the tar stream is compared with what the manifest says, and its contents are written.
//! Frames may come in any order and on several threads.

use super::UnpackError;
use super::fill::{Job, close};
use crate::beneath::Beneath;
use crate::layout::{self, BLOCK, Span};
use crate::pack::overlap;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use tamer_core::digest::Digest;
use tamer_core::release::{Entry, EntryKind, Frame};
use tamer_kit::durable::FileError;
use tamer_kit::hash::{self, Hasher};

/// A tree that is being filled.
pub(super) struct Tree<'a> {
    pub(super) beneath: Beneath,
    pub(super) job: &'a Job<'a>,
    /// The part of the tar stream that each frame holds.
    parts: Vec<Range<u64>>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(beneath: Beneath, job: &'a Job<'a>) -> Self {
        let mut start = 0;
        let part = |frame: &Frame| {
            let part = start..start + frame.unpacked;
            start = part.end;
            part
        };
        let parts = job.manifest.archive.frames.iter().map(part).collect();
        Self {
            beneath,
            job,
            parts,
        }
    }

    pub(super) fn frames(&self) -> &'a [Frame] {
        &self.job.manifest.archive.frames
    }

    /// Creates the files that no single frame holds whole, so that each frame can write its piece.
    pub(super) fn prepare(&self) -> Result<(), UnpackError> {
        for (entry, ..) in self.pieced() {
            self.beneath.create(&entry.path, 0o600)?;
        }
        Ok(())
    }

    /// Verifies and closes the files that were written in pieces.
    pub(super) fn finish(&self) -> Result<(), UnpackError> {
        let mut buffer = vec![0; 256 << 10];
        for (entry, mode, sha256) in self.pieced() {
            let mut file = self.beneath.file(&entry.path, true)?;
            let mut hasher = Hasher::default();
            loop {
                match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => hasher.update(&buffer[..n]),
                    Err(e) => return Err(self.failed("read", &entry.path, e).into()),
                }
            }
            if hasher.finish() != sha256 {
                return Err(differs(entry, "its content has another digest"));
            }
            close(&self.beneath, &file, &entry.path, mode & 0o555, self.job)?;
        }
        Ok(())
    }

    fn pieced(&self) -> impl Iterator<Item = (&'a Entry, u32, Digest)> {
        let spans = self.job.layout.spans.iter();
        let all = self.job.manifest.files.iter().zip(spans);
        all.filter_map(|(entry, span)| match entry.kind {
            EntryKind::File { mode, sha256, .. } if !self.whole(span) => {
                Some((entry, mode, sha256))
            }
            _ => None,
        })
    }

    /// Whether the frame with the header's last byte holds the whole content too.
    fn whole(&self, span: &Span) -> bool {
        let home = self.parts.partition_point(|part| part.end < span.content);
        self.parts
            .get(home)
            .is_some_and(|part| span.content().end <= part.end)
    }

    /// Compares a frame's part of the stream with the manifest, and writes its contents.
    pub(super) fn place(&self, frame: usize, raw: &[u8]) -> Result<(), UnpackError> {
        let part = &self.parts[frame];
        let of = |range: &Range<u64>| overlap(part, range);
        for n in self.job.layout.within(part) {
            let (entry, span) = (&self.job.manifest.files[n], &self.job.layout.spans[n]);
            if let Some((here, there)) = of(&(span.start..span.content))
                && raw[here.clone()] != layout::header(entry)[there]
            {
                return Err(differs(entry, &found(&raw[here])));
            }
            if let EntryKind::File { mode, sha256, .. } = entry.kind {
                let ends_header = (part.start + 1..=part.end).contains(&span.content);
                match of(&span.content()) {
                    Some((here, _)) if self.whole(span) => {
                        self.whole_file(entry, mode, sha256, &raw[here])?;
                    }
                    Some((here, there)) => self.piece(entry, &raw[here], there.start as u64)?,
                    None if span.size == 0 && ends_header => {
                        self.whole_file(entry, mode, sha256, &[])?;
                    }
                    None => {}
                }
            }
            if let Some((here, _)) = of(&(span.content().end..span.end))
                && raw[here].iter().any(|byte| *byte != 0)
            {
                return Err(differs(entry, "its padding is not empty"));
            }
        }
        let total = self.job.layout.total;
        match of(&(total - layout::TRAILER..total)) {
            Some((here, _)) if raw[here.clone()].iter().any(|byte| *byte != 0) => {
                Err(UnpackError::More(found(&raw[here])))
            }
            _ => Ok(()),
        }
    }

    fn whole_file(
        &self,
        entry: &Entry,
        mode: u32,
        sha256: Digest,
        content: &[u8],
    ) -> Result<(), UnpackError> {
        if hash::sha256(content) != sha256 {
            return Err(differs(entry, "its content has another digest"));
        }
        let mut file = self.beneath.create(&entry.path, 0o600)?;
        file.write_all(content)
            .map_err(|e| self.failed("write", &entry.path, e))?;
        Ok(close(
            &self.beneath,
            &file,
            &entry.path,
            mode & 0o555,
            self.job,
        )?)
    }

    fn piece(&self, entry: &Entry, content: &[u8], offset: u64) -> Result<(), UnpackError> {
        let file = self.beneath.file(&entry.path, true)?;
        file.write_all_at(content, offset)
            .map_err(|e| self.failed("write", &entry.path, e))?;
        Ok(())
    }

    fn failed(&self, operation: &'static str, path: &str, e: io::Error) -> FileError {
        FileError::new(operation, &self.job.place.join(path))(e)
    }
}

fn differs(entry: &Entry, reason: &str) -> UnpackError {
    UnpackError::Entry {
        path: entry.path.clone(),
        reason: reason.to_owned(),
    }
}

/// What stands where a header was expected, for the message alone.
fn found(raw: &[u8]) -> String {
    let Some(block) = raw.get(..BLOCK as usize) else {
        return "its header is another one".to_owned();
    };
    let header = tar::Header::from_byte_slice(block);
    let kind = match header.entry_type() {
        tar::EntryType::Regular | tar::EntryType::Continuous => "a file",
        tar::EntryType::Directory => "a directory",
        tar::EntryType::Symlink => "a symbolic link",
        tar::EntryType::Link => "a hard link",
        tar::EntryType::Char | tar::EntryType::Block => "a device",
        tar::EntryType::Fifo => "a FIFO",
        tar::EntryType::GNULongName | tar::EntryType::GNULongLink => "a long name",
        tar::EntryType::GNUSparse => "a sparse file",
        tar::EntryType::XGlobalHeader | tar::EntryType::XHeader => "an extended header",
        _ => "something else",
    };
    let path = String::from_utf8_lossy(&header.path_bytes()).into_owned();
    let mode = header.mode().unwrap_or_default();
    let size = header.entry_size().unwrap_or_default();
    format!(
        "it holds {kind} `{}`, mode {mode:04o}, {size} bytes",
        path.escape_debug()
    )
}
