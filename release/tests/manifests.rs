//! Manifests from outside: what is refused, why, and that no bytes at all make the reader panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{small_manifest, spec};
use proptest::prelude::*;
use std::sync::LazyLock;
use tamer_core::digest::Digest;
use tamer_core::path::{LinkTarget, TreePath};
use tamer_core::release::{Entry, EntryKind, Manifest};
use tamer_release::layout::Layout;
use tamer_release::manifest::{MAX_ENTRIES, ManifestError, parse, to_bytes, validate};

static GOOD: LazyLock<Manifest> = LazyLock::new(small_manifest);

fn directory(path: &str, mode: u32) -> Entry {
    Entry {
        path: TreePath::unjudged(path.as_bytes()),
        kind: EntryKind::Directory { mode },
    }
}

fn file(path: &str, mode: u32, size: u64) -> Entry {
    let sha256 = Digest::new([0; 32]);
    Entry {
        path: TreePath::unjudged(path.as_bytes()),
        kind: EntryKind::File { mode, size, sha256 },
    }
}

fn link(path: &str, target: &str) -> Entry {
    Entry {
        path: TreePath::unjudged(path.as_bytes()),
        kind: EntryKind::Link {
            target: LinkTarget::unjudged(target.as_bytes()),
        },
    }
}

/// A manifest of these entries whose archive fits them, as far as it can.
fn of(files: Vec<Entry>) -> Manifest {
    let mut manifest = GOOD.clone();
    manifest.files = files;
    let total = Layout::of(&manifest.files).map_or(0, |layout| layout.total);
    manifest.archive.unpacked = total;
    manifest.archive.frames.truncate(1);
    manifest.archive.frames[0].unpacked = total;
    manifest.archive.frames[0].length = 9;
    manifest.archive.length = 9;
    manifest
}

/// Divides the archive's one frame at this byte of the stream.
fn cut(manifest: &mut Manifest, at: u64, content: Option<Digest>) {
    let mut second = manifest.archive.frames[0].clone();
    second.unpacked -= at;
    second.content = content;
    manifest.archive.frames[0].unpacked = at;
    manifest.archive.frames.push(second);
    manifest.archive.length *= 2;
}

fn refusal(manifest: &Manifest) -> String {
    let judged = validate(manifest).unwrap_err().to_string();
    match parse(&to_bytes(manifest)).unwrap_err() {
        // Paths and targets are judged as soon as they are read.
        ManifestError::Json(error) => {
            let error = error.to_string();
            let reason = judged.rsplit(": ").next().unwrap();
            assert!(error.contains(reason), "{error}, not {reason}");
        }
        read => assert_eq!(read.to_string(), judged),
    }
    judged
}

#[test]
fn the_same_value_gives_the_same_bytes_and_they_stay_as_they_were_fixed() {
    let bytes = to_bytes(&GOOD);
    assert_eq!(parse(&bytes).unwrap(), *GOOD);
    assert_eq!(to_bytes(&parse(&bytes).unwrap()), bytes);
    let mut small = of(vec![
        directory("d", 0o755),
        file("d/f", 0o644, 3),
        link("l", "d/f"),
    ]);
    small.archive.sha256 = Digest::new([1; 32]);
    small.archive.frames[0].sha256 = Digest::new([2; 32]);
    // Old releases are read for as long as they are kept: a change of this text breaks all of them.
    let zeros = "0".repeat(64);
    let expected = format!(
        r#"{{"format":1,"requires":[],"application":"shop","component":"web","version":"1.2.3","mtime":1700000000,"archive":{{"sha256":"{}","length":9,"unpacked":3072,"frames":[[9,3072,"{}"]]}},"files":[{{"path":"d","kind":{{"directory":{{"mode":493}}}}}},{{"path":"d/f","kind":{{"file":{{"mode":420,"size":3,"sha256":"{zeros}"}}}}}},{{"path":"l","kind":{{"link":{{"target":"d/f"}}}}}}],"spec":"#,
        "01".repeat(32),
        "02".repeat(32),
    );
    let written = String::from_utf8(to_bytes(&small)).unwrap();
    assert!(written.starts_with(&expected), "{written}");
}

#[test]
fn what_is_required_and_not_known_is_named_before_anything_else() {
    let mut manifest = GOOD.clone();
    manifest.requires.insert("delta-v9".to_owned());
    manifest.requires.insert("zz-top".to_owned());
    let text = String::from_utf8(to_bytes(&manifest)).unwrap();
    // A newer packer may also have written what this code cannot read at all.
    for text in [
        text.clone(),
        text.replacen("\"files\":[", "\"novel\":1,\"files\":[", 1),
    ] {
        match parse(text.as_bytes()) {
            Err(ManifestError::Requires(names)) => assert_eq!(names, ["delta-v9", "zz-top"]),
            other => panic!("{other:?}"),
        }
    }
    let newer = text.replacen("\"format\":1", "\"format\":2", 1);
    assert!(matches!(
        parse(newer.as_bytes()),
        Err(ManifestError::Format(2))
    ));
}

