//! The index of frames and the plan of a difference, without JSON and digests before them: sizes, cuts and equal
//! contents as the bytes choose, and an older release whose manifest says anything.

use super::sound;
use crate::choices::Choices;
use crate::made::{Made, with_kind};
use tamer_core::digest::Digest;
use tamer_core::path::LinkTarget;
use tamer_core::release::{EntryKind, Frame, Manifest};
use tamer_release::frames::{Part, cut};
use tamer_release::layout::Layout;
use tamer_release::{delta, manifest};

/// The most entries, and the most pieces of a file.
const MOST: usize = 24;

pub(super) fn run(bytes: &[u8]) {
    let mut choices = Choices::of(bytes);
    let older = release(&mut choices);
    let newer = release(&mut choices);
    let [older, newer] = [older, newer].map(|it| match manifest::validate(&it) {
        Ok(layout) => {
            sound::manifest(&it);
            Some((it, layout))
        }
        Err(error) => {
            super::is_said(&error);
            None
        }
    });
    if let (Some((older, _)), Some((newer, layout))) = (older, newer) {
        let plan = delta::plan(&newer, &layout, &[&older]);
        sound::plan(&newer, &layout, &[&older], &plan);
    }
}

/// Few of them, so that there are equal ones.
fn digest(choices: &mut Choices<'_>) -> Digest {
    Digest::new([choices.byte() % 8; 32])
}

fn release(choices: &mut Choices<'_>) -> Manifest {
    let count = usize::from(choices.byte()) % MOST;
    let nodes = (0..count).map(|n| {
        let path = format!("f{n:02}");
        let kind = match choices.byte() % 8 {
            0 => EntryKind::Directory { mode: 0o755 },
            1 => EntryKind::Link {
                target: LinkTarget::unjudged(&vec![b'x'; choices.byte().into()]),
            },
            _ => EntryKind::File {
                mode: 0o644,
                size: choices.number(),
                sha256: digest(choices),
            },
        };
        with_kind(&path, kind)
    });
    let nodes: Vec<_> = nodes.collect();
    let mut manifest = Made::of(nodes).manifest;
    let frames = frames(&manifest, choices);
    let archive = &mut manifest.archive;
    let sum = |of: fn(&Frame) -> u64| frames.iter().map(of).fold(0, u64::saturating_add);
    (archive.length, archive.unpacked) = (sum(|it| it.length), sum(|it| it.unpacked));
    archive.frames = frames;
    manifest
}

/// The frames as a packer would cut them, and then some of them otherwise.
fn frames(manifest: &Manifest, choices: &mut Choices<'_>) -> Vec<Frame> {
    let Some(layout) = Layout::of(&manifest.files) else {
        return Vec::new();
    };
    let mut frames = Vec::new();
    let frame = |unpacked: u64, content| Frame {
        length: unpacked.clamp(1, 100),
        unpacked,
        sha256: Digest::new([9; 32]),
        content,
    };
    for part in cut(&manifest.files, &layout) {
        match part {
            Part::Shared(range) => frames.push(frame(range.end - range.start, None)),
            Part::Large(n) => {
                let mut left = layout.spans[n].size;
                while left > 0 && frames.len() < 4 * MOST {
                    let piece = left.min(1 + choices.number() % (8 << 20));
                    frames.push(frame(piece, Some(digest(choices))));
                    left -= piece;
                }
            }
        }
    }
    while choices.once_in(4) && !frames.is_empty() {
        let n = usize::from(choices.byte()) % frames.len();
        match choices.byte() % 7 {
            0 => frames[n].length = choices.number(),
            1 => frames[n].unpacked = choices.number(),
            2 => frames[n].content = Some(digest(choices)),
            3 => frames[n].content = None,
            4 => {
                let by = choices.number();
                let next = (n + 1) % frames.len();
                frames[n].unpacked = frames[n].unpacked.wrapping_add(by);
                frames[next].unpacked = frames[next].unpacked.wrapping_sub(by);
            }
            5 if n + 1 < frames.len() => {
                let next = frames.remove(n + 1);
                frames[n].unpacked = frames[n].unpacked.saturating_add(next.unpacked);
            }
            _ => drop(frames.remove(n)),
        }
    }
    frames
}

/// Rows of choices: few of the shape, and long enough for two releases.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let row = |seed: u8| {
        (0..200_u8)
            .map(|n| n.wrapping_mul(seed).rotate_left(3))
            .collect()
    };
    [3, 7, 29, 77, 101, 177].map(row).to_vec()
}
