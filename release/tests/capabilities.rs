//! File capabilities: nothing has them that is not listed, and what is listed has them on disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Node, Temp, make, pack_spec, spec, tempdir};
use rustix::fs::XattrFlags;
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tamer_core::drift::{Change, Drift};
use tamer_release::pack::{PackSpec, Packed, pack};
use tamer_release::put_back::{PutBack, put_back};
use tamer_release::unpack::unpack;
use tamer_release::verify_tree::verify;

const NAME: &str = "security.capability";

/// `cap_net_bind_service=ep`, as `setcap` writes it.
const BIND: &str = "0100000200040000000000000000000000000000";

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let said = b"SKIPPED: giving capabilities needs root\n";
        std::io::Write::write_all(&mut std::io::stderr(), said).unwrap();
    }
    root
}

fn give(path: &Path, value: &str) {
    let value = hex::decode(value).unwrap();
    rustix::fs::setxattr(path, NAME, &value, XattrFlags::empty()).unwrap();
}

fn has(path: &Path) -> Option<String> {
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(path, NAME, &mut value).ok()?;
    Some(hex::encode(&value[..length]))
}

fn listing(more: &str) -> PackSpec {
    PackSpec {
        spec: spec(&format!("[component.web.capabilities]\n{more}")),
        ..pack_spec()
    }
}

const LISTED: &str = "\"bin/server\" = [\"cap_net_bind_service\"]";

fn tree(dir: &Temp, server: Vec<u8>) -> PathBuf {
    let at = dir.path().join("tree");
    let nodes = [
        ("bin".to_owned(), Node::Directory),
        ("bin/server".to_owned(), Node::File(server, true)),
        ("bin/other".to_owned(), Node::File(b"other".to_vec(), true)),
    ];
    make(&at, &BTreeMap::from(nodes));
    at
}

fn unpacked(dir: &Temp, packed: &Packed, name: &str) -> PathBuf {
    let archive = File::open(dir.path().join("a")).unwrap();
    let owner = Some((0, 65_534));
    unpack(&archive, &packed.manifest, dir.path(), name, owner).unwrap()
}

#[test]
fn what_has_capabilities_is_packed_only_where_that_is_listed() {
    if !is_root() {
        return;
    }
    let dir = tempdir();
    let tree = tree(&dir, b"server".to_vec());
    let pack = |what: &PackSpec| pack(&tree, what, &dir.path().join("a"));
    // Whoever builds need not be root: what is listed is given on the servers.
    let packed = pack(&listing(LISTED)).unwrap();
    assert!(packed.manifest.requires.contains("capabilities"));
    assert!(pack(&pack_spec()).unwrap().manifest.requires.is_empty());
    give(&tree.join("bin/server"), BIND);
    assert_eq!(pack(&listing(LISTED)).unwrap().digest, packed.digest);
    let said = pack(&pack_spec()).unwrap_err().to_string();
    assert!(said.contains("[component.web.capabilities]"), "{said}");
    assert!(said.contains(LISTED), "{said}");
    let other = LISTED.replace("cap_net_bind_service", "cap_chown");
    let said = pack(&listing(&other)).unwrap_err().to_string();
    assert!(said.contains(LISTED), "{said}");
    // Only permitted, and of use to a program that asks: that cannot be listed.
    give(&tree.join("bin/server"), &BIND.replacen("01", "00", 1));
    let said = pack(&listing(LISTED)).unwrap_err().to_string();
    assert!(said.contains("setcap -r"), "{said}");
    rustix::fs::removexattr(tree.join("bin/server"), NAME).unwrap();
    for (path, said) in [
        ("bin", "no file of the release"),
        ("bin/none", "no file of the release"),
    ] {
        let what = listing(&LISTED.replace("bin/server", path));
        let error = pack(&what).unwrap_err();
        let error = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn what_is_listed_has_them_on_disk_and_a_change_is_named_and_put_back() {
    if !is_root() {
        return;
    }
    let dir = tempdir();
    let tree = tree(&dir, b"server".to_vec());
    let packed = pack(&tree, &listing(LISTED), &dir.path().join("a")).unwrap();
    let at = unpacked(&dir, &packed, "r");
    let (server, other) = (at.join("bin/server"), at.join("bin/other"));
    assert_eq!(has(&server).as_deref(), Some(BIND));
    assert_eq!(has(&other), None);
    assert_eq!(verify(&at, &packed.manifest).unwrap(), []);
    rustix::fs::removexattr(&server, NAME).unwrap();
    give(&other, BIND);
    let differences = verify(&at, &packed.manifest).unwrap();
    let named: Vec<(&str, Change)> = differences
        .iter()
        .map(|it| (it.path.as_str(), it.change))
        .collect();
    let changed = Change::Capabilities;
    assert_eq!(named, [("bin/other", changed), ("bin/server", changed)]);
    let room = dir.path().join("room");
    fs::create_dir_all(room.join("aside")).unwrap();
    let fresh = unpacked(&dir, &packed, "fresh");
    let what = PutBack {
        release: &at,
        fresh: &fresh,
        aside: &room.join("aside"),
    };
    let drift = Drift {
        digest: packed.digest,
        total: 2,
        differences,
    };
    assert!(
        put_back(what, &drift, &mut || ControlFlow::Continue(()))
            .unwrap()
            .is_continue()
    );
    assert_eq!(verify(&at, &packed.manifest).unwrap(), []);
    assert_eq!((has(&server).as_deref(), has(&other)), (Some(BIND), None));
}

/// The real thing: an ordinary user starts the program, and it takes a port that is root's.
#[test]
fn a_program_with_the_capability_takes_a_low_port_as_an_ordinary_user() {
    let python = ["/usr/bin/python3", "/usr/local/bin/python3"];
    let python = python.iter().find_map(|it| fs::canonicalize(it).ok());
    let ports = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let low = ports.is_ok_and(|it| it.trim().parse::<u16>().is_ok_and(|it| it > 907));
    let (true, Some(python), true) = (is_root(), python, low) else {
        return;
    };
    let dir = tempdir();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let tree = tree(&dir, fs::read(python).unwrap());
    let binds = |what: &PackSpec, name| {
        let packed = pack(&tree, what, &dir.path().join("a")).unwrap();
        let at = unpacked(&dir, &packed, name);
        let bind = "import socket; socket.socket().bind(('127.0.0.1', 907))";
        let ran = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(at.join("bin/server"))
            .args(["-I", "-S", "-c", bind])
            .output()
            .unwrap();
        (
            ran.status.success(),
            String::from_utf8_lossy(&ran.stderr).into_owned(),
        )
    };
    let (without, said) = binds(&pack_spec(), "without");
    assert!(!without && said.contains("PermissionError"), "{said}");
    let (with, said) = binds(&listing(LISTED), "with");
    assert!(with, "{said}");
}
