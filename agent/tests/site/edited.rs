//! Changes by hand: made so that they are seen, or not, and what an agent answers who is asked.

use super::{Agent, Site, granted, slot};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tamer_agent::drift::Tree;
use tamer_agent::host::layout;
use tamer_core::desired::{Desired, Purpose};
use tamer_core::release::ReleaseRef;

/// Desired state number `counter`, changed.
pub(crate) fn told(counter: u64, run: &ReleaseRef, change: impl Fn(&mut Desired)) -> Desired {
    let mut desired = granted(counter, Some(run), Purpose::Forward);
    change(&mut desired);
    desired
}

/// What differs, as it was answered to the wish with this number.
pub(crate) async fn answered(agent: &mut Agent, id: u64) -> Vec<String> {
    let found = agent.inspected(id).await.components.remove(0).found;
    let drift = found.unwrap();
    let differences = drift.into_iter().flat_map(|drift| drift.differences);
    differences.map(|it| it.path).collect()
}

/// The tree of what runs, as the agent looks at it.
fn tree(site: &Site) -> Tree {
    let found = layout::scan(&site.root(), &slot(), &BTreeMap::new()).unwrap();
    let running = fs::read_link(site.root().join("current")).unwrap();
    let name = running.file_name().unwrap().to_str().unwrap();
    Tree::new(&site.config, &slot(), &site.root(), &found[name])
}

/// Changes bytes so that the file system tells nothing of it, as a bad disk or somebody on the block device does:
/// the record vouches for what is there now.
pub(crate) fn change_unseen(site: &Site, paths: &[&str]) {
    for path in paths {
        let path = site.root().join("current").join(path);
        let found = fs::metadata(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&path, vec![b'#'; found.len() as usize]).unwrap();
        fs::set_permissions(&path, found.permissions()).unwrap();
    }
    let tree = tree(site);
    let text = fs::read(tree.release.join(tamer_release::unpack::MANIFEST_PATH)).unwrap();
    let manifest = tamer_release::manifest::parse(&text).unwrap();
    tamer_system::until("the record to vouch for it", || {
        tree.unpacked(&manifest, None).unwrap();
        tree.fast().unwrap().drift.is_none().then_some(())
    });
}
