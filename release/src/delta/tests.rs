//! What a plan promises, seen from outside: each byte comes from one place, that place is right, and nothing
//! is fetched that is on disk.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use tamer_core::application::Application;
use tamer_core::release::{Archive, FORMAT, Frame};
use tamer_kit::hash::sha256;

/// A release of files with these contents, each a list of letters that stand for pieces of content. Files of
/// several letters are large, and have a frame a letter; others share a frame, two by two.
fn release(files: &[(String, Vec<u8>)]) -> Manifest {
    let spec = "application = \"shop\"\n[component.web]\nfiles = \"x\"\nroot = \"/srv/shop/web\"\n";
    let spec = Application::parse("tamer.toml", spec).unwrap();
    let mut sorted = files.to_vec();
    sorted.sort();
    sorted.dedup_by(|a, b| a.0 == b.0);
    let entries: Vec<Entry> = sorted
        .iter()
        .map(|(path, letters)| Entry {
            path: path.parse().unwrap(),
            kind: EntryKind::File {
                mode: 0o644,
                size: letters.iter().map(|letter| length(*letter)).sum(),
                sha256: sha256(&bytes(letters)),
            },
        })
        .collect();
    let layout = Layout::of(&entries).unwrap();
    let mut frames = Vec::new();
    let mut open = 0;
    let frame = |unpacked: u64, content| Frame {
        length: 50,
        unpacked,
        sha256: Digest::new([7; 32]),
        content,
    };
    for (n, (span, (_, letters))) in layout.spans.iter().zip(&sorted).enumerate() {
        if letters.len() > 1 {
            frames.push(frame(span.content - open, None));
            for letter in letters {
                let content = Some(sha256(&bytes(&[*letter])));
                frames.push(frame(length(*letter), content));
            }
            open = span.content().end;
        } else if n % 2 == 0 && span.end > open {
            frames.push(frame(span.end - open, None));
            open = span.end;
        }
    }
    frames.push(frame(layout.total - open, None));
    let manifest = Manifest {
        format: FORMAT,
        requires: Default::default(),
        application: spec.application,
        component: "web".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        mtime: 1,
        archive: Archive {
            sha256: Digest::new([0; 32]),
            length: 50 * frames.len() as u64,
            unpacked: layout.total,
            frames,
        },
        files: entries,
        spec: spec.components.into_values().next().unwrap(),
    };
    crate::manifest::validate(&manifest).unwrap();
    manifest
}

fn length(letter: u8) -> u64 {
    600 + u64::from(letter) * 7
}

fn bytes(letters: &[u8]) -> Vec<u8> {
    let piece = |letter: &u8| vec![*letter; length(*letter) as usize];
    letters.iter().flat_map(piece).collect()
}

/// The whole content of a file by its digest, as only the test knows it.
fn known(files: &[(String, Vec<u8>)]) -> HashMap<Digest, Vec<u8>> {
    let all = files.iter().map(|(_, letters)| bytes(letters));
    all.map(|bytes| (sha256(&bytes), bytes)).collect()
}

