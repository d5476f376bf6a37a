//! Manifests that another reader of JSON might understand in another way, and patches that give none.

use super::Hostile;
use crate::made::small;
use tamer_release::{manifest, patch};

pub(super) fn all() -> Vec<Hostile> {
    let mut all = texts();
    all.extend(patches());
    all
}

fn texts() -> Vec<Hostile> {
    let good = small();
    let text = String::from_utf8(manifest::to_bytes(&good.manifest)).unwrap();
    let read = "the manifest cannot be read";
    let replaced = [
        (
            "key-twice",
            "\"format\":1",
            "\"format\":1,\"format\":1",
            "duplicate field `format`",
        ),
        (
            "key-unknown",
            "\"format\":1",
            "\"format\":1,\"x\":1",
            "unknown field `x`",
        ),
        (
            "entry-key-unknown",
            "\"files\":[{",
            "\"files\":[{\"x\":1,",
            "unknown field `x`",
        ),
        (
            "path-twice-in-an-entry",
            "\"path\":\"data\"",
            "\"path\":\"x\",\"path\":\"data\"",
            "duplicate field `path`",
        ),
        (
            "two-kinds",
            "\"kind\":{\"directory\"",
            "\"kind\":{\"link\":{\"target\":\"x\"},\"directory\"",
            read,
        ),
        (
            "device",
            "{\"directory\":{\"mode\":493}}",
            "{\"device\":{\"mode\":493}}",
            "unknown variant `device`",
        ),
        (
            "hard-link",
            "{\"link\":",
            "{\"hard-link\":",
            "unknown variant `hard-link`",
        ),
        ("negative-number", "\"size\":700", "\"size\":-700", read),
        ("fraction", "\"size\":700", "\"size\":700.0", read),
        ("exponent", "\"size\":700", "\"size\":7e2", read),
        (
            "number-with-a-zero-before-it",
            "\"size\":700",
            "\"size\":0700",
            read,
        ),
        (
            "number-beyond-64-bits",
            "\"size\":700",
            "\"size\":18446744073709552316",
            read,
        ),
        ("number-as-text", "\"size\":700", "\"size\":\"700\"", read),
        (
            "half-a-surrogate",
            "\"path\":\"data\"",
            "\"path\":\"\\ud800\"",
            read,
        ),
        (
            "path-with-escapes-that-mean-out",
            "\"path\":\"data\"",
            "\"path\":\"\\u002e\\u002e\\u002fsecret\"",
            "not a relative path",
        ),
        (
            "path-as-bytes-that-mean-out",
            "\"path\":\"data\"",
            "\"path\":{\"hex\":\"2e2e2fff\"}",
            "not a relative path",
        ),
        (
            "path-as-bytes-with-a-nul",
            "\"path\":\"data\"",
            "\"path\":{\"hex\":\"ff00\"}",
            "not a relative path",
        ),
        // Two spellings of one path, so two releases of one tree.
        (
            "path-as-bytes-that-are-text",
            "\"path\":\"data\"",
            "\"path\":{\"hex\":\"64617461\"}",
            "written as a string",
        ),
        (
            "path-as-two-rows-of-bytes",
            "\"path\":\"data\"",
            "\"path\":{\"hex\":\"64ff\",\"hex\":\"65ff\"}",
            "`hex` alone",
        ),
        (
            "target-as-bytes-that-mean-out",
            "\"target\":\"bin/run\"",
            "\"target\":{\"hex\":\"2e2e2fff\"}",
            "out of the release",
        ),
        (
            "capability-unknown",
            "\"needs\":[]",
            "\"capabilities\":{\"bin/run\":[\"cap_everything\"]},\"needs\":[]",
            "is not a capability",
        ),
        (
            "white-space",
            "\"format\":1",
            "\"format\": 1",
            "not written as Tamer writes it",
        ),
        (
            "escape-for-a-letter",
            "\"path\":\"data\"",
            "\"path\":\"d\\u0061ta\"",
            "not written as Tamer writes it",
        ),
        (
            "keys-in-another-order",
            "{\"format\":1,\"requires\":[]",
            "{\"requires\":[],\"format\":1",
            "not written as Tamer writes it",
        ),
        (
            "frame-with-five-values",
            "\"frames\":[[",
            "\"frames\":[[1,2,\"\",null,5],[",
            read,
        ),
        (
            "frame-as-a-map",
            "\"frames\":[[",
            "\"frames\":[{\"length\":1},[",
            read,
        ),
        (
            "feature-unknown",
            "\"requires\":[]",
            "\"requires\":[\"no-checks\"]",
            "requires what this version of Tamer lacks: no-checks",
        ),
        (
            "format-unknown",
            "\"format\":1",
            "\"format\":2",
            "the manifest has format 2",
        ),
        (
            "version-none",
            "\"version\":\"1.2.3\"",
            "\"version\":\"../../x\"",
            "is not a version",
        ),
        (
            "name-none",
            "\"component\":\"web\"",
            "\"component\":\"../web\"",
            "is not a valid",
        ),
    ];
    let mut all = Vec::new();
    let mut add = |name: &str, manifest: Vec<u8>, says: &str| {
        let mut hostile = Hostile::new(&format!("json-{name}"), &good, says);
        hostile.manifest = manifest;
        all.push(hostile);
    };
    for (name, before, after, says) in replaced {
        assert!(text.contains(before), "{name}: `{before}` is in a manifest");
        add(name, text.replacen(before, after, 1).into_bytes(), says);
    }
    let digest = good.manifest.archive.sha256.to_string();
    add(
        "digest-in-capitals",
        text.replacen(&digest, &digest.to_uppercase(), 1)
            .into_bytes(),
        "SHA-256",
    );
    add("empty", Vec::new(), read);
    add("more-behind-it", format!("{text}{{}}").into_bytes(), read);
    add("cut-off", text.as_bytes()[..text.len() - 1].to_vec(), read);
    add(
        "with-a-mark-before-it",
        format!("\u{feff}{text}").into_bytes(),
        read,
    );
    add("deep", "[".repeat(1 << 16).into_bytes(), read);
    add(
        "not-utf-8",
        text.replacen("data", "da\u{1}\u{1}", 1)
            .into_bytes()
            .iter()
            .map(|b| if *b == 1 { 0xff } else { *b })
            .collect(),
        read,
    );
    all
}

