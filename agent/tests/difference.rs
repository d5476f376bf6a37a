//! A release is staged as a difference from those on disk, whatever became of them meanwhile.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;

use site::{Agent, Site, a_site, granted, log, status};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tamer_core::desired::{ActivationStatus, Purpose};
use tamer_core::release::ReleaseRef;

use ActivationStatus::Done;
use Purpose::{Back, Forward};

/// Bytes that do not compress.
fn noise(length: usize, mut state: u64) -> String {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        text.push_str(&format!("{:08x}", state >> 32));
    }
    text
}

/// How many bytes were fetched since the last time.
fn fetched(site: &Site) -> u64 {
    let note = site.dir.join("store/given");
    let given = fs::read_to_string(&note).unwrap_or_default();
    let _ = fs::remove_file(note);
    given.lines().map(|line| line.parse::<u64>().unwrap()).sum()
}

fn current(site: &Site) -> std::path::PathBuf {
    let link = fs::read_link(site.root().join("current")).unwrap();
    site.root().join(link)
}

fn overwrite(path: &Path, text: &str) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, text).unwrap();
}

/// Stages a release without activating it.
async fn stage(agent: &mut Agent, counter: u64, run: &ReleaseRef, next: &ReleaseRef) {
    let mut desired = granted(counter, Some(run), Forward);
    desired.components[0].grant = None;
    desired.components[0].stage = vec![next.clone()];
    agent.desired.send_replace(Some(desired));
    let staged = |it: &tamer_core::desired::ComponentReport| it.staged.contains(&next.manifest);
    agent.until("staged", staged).await;
}

#[tokio::test]
async fn what_is_on_disk_is_not_fetched_again() {
    let (_dir, site) = a_site();
    let (large, other) = (noise(400_000, 1), noise(50_000, 2));
    let mut longer = large.clone();
    longer.insert_str(200_000, "some more");
    let one = site.publish("1.0.0", &[("large", &large), ("other", &other)]);
    let two = site.publish("2.0.0", &[("large", &longer), ("moved", &other)]);
    let mut agent = Agent::start(site.hands()).await;
    assert_eq!(*status(&agent.grant(1, Some(&one), Forward).await), Done);
    let first = fetched(&site);
    assert!(first > 200_000, "{first}");
    stage(&mut agent, 2, &one, &two).await;
    let second = fetched(&site);
    assert!(second < first / 2, "{second} of {first}");
    assert_eq!(*status(&agent.grant(3, Some(&two), Forward).await), Done);
    assert_eq!(site.running().as_deref(), Some("2.0.0"));
    assert_eq!(
        fs::read_to_string(current(&site).join("large")).unwrap(),
        longer
    );
    // Going back fetches nothing.
    assert_eq!(*status(&agent.grant(4, Some(&one), Back).await), Done);
    assert_eq!(fetched(&site), 0);
    log(&site);
    agent.stop().await;
}

#[tokio::test]
async fn what_was_edited_on_disk_comes_from_the_network() {
    let (_dir, site) = a_site();
    let (large, other) = (noise(400_000, 3), noise(50_000, 4));
    let files: [(&str, &str); 2] = [("large", &large), ("other", &other)];
    let (one, two) = (site.publish("1.0.0", &files), site.publish("2.0.0", &files));
    let mut agent = Agent::start(site.hands()).await;
    assert_eq!(*status(&agent.grant(1, Some(&one), Forward).await), Done);
    fetched(&site);
    let mut edited = large.clone();
    edited.replace_range(300_000..300_006, "EDITED");
    overwrite(&current(&site).join("large"), &edited);
    overwrite(&current(&site).join("other"), &other.replace('a', "b"));
    stage(&mut agent, 2, &one, &two).await;
    let bytes = fetched(&site);
    assert!(bytes > 150_000, "{bytes}: both come from the network");
    agent.stop().await;
    let staged = fs::read_dir(site.root().join("releases")).unwrap();
    let new = staged
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("2.0.0"))
        .unwrap();
    assert_eq!(fs::read_to_string(new.join("large")).unwrap(), large);
    assert_eq!(fs::read_to_string(new.join("other")).unwrap(), other);
    assert_eq!(
        fs::read_dir(site.config.state.join("downloads"))
            .unwrap()
            .count(),
        0
    );
}
