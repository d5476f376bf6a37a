//! Releases from entries that no packer would take, signed as if one had: frames and digests fit, whatever the
//! entries are. The worst case is that the signature is good.

use std::ops::Range;
use tamer_core::application::{Application, ComponentSpec};
use tamer_core::digest::Digest;
use tamer_core::path::{LinkTarget, TreePath};
use tamer_core::release::{Archive, Entry, EntryKind, FORMAT, Frame, Manifest};
use tamer_kit::hash::sha256;
use tamer_release::frames::{self, Part};
use tamer_release::layout::{self, Layout};

/// A release in memory.
#[derive(Debug, Clone)]
pub struct Made {
    /// Its manifest, which nobody has judged.
    pub manifest: Manifest,
    /// The tar stream that the manifest's entries make.
    pub stream: Vec<u8>,
    /// The archive.
    pub archive: Vec<u8>,
}

/// An entry, and the content of a file.
pub type Node = (Entry, Vec<u8>);

/// A directory.
pub fn directory(path: &str) -> Node {
    with_kind(path, EntryKind::Directory { mode: 0o755 })
}

/// A file.
pub fn file(path: &str, content: impl Into<Vec<u8>>) -> Node {
    let content = content.into();
    let kind = EntryKind::File {
        mode: 0o644,
        size: content.len() as u64,
        sha256: sha256(&content),
    };
    let path = TreePath::unjudged(path.as_bytes());
    (Entry { path, kind }, content)
}

/// A symbolic link.
pub fn link(path: &str, target: &str) -> Node {
    let target = LinkTarget::unjudged(target.as_bytes());
    with_kind(path, EntryKind::Link { target })
}

/// An entry without content.
pub fn with_kind(path: &str, kind: EntryKind) -> Node {
    let path = TreePath::unjudged(path.as_bytes());
    (Entry { path, kind }, Vec::new())
}

/// A component as `tamer.toml` has it, with these more lines.
///
/// # Panics
/// The lines are none of a `tamer.toml`.
pub fn spec(more: &str) -> ComponentSpec {
    let text = format!(
        "application = \"shop\"\n[component.web]\nfiles = \"web\"\nroot = \"/srv/shop/web\"\n{more}\n"
    );
    let application = Application::parse("tamer.toml", &text).unwrap();
    application.components.into_values().next().unwrap()
}

// === impl Made ===

impl Made {
    /// A release of these entries, in frames as a packer cuts them.
    ///
    /// # Panics
    /// Memory is out.
    pub fn of(nodes: Vec<Node>) -> Self {
        let mut stream = Vec::new();
        for (entry, content) in &nodes {
            stream.extend(layout::header(entry));
            stream.extend(content);
            stream.resize(stream.len().next_multiple_of(layout::BLOCK as usize), 0);
        }
        stream.resize(stream.len() + layout::TRAILER as usize, 0);
        let files = nodes.into_iter().map(|(entry, _)| entry).collect();
        let mut made = Self {
            manifest: manifest(files),
            stream,
            archive: Vec::new(),
        };
        let parts = made.parts();
        made.cut(&parts);
        made
    }

    /// The parts of the stream that become frames of their own, and whether they are pieces of a file.
    fn parts(&self) -> Vec<(Range<usize>, bool)> {
        let whole = vec![(0..self.stream.len(), false)];
        let files = &self.manifest.files;
        let Some(layout) = Layout::of(files).filter(|it| it.total == self.stream.len() as u64)
        else {
            return whole;
        };
        let mut parts = Vec::new();
        for part in frames::cut(files, &layout) {
            match part {
                Part::Shared(range) => parts.push((in_memory(range), false)),
                Part::Large(n) => {
                    let content = in_memory(layout.spans[n].content());
                    let pieces = content.clone().step_by(PIECE);
                    parts.extend(pieces.map(|at| (at..content.end.min(at + PIECE), true)));
                }
            }
        }
        parts
    }

    /// Cuts the stream into these frames, and signs them.
    ///
    /// # Panics
    /// A part is not in the stream.
    pub fn cut(&mut self, parts: &[(Range<usize>, bool)]) {
        self.archive.clear();
        self.manifest.archive.frames.clear();
        for (part, piece) in parts {
            let raw = &self.stream[part.clone()];
            let bytes = zstd::bulk::compress(raw, 3).unwrap();
            self.manifest.archive.frames.push(Frame {
                length: bytes.len() as u64,
                unpacked: raw.len() as u64,
                sha256: sha256(&bytes),
                content: piece.then(|| sha256(raw)),
            });
            self.archive.extend(bytes);
        }
        self.sum();
    }

    /// Makes the whole stream one frame, and signs it.
    pub fn one_frame(&mut self) {
        let all = 0..self.stream.len();
        self.cut(&[(all, false)]);
    }

    /// Takes these bytes for the archive, as one frame, and signs it; it is said to unpack to what the entries
    /// need.
    pub fn sign_archive(&mut self, bytes: Vec<u8>) {
        let unpacked = Layout::of(&self.manifest.files).map_or(0, |layout| layout.total);
        self.manifest.archive.frames = vec![Frame {
            length: bytes.len() as u64,
            unpacked,
            sha256: sha256(&bytes),
            content: None,
        }];
        self.archive = bytes;
        self.sum();
    }

    /// Makes the archive's own numbers the sums of its frames'.
    fn sum(&mut self) {
        let archive = &mut self.manifest.archive;
        archive.sha256 = sha256(&self.archive);
        archive.length = self.archive.len() as u64;
        let lengths = archive.frames.iter().map(|frame| frame.unpacked);
        archive.unpacked = lengths.fold(0, u64::saturating_add);
    }
}

/// How large the pieces of a large file are, in bytes: a packer cuts where the content says so.
const PIECE: usize = 64 << 10;

fn in_memory(range: Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// A manifest of these entries, without an archive.
fn manifest(files: Vec<Entry>) -> Manifest {
    Manifest {
        format: FORMAT,
        requires: [].into(),
        application: "shop".parse().unwrap(),
        component: "web".parse().unwrap(),
        version: "1.2.3".parse().unwrap(),
        mtime: 1_700_000_000,
        archive: Archive {
            sha256: Digest::new([0; 32]),
            length: 0,
            unpacked: 0,
            frames: Vec::new(),
        },
        files,
        spec: spec(""),
    }
}

/// A small release of every kind of entry, in several frames: `data` is a file of 700 bytes.
pub fn small() -> Made {
    Made::of(vec![
        directory("bin"),
        file("bin/run", "#!/bin/sh\n"),
        file("data", vec![b'd'; 700]),
        link("link", "bin/run"),
    ])
}

/// A release with a file that is cut into pieces.
pub fn large() -> Made {
    let lines = (0..20_000).map(|n| format!("line {n}\n"));
    let mut content: Vec<u8> = lines.collect::<String>().into_bytes();
    content.extend([0; 70_000]);
    Made::of(vec![
        file("after", "a small one"),
        file("large", content),
        file("more", vec![b'm'; 600]),
    ])
}
