//! Looks for the contents of a new release in older ones, whose manifests pass by and are not kept.
//!
//! Memory is the new release's: four bytes a file, and a few words for each that was found.

use super::{Place, content};
use crate::layout;
use crate::manifest::Visit;
use tamer_core::digest::Digest;
use tamer_core::path::TreePath;
use tamer_core::release::{Entry, Frame, Manifest};

/// What of a new release is on disk, as older manifests say.
#[derive(Debug)]
pub struct Search<'a> {
    manifest: &'a Manifest,
    /// The first entry with each content, by content.
    files: Vec<u32>,
    /// What was found of each of these.
    found: Vec<Option<Found>>,
    /// The first frame with each piece, by content.
    pieces: Vec<u32>,
    /// What was found of each of these.
    found_pieces: Vec<Option<FoundPiece>>,
}

/// A file of an older release.
#[derive(Debug, Clone)]
struct Found {
    release: u32,
    /// Its path there; `None` if it is that of the new release's first entry with this content.
    path: Option<TreePath>,
}

/// A piece of a file of an older release.
#[derive(Debug, Clone)]
struct FoundPiece {
    release: u32,
    path: TreePath,
    offset: u64,
    length: u64,
}

/// One older release that passes by.
#[derive(Debug)]
pub struct Older<'s, 'a> {
    search: &'s mut Search<'a>,
    release: u32,
    /// The pieces that are wanted: which, where in the stream, how long. In the order of the stream.
    pieces: Vec<(usize, u64, u64)>,
    /// How many of these are behind the entries that passed.
    passed: usize,
    /// Where in the stream the next frame and the next entry start.
    frame: u64,
    entry: u64,
}

impl<'a> Search<'a> {
    /// Nothing was found yet. The manifest was judged.
    pub fn new(manifest: &'a Manifest) -> Self {
        let entry = |n: u32| content(&manifest.files[n as usize]);
        let piece = |n: u32| manifest.archive.frames[n as usize].content;
        let files = firsts(manifest.files.len(), entry);
        let pieces = firsts(manifest.archive.frames.len(), piece);
        Self {
            manifest,
            found: vec![None; files.len()],
            files,
            found_pieces: vec![None; pieces.len()],
            pieces,
        }
    }

    /// Looks in one more older release: the one with this number, in the order in which they are preferred.
    pub fn older(&mut self, release: usize) -> Older<'_, 'a> {
        Older {
            search: self,
            release: u32::try_from(release).unwrap_or(u32::MAX),
            pieces: Vec::new(),
            passed: 0,
            frame: 0,
            entry: 0,
        }
    }

    pub(super) fn manifest(&self) -> &'a Manifest {
        self.manifest
    }

    /// The first entry with this content.
    pub(super) fn first(&self, wanted: &Digest) -> Option<usize> {
        self.rank(wanted).map(|rank| self.files[rank] as usize)
    }

    /// The first frame that holds this piece.
    pub(super) fn first_piece(&self, wanted: &Digest) -> Option<usize> {
        let rank = self.piece_rank(wanted)?;
        Some(self.pieces[rank] as usize)
    }

    /// Where the content of an entry was found.
    pub(super) fn place(&self, entry: usize, wanted: &Digest) -> Option<Place> {
        let rank = self.rank(wanted)?;
        let found = self.found[rank].as_ref()?;
        let first = &self.manifest.files[self.files[rank] as usize].path;
        let path = found.path.as_ref().unwrap_or(first);
        Some(self.at(found.release, path, entry))
    }

    /// Where a piece of so many bytes of an entry was found, and at which offset there.
    pub(super) fn piece(&self, entry: usize, wanted: &Digest, length: u64) -> Option<(Place, u64)> {
        let found = self.found_pieces[self.piece_rank(wanted)?].as_ref();
        let found = found.filter(|it| it.length == length)?;
        Some((self.at(found.release, &found.path, entry), found.offset))
    }

    fn at(&self, release: u32, path: &TreePath, entry: usize) -> Place {
        let elsewhere = *path != self.manifest.files[entry].path;
        Place {
            release: release as usize,
            path: elsewhere.then(|| path.clone()),
        }
    }

    fn rank(&self, wanted: &Digest) -> Option<usize> {
        let of = |n: &u32| content(&self.manifest.files[*n as usize]);
        let found = self.files.binary_search_by_key(&Some(*wanted), of);
        found.ok()
    }

    fn piece_rank(&self, wanted: &Digest) -> Option<usize> {
        let of = |n: &u32| self.manifest.archive.frames[*n as usize].content;
        let found = self.pieces.binary_search_by_key(&Some(*wanted), of);
        found.ok()
    }
}

/// The numbers of the first ones with each digest, by digest.
fn firsts(count: usize, digest: impl Fn(u32) -> Option<Digest>) -> Vec<u32> {
    // A manifest has far fewer entries and frames.
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let mut all: Vec<u32> = (0..count).filter(|n| digest(*n).is_some()).collect();
    all.sort_unstable_by_key(|n| (digest(*n), *n));
    all.dedup_by_key(|n| digest(*n));
    all.shrink_to_fit();
    all
}

impl Visit for Older<'_, '_> {
    fn frame(&mut self, frame: Frame) {
        if let Some(rank) = frame.content.and_then(|it| self.search.piece_rank(&it)) {
            self.pieces.push((rank, self.frame, frame.unpacked));
        }
        self.frame = self.frame.saturating_add(frame.unpacked);
    }

    fn entry(&mut self, entry: Entry) {
        // An older manifest is not judged: its numbers may be any.
        let begins = self.entry.saturating_add(layout::header_length(&entry));
        let size = layout::content_size(&entry);
        let ends = begins.saturating_add(size);
        self.entry = ends.checked_next_multiple_of(layout::BLOCK).unwrap_or(ends);
        let Some(digest) = content(&entry) else {
            return;
        };
        while let Some((rank, start, length)) = self.pieces.get(self.passed).copied() {
            if start >= ends {
                break;
            }
            self.passed += 1;
            let inside = start >= begins && start.saturating_add(length) <= ends;
            let found = &mut self.search.found_pieces[rank];
            if inside && found.is_none() {
                *found = Some(FoundPiece {
                    release: self.release,
                    path: entry.path.clone(),
                    offset: start - begins,
                    length,
                });
            }
        }
        if let Some(rank) = self.search.rank(&digest)
            && self.search.found[rank].is_none()
        {
            let first = &self.search.manifest.files[self.search.files[rank] as usize];
            let elsewhere = first.path != entry.path;
            self.search.found[rank] = Some(Found {
                release: self.release,
                path: elsewhere.then_some(entry.path),
            });
        }
    }
}
