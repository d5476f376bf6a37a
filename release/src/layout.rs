//! The tar stream of a release, as a pure function of the manifest's entries and the files' contents.
//!
//! GNU tar headers, owner 0:0 without names, the mode of the manifest (links 0777), the time [`TAR_MTIME`];
//! a path or link target over 100 bytes stands in a `././@LongLink` entry before its own; a directory's
//! path ends with `/`; contents are padded with zeros to 512 bytes; two blocks of zeros end the stream.

use std::ops::Range;
use tamer_core::release::{Entry, EntryKind};

/// The size of a tar block in bytes.
pub const BLOCK: u64 = 512;

/// The length of the zeros that end a tar stream, in bytes.
pub const TRAILER: u64 = 2 * BLOCK;

/// The modification time of all entries: 1980-01-01, the earliest that every tool takes without a warning.
///
/// It is fixed so that an unchanged file is unchanged bytes in the next release; see
/// [`Manifest::mtime`](tamer_core::release::Manifest::mtime) for the one that unpacked files get.
pub const TAR_MTIME: u64 = 315_532_800;

/// The longest name that fits a header's own field, in bytes.
const FIELD: usize = 100;

/// Where one entry stands in the tar stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where its header starts, in bytes from the stream's start.
    pub start: u64,
    /// Where its content starts; also the header's end.
    pub content: u64,
    /// The content's size in bytes.
    pub size: u64,
    /// Where its padding ends, and so the entry.
    pub end: u64,
}

impl Span {
    /// Where the content's bytes are.
    pub fn content(&self) -> Range<u64> {
        self.content..self.content + self.size
    }

    /// The length of header, content and padding together, in bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether it takes no room; it always takes some.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where all entries stand in the tar stream, and the stream's length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// One span an entry, in the manifest's order.
    pub spans: Vec<Span>,
    /// The stream's length in bytes, its end included.
    pub total: u64,
}

impl Layout {
    /// The layout of these entries; `None` if the lengths do not fit 64 bits.
    pub fn of(files: &[Entry]) -> Option<Self> {
        let mut start = 0_u64;
        let mut spans = Vec::with_capacity(files.len());
        for entry in files {
            let size = content_size(entry);
            let content = start.checked_add(header_length(entry))?;
            let end = content.checked_add(size.checked_next_multiple_of(BLOCK)?)?;
            spans.push(Span {
                start,
                content,
                size,
                end,
            });
            start = end;
        }
        let total = start.checked_add(TRAILER)?;
        Some(Self { spans, total })
    }

    /// The numbers of the entries of which a byte lies in this part of the stream.
    pub fn within(&self, part: &Range<u64>) -> Range<usize> {
        let first = self.spans.partition_point(|span| span.end <= part.start);
        let end = self.spans.partition_point(|span| span.start < part.end);
        first..end.max(first)
    }
}

/// The size of an entry's content in bytes: only files have one.
pub(crate) fn content_size(entry: &Entry) -> u64 {
    match entry.kind {
        EntryKind::File { size, .. } => size,
        EntryKind::Directory { .. } | EntryKind::Link { .. } => 0,
    }
}

/// The length in bytes of what stands before an entry's content.
pub(crate) fn header_length(entry: &Entry) -> u64 {
    let directory = matches!(entry.kind, EntryKind::Directory { .. });
    let path = entry.path.as_bytes().len() + usize::from(directory);
    let target = match &entry.kind {
        EntryKind::Link { target } => target.as_bytes().len(),
        EntryKind::Directory { .. } | EntryKind::File { .. } => 0,
    };
    BLOCK + long_length(path) + long_length(target)
}

/// The room that the extra entry for a long name takes: a header, and the name with a NUL.
fn long_length(name: usize) -> u64 {
    if name <= FIELD {
        0
    } else {
        BLOCK + (name as u64 + 1).next_multiple_of(BLOCK)
    }
}

/// The header of an entry, with what stands before it for long names.
pub fn header(entry: &Entry) -> Vec<u8> {
    let mut path = entry.path.as_bytes().to_vec();
    let (kind, mode, target) = match &entry.kind {
        EntryKind::Directory { mode } => {
            path.push(b'/');
            (tar::EntryType::Directory, *mode, &b""[..])
        }
        EntryKind::File { mode, .. } => (tar::EntryType::Regular, *mode, &b""[..]),
        EntryKind::Link { target } => (tar::EntryType::Symlink, 0o777, target.as_bytes()),
    };
    let mut out = Vec::with_capacity(BLOCK as usize);
    if target.len() > FIELD {
        push_long(&mut out, tar::EntryType::GNULongLink, target);
    }
    if path.len() > FIELD {
        push_long(&mut out, tar::EntryType::GNULongName, &path);
    }
    push_block(&mut out, kind, mode, content_size(entry), &path, target);
    out
}

