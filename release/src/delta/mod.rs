//! How a release is made from what is on disk: which files are taken from older releases, which pieces of
//! large files, and which frames must be fetched. Pure, and by content alone.
//!
//! An older release's manifest only says where to look. Whoever takes a file or a piece from there hashes it,
//! and asks [`Delta::instead`] for frames where it is not what it should be.

mod parts;
mod ranges;
mod search;

pub use parts::Parts;
pub use ranges::{Fetch, MAX_GAP, MAX_RANGE, ranges};
pub use search::{Older, Search};

use crate::layout::Layout;
use crate::manifest::Visit as _;
use std::collections::BTreeSet;
use tamer_core::digest::Digest;
use tamer_core::path::TreePath;
use tamer_core::release::{Entry, EntryKind, Manifest};

/// How one release is made from others and from frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Where each entry's content comes from, in the manifest's order.
    pub sources: Vec<Source>,
    /// The frames that are needed, in order.
    pub frames: BTreeSet<usize>,
    /// How many bytes of contents older releases give.
    pub reused: u64,
}

/// Where an entry's content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It has none: a directory, a link, an empty file.
    Nothing,
    /// A file of an older release is the same.
    Copy(Place),
    /// It is the content of `entry`, whole in `frame`: mostly the entry's own, or that of another one with the
    /// same content.
    Frame {
        /// The frame's number.
        frame: usize,
        /// The entry whose place in the frame it has.
        entry: usize,
    },
    /// It is large: these pieces, in order.
    Pieces(Vec<Piece>),
}

/// A piece of a large file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// All that the frame with this number holds.
    Frame(usize),
    /// A piece of a file of an older release, instead of what the frame `frame` holds.
    Old {
        /// The file.
        place: Place,
        /// Where in the file, in bytes.
        offset: u64,
        /// The frame that holds the same.
        frame: usize,
    },
}

/// A file of an older release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The release's position in the list of older releases.
    pub release: usize,
    /// Its path there; `None` if it is the same path as here.
    pub path: Option<TreePath>,
}

/// What an older release did not give after all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoilt {
    /// The entry.
    pub entry: usize,
    /// Its pieces that are not what they should be; empty for a file that was to be copied whole.
    pub pieces: Vec<usize>,
}

// === impl Delta ===

impl Delta {
    /// From nothing but the whole archive: every frame is looked at, also those that hold no content.
    pub fn whole(manifest: &Manifest, layout: &Layout) -> Self {
        let mut delta = plan(manifest, layout, &[]);
        delta.frames = (0..manifest.archive.frames.len()).collect();
        delta
    }

    /// Takes what older releases did not give from frames instead; gives the frames that are needed for that
    /// and were not needed before, in order.
    pub fn instead(
        &mut self,
        manifest: &Manifest,
        layout: &Layout,
        spoilt: &[Spoilt],
    ) -> Vec<usize> {
        let nothing = Search::new(manifest);
        let fresh = Planner::new(manifest, layout, &nothing);
        let before = self.frames.clone();
        for it in spoilt {
            let whole = fresh.source(it.entry);
            match (&mut self.sources[it.entry], whole) {
                (Source::Pieces(pieces), Source::Pieces(whole)) => {
                    for n in &it.pieces {
                        pieces[*n] = whole[*n].clone();
                    }
                }
                (source, whole) => *source = whole,
            }
            self.need(it.entry);
        }
        self.frames.difference(&before).copied().collect()
    }

    /// Adds the frames that an entry needs.
    fn need(&mut self, entry: usize) {
        match &self.sources[entry] {
            Source::Nothing | Source::Copy(_) => {}
            Source::Frame { frame, .. } => {
                self.frames.insert(*frame);
            }
            Source::Pieces(pieces) => {
                for piece in pieces {
                    if let Piece::Frame(frame) = piece {
                        self.frames.insert(*frame);
                    }
                }
            }
        }
    }
}

// === impl Place ===

impl Place {
    /// The path in the older release, of what is `here` in the new one.
    pub fn path<'a>(&'a self, here: &'a TreePath) -> &'a TreePath {
        self.path.as_ref().unwrap_or(here)
    }
}

