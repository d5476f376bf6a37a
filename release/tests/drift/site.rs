//! A release on disk that can be looked at, with the moments in which its file system's clock goes on.

use crate::common::{Node, Temp, make, pack_spec, spec, tempdir};
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tamer_core::moment::Moment;
use tamer_release::delta::Delta;
use tamer_release::manifest;
use tamer_release::pack::{PackSpec, pack};
use tamer_release::unpack::{Arrivals, Material, make_and_record};
use tamer_release::verify_tree::{Depth, Look, Outcome, Owners, Record, look};

/// A release on disk, and how it is looked at.
pub(crate) struct Site {
    pub(crate) dir: Temp,
    pub(crate) at: PathBuf,
    pub(crate) manifest: tamer_core::digest::Digest,
    pub(crate) parsed: tamer_core::release::Manifest,
    /// What was noted while it was unpacked.
    pub(crate) noted: Record,
    /// Files, directories and links of it.
    pub(crate) paths: Vec<String>,
}

pub(crate) fn small() -> BTreeMap<String, Node> {
    let mut tree = BTreeMap::new();
    for dir in ["a", "a/b", "a.b", "empty"] {
        tree.insert(dir.to_owned(), Node::Directory);
    }
    for (n, path) in ["a/one", "a/b/two", "a/b/three", "a.b/four", "five", "a-six"]
        .into_iter()
        .enumerate()
    {
        let content = format!("{path} {n}\n").repeat(n + 1).into_bytes();
        tree.insert(path.to_owned(), Node::File(content, n % 2 == 0));
    }
    tree.insert("a/link".to_owned(), Node::Link("one".to_owned()));
    tree.insert("other".to_owned(), Node::Link("a/b".to_owned()));
    tree
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempdir();
        let (tree, archive) = (dir.path().join("tree"), dir.path().join("a.tar.zst"));
        make(&tree, &small());
        let what = PackSpec {
            spec: spec("shared = [\"media/\", \"var/log/\"]"),
            ..pack_spec()
        };
        let packed = pack(&tree, &what, &archive).unwrap();
        let file = fs::File::open(archive).unwrap();
        let layout = manifest::validate(&packed.manifest).unwrap();
        let from = Material {
            manifest: &packed.manifest,
            digest: &packed.digest,
            layout: &layout,
            delta: &Delta::whole(&packed.manifest, &layout),
            older: &[],
            archive: &file,
            arrivals: &Arrivals::default(),
        };
        let (at, noted) = make_and_record(&from, dir.path(), "r", None).unwrap();
        Self {
            at,
            noted,
            manifest: packed.digest,
            parsed: packed.manifest,
            paths: small().into_keys().collect(),
            dir,
        }
    }

    /// Looks; gives the record and how many bytes were to be read.
    pub(crate) fn look(&self, depth: Depth, before: Option<&Record>, now: Moment) -> (Record, u64) {
        let before = before.or((depth == Depth::Unpacked).then_some(&self.noted));
        self.look_after(before, depth, now)
    }

    pub(crate) fn look_after(
        &self,
        before: Option<&Record>,
        depth: Depth,
        now: Moment,
    ) -> (Record, u64) {
        let mut read = 0;
        let mut pace = |bytes| {
            read += bytes;
            ControlFlow::Continue(())
        };
        let me = fs::metadata(self.dir.path()).unwrap();
        let what = Look {
            release: &self.at,
            manifest: self.manifest,
            owners: Some(Owners {
                user: me.uid(),
                group: None,
                groups: [me.gid(); 2],
            }),
            depth,
            now,
        };
        match look(&what, before, None, &mut pace).unwrap() {
            Outcome::Whole(record) => (record, read),
            Outcome::GivenUp { .. } => panic!("nobody gave it up"),
        }
    }

    /// A record that vouches for everything that is not changed after this returns.
    pub(crate) fn vouching(&self, before: Option<&Record>, depth: Depth) -> Record {
        let (record, _) = self.look(depth, before, later());
        self.tick();
        record
    }

    /// Goes on until a change would have another change time than all that was changed before.
    pub(crate) fn tick(&self) {
        let probe = self.dir.path().join("probe");
        let time = || {
            fs::write(&probe, "").unwrap();
            let about = fs::metadata(&probe).unwrap();
            (about.ctime(), about.ctime_nsec())
        };
        let first = time();
        while time() == first {}
    }
}

/// So late that no change is too recent to be vouched for.
pub(crate) fn later() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Moment((since.unwrap() + Duration::from_secs(3600)).as_millis() as u64)
}

pub(crate) fn fast() -> Depth {
    Depth::Fast
}

pub(crate) fn full() -> Depth {
    Depth::Full { after: None }
}
