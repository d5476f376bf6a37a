//! What must hold of every manifest that was accepted, stated without the code that judges it.

use std::collections::BTreeSet;
use tamer_core::digest::Digest;
use tamer_core::release::{EntryKind, Manifest};
use tamer_release::delta::{self, Delta, MAX_GAP, MAX_RANGE, Parts, Piece, Source, Spoilt};
use tamer_release::layout::{Layout, Span};
use tamer_release::manifest;

/// The size of a file, in bytes; nothing else has one.
fn content(kind: &EntryKind) -> Option<(u64, Digest)> {
    match kind {
        EntryKind::File { size, sha256, .. } => Some((*size, *sha256)),
        EntryKind::Directory { .. } | EntryKind::Link { .. } => None,
    }
}

/// Sees that a manifest is sound.
pub(super) fn manifest(manifest: &Manifest) {
    let layout = manifest::validate(manifest).unwrap();
    let again = manifest::to_bytes(manifest);
    assert_eq!(manifest::parse(&again).unwrap(), *manifest);
    paths(manifest);
    frames(manifest, &layout);
    whole(manifest, &layout);
    let again = delta::plan(manifest, &layout, &[manifest]);
    assert!(again.frames.is_empty(), "what is on disk is fetched");
    plan(manifest, &layout, &[manifest], &again);
}

/// Every path stays in the release, stands once, and behind its parent; and so does every link's target.
fn paths(manifest: &Manifest) {
    let mut directories = BTreeSet::from([Vec::new()]);
    let mut seen = BTreeSet::new();
    for entry in &manifest.files {
        let path = entry.path.as_bytes();
        assert!(!path.contains(&0) && !path.starts_with(b".tamer/") && path != b".tamer");
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        for name in &names {
            assert!(
                !name.is_empty() && *name != b"." && *name != b"..",
                "{path:?}"
            );
        }
        let shown = entry.path.to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        let parent = names[..names.len() - 1].join(&b'/');
        assert!(directories.contains(&parent), "{path:?} has no parent");
        assert!(seen.insert(path), "{path:?} is twice there");
        match &entry.kind {
            EntryKind::Directory { mode } => {
                assert!(*mode <= 0o777);
                directories.insert(path.to_vec());
            }
            EntryKind::File { mode, .. } => assert!(*mode <= 0o777),
            EntryKind::Link { target } => {
                let target = target.as_bytes();
                assert!(!target.starts_with(b"/") && !target.is_empty());
                let parts = || target.split(|byte| *byte == b'/');
                let up = parts().filter(|name| *name == b"..").count();
                assert!(up < names.len(), "{path:?} -> {target:?}");
                // After a name it would count from wherever that leads.
                let mut rest = parts().skip_while(|name| matches!(*name, b"" | b"." | b".."));
                assert!(rest.all(|name| name != b".."), "{path:?} -> {target:?}");
            }
        }
    }
}

/// The frames are the stream, without gaps, none of them large; no file is in two, unless it is alone there.
fn frames(manifest: &Manifest, layout: &Layout) {
    let sizes = manifest.files.iter().filter_map(|it| content(&it.kind));
    let sizes: u64 = sizes.map(|(size, _)| size).sum();
    let entries = manifest.files.len() as u64;
    assert!(layout.total >= sizes + entries * 512 + 1024);
    assert_eq!(layout.total % 512, 0);
    let frames = &manifest.archive.frames;
    assert!(frames.iter().all(|it| it.length > 0 && it.unpacked > 0));
    assert!(frames.iter().all(|it| it.unpacked <= 4 << 20));
    let sum = |of: fn(&tamer_core::release::Frame) -> u64| frames.iter().map(of).sum::<u64>();
    assert_eq!(sum(|it| it.length), manifest.archive.length);
    assert_eq!(sum(|it| it.unpacked), layout.total);
    let parts = Parts::of(frames);
    for span in layout.spans.iter().filter(|span| span.size > 0) {
        let content = span.content();
        let touched: Vec<usize> = (0..frames.len())
            .filter(|n| {
                let part = parts.stream(*n);
                part.start < content.end && content.start < part.end
            })
            .collect();
        let first = parts.stream(touched[0]);
        if touched.len() == 1 && first.start <= content.start && content.end <= first.end {
            continue;
        }
        for n in touched {
            let part = parts.stream(n);
            assert!(content.start <= part.start && part.end <= content.end);
            assert!(frames[n].content.is_some());
        }
    }
}

/// Without anything on disk, everything is fetched, and in few ranges.
fn whole(manifest: &Manifest, layout: &Layout) {
    let frames = &manifest.archive.frames;
    let whole = Delta::whole(manifest, layout);
    assert!(whole.frames.iter().copied().eq(0..frames.len()));
    assert_eq!(whole.reused, 0);
    plan(manifest, layout, &[], &whole);
    let wanted: Vec<usize> = whole.frames.into_iter().collect();
    let parts = Parts::of(frames);
    let mut at = 0;
    for range in delta::ranges(&wanted, &parts, MAX_GAP, MAX_RANGE) {
        assert_eq!(range.bytes.start, at);
        assert!(range.bytes.end - at <= MAX_RANGE || range.wanted.len() == 1);
        at = range.bytes.end;
    }
    assert_eq!(at, manifest.archive.length);
}

/// A plan names only what there is, and gives every file as many bytes as it has. When nothing that older
/// releases should have is there, everything comes from frames.
pub(super) fn plan(manifest: &Manifest, layout: &Layout, older: &[&Manifest], plan: &Delta) {
    let frames = &manifest.archive.frames;
    let parts = Parts::of(frames);
    assert_eq!(plan.sources.len(), manifest.files.len());
    let mut spoilt = Vec::new();
    for (n, source) in plan.sources.iter().enumerate() {
        let entry = &manifest.files[n];
        let size = content(&entry.kind).map_or(0, |(size, _)| size);
        let there = |place: &delta::Place| {
            let old = older[place.release];
            let path = place.path(&entry.path);
            assert!(old.files.iter().any(|it| it.path == *path), "{path:?}");
        };
        match source {
            Source::Nothing => assert_eq!(size, 0),
            Source::Copy(place) => {
                there(place);
                spoilt.push(Spoilt {
                    entry: n,
                    pieces: Vec::new(),
                });
            }
            Source::Frame { frame, entry } => {
                assert!(plan.frames.contains(frame));
                let part = parts.stream(*frame);
                let inside = |span: &Span| {
                    part.start <= span.content && span.content + span.size <= part.end
                };
                assert!(inside(&layout.spans[*entry]));
                assert_eq!(
                    content(&manifest.files[*entry].kind),
                    content(&manifest.files[n].kind)
                );
            }
            Source::Pieces(pieces) => {
                let mut length = 0;
                let mut old = Vec::new();
                for (number, piece) in pieces.iter().enumerate() {
                    match piece {
                        Piece::Frame(frame) => {
                            assert!(plan.frames.contains(frame));
                            length += frames[*frame].unpacked;
                        }
                        Piece::Old { place, frame, .. } => {
                            there(place);
                            old.push(number);
                            length += frames[*frame].unpacked;
                        }
                    }
                }
                assert_eq!(length, size);
                if !old.is_empty() {
                    let pieces = old;
                    spoilt.push(Spoilt { entry: n, pieces });
                }
            }
        }
    }
    let mut instead = plan.clone();
    let more = instead.instead(manifest, layout, &spoilt);
    assert_eq!(instead.sources, delta::plan(manifest, layout, &[]).sources);
    assert!(
        more.iter()
            .all(|n| !plan.frames.contains(n) && instead.frames.contains(n))
    );
}
