//! With python-tuf, which nobody here wrote: what it makes is read by these rules, and what is made here by its
//! own client. `deploy-scripts/test` puts it into target/tools; without it there is nothing to try, and that is
//! said.

use crate::world::{NOW, World, key, said, shop};
use async_trait::async_trait;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tamer_core::digest::Digest;
use tamer_core::moment::Moment;
use tamer_release::trust::plain::{Plain, quoted};
use tamer_release::trust::workflow::Documents;
use tamer_release::trust::{RepositoryName, Transport, TransportError};

/// A program of this directory, under a Python that has `tuf`.
#[expect(clippy::print_stderr, reason = "what is not tried is said")]
fn python(program: &str, words: &[&std::ffi::OsStr]) -> Option<Output> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = std::env::var_os("TAMER_PYTHON_TUF").map(PathBuf::from);
    let found = found.unwrap_or_else(|| here.join("../target/tools/python-tuf/bin/python"));
    if !found.exists() {
        eprintln!("python-tuf is NOT tried: there is no {}", found.display());
        return None;
    }
    let program = here.join("tests/python").join(program);
    let output = Command::new(found)
        .arg("-B")
        .arg(program)
        .args(words)
        .output();
    Some(output.unwrap())
}

/// What one step of a scenario serves, by names.
struct Folder(PathBuf);

#[async_trait]
impl Transport for Folder {
    async fn metadata(
        &self,
        _repository: Option<&RepositoryName>,
        file: &str,
        _max: u64,
    ) -> Result<Option<Vec<u8>>, TransportError> {
        match fs::read(self.0.join(quoted(file))) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some).map_err(TransportError::new),
        }
    }

    async fn blob(&self, _digest: &Digest, _max: u64) -> Result<Vec<u8>, TransportError> {
        Err(TransportError::new("targets have names here"))
    }
}

#[derive(Deserialize)]
struct Step {
    now: u64,
    words: Option<String>,
    files: BTreeMap<String, Option<String>>,
}