#[test]
fn unknown_keys_are_refused_at_every_depth() {
    let text = String::from_utf8(to_bytes(&GOOD)).unwrap();
    for (before, after) in [
        ("\"format\":1", "\"x\":1,\"format\":1"),
        ("\"archive\":{", "\"archive\":{\"x\":1,"),
        ("\"frames\":[[", "\"frames\":[{\"x\":1},["),
        ("\"frames\":[[", "\"frames\":[[1,2,\"00\",null,5],["),
        ("\"files\":[{", "\"files\":[{\"x\":1,"),
        ("\"directory\":{", "\"directory\":{\"x\":1,"),
        ("\"file\":{", "\"file\":{\"x\":1,"),
        ("\"link\":{", "\"link\":{\"x\":1,"),
        ("\"spec\":{", "\"spec\":{\"x\":1,"),
        ("\"format\":1", "\"format\":1,\"format\":1"),
    ] {
        assert!(text.contains(before), "{before}");
        let text = text.replacen(before, after, 1);
        assert!(
            matches!(parse(text.as_bytes()), Err(ManifestError::Json(_))),
            "{after}"
        );
    }
    let trailing = format!("{text}{{}}");
    assert!(matches!(
        parse(trailing.as_bytes()),
        Err(ManifestError::Json(_))
    ));
}

#[test]
fn entries_that_could_leave_the_release_are_refused_by_name() {
    let long = "n".repeat(256);
    let deep = vec!["n".repeat(200); 11].join("/");
    let plain = "not a relative path of plain names";
    let cases: Vec<(Vec<Entry>, &str)> = vec![
        (vec![file("", 0o644, 0)], plain),
        (vec![file("/etc/passwd", 0o644, 0)], plain),
        (vec![file("../x", 0o644, 0)], plain),
        (vec![file("a/../../x", 0o644, 0)], plain),
        (vec![file("./x", 0o644, 0)], plain),
        (vec![directory("a", 0o755), file("a//x", 0o644, 0)], plain),
        (vec![directory("a/", 0o755)], plain),
        (vec![file("a\0b", 0o644, 0)], plain),
        (vec![file(&long, 0o644, 0)], "too long"),
        (vec![file(&deep, 0o644, 0)], "too long"),
        (vec![file(".tamer", 0o644, 0)], "Tamer's own"),
        (vec![directory(".tamer", 0o755)], "Tamer's own"),
        (
            vec![file("a", 0o644, 0), file("a", 0o644, 0)],
            "listed twice",
        ),
        (
            vec![file("b", 0o644, 0), file("a", 0o644, 0)],
            "not in order",
        ),
        (vec![file("a/x", 0o644, 0)], "parent is not a directory"),
        (
            vec![directory("0", 0o755), file("a/x", 0o644, 0)],
            "parent is not a directory",
        ),
        (
            vec![file("a", 0o644, 0), file("a/x", 0o644, 0)],
            "parent is not a directory",
        ),
        (
            vec![link("a", "b"), file("a/x", 0o644, 0)],
            "parent is not a directory",
        ),
        (vec![file("a", 0o4755, 0)], "setuid"),
        (vec![file("a", 0o2755, 0)], "setuid"),
        (vec![directory("a", 0o1777)], "setuid, setgid or sticky"),
        (vec![file("a", 0o100_644, 0)], "more than permission bits"),
        (vec![link("a", "")], "no path"),
        (vec![link("a", "x\0y")], "no path"),
        (vec![link("a", &"x/".repeat(2048))], "no path"),
        (vec![link("a", "/etc/passwd")], "absolute"),
        (vec![link("a", "..")], "out of the release"),
        (vec![link("a", "./../x")], "out of the release"),
        (
            vec![directory("d", 0o755), link("d/a", "../../x")],
            "out of the release",
        ),
        // `up` leads to the root, so this would be beside the release.
        (
            vec![
                directory("d", 0o755),
                link("d/a", "up/../x"),
                link("d/up", ".."),
            ],
            "`..` after a name",
        ),
    ];
    for (files, reason) in cases {
        let said = refusal(&of(files));
        assert!(said.contains(reason), "{said}");
    }
    let fine = vec![
        directory("d", 0o755),
        link("d/a", "../d/./b/"),
        file("d/b", 0o755, 0),
        link("d/up", ".."),
        file("d.x", 0o600, 0),
        link("dangling", "...///.hidden"),
    ];
    let mut fine = of(fine);
    fine.files.sort_by(|a, b| a.path.cmp(&b.path));
    validate(&fine).unwrap();
}

