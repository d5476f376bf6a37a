//! Somebody changes what lies on the controller's disk: hosts keep what they run, and say why.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tamer_system::{App, Fleet, files};

/// Changes every byte of a file: hosts fetch only what they lack of an archive. Twice, and it is what it was.
fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    bytes.iter_mut().for_each(|byte| *byte ^= 1);
    fs::write(file, bytes).unwrap();
}

/// The blobs that a publication has added, by whether they are archives.
fn added(fleet: &Fleet, app: &App) -> (PathBuf, PathBuf) {
    let blobs = fleet.controller.data("artifacts");
    let before = files(&blobs);
    fleet.publish(app);
    let new = files(&blobs).into_iter().filter(|it| !before.contains(it));
    let (mut archive, mut manifest) = (None, None);
    for file in new {
        let bytes = fs::read(&file).unwrap();
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(json) if json.get("archive").is_some() => manifest = Some(file),
            Ok(_) => {}
            Err(_) => archive = Some(file),
        }
    }
    (archive.unwrap(), manifest.unwrap())
}

#[test]
fn keeps_the_old_release_when_an_archive_was_tampered_with() {
    let fleet = Fleet::that_runs(2);
    let (archive, _) = added(&fleet, &App::version("1.1.0"));
    let before = fleet.host(1).releases();
    flip(&archive);
    fleet.deploy("1.1.0").ends(3).says(&["web-1", "1.1.0"]);
    fleet.all_run("1.0.0");
    for number in [1, 2] {
        assert_eq!(
            fleet.host(number).releases(),
            before[..],
            "nothing is left of it"
        );
    }
    // Repaired, it can be had.
    flip(&archive);
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
}

#[test]
fn keeps_the_old_release_when_a_manifest_was_tampered_with() {
    let fleet = Fleet::that_runs(2);
    let (_, manifest) = added(&fleet, &App::version("1.1.0"));
    flip(&manifest);
    fleet
        .deploy("1.1.0")
        .ends(3)
        .says(&["shop/releases/web/1.1.0.json", "not those that were signed"]);
    fleet.all_run("1.0.0");
    flip(&manifest);
    fleet.deploy("1.1.0").ends(0);
}

#[test]
fn keeps_the_old_release_when_metadata_was_tampered_with() {
    let fleet = Fleet::that_runs(2);
    fleet.publish(&App::version("1.1.0"));
    let newest = |suffix: &str| {
        let mut all = files(&fleet.controller.data("trust/app/shop"));
        all.retain(|file| file.to_str().unwrap().ends_with(suffix));
        all.sort_by_key(|file| {
            let name = file.file_name().unwrap().to_str().unwrap();
            name.split('.').next().unwrap().parse::<u64>().unwrap()
        });
        all.pop().unwrap()
    };
    let targets = newest(".targets.json");
    let honest = fs::read_to_string(&targets).unwrap();
    // It still reads well: only the signature is not over this any more.
    let forged = honest.replacen("1.1.0", "1.9.0", 1);
    assert_ne!(forged, honest);
    fs::write(&targets, &forged).unwrap();
    let said = fleet.deploy("1.1.0");
    assert_ne!(said.code, 0, "{}", said.all());
    fleet.all_run("1.0.0");
    fs::write(&targets, &honest).unwrap();
    fleet.deploy("1.1.0").ends(0);
    fleet.all_run("1.1.0");
}