#[tokio::test]
async fn what_python_tuf_makes_is_believed_or_refused_for_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let Some(made) = python("repositories.py", &[dir.path().as_os_str()]) else {
        return;
    };
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let mut wrong = Vec::new();
    let mut tried = 0;
    for scenario in fs::read_dir(dir.path()).unwrap() {
        let scenario = scenario.unwrap().path();
        let name = scenario.file_name().unwrap().display().to_string();
        let steps = fs::read(scenario.join("script.json")).unwrap();
        let steps: Vec<Step> = serde_json::from_slice(&steps).unwrap();
        let documents = Documents {
            root: fs::read(scenario.join("root.json")).unwrap(),
            timestamp: None,
            snapshot: None,
            targets: None,
        };
        let mut plain = Plain::restore(documents, BTreeMap::new()).unwrap();
        for (number, step) in steps.into_iter().enumerate() {
            tried += 1;
            let at = format!("{name}, step {number}");
            let folder = Folder(scenario.join(number.to_string()));
            let now = Moment(step.now);
            let refreshed = plain.refresh(&folder, now).await;
            match (refreshed, step.words) {
                (Ok(()), None) => {}
                (Err(error), Some(words)) if said(&error).contains(&words) => {}
                (Err(error), words) => wrong.push(format!("{at}: {words:?} is {}", said(&error))),
                (Ok(()), words) => wrong.push(format!("{at}: {words:?} is accepted")),
            }
            for (target, content) in step.files {
                let found = plain.find(&folder, &target, now).await;
                let found = found.ok().map(|file| {
                    let digest = file.hashes.values().next().unwrap();
                    let (above, last) = target.rsplit_once('/').unwrap_or(("", &target));
                    let slash = if above.is_empty() { "" } else { "/" };
                    let path = folder
                        .0
                        .join(quoted(&format!("{above}{slash}{digest}.{last}")));
                    let bytes = fs::read(path).unwrap();
                    assert!(file.is(&bytes), "{at}: {target}");
                    assert!(!file.is(b"else") && !file.is(&[&bytes[..], b"x"].concat()));
                    String::from_utf8(bytes).unwrap()
                });
                if found != content {
                    wrong.push(format!("{at}: {target} is {found:?}, not {content:?}"));
                }
            }
            // What is kept is whole: begun again from it, nothing is lost.
            let kept = plain.documents().unwrap();
            plain = Plain::restore(kept.clone(), plain.delegated().clone()).unwrap();
            assert_eq!(plain.documents(), Some(kept), "{at}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 80, "{tried}");
}

/// What this world serves of a repository, as python-tuf's client finds it.
fn serve(world: &World, repository: &RepositoryName, to: &Path) {
    fs::create_dir_all(to.join("metadata")).unwrap();
    fs::create_dir_all(to.join("blobs")).unwrap();
    for ((of, file), bytes) in world.net.snapshot() {
        if of == repository.to_string() {
            fs::write(to.join("metadata").join(file), bytes).unwrap();
        }
    }
    for (digest, bytes) in &*world.net.blobs.lock().unwrap() {
        fs::write(to.join("blobs").join(digest.to_string()), bytes).unwrap();
    }
}

#[test]
fn what_is_made_here_is_believed_or_refused_by_python_tufs_client() {
    let mut world = World::with_shop();
    let dir = tempfile::tempdir().unwrap();
    let served = dir.path().join("shop");
    let root = dir.path().join("root.json");
    fs::write(&root, world.net.get("app/shop", "1.root.json")).unwrap();
    let ask = |world: &World, now: Moment, names: &[&str]| {
        serve(world, &shop(), &served);
        let now = now.0.to_string();
        let mut words = vec![served.as_os_str(), root.as_os_str(), now.as_ref()];
        words.extend(names.iter().map(std::ffi::OsStr::new));
        let output = python("client.py", &words)?;
        let (out, err) = (
            String::from_utf8(output.stdout),
            String::from_utf8(output.stderr),
        );
        Some((output.status.success(), out.unwrap(), err.unwrap()))
    };
    let first = "shop/releases/web/1.0.0.json";
    let Some((good, out, err)) = ask(&world, NOW, &[first]) else {
        return;
    };
    assert!(good, "{err}");
    assert_eq!(out, "versions 1 1 1 1\nthe manifest of web 1.0.0\n");

    // News, under a root that has rotated the release key and the online one.
    let first_set = world.net.snapshot();
    world.release = key();
    let before = std::mem::replace(&mut world.online, key());
    let second_root = world.root(&shop(), 2);
    world.net.put("app/shop", "2.root.json", second_root);
    world.publish(&shop(), vec![world.release_blob("1.1.0")], 2);
    let second = "shop/releases/web/1.1.0.json";
    let (good, out, err) = ask(&world, NOW, &[first, second]).unwrap();
    assert!(good, "{err}");
    assert_eq!(
        out,
        "versions 2 2 2 2\nthe manifest of web 1.0.0\nthe manifest of web 1.1.0\n"
    );

    // What is refused here is refused there: the old key, what went back, what has expired.
    let good_set = world.net.snapshot();
    let real = std::mem::replace(&mut world.online, before);
    world.vouch(&shop(), 2, 3, 3);
    let (good, _, err) = ask(&world, NOW, &[]).unwrap();
    assert!(!good && err.contains("UnsignedMetadataError"), "{err}");
    world.online = real;
    world.net.restore(good_set.clone());
    let old = first_set[&("app/shop".to_owned(), "timestamp.json".to_owned())].clone();
    world.net.put("app/shop", "timestamp.json", old);
    let (good, _, err) = ask(&world, NOW, &[]).unwrap();
    assert!(!good && err.contains("UnsignedMetadataError"), "{err}");
    world.net.restore(good_set);
    world.vouch(&shop(), 2, 2, 1);
    let (good, _, err) = ask(&world, NOW, &[]).unwrap();
    assert!(!good && err.contains("BadVersionNumberError"), "{err}");
    world.vouch(&shop(), 2, 3, 3);
    let (good, _, err) = ask(&world, crate::world::in_days(2), &[]).unwrap();
    assert!(!good && err.contains("ExpiredMetadataError"), "{err}");
    let (good, out, err) = ask(&world, NOW, &[second]).unwrap();
    assert!(good, "{err}");
    assert_eq!(out, "versions 2 3 3 2\nthe manifest of web 1.1.0\n");
}