fn push_long(out: &mut Vec<u8>, kind: tar::EntryType, name: &[u8]) {
    push_block(
        out,
        kind,
        0o644,
        name.len() as u64 + 1,
        b"././@LongLink",
        b"",
    );
    out.extend_from_slice(name);
    let padded = (out.len() + 1).next_multiple_of(BLOCK as usize);
    out.resize(padded, 0);
}

fn push_block(
    out: &mut Vec<u8>,
    kind: tar::EntryType,
    mode: u32,
    size: u64,
    path: &[u8],
    target: &[u8],
) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(TAR_MTIME);
    header.set_size(size);
    let old = header.as_old_mut();
    for (field, text) in [(&mut old.name, path), (&mut old.linkname, target)] {
        let fits = text.len().min(FIELD);
        field[..fits].copy_from_slice(&text[..fits]);
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use tamer_core::digest::Digest;
    use tamer_core::path::{LinkTarget, TreePath};

    fn entries() -> Vec<Entry> {
        let file = |path: String, size| Entry {
            path: path.parse().unwrap(),
            kind: EntryKind::File {
                mode: 0o644,
                size,
                sha256: Digest::new([0; 32]),
            },
        };
        // Names have 255 bytes at most, paths more.
        let names = |letter: &str, length: usize| -> String {
            let cut = |n| {
                if n % 200 == 199 && n + 1 < length {
                    "/"
                } else {
                    letter
                }
            };
            (0..length).map(cut).collect()
        };
        let link = |path: String, target: String| Entry {
            path: path.parse().unwrap(),
            kind: EntryKind::Link {
                target: target.parse().unwrap(),
            },
        };
        let mut all = vec![Entry {
            path: "d".repeat(99).parse().unwrap(),
            kind: EntryKind::Directory { mode: 0o755 },
        }];
        for length in [1, 99, 100, 101, 511, 512, 513, 1024] {
            all.push(Entry {
                path: names("d", length).parse().unwrap(),
                kind: EntryKind::Directory { mode: 0o755 },
            });
            all.push(file(names("f", length), length as u64));
            all.push(link(names("l", length), "t".repeat(length)));
        }
        all.push(file("empty".to_owned(), 0));
        // Past 8 GiB a size does not fit the header's octal digits: GNU tar's base-256 takes over.
        all.push(file("huge".to_owned(), (8 << 30) + 1));
        all.push(Entry {
            path: TreePath::new(b"latin-\xfc").unwrap(),
            kind: EntryKind::Link {
                target: LinkTarget::new(&[0xff; 120]).unwrap(),
            },
        });
        all
    }

    #[test]
    fn the_tar_crate_reads_every_header_as_it_was_meant() {
        let entries = entries();
        let layout = Layout::of(&entries).unwrap();
        // Sparse: it holds more than 8 GiB.
        let stream = tempfile::tempfile().unwrap();
        stream.set_len(layout.total).unwrap();
        for (entry, span) in entries.iter().zip(&layout.spans) {
            let header = header(entry);
            assert_eq!(
                span.start + header.len() as u64,
                span.content,
                "{}",
                entry.path
            );
            stream.write_all_at(&header, span.start).unwrap();
        }
        let mut archive = tar::Archive::new(&stream);
        let mut seen = 0;
        for (read, (entry, span)) in archive
            .entries_with_seek()
            .unwrap()
            .zip(entries.iter().zip(&layout.spans))
        {
            let read = read.unwrap();
            let path = read.path_bytes();
            let path = path.strip_suffix(b"/").unwrap_or(&path);
            assert_eq!(path, entry.path.as_bytes());
            assert_eq!(read.raw_file_position(), span.content);
            assert_eq!(read.size(), span.size);
            assert_eq!(read.header().mtime().unwrap(), TAR_MTIME);
            if let EntryKind::Link { target } = &entry.kind {
                assert_eq!(read.link_name_bytes().unwrap(), target.as_bytes());
            }
            seen += 1;
        }
        assert_eq!(seen, entries.len());
    }

    #[test]
    fn sizes_that_do_not_fit_are_none_and_parts_find_their_entries() {
        let mut entries = entries();
        let layout = Layout::of(&entries).unwrap();
        assert_eq!(layout.within(&(0..1)), 0..1);
        let second = layout.spans[1];
        assert_eq!(layout.within(&(second.start..second.end)), 1..2);
        assert_eq!(layout.within(&(second.start - 1..second.end + 1)), 0..3);
        let trailer = layout.total - TRAILER..layout.total;
        assert!(layout.within(&trailer).is_empty());
        entries[2].kind = EntryKind::File {
            mode: 0o644,
            size: u64::MAX - 600,
            sha256: Digest::new([0; 32]),
        };
        assert_eq!(Layout::of(&entries), None);
    }
}
