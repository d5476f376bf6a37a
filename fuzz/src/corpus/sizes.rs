//! An index that lies: lengths, sizes, digests and contents that do not fit what is there, or one another.

use super::Hostile;
use crate::made::{Made, file, large, small, with_kind};
use tamer_core::digest::Digest;
use tamer_core::release::EntryKind;
use tamer_kit::hash::sha256;

type Change = fn(&mut Made);

fn frames(made: &mut Made) -> &mut Vec<tamer_core::release::Frame> {
    &mut made.manifest.archive.frames
}

pub(super) fn all() -> Vec<Hostile> {
    let mut all = Vec::new();
    let small_ones: [(&str, Change, &str); 19] = [
        (
            "archive-longer",
            |m| m.manifest.archive.length += 1,
            "its frames have",
        ),
        (
            "archive-unpacks-to-more",
            |m| m.manifest.archive.unpacked += 1,
            "its entries need",
        ),
        ("no-frames", |m| frames(m).clear(), "its frames have"),
        (
            "a-frame-too-many",
            |m| {
                let first = frames(m)[0].clone();
                frames(m).push(first);
            },
            "its frames have",
        ),
        (
            "frame-without-bytes",
            |m| frames(m)[0].length = 0,
            "frame 0 is empty",
        ),
        (
            "frame-without-content",
            |m| frames(m)[0].unpacked = 0,
            "frame 0 is empty",
        ),
        (
            "frame-of-all-bytes-there-are",
            |m| frames(m)[0].length = u64::MAX,
            "frame 0 is larger than what it holds",
        ),
        (
            "frame-unpacks-to-all-bytes-there-are",
            |m| frames(m)[0].unpacked = u64::MAX,
            "frame 0 is too large when unpacked",
        ),
        (
            "frame-just-too-large",
            |m| frames(m)[0].unpacked = (4 << 20) + 1,
            "frame 0 is too large when unpacked",
        ),
        (
            "frame-takes-a-byte-of-the-next-one",
            |m| {
                frames(m)[0].length += 1;
                frames(m)[1].length -= 1;
            },
            "of the archive is refused: its bytes are not those",
        ),
        (
            "frame-unpacks-to-a-byte-of-the-next-one",
            |m| {
                frames(m)[0].unpacked += 1;
                frames(m)[1].unpacked -= 1;
            },
            "of the archive is refused: it ",
        ),
        (
            "frame-unpacks-to-less",
            |m| {
                frames(m)[0].unpacked -= 1;
                frames(m)[1].unpacked += 1;
            },
            "of the archive is refused: it ",
        ),
        (
            "frames-in-another-order",
            |m| frames(m).swap(0, 2),
            "its bytes are not those",
        ),
        (
            "frame-with-another-digest",
            |m| frames(m)[1].sha256 = Digest::new([0; 32]),
            "frame 1 of the archive is refused: its bytes are not those",
        ),
        (
            "frame-said-to-be-a-piece",
            |m| frames(m)[0].content = Some(sha256(b"")),
            "frame 0 is said to hold a piece of one file",
        ),
        (
            "frames-that-cut-a-file",
            |m| {
                let middle = m.stream.len() / 2 + 100;
                let parts = [0..middle, middle..m.stream.len()].map(|part| (part, false));
                m.cut(&parts);
            },
            "cuts a file, and holds something else too",
        ),
        (
            "time-that-is-none",
            |m| m.manifest.mtime = u64::MAX,
            "its time is no time",
        ),
        (
            "file-with-another-digest",
            |m| set(m, |_, sha256| *sha256 = Digest::new([7; 32])),
            "`data` as it was signed: its content has another digest",
        ),
        (
            "file-shorter-than-it-is",
            |m| set(m, |size, _| *size -= 1),
            "mode 0644, 700 bytes",
        ),
    ];
    for (name, change, says) in small_ones {
        let mut made = small();
        change(&mut made);
        all.push(Hostile::new(&format!("index-{name}"), &made, says));
    }
    all.extend(pieces());
    all.extend(impossible());
    all
}

/// Changes what the manifest says of the file `data`.
fn set(made: &mut Made, change: impl FnOnce(&mut u64, &mut Digest)) {
    if let EntryKind::File { size, sha256, .. } = &mut made.manifest.files[2].kind {
        change(size, sha256);
    }
}

/// A large file's frames.
fn pieces() -> Vec<Hostile> {
    let cases: [(&str, Change, &str); 4] = [
        (
            "piece-that-says-it-is-none",
            |m| {
                let n = frames(m)
                    .iter()
                    .position(|it| it.content.is_some())
                    .unwrap();
                frames(m)[n].content = None;
            },
            "cuts a file, and holds something else too",
        ),
        (
            "pieces-in-another-order",
            |m| {
                let n = frames(m)
                    .iter()
                    .position(|it| it.content.is_some())
                    .unwrap();
                let parts = m.archive.clone();
                let (a, b) = (
                    frames(m)[n].length as usize,
                    frames(m)[n + 1].length as usize,
                );
                let at: usize = frames(m)[..n].iter().map(|it| it.length as usize).sum();
                // The frames are swapped, bytes and digests: only the file's own digest tells.
                m.archive[at..at + b].copy_from_slice(&parts[at + a..at + a + b]);
                m.archive[at + b..at + a + b].copy_from_slice(&parts[at..at + a]);
                frames(m).swap(n, n + 1);
            },
            "`large` as it was signed: its content has another digest",
        ),
        (
            "piece-of-another-file",
            |m| {
                let n = frames(m)
                    .iter()
                    .position(|it| it.content.is_some())
                    .unwrap();
                let size = frames(m)[n].unpacked as usize;
                let at: usize = frames(m)[..n].iter().map(|it| it.unpacked as usize).sum();
                m.stream[at..at + size].fill(b'!');
                let mut from = 0;
                let parts: Vec<_> = frames(m)
                    .iter()
                    .map(|it| {
                        let part = from..from + it.unpacked as usize;
                        from = part.end;
                        (part, it.content.is_some())
                    })
                    .collect();
                m.cut(&parts);
            },
            "`large` as it was signed: its content has another digest",
        ),
        (
            "large-file-with-another-digest",
            |m| {
                if let EntryKind::File { sha256, .. } = &mut m.manifest.files[1].kind {
                    *sha256 = Digest::new([7; 32]);
                }
            },
            "`large` as it was signed: its content has another digest",
        ),
    ];
    let made = |(name, change, says): (&str, Change, &str)| {
        let mut made = large();
        change(&mut made);
        Hostile::new(&format!("index-{name}"), &made, says)
    };
    cases.into_iter().map(made).collect()
}

/// Files that no disk has room for.
fn impossible() -> Vec<Hostile> {
    let huge = |path: &str, size| {
        let sha256 = Digest::new([0; 32]);
        let mode = 0o644;
        with_kind(path, EntryKind::File { mode, size, sha256 })
    };
    vec![
        Hostile::new(
            "index-sizes-beyond-64-bits",
            &Made::of(vec![huge("a", u64::MAX), huge("b", u64::MAX)]),
            "its sizes do not fit 64 bits",
        ),
        Hostile::new(
            "index-size-that-wraps",
            &Made::of(vec![huge("a", u64::MAX - 511), file("b", "b")]),
            "its sizes do not fit 64 bits",
        ),
        Hostile::new(
            "index-sparse-bomb",
            &Made::of(vec![huge("a", 1 << 60)]),
            "its entries need",
        ),
    ]
}