/// What an entry gets if every source gives what the manifests say.
fn filled(
    manifest: &Manifest,
    older: &[&Manifest],
    contents: &HashMap<Digest, Vec<u8>>,
    delta: &Delta,
    n: usize,
) -> Vec<u8> {
    let layout = Layout::of(&manifest.files).unwrap();
    let parts = Parts::of(&manifest.archive.frames);
    let of = |entry: &Entry| content(entry).map_or(Vec::new(), |it| contents[&it].clone());
    let old = |place: &Place| {
        let path = place.path(&manifest.files[n].path);
        let files = &older[place.release].files;
        of(files.iter().find(|it| it.path == *path).unwrap())
    };
    let fetched = |frame: usize| {
        assert!(delta.frames.contains(&frame), "{frame} is fetched");
        let part = parts.stream(frame);
        let entry = layout.within(&part).start;
        let from = (part.start - layout.spans[entry].content) as usize;
        of(&manifest.files[entry])[from..from + (part.end - part.start) as usize].to_vec()
    };
    match &delta.sources[n] {
        Source::Nothing => Vec::new(),
        Source::Copy(place) => old(place),
        Source::Frame { frame, entry } => {
            assert!(delta.frames.contains(frame));
            let (part, content) = (parts.stream(*frame), layout.spans[*entry].content());
            assert!(part.start <= content.start && content.end <= part.end);
            of(&manifest.files[*entry])
        }
        Source::Pieces(pieces) => pieces
            .iter()
            .flat_map(|piece| match piece {
                Piece::Frame(frame) => fetched(*frame),
                Piece::Old {
                    place,
                    offset,
                    frame,
                } => {
                    let length = parts.stream(*frame).end - parts.stream(*frame).start;
                    let from = *offset as usize;
                    old(place)[from..from + length as usize].to_vec()
                }
            })
            .collect(),
    }
}

fn files() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let letters = prop_oneof![
        prop::collection::vec(0_u8..12, 0..2),
        prop::collection::vec(0_u8..12, 2..6),
    ];
    prop::collection::vec(("[a-d]{1,2}", letters), 0..10)
}

proptest! {
    #[test]
    fn every_byte_comes_from_where_it_is_and_nothing_is_fetched_that_is_on_disk(
        new in files(),
        one in files(),
        two in files(),
    ) {
        let (manifest, one_, two_) = (release(&new), release(&one), release(&two));
        let older = [&one_, &two_];
        let layout = Layout::of(&manifest.files).unwrap();
        let delta = plan(&manifest, &layout, &older);
        let mut contents = known(&new);
        contents.extend(known(&one));
        contents.extend(known(&two));
        let on_disk: Vec<&Vec<u8>> = one.iter().chain(&two).map(|(_, letters)| letters).collect();
        // Only releases that were packed: of two files of one name the test's packer took the first.
        let listed = |digest: &Digest| older.iter().any(|it| {
            it.files.iter().any(|entry| content(entry) == Some(*digest))
        });
        let mut reused = 0;
        for (n, entry) in manifest.files.iter().enumerate() {
            let got = filled(&manifest, &older, &contents, &delta, n);
            let EntryKind::File { sha256: wanted, size, .. } = entry.kind else { unreachable!() };
            prop_assert_eq!(sha256(&got), wanted, "{}", entry.path);
            let copied = matches!(delta.sources[n], Source::Copy(_));
            prop_assert_eq!(copied, size > 0 && listed(&wanted), "{}", entry.path);
            if copied {
                reused += size;
            }
            if let Source::Pieces(pieces) = &delta.sources[n] {
                let old = pieces.iter().filter(|it| matches!(it, Piece::Old { .. }));
                reused += old.map(|it| match it {
                    Piece::Old { frame, .. } => manifest.archive.frames[*frame].unpacked,
                    Piece::Frame(_) => 0,
                }).sum::<u64>();
            }
        }
        prop_assert_eq!(delta.reused, reused);
        // No piece is fetched that a large file on disk has.
        for frame in &delta.frames {
            if let Some(piece) = manifest.archive.frames[*frame].content {
                let there = on_disk.iter().any(|letters| {
                    letters.len() > 1
                        && listed(&sha256(&bytes(letters)))
                        && letters.iter().any(|letter| sha256(&bytes(&[*letter])) == piece)
                });
                prop_assert!(!there, "frame {} is on disk", frame);
            }
        }
        // The same release again is not fetched at all.
        prop_assert!(plan(&manifest, &layout, &[&manifest]).frames.is_empty());
    }

    #[test]
    fn what_is_spoilt_comes_from_frames_and_the_rest_stays(new in files(), old in files()) {
        let (manifest, old_) = (release(&new), release(&old));
        let layout = Layout::of(&manifest.files).unwrap();
        let mut delta = plan(&manifest, &layout, &[&old_]);
        let before = delta.clone();
        let spoilt: Vec<Spoilt> = delta.sources.iter().enumerate().step_by(2).filter_map(|(entry, source)| {
            match source {
                Source::Copy(_) => Some(Spoilt { entry, pieces: vec![] }),
                Source::Pieces(pieces) => {
                    let bad = pieces.iter().enumerate()
                        .filter(|(_, it)| matches!(it, Piece::Old { .. }))
                        .map(|(n, _)| n)
                        .take(1)
                        .collect::<Vec<_>>();
                    (!bad.is_empty()).then_some(Spoilt { entry, pieces: bad })
                }
                _ => None,
            }
        }).collect();
        let more = delta.instead(&manifest, &layout, &spoilt);
        prop_assert!(more.is_sorted() && more.iter().all(|frame| !before.frames.contains(frame)));
        let mut contents = known(&new);
        contents.extend(known(&old));
        for (n, entry) in manifest.files.iter().enumerate() {
            let got = filled(&manifest, &[&old_], &contents, &delta, n);
            let EntryKind::File { sha256: wanted, .. } = entry.kind else { unreachable!() };
            prop_assert_eq!(sha256(&got), wanted);
            match spoilt.iter().find(|it| it.entry == n) {
                None => prop_assert_eq!(&delta.sources[n], &before.sources[n]),
                Some(it) => match &delta.sources[n] {
                    Source::Copy(_) => prop_assert!(false, "copied all the same"),
                    Source::Pieces(pieces) => for n in &it.pieces {
                        prop_assert!(matches!(pieces[*n], Piece::Frame(_)));
                    },
                    _ => {}
                }
            }
        }
    }
}

