//! Releases of entries as the bytes choose, honestly signed, of which some would leave their directory; and a
//! second one, made from the first one on disk after somebody was there.

use crate::choices::Choices;
use crate::corpus::held;
use crate::made::{Made, Node, directory, file, link};
use crate::site::{ABSOLUTE, Site};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tamer_core::path::TreePath;
use tamer_core::release::{Entry, EntryKind, Manifest};
use tamer_release::delta::{self, Delta};
use tamer_release::layout::Layout;
use tamer_release::unpack::{self, Arrivals, Material, UnpackError};
use tamer_release::{manifest, verify_tree};

thread_local! {
    static SITE: Site = Site::new();
}

pub(super) fn run(bytes: &[u8]) {
    let mut choices = Choices::of(bytes);
    let first = release(&mut choices);
    SITE.with(|site| {
        let Some(old) = unpacked(site, &first, "old") else {
            return;
        };
        let second = release(&mut choices);
        let judged = manifest::parse(&manifest::to_bytes(&second.manifest));
        if let Ok(manifest) = judged {
            tamper(&old, &first.manifest, &mut choices);
            difference(site, &manifest, &second.archive, &first.manifest, &old);
            site.remove("new");
        }
        site.remove("old");
    });
}

/// What a name may be made of.
const NAMES: [&str; 16] = [
    "a",
    "b",
    "c",
    "A",
    "data",
    "..",
    ".",
    "",
    ".tamer",
    "manifest.json",
    "secret",
    "link",
    "a\0b",
    "\u{fc}",
    "\u{1b}[2J",
    "d.e",
];

fn name(choices: &mut Choices<'_>) -> String {
    match choices.byte() {
        255 => "n".repeat(255 + usize::from(choices.byte() % 2)),
        254 => ABSOLUTE.to_owned(),
        byte => NAMES[usize::from(byte) % NAMES.len()].to_owned(),
    }
}

/// Mostly the plain names, so that mostly there is a release.
fn path(choices: &mut Choices<'_>) -> String {
    let depth = 1 + choices.byte() % 3;
    let names = (0..depth).map(|_| {
        if choices.once_in(8) {
            name(choices)
        } else {
            (*choices.one_of(&NAMES[..5])).to_owned()
        }
    });
    names.collect::<Vec<_>>().join("/")
}

fn release(choices: &mut Choices<'_>) -> Made {
    let mut nodes: Vec<Node> = Vec::new();
    for _ in 0..choices.byte() % 16 {
        let path = path(choices);
        nodes.push(match choices.byte() % 8 {
            0 | 1 => directory(&path),
            2 => {
                let target = self::path(choices);
                let up = "../".repeat(usize::from(choices.byte() % 3));
                link(&path, &format!("{up}{target}"))
            }
            3 => {
                // Large, of pieces, some of which are zeros.
                let length = usize::from(choices.byte() % 4) * (50 << 10);
                let mut content = vec![choices.byte() % 2; length];
                content.extend(choices.bytes(8));
                file(&path, content)
            }
            _ => {
                let length = choices.byte() % 16;
                file(&path, choices.bytes(length.into()))
            }
        });
    }
    let as_packed = !choices.once_in(8);
    if as_packed {
        parents(&mut nodes);
        nodes.sort_by(|a, b| a.0.path.cmp(&b.0.path));
        nodes.dedup_by(|a, b| a.0.path == b.0.path);
    }
    if choices.once_in(8)
        && let Some((entry, _)) = nodes.first_mut()
        && let EntryKind::File { mode, .. } | EntryKind::Directory { mode } = &mut entry.kind
    {
        // Whoever is not root could not read the others again.
        *mode = 0o400 | (u32::from(choices.byte()) << (choices.byte() % 9));
    }
    Made::of(nodes)
}

/// Adds the directories that paths lie in.
fn parents(nodes: &mut Vec<Node>) {
    let mut more = Vec::new();
    for (entry, _) in nodes.iter() {
        let path = entry.path.as_bytes();
        for at in (0..path.len()).filter(|at| path[*at] == b'/') {
            let kind = EntryKind::Directory { mode: 0o755 };
            let path = TreePath::unjudged(&path[..at]);
            more.push((Entry { path, kind }, Vec::new()));
        }
    }
    nodes.extend(more);
}

