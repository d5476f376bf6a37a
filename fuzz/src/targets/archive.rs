//! An archive's bytes, against a manifest that fits all of it but its digests: the worst case is that those were
//! made to fit too.
//!
//! The first byte says which release it is, and what the others are: the tar stream inside, in frames; the one
//! frame of an archive; or what came of an archive that was signed.

use crate::choices::Choices;
use crate::corpus::{corpus, held};
use crate::made::{Made, large, small};
use crate::site::Site;
use std::sync::LazyLock;
use tamer_core::release::Manifest;
use tamer_release::delta::Parts;
use tamer_release::unpack::unpack;
use tamer_release::verify_tree;

static RELEASES: LazyLock<[Made; 2]> = LazyLock::new(|| [small(), large()]);
thread_local! {
    static SITE: Site = Site::new();
}

pub(super) fn run(bytes: &[u8]) {
    let mut choices = Choices::of(bytes);
    let how = choices.byte();
    let made = &RELEASES[usize::from(how & 1)];
    let rest = choices.rest();
    match (how >> 1) % 3 {
        0 => stream(made, rest),
        1 => frame(made, rest),
        _ => damaged(made, rest),
    }
}

/// The bytes are the stream; frames are cut where the manifest cuts them, and the last one has what is left.
fn stream(made: &Made, rest: &[u8]) {
    let parts = Parts::of(&made.manifest.archive.frames);
    let last = made.manifest.archive.frames.len() - 1;
    let mut cuts = Vec::new();
    for (n, frame) in made.manifest.archive.frames.iter().enumerate() {
        let part = parts.stream(n);
        let end = if n == last {
            rest.len()
        } else {
            part.end as usize
        };
        let part = (part.start as usize).min(rest.len())..end.min(rest.len());
        cuts.push((part, frame.content.is_some()));
    }
    let mut other = made.clone();
    other.stream = rest.to_vec();
    other.cut(&cuts);
    // It is said to unpack to what it should.
    for (frame, good) in other
        .manifest
        .archive
        .frames
        .iter_mut()
        .zip(&made.manifest.archive.frames)
    {
        frame.unpacked = good.unpacked;
    }
    other.manifest.archive.unpacked = made.manifest.archive.unpacked;
    let same = rest == made.stream;
    assert_eq!(unpacks(&other.manifest, &other.archive), same);
}

/// The bytes are the archive's only frame.
fn frame(made: &Made, rest: &[u8]) {
    let mut other = made.clone();
    other.sign_archive(rest.to_vec());
    unpacks(&other.manifest, &other.archive);
}

/// The bytes are changes of an archive that was signed: a place, and what stands there instead.
fn damaged(made: &Made, rest: &[u8]) {
    let mut archive = made.archive.clone();
    for change in rest.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        let length = archive.len();
        archive[at % length] = change[2];
    }
    if rest.len() % 3 == 1 {
        archive.truncate(archive.len() - usize::from(rest[rest.len() - 1]).min(archive.len()));
    }
    let same = archive == made.archive;
    assert_eq!(unpacks(&made.manifest, &archive), same);
}

/// Unpacks; what is there then is right, or nothing is.
fn unpacks(manifest: &Manifest, archive: &[u8]) -> bool {
    SITE.with(|site| {
        let done = unpack(
            &held(archive).unwrap(),
            manifest,
            &site.releases(),
            "r",
            None,
        );
        match done {
            Ok(at) => {
                assert_eq!(verify_tree::verify(&at, manifest).unwrap(), []);
                site.check(&["r"]);
                site.remove("r");
                true
            }
            Err(error) => {
                super::is_said(&error);
                site.check(&[]);
                false
            }
        }
    })
}

/// The small release in all three ways, and the archives of the corpus, signed.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let with = |how: u8, bytes: &[u8]| [&[how << 1], bytes].concat();
    let mut one = small();
    one.one_frame();
    let mut seeds = vec![
        with(0, &one.stream),
        with(1, &one.archive),
        with(2, &[]),
        with(2, &[7, 0, 7]),
        vec![1 | (2 << 1)],
    ];
    let hostile = corpus().into_iter().filter(|it| it.archive.len() < 8 << 10);
    seeds.extend(hostile.map(|it| with(1, &it.archive)));
    seeds
}