/// Manifests that come as differences from one that is known.
fn patches() -> Vec<Hostile> {
    let good = small();
    let new = manifest::to_bytes(&good.manifest);
    let known = String::from_utf8(new.clone())
        .unwrap()
        .replace("1.2.3", "1.2.2")
        .into_bytes();
    let patch = patch::make(&new, &known).unwrap();
    let mut all = Vec::new();
    let mut add = |name: &str, manifest: Vec<u8>, says: &str| {
        let mut hostile = Hostile::new(&format!("patch-{name}"), &good, says);
        hostile.manifest = manifest;
        hostile.known = Some(known.clone());
        all.push(hostile);
    };
    let other = "it is not a patch for what is here";
    add(
        "for-another-manifest",
        patch::make(&new, b"another").unwrap(),
        other,
    );
    add("that-is-none", new.clone(), other);
    add("empty", Vec::new(), other);
    let mut magic = patch.clone();
    magic[0] ^= 1;
    add("with-another-magic", magic, other);
    add(
        "cut-off",
        patch[..patch.len() - 3].to_vec(),
        "it cannot be unpacked",
    );
    let number = |at: usize, bytes: &[u8]| {
        let mut patch = patch.clone();
        patch[at..at + bytes.len()].copy_from_slice(bytes);
        patch
    };
    add(
        "that-points-beyond",
        number(40, &u64::MAX.to_le_bytes()),
        "it points beyond",
    );
    for (name, at) in [("part", 48), ("piece", 52), ("frame", 56)] {
        add(
            &format!("of-a-huge-{name}"),
            number(at, &u32::MAX.to_le_bytes()),
            "one of its pieces is too large",
        );
    }
    let bomb = vec![b' '; patch::MAX as usize + 1];
    add(
        "bomb",
        patch::make(&bomb, &known).unwrap(),
        "it unpacks to more than",
    );
    // Whatever comes out is judged like any other manifest.
    let mut absolute = crate::made::Made::of(vec![crate::made::file(crate::site::ABSOLUTE, "x")]);
    absolute.one_frame();
    let evil = manifest::to_bytes(&absolute.manifest);
    add(
        "of-a-hostile-manifest",
        patch::make(&evil, &known).unwrap(),
        "not a relative path",
    );
    all
}
