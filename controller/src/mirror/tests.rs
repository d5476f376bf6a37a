//! A mirror of a small controller: what it holds, and what is said when it cannot.

use super::*;
use crate::artifacts::place::Place;
use crate::identity::ca::Ca;
use std::fs;

struct Site {
    dir: tempfile::TempDir,
    config: Config,
}

fn blobs(paths: &Paths) -> PathBuf {
    paths.artifacts.clone().unwrap().join("blobs")
}

fn site() -> Site {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::defaults().unwrap();
    config.data = dir.path().join("data");
    config.artifacts = Place::Directory(config.data.join("artifacts"));
    config.backups.directory = dir.path().join("backups");
    let settings = dir.path().join("controller.toml");
    fs::write(&settings, "# settings").unwrap();
    config.file = Some(settings);
    let paths = config.paths();
    fs::create_dir_all(&paths.ca).unwrap();
    Ca::create(&paths.ca, Moment(1)).unwrap();
    for (path, text) in [
        (paths.snapshot_key.clone(), "snapshot"),
        (paths.trust.join("team/1.root.json"), "root"),
        (paths.state.join("epoch"), "0 (crc32 f4dbdf21)\n"),
        (paths.audit.clone(), "line\n"),
        (paths.revocations.clone(), "line\n"),
        (blobs(&paths).join("aa"), "blob"),
    ] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Site { dir, config }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().build().unwrap()
}

fn append(path: &Path, text: &str) {
    let whole = fs::read_to_string(path).unwrap() + text;
    fs::write(path, whole).unwrap();
}

#[test]
fn all_of_a_controller_is_there_and_goes_onto_another_machine() {
    let site = site();
    let metrics = Metrics::new();
    let mirror = Mirror::new(&site.config, metrics.clone());
    let check = || Plan::new(&site.config).check();
    assert_eq!(check().unwrap(), None, "no controller has run yet");
    fs::write(site.config.paths().state.join("version"), "0.1.0").unwrap();
    assert!(check().is_err(), "its disk is gone");
    mirror.everything(Moment(7_000));
    assert_eq!(mirror.trouble(), None);
    assert_eq!(metrics.mirror_seconds.get(), 7);
    assert_eq!(
        Plan::new(&site.config).check().unwrap(),
        Some(Moment(7_000))
    );

    let mut other = site.config.clone();
    other.data = site.dir.path().join("other");
    other.artifacts = Place::Directory(other.data.join("artifacts"));
    let (from, to) = (site.config.paths(), other.paths());
    let backup = site.dir.path().join("a backup");
    let source = Source::find(&site.config.backups.directory, Some(&backup)).unwrap();
    assert_eq!(source.as_of(), Some(Moment(7_000)));
    assert!(!is_occupied(&to));
    source.put_in_place(&to).unwrap();
    assert!(!to.ca.exists());
    source.put_ca_in_place(&to).unwrap();
    for (from, to) in [
        (&from.ca.join("ca-key.pem"), &to.ca.join("ca-key.pem")),
        (&from.snapshot_key, &to.snapshot_key),
        (&from.audit, &to.audit),
        (&from.revocations, &to.revocations),
        (
            &from.trust.join("team/1.root.json"),
            &to.trust.join("team/1.root.json"),
        ),
        (&blobs(&from).join("aa"), &blobs(&to).join("aa")),
    ] {
        assert_eq!(
            fs::read(from).unwrap(),
            fs::read(to).unwrap(),
            "{}",
            to.display()
        );
    }
    assert!(is_occupied(&to));
    let aside = set_aside(&to).unwrap();
    assert!(!is_occupied(&to));
    assert!(aside.join("ca/ca-key.pem").exists());
    let said = Source::find(site.dir.path(), Some(&backup)).unwrap_err();
    assert!(said.to_string().contains("no mirror"), "{said}");
    let said = Source::find(&site.config.backups.directory, None).unwrap_err();
    assert!(said.to_string().contains("no whole backup"), "{said}");
}

#[test]
fn what_is_appended_or_published_is_there_before_it_is_acknowledged() {
    let site = site();
    let mirror = Mirror::new(&site.config, Metrics::new());
    mirror.everything(Moment(1));
    let (paths, copy) = (site.config.paths(), site.config.paths().mirror);
    append(&paths.revocations, "second\n");
    fs::write(paths.trust.join("team/2.root.json"), "next").unwrap();
    fs::write(blobs(&paths).join("bb"), "more").unwrap();
    assert!(Plan::new(&site.config).check().is_err(), "it lacks a line");
    let runtime = runtime();
    runtime.block_on(mirror.records());
    Plan::new(&site.config).check().unwrap();
    let text = fs::read_to_string(copy.join("revocations.log")).unwrap();
    assert_eq!(text, "line\nsecond\n");
    runtime.block_on(mirror.published());
    assert!(copy.join("trust/team/2.root.json").exists());
    assert!(copy.join("artifacts/blobs/bb").exists());
}

#[test]
fn one_that_cannot_be_written_is_told_until_it_is_whole_again() {
    let mut site = site();
    let file = site.dir.path().join("file");
    fs::write(&file, "").unwrap();
    site.config.backups.directory = file.join("backups");
    let metrics = Metrics::new();
    let mirror = Mirror::new(&site.config, metrics.clone());
    runtime().block_on(mirror.records());
    mirror.everything(Moment(1));
    let said = mirror.trouble().unwrap();
    assert!(said.contains("lacks something since"), "{said}");
    assert_eq!(
        (metrics.mirror_failures.get(), metrics.mirror_behind.get()),
        (2, 1)
    );
    fs::remove_file(&file).unwrap();
    mirror.everything(Moment(2));
    assert_eq!((mirror.trouble(), metrics.mirror_behind.get()), (None, 0));
}

#[test]
fn another_controllers_mirror_is_left_alone() {
    let site = site();
    let mirror = Mirror::new(&site.config, Metrics::new());
    mirror.everything(Moment(1));
    let ca = site.config.paths().ca;
    fs::remove_dir_all(&ca).unwrap();
    fs::create_dir(&ca).unwrap();
    Ca::create(&ca, Moment(2)).unwrap();
    append(&site.config.paths().audit, "mine\n");
    mirror.everything(Moment(2));
    assert!(mirror.trouble().unwrap().contains("another controller"));
    let copy = site.config.paths().mirror.join("audit.log");
    assert_eq!(fs::read_to_string(copy).unwrap(), "line\n");
}

#[test]
fn releases_can_be_left_out() {
    let mut site = site();
    site.config.backups.artifacts = false;
    Mirror::new(&site.config, Metrics::new()).everything(Moment(1));
    let copy = site.config.paths().mirror;
    assert!(copy.join("trust/team/1.root.json").exists());
    assert!(!copy.join("artifacts").exists());
}