/// How the release of this manifest is made when the files of `older` releases are at hand; the earlier one of
/// them is taken where several have the same. The manifest was judged, and `layout` is its own.
pub fn plan(manifest: &Manifest, layout: &Layout, older: &[&Manifest]) -> Delta {
    let mut search = Search::new(manifest);
    for (release, old) in older.iter().enumerate() {
        let mut passing = search.older(release);
        for frame in &old.archive.frames {
            passing.frame(frame.clone());
        }
        for entry in &old.files {
            passing.entry(entry.clone());
        }
    }
    plan_with(layout, &search)
}

/// How a release is made when there is what the search has found. `layout` is the release's.
///
/// Nothing is fetched of which an older manifest says that it is on disk. A whole frame is fetched for each
/// file that is not.
pub fn plan_with(layout: &Layout, search: &Search<'_>) -> Delta {
    let manifest = search.manifest();
    let planner = Planner::new(manifest, layout, search);
    let mut delta = Delta {
        sources: Vec::with_capacity(manifest.files.len()),
        frames: BTreeSet::new(),
        reused: 0,
    };
    for n in 0..manifest.files.len() {
        let source = planner.source(n);
        delta.reused += planner.reused(n, &source);
        delta.sources.push(source);
        delta.need(n);
    }
    delta
}

struct Planner<'a> {
    files: &'a [Entry],
    layout: &'a Layout,
    parts: Parts<'a>,
    search: &'a Search<'a>,
}

impl<'a> Planner<'a> {
    fn new(manifest: &'a Manifest, layout: &'a Layout, search: &'a Search<'a>) -> Self {
        Self {
            files: &manifest.files,
            layout,
            parts: Parts::of(&manifest.archive.frames),
            search,
        }
    }

    fn source(&self, entry: usize) -> Source {
        let Some(digest) = content(&self.files[entry]) else {
            return Source::Nothing;
        };
        if let Some(place) = self.search.place(entry, &digest) {
            return Source::Copy(place);
        }
        let content = self.layout.spans[entry].content();
        let mut frame = self.parts.holding(content.start);
        if self.parts.frames()[frame].content.is_none() {
            // It is the file's only one. Another file with this content may be there already; but only one
            // that is whole in a frame too.
            let first = self.search.first(&digest).unwrap_or(entry);
            let there = self.parts.holding(self.layout.spans[first].content);
            return if self.parts.frames()[there].content.is_none()
                && self.layout.spans[first].size == self.layout.spans[entry].size
            {
                Source::Frame {
                    frame: there,
                    entry: first,
                }
            } else {
                Source::Frame { frame, entry }
            };
        }
        let mut pieces = Vec::new();
        while frame < self.parts.frames().len() && self.parts.stream(frame).start < content.end {
            pieces.push(self.piece(frame, entry));
            frame += 1;
        }
        Source::Pieces(pieces)
    }

    fn piece(&self, frame: usize, entry: usize) -> Piece {
        let it = &self.parts.frames()[frame];
        let Some(content) = it.content else {
            return Piece::Frame(frame);
        };
        if let Some((place, offset)) = self.search.piece(entry, &content, it.unpacked) {
            return Piece::Old {
                place,
                offset,
                frame,
            };
        }
        let first = self.search.first_piece(&content).unwrap_or(frame);
        let same = self.parts.frames()[first].unpacked == it.unpacked;
        Piece::Frame(if same { first } else { frame })
    }

    fn reused(&self, entry: usize, source: &Source) -> u64 {
        match source {
            Source::Nothing | Source::Frame { .. } => 0,
            Source::Copy(_) => self.layout.spans[entry].size,
            Source::Pieces(pieces) => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Frame(_) => 0,
                    Piece::Old { frame, .. } => self.parts.frames()[*frame].unpacked,
                })
                .sum(),
        }
    }
}

/// The digest of a file's content, if it is a file and has one.
fn content(entry: &Entry) -> Option<Digest> {
    match entry.kind {
        EntryKind::File { size, sha256, .. } if size > 0 => Some(sha256),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
