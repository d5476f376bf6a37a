//! One frame's part of the tar stream is compared with what the manifest says, and the contents that it gives
//! are written. Frames may come in any order and on several threads.

use super::UnpackError;
use super::work::{Tree, write};
use crate::layout::{self, BLOCK};
use crate::pack::overlap;
use std::ops::Range;
use tamer_core::digest::Digest;
use tamer_core::path::Shown;
use tamer_core::release::Entry;
use tamer_kit::hash;

impl Tree<'_> {
    /// Compares a frame's part of the stream with the manifest, and writes the contents that it gives.
    pub(super) fn place(&self, frame: usize, raw: &[u8]) -> Result<(), UnpackError> {
        let part = self.parts.stream(frame);
        self.compare(&part, raw)?;
        let first = self.given.partition_point(|it| (it.0 as usize) < frame);
        let given = self.given[first..].iter();
        for (_, entry, there) in given.take_while(|it| it.0 as usize == frame) {
            let content = self.job.layout.spans[*there as usize].content();
            let n = *entry as usize;
            let Some((here, _)) = overlap(&part, &content) else {
                return Err(differs(self.entry(n), "its frame does not hold it"));
            };
            if let tamer_core::release::EntryKind::File { sha256, .. } = self.entry(n).kind {
                self.whole(n, sha256, &raw[here])?;
            }
        }
        Ok(())
    }

    /// Headers, padding and the stream's end must be what the manifest makes of them; contents are hashed by
    /// whoever writes them.
    fn compare(&self, part: &Range<u64>, raw: &[u8]) -> Result<(), UnpackError> {
        let of = |range: &Range<u64>| overlap(part, range);
        for n in self.job.layout.within(part) {
            let (entry, span) = (&self.job.manifest.files[n], &self.job.layout.spans[n]);
            if let Some((here, there)) = of(&(span.start..span.content))
                && raw[here.clone()] != layout::header(entry)[there]
            {
                return Err(differs(entry, &found(&raw[here])));
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

    /// Writes a file that is at hand whole.
    pub(super) fn whole(
        &self,
        n: usize,
        sha256: Digest,
        content: &[u8],
    ) -> Result<(), UnpackError> {
        let entry = self.entry(n);
        if hash::sha256(content) != sha256 {
            return Err(differs(entry, "its content has another digest"));
        }
        let file = self.create(entry)?;
        let ends = content.last().is_none_or(|byte| *byte != 0);
        write(&file, content, 0)
            // Zeros at its end may have been left out.
            .and_then(|()| {
                if ends {
                    Ok(())
                } else {
                    file.set_len(content.len() as u64)
                }
            })
            .map_err(|e| self.failed("write", entry, e))?;
        Ok(self.close(&file, n)?)
    }
}

pub(super) fn differs(entry: &Entry, reason: &str) -> UnpackError {
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
    let path = header.path_bytes();
    let mode = header.mode().unwrap_or_default();
    let size = header.entry_size().unwrap_or_default();
    let path = Shown(&path);
    format!("it holds {kind} `{path}`, mode {mode:04o}, {size} bytes")
}
