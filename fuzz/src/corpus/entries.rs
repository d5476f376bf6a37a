//! The manifest itself lists what must not be written, and the archive fits it.

use super::Hostile;
use crate::made::{Made, Node, directory, file, link, spec, with_kind};
use crate::site::ABSOLUTE;
use tamer_core::capability::Capability;
use tamer_core::release::EntryKind;

fn with_mode(path: &str, mode: u32) -> Node {
    let (mut entry, content) = file(path, "x");
    if let EntryKind::File { mode: it, .. } = &mut entry.kind {
        *it = mode;
    }
    (entry, content)
}

pub(super) fn all() -> Vec<Hostile> {
    let f = |path: &str| file(path, "evil");
    let long = "n".repeat(256);
    let deep = vec!["n".repeat(200); 11].join("/");
    let plain = "not a relative path of plain names";
    let parent = "its parent is not a directory";
    let cases: Vec<(&str, Vec<Node>, &str)> = vec![
        ("path-empty", vec![f("")], plain),
        ("path-absolute", vec![f(ABSOLUTE)], plain),
        ("path-dotdot", vec![f("../secret")], plain),
        ("path-dotdot-alone", vec![directory("..")], plain),
        (
            "path-dotdot-inside",
            vec![directory("a"), f("a/../../secret")],
            plain,
        ),
        ("path-dot", vec![f("./x")], plain),
        (
            "path-with-two-slashes",
            vec![directory("a"), f("a//x")],
            plain,
        ),
        ("path-with-a-slash-at-its-end", vec![directory("a/")], plain),
        ("path-with-a-nul", vec![f("a\0/../../secret")], plain),
        ("path-with-a-long-name", vec![f(&long)], "it is too long"),
        ("path-too-long", vec![f(&deep)], "it is too long"),
        (
            "path-of-tamer-itself",
            vec![directory(".tamer"), f(".tamer/manifest.json")],
            "Tamer's own",
        ),
        ("path-twice", vec![f("a"), f("a")], "listed twice"),
        (
            "path-twice-as-link-and-file",
            vec![link("a", "b"), f("a")],
            "listed twice",
        ),
        ("paths-not-in-order", vec![f("b"), f("a")], "not in order"),
        ("parent-missing", vec![f("a/x")], parent),
        ("parent-a-file", vec![f("a"), f("a/x")], parent),
        // The classic: a link out of the release, and then a file through it.
        ("parent-a-link", vec![link("a", "."), f("a/secret")], parent),
        ("mode-setuid", vec![with_mode("a", 0o4755)], "setuid"),
        ("mode-setgid", vec![with_mode("a", 0o2755)], "setuid"),
        (
            "mode-sticky",
            vec![with_kind("a", EntryKind::Directory { mode: 0o1777 })],
            "setuid, setgid or sticky",
        ),
        (
            "mode-of-a-device",
            vec![with_mode("a", 0o20_644)],
            "more than permission bits",
        ),
        ("link-to-nothing", vec![link("a", "")], "no path"),
        ("link-with-a-nul", vec![link("a", "x\0y")], "no path"),
        (
            "link-too-long",
            vec![link("a", &"x/".repeat(2048))],
            "no path",
        ),
        ("link-absolute", vec![link("a", ABSOLUTE)], "absolute"),
        (
            "link-out",
            vec![link("a", "../secret")],
            "out of the release",
        ),
        (
            "link-out-by-a-dot",
            vec![link("a", "./../x")],
            "out of the release",
        ),
        (
            "link-out-of-a-directory",
            vec![directory("d"), link("d/a", "../../secret")],
            "out of the release",
        ),
        // `up` leads to the root, so this would be beside the release.
        (
            "link-through-a-link",
            vec![
                directory("d"),
                link("d/a", "up/../secret"),
                link("d/up", ".."),
            ],
            "`..` after a name",
        ),
    ];
    let mut all: Vec<Hostile> = cases
        .into_iter()
        .map(|(name, nodes, says)| Hostile::new(&format!("entry-{name}"), &Made::of(nodes), says))
        .collect();
    all.extend(components());
    all
}

/// What the manifest carries of `tamer.toml`.
fn components() -> Vec<Hostile> {
    let made = || Made::of(vec![directory("media"), file("x", "x")]);
    let mut all = Vec::new();
    let mut out = made();
    out.manifest.spec.root = "/srv/../etc".to_owned();
    all.push(Hostile::new(
        "component-root-out",
        &out,
        "component is refused",
    ));
    for (name, shared, says) in [
        ("twice", "media/", "in the release and in `shared`"),
        ("below-a-file", "x/y", "needs it to be a directory"),
        ("of-tamer-itself", ".tamer/x", "Tamer's own"),
    ] {
        let mut made = made();
        made.manifest.spec = spec(&format!("shared = [\"{shared}\"]"));
        all.push(Hostile::new(
            &format!("component-shared-{name}"),
            &made,
            says,
        ));
    }
    let mut out = made();
    out.manifest.spec.shared = ["../secret".to_owned()].into();
    all.push(Hostile::new(
        "component-shared-out",
        &out,
        "component is refused",
    ));
    let mut unit = made();
    unit.manifest.spec.service = Some("../evil.service".to_owned());
    all.push(Hostile::new(
        "component-unit-out",
        &unit,
        "component is refused",
    ));
    type Lists = (
        &'static str,
        &'static [&'static str],
        &'static str,
        &'static str,
    );
    let lists: [Lists; 3] = [
        ("not-required", &[], "x", "do not fit together"),
        (
            "of-a-directory",
            &["capabilities"],
            "media",
            "no file of the release",
        ),
        (
            "of-nothing",
            &["capabilities"],
            "none",
            "no file of the release",
        ),
    ];
    for (name, requires, path, says) in lists {
        let mut made = made();
        made.manifest.requires = requires.iter().map(|it| (*it).to_owned()).collect();
        let mine: Capability = "cap_sys_admin".parse().unwrap();
        made.manifest.spec.capabilities = [(path.to_owned(), [mine].into())].into();
        all.push(Hostile::new(&format!("capabilities-{name}"), &made, says));
    }
    let mut unsaid = made();
    unsaid.manifest.requires = ["capabilities".to_owned()].into();
    all.push(Hostile::new(
        "capabilities-required-and-none",
        &unsaid,
        "do not fit together",
    ));
    let mut hook = made();
    let start = tamer_core::application::Hook::Start;
    hook.manifest.spec.hooks = [(start, "/bin/sh".to_owned())].into();
    all.push(Hostile::new(
        "component-hook-out",
        &hook,
        "component is refused",
    ));
    all
}