/// Unpacks a release that nobody has judged; what is there then is right, or nothing is.
fn unpacked(site: &Site, made: &Made, name: &str) -> Option<PathBuf> {
    let judged = manifest::parse(&manifest::to_bytes(&made.manifest));
    let archive = held(&made.archive).unwrap();
    match unpack::unpack(&archive, &made.manifest, &site.releases(), name, None) {
        Ok(at) => {
            assert_eq!(judged.unwrap(), made.manifest);
            assert_eq!(verify_tree::verify(&at, &made.manifest).unwrap(), []);
            site.check(&[name]);
            Some(at)
        }
        Err(error) => {
            super::is_said(&error);
            site.check(&[]);
            assert!(judged.is_err(), "{}", crate::said(&error));
            None
        }
    }
}

/// Somebody was in the older release.
fn tamper(old: &Path, manifest: &Manifest, choices: &mut Choices<'_>) {
    while choices.once_in(3) && !manifest.files.is_empty() {
        let entry = choices.one_of(&manifest.files);
        let EntryKind::File { size, .. } = entry.kind else {
            continue;
        };
        let path = old.join(&entry.path);
        let open = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        if !meta.is_file() {
            continue;
        }
        open(path.parent().unwrap(), 0o755);
        open(&path, 0o644);
        let how = choices.byte() % 5;
        match how {
            0 => fs::remove_file(&path).unwrap(),
            1 => fs::write(&path, choices.bytes(8)).unwrap(),
            2 => {
                let file = fs::File::options().write(true).open(&path).unwrap();
                let at = choices.number() % (size + 1);
                std::os::unix::fs::FileExt::write_all_at(&file, b"!", at).unwrap();
            }
            _ => {
                fs::remove_file(&path).unwrap();
                if how == 3 {
                    symlink(old.join("../../secret"), &path).unwrap();
                } else {
                    fs::create_dir(&path).unwrap();
                }
            }
        }
    }
}

/// Makes a release from another one and from the frames that are missing, in two tries if it must be.
fn difference(site: &Site, new: &Manifest, archive: &[u8], older: &Manifest, old: &Path) {
    let layout = manifest::validate(new).unwrap();
    let mut plan = delta::plan(new, &layout, &[older]);
    let spoilt = match make(site, new, &layout, &plan, archive, old) {
        Ok(()) => return,
        Err(UnpackError::Spoilt(spoilt)) => spoilt,
        Err(error) => panic!("{}", crate::said(&error)),
    };
    site.check(&["old"]);
    plan.instead(new, &layout, &spoilt);
    if let Err(error) = make(site, new, &layout, &plan, archive, old) {
        panic!("{}", crate::said(&error));
    }
}

fn make(
    site: &Site,
    manifest: &Manifest,
    layout: &Layout,
    delta: &Delta,
    archive: &[u8],
    old: &Path,
) -> Result<(), UnpackError> {
    // Only the frames that the plan asks for come.
    let parts = delta::Parts::of(&manifest.archive.frames);
    let mut fetched = vec![0; archive.len()];
    for frame in &delta.frames {
        let bytes = parts.bytes(*frame);
        let bytes = bytes.start as usize..bytes.end as usize;
        fetched[bytes.clone()].copy_from_slice(&archive[bytes]);
    }
    let material = Material {
        manifest,
        digest: &manifest::digest(manifest),
        layout,
        delta,
        older: &[old.to_owned()],
        archive: &held(&fetched).unwrap(),
        arrivals: &Arrivals::default(),
    };
    let at = unpack::make(&material, &site.releases(), "new", None)?;
    assert_eq!(verify_tree::verify(&at, manifest).unwrap(), []);
    site.check(&["new", "old"]);
    Ok(())
}

/// Rows of choices.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let row = |seed: u8| {
        (0..220_u8)
            .map(|n| n.wrapping_mul(seed).rotate_left(2))
            .collect()
    };
    [5, 11, 31, 59, 83, 111, 177, 211].map(row).to_vec()
}