#[test]
fn numbers_that_do_not_fit_together_are_refused() {
    type Change = fn(&mut Manifest);
    let cases: [(Change, &str); 13] = [
        (|m| m.archive.unpacked += 1, "its entries need"),
        (|m| m.archive.length += 1, "its frames have"),
        (|m| m.archive.frames[0].unpacked += 1, "its frames have"),
        (|m| m.archive.frames[0].length = 0, "frame 0 is empty"),
        (|m| m.archive.frames[0].unpacked = 0, "frame 0 is empty"),
        (
            |m| m.archive.frames[0].unpacked = u64::MAX,
            "too large when unpacked",
        ),
        (
            |m| m.archive.frames[0].length = u64::MAX,
            "larger than what it holds",
        ),
        (|m| m.archive.frames.clear(), "its frames have"),
        (
            |m| m.archive.frames.push(m.archive.frames[0].clone()),
            "its frames have",
        ),
        (
            |m| m.archive.frames[0].content = Some(Digest::new([0; 32])),
            "frame 0 is said to hold a piece",
        ),
        (|m| cut(m, 514, None), "frame 0 cuts a file"),
        (|m| m.mtime = u64::MAX, "no time"),
        (
            |m| m.files = vec![file("a", 0o644, u64::MAX), file("b", 0o644, u64::MAX)],
            "64 bits",
        ),
    ];
    for (change, reason) in cases {
        let mut manifest = of(vec![file("a", 0o644, 5)]);
        validate(&manifest).unwrap();
        change(&mut manifest);
        let said = refusal(&manifest);
        assert!(said.contains(reason), "{said}");
    }
    let mut many = of(vec![file("a", 0o644, 0)]);
    many.files = vec![many.files[0].clone(); MAX_ENTRIES + 1];
    assert!(matches!(validate(&many), Err(ManifestError::TooMany(_))));
}

#[test]
fn all_of_a_component_is_carried() {
    let mut manifest = of(vec![file("run", 0o755, 0)]);
    manifest.spec = spec(
        r#"user = "shop"
shared = ["media/", "local.env"]
service = "shop-web.service"
hooks = { start = "run", pre-activate = "run" }
hook_timeout = "1m 30s"
[component.web.checks.home]
type = "http"
url = "http://127.0.0.1:8000/health""#,
    );
    assert_eq!(manifest.spec.hooks.len(), 2);
    assert_eq!(parse(&to_bytes(&manifest)).unwrap(), manifest);
}

#[test]
fn the_component_is_judged_too() {
    let mut manifest = of(vec![directory("media", 0o755), file("x", 0o644, 0)]);
    manifest.spec.root = "/srv/../etc".to_owned();
    assert!(refusal(&manifest).contains("component is refused"));
    for (shared, reason) in [
        ("media/", "in the release and in `shared`"),
        ("x/y", "needs it to be a directory"),
        (".tamer/x", "Tamer's own"),
    ] {
        manifest.spec = spec(&format!("shared = [\"{shared}\"]"));
        let said = refusal(&manifest);
        assert!(said.contains(reason), "{said}");
    }
    manifest.spec = spec("shared = [\"media/uploads/\", \"var/log/\"]");
    validate(&manifest).unwrap();
}

#[test]
fn what_is_too_large_is_not_looked_at() {
    let bytes = vec![b' '; (64 << 20) + 1];
    assert!(matches!(parse(&bytes), Err(ManifestError::TooLarge(_))));
    let nested = "[".repeat(1 << 20);
    assert!(matches!(
        parse(nested.as_bytes()),
        Err(ManifestError::Json(_))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(parse(&bytes).is_err());
    }

    /// What still parses after it was damaged is sound: the layout of it is known, and it writes and reads as itself.
    #[test]
    fn damaged_manifests_are_refused_or_sound(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..4),
    ) {
        let mut bytes = to_bytes(&GOOD);
        for (at, byte, how) in cuts {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, b"0123456789/.\"{}[],:-"[usize::from(byte) % 20]),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Ok(manifest) = parse(&bytes) {
            let layout = validate(&manifest).unwrap();
            prop_assert_eq!(layout.total, manifest.archive.unpacked);
            prop_assert_eq!(parse(&to_bytes(&manifest)).unwrap(), manifest);
        }
    }
}
