//! What the tests share: a component, trees on disk, and what a directory holds.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use tamer_core::application::{Application, ComponentSpec};
use tamer_core::release::Manifest;
use tamer_release::pack::{PackSpec, Packed, pack};

/// A temporary directory that may hold read-only releases: removed with them, also where root does not run.
pub struct Temp(tempfile::TempDir);

pub fn tempdir() -> Temp {
    Temp(tempfile::tempdir().unwrap())
}

impl Temp {
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        for name in names(self.path()) {
            let path = self.path().join(name);
            if path.is_dir() && !path.is_symlink() {
                let _ = tamer_release::tree::remove_release(&path);
            }
        }
    }
}

/// The time that all test releases carry.
pub const MTIME: u64 = 1_700_000_000;

/// A component with these more lines in its `tamer.toml`.
pub fn spec(more: &str) -> ComponentSpec {
    let text = format!(
        "application = \"shop\"\n[component.web]\nfiles = \"web\"\nroot = \"/srv/shop/web\"\n{more}\n"
    );
    let application = Application::parse("tamer.toml", &text).unwrap();
    application.components.into_values().next().unwrap()
}

/// shop's web at 1.2.3.
pub fn pack_spec() -> PackSpec {
    PackSpec {
        application: "shop".parse().unwrap(),
        component: "web".parse().unwrap(),
        version: "1.2.3".parse().unwrap(),
        spec: spec(""),
        mtime: MTIME,
    }
}

/// Packs a tree into `archive` as [`pack_spec`] says.
pub fn packed(tree: &Path, archive: &Path) -> Packed {
    pack(tree, &pack_spec(), archive).unwrap()
}

/// What a test tree consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Directory,
    File(Vec<u8>, bool),
    Link(String),
}

/// A tree of everything that a release may hold, with a file of several frames.
pub fn sample() -> BTreeMap<String, Node> {
    let text = |n: usize| format!("line {n}\n").repeat(n).into_bytes();
    let mut tree = BTreeMap::new();
    for dir in ["bin", "lib", "lib/deep", "lib/empty", "media-root"] {
        tree.insert(dir.to_owned(), Node::Directory);
    }
    tree.insert(
        "bin/run".to_owned(),
        Node::File(b"#!/bin/sh\n".to_vec(), true),
    );
    tree.insert("bin/link".to_owned(), Node::Link("run".to_owned()));
    tree.insert("lib/up".to_owned(), Node::Link("../bin".to_owned()));
    tree.insert("lib/nothing".to_owned(), Node::File(Vec::new(), false));
    let noise: Vec<u8> = (0..700_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    tree.insert("lib/large.bin".to_owned(), Node::File(noise, false));
    tree.insert(
        format!("lib/deep/{}", "n".repeat(200)),
        Node::File(text(7), false),
    );
    for n in 0..300 {
        let path = format!("lib/deep/mod-{n:03}.py");
        tree.insert(path, Node::File(text(n), false));
    }
    tree
}

/// Makes the tree on disk, in the given order of entries where parents allow.
pub fn make<'a>(root: &Path, tree: impl IntoIterator<Item = (&'a String, &'a Node)>) {
    for (path, node) in tree {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match node {
            Node::Directory => fs::create_dir_all(&path).unwrap(),
            Node::Link(target) => symlink(target, &path).unwrap(),
            Node::File(bytes, executable) => {
                fs::write(&path, bytes).unwrap();
                let mode = if *executable { 0o705 } else { 0o624 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    }
}

/// What lies in a directory, links not followed; `.tamer` left out.
pub fn read(root: &Path) -> BTreeMap<String, Node> {
    fn walk(root: &Path, at: &Path, into: &mut BTreeMap<String, Node>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            if name == ".tamer" {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let node = if meta.is_dir() {
                walk(root, &path, into);
                Node::Directory
            } else if meta.is_symlink() {
                Node::Link(fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
            } else {
                let executable = meta.permissions().mode() & 0o111 != 0;
                Node::File(fs::read(&path).unwrap(), executable)
            };
            into.insert(name.to_owned(), node);
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

/// The names in a directory, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A manifest made by packing a small tree.
pub fn small_manifest() -> Manifest {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let mut all = sample();
    all.retain(|path, _| !path.starts_with("lib/deep/mod") && path != "lib/large.bin");
    make(&tree, &all);
    packed(&tree, &dir.path().join("a.tar.zst")).manifest
}