fn named(files: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    let owned = |(path, letters): &(&str, &[u8])| ((*path).to_owned(), letters.to_vec());
    files.iter().map(owned).collect()
}

#[test]
fn a_file_that_moved_is_not_fetched_and_the_same_content_only_once() {
    let old = release(&named(&[("a", &[1]), ("b", &[2])]));
    let new = release(&named(&[
        ("b", &[2]),
        ("moved", &[1]),
        ("x", &[3]),
        ("y", &[3]),
    ]));
    let layout = Layout::of(&new.files).unwrap();
    let delta = plan(&new, &layout, &[&old]);
    let place = Place {
        release: 0,
        path: Some("a".parse().unwrap()),
    };
    assert_eq!(delta.sources[1], Source::Copy(place));
    assert_eq!(delta.sources[2], delta.sources[3]);
    assert_eq!(delta.frames.len(), 1);
}

#[test]
fn a_piece_in_the_middle_of_a_large_file_is_all_that_is_fetched() {
    let old = release(&named(&[("large", &[1, 2, 3, 4])]));
    let new = release(&named(&[("large", &[1, 2, 9, 3, 4])]));
    let layout = Layout::of(&new.files).unwrap();
    let delta = plan(&new, &layout, &[&old]);
    assert_eq!(delta.frames.len(), 1);
    assert_eq!(delta.reused, [1, 2, 3, 4].map(length).iter().sum::<u64>());
}

#[test]
fn an_older_manifest_of_other_lengths_is_no_help_and_no_harm() {
    // It says that the piece is shorter than it is.
    let mut old = release(&named(&[("large", &[1, 2, 3])]));
    let other = Some(sha256(&bytes(&[9])));
    old.archive.frames[2].content = other;
    let new = release(&named(&[("large", &[1, 9, 3])]));
    let layout = Layout::of(&new.files).unwrap();
    let delta = plan(&new, &layout, &[&old]);
    let Source::Pieces(pieces) = &delta.sources[0] else {
        panic!("it is large");
    };
    assert!(matches!(pieces[1], Piece::Frame(_)), "{pieces:?}");
}
