//! A team, its repositories, and a network in memory that serves what the tests put on it.

use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex};
use tamer_core::digest::Digest;
use tamer_core::moment::{Moment, Span};
use tamer_kit::hash::sha256;
use tamer_release::trust::document::{Document, Signable};
use tamer_release::trust::editor::{self, RepositoryRoles, RoleKeys};
use tamer_release::trust::{
    Client, NewTarget, RepositoryName, Signer, SigningKey, Transport, TransportError, TrustError,
    TrustStore, targets_with,
};
use tempfile::TempDir;

/// In January 2027.
pub(crate) const NOW: Moment = Moment(1_800_000_000_000);
pub(crate) const DAY: u64 = 24 * 60 * 60;

pub(crate) fn in_days(days: u64) -> Moment {
    NOW + Span::secs(days * DAY)
}

pub(crate) fn shop() -> RepositoryName {
    "app/shop".parse().unwrap()
}

pub(crate) fn production() -> RepositoryName {
    "env/production".parse().unwrap()
}

/// What is served, and what was asked for.
#[derive(Default)]
pub(crate) struct Net {
    pub(crate) files: Mutex<BTreeMap<(String, String), Vec<u8>>>,
    pub(crate) blobs: Mutex<BTreeMap<Digest, Vec<u8>>>,
    /// Files that answer with an error.
    pub(crate) broken: Mutex<Vec<(String, String)>>,
    pub(crate) asked: Mutex<Vec<String>>,
    /// Files that never come to their end.
    pub(crate) dripping: Mutex<Vec<(String, String)>>,
}

impl Net {
    pub(crate) fn put(&self, repository: &str, file: &str, bytes: Vec<u8>) {
        let key = (repository.to_owned(), file.to_owned());
        self.files.lock().unwrap().insert(key, bytes);
    }

    pub(crate) fn get(&self, repository: &str, file: &str) -> Vec<u8> {
        let key = (repository.to_owned(), file.to_owned());
        self.files.lock().unwrap()[&key].clone()
    }

    pub(crate) fn remove(&self, repository: &str, file: &str) {
        let key = (repository.to_owned(), file.to_owned());
        self.files.lock().unwrap().remove(&key);
    }

    pub(crate) fn change(
        &self,
        repository: &str,
        file: &str,
        change: impl FnOnce(Vec<u8>) -> Vec<u8>,
    ) {
        self.put(repository, file, change(self.get(repository, file)));
    }

    pub(crate) fn snapshot(&self) -> BTreeMap<(String, String), Vec<u8>> {
        self.files.lock().unwrap().clone()
    }

    pub(crate) fn restore(&self, files: BTreeMap<(String, String), Vec<u8>>) {
        *self.files.lock().unwrap() = files;
    }
}

#[async_trait]
impl Transport for Net {
    async fn metadata(
        &self,
        repository: Option<&RepositoryName>,
        file: &str,
        _max: u64,
    ) -> Result<Option<Vec<u8>>, TransportError> {
        let of = repository.map_or("team".to_owned(), ToString::to_string);
        self.asked.lock().unwrap().push(format!("{of}/{file}"));
        let key = (of, file.to_owned());
        if self.broken.lock().unwrap().contains(&key) {
            return Err(TransportError::new("connection reset"));
        }
        let drips = self.dripping.lock().unwrap().contains(&key);
        if drips {
            std::future::pending::<()>().await;
        }
        Ok(self.files.lock().unwrap().get(&key).cloned())
    }

    async fn blob(&self, digest: &Digest, _max: u64) -> Result<Vec<u8>, TransportError> {
        let found = self.blobs.lock().unwrap().get(digest).cloned();
        found.ok_or_else(|| TransportError::new("no such blob"))
    }
}

/// A team of three root keys, two of which must sign.
pub(crate) struct World {
    pub(crate) team: Vec<SigningKey>,
    pub(crate) release: SigningKey,
    pub(crate) online: SigningKey,
    pub(crate) net: Arc<Net>,
    pub(crate) dir: TempDir,
    pub(crate) pin: Digest,
}

pub(crate) fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

pub(crate) fn role(keys: &[SigningKey], threshold: u64) -> RoleKeys {
    let keys = keys.iter().map(|key| key.public().clone()).collect();
    RoleKeys { keys, threshold }
}

impl World {
    pub(crate) fn new() -> Self {
        let team = vec![key(), key(), key()];
        let net = Arc::new(Net::default());
        let root =
            editor::team_root(&role(&team, 2), 1, in_days(365), &[&team[0], &team[1]]).unwrap();
        let pin = sha256(&root);
        net.put("team", "1.root.json", root);
        Self {
            team,
            release: key(),
            online: key(),
            net,
            dir: tempfile::tempdir().unwrap(),
            pin,
        }
    }

    /// A world with `app/shop` at version 1 of everything.
    pub(crate) fn with_shop() -> Self {
        let world = Self::new();
        world.put_root(&shop());
        world.publish(&shop(), vec![world.release_blob("1.0.0")], 1);
        world
    }

    pub(crate) fn roles(&self) -> RepositoryRoles {
        RepositoryRoles {
            root: role(&self.team, 2),
            targets: RoleKeys::one(self.release.public()),
            online: RoleKeys::one(self.online.public()),
        }
    }

    pub(crate) fn root(&self, repository: &RepositoryName, version: u64) -> Vec<u8> {
        let signers = [&self.team[0], &self.team[1]];
        editor::repository_root(repository, &self.roles(), version, in_days(365), &signers).unwrap()
    }

    pub(crate) fn put_root(&self, repository: &RepositoryName) {
        self.net.put(
            &repository.to_string(),
            "1.root.json",
            self.root(repository, 1),
        );
    }

    pub(crate) fn blob(&self, bytes: &[u8]) {
        self.net
            .blobs
            .lock()
            .unwrap()
            .insert(sha256(bytes), bytes.to_vec());
    }

    pub(crate) fn release_blob(&self, version: &str) -> NewTarget {
        let manifest = format!("the manifest of web {version}");
        self.blob(manifest.as_bytes());
        let (shop, web) = ("shop".parse().unwrap(), "web".parse().unwrap());
        NewTarget::release(&shop, &web, &version.parse().unwrap(), manifest.as_bytes())
    }

    /// Publishes with version `n` of targets, snapshot and timestamp.
    pub(crate) fn publish(&self, repository: &RepositoryName, additions: Vec<NewTarget>, n: u64) {
        let label = repository.to_string();
        let previous = (n > 1).then(|| self.net.get(&label, &format!("{}.targets.json", n - 1)));
        let targets = targets_with(
            repository,
            previous.as_deref(),
            additions,
            &[],
            in_days(90),
            &[&self.release],
        );
        self.net
            .put(&label, &format!("{n}.targets.json"), targets.unwrap());
        self.vouch(repository, n, n, n);
    }

    /// Makes snapshot and timestamp for targets that are served.
    pub(crate) fn vouch(
        &self,
        repository: &RepositoryName,
        targets: u64,
        snapshot: u64,
        timestamp: u64,
    ) {
        let label = &repository.to_string();
        let bytes = self.net.get(label, &format!("{targets}.targets.json"));
        let targets = Document::parse(bytes, None).unwrap();
        let bytes =
            editor::snapshot(label, &targets, snapshot, in_days(7), &[&self.online]).unwrap();
        self.net
            .put(label, &format!("{snapshot}.snapshot.json"), bytes.clone());
        let document = Document::parse(bytes, None).unwrap();
        let bytes =
            editor::timestamp(label, &document, timestamp, in_days(1), &[&self.online]).unwrap();
        self.net.put(label, "timestamp.json", bytes);
    }

    /// A host, with a store of this name.
    pub(crate) fn host(&self, name: &str) -> Client {
        Client::new(
            self.store(name),
            Arc::clone(&self.net) as Arc<dyn Transport>,
        )
    }

    /// Refreshing `app/shop` must fail, and say this.
    pub(crate) async fn refused(&self, host: &str, words: &str) {
        self.refused_at(host, NOW, words).await;
    }

    /// Refreshing `app/shop` at this moment must fail, and say this.
    pub(crate) async fn refused_at(&self, host: &str, now: Moment, words: &str) {
        let error = self.host(host).refresh(&shop(), now).await.unwrap_err();
        let text = said(&error);
        assert!(text.contains(words), "`{words}` is not in `{text}`");
    }

    /// Changes a document of `app/shop` and signs it anew.
    pub(crate) fn replace<T: Signable>(
        &self,
        file: &str,
        edit: impl FnOnce(&mut Value),
        signer: &SigningKey,
    ) {
        let forged = |bytes: Vec<u8>| forge::<T>(&bytes, edit, &[signer]);
        self.net.change("app/shop", file, forged);
    }

    /// Has `app/shop` announce what there is of version 1 by its version alone: without lengths and digests.
    pub(crate) fn announce_versions_alone(&self) {
        for (file, of) in [
            ("1.snapshot.json", "targets.json"),
            ("timestamp.json", "snapshot.json"),
        ] {
            let bare = |signed: &mut Value| signed["meta"] = json!({ of: { "version": 1 } });
            match of {
                "targets.json" => self.replace::<tough::schema::Snapshot>(file, bare, &self.online),
                _ => self.replace::<tough::schema::Timestamp>(file, bare, &self.online),
            }
        }
    }

    pub(crate) fn store(&self, name: &str) -> TrustStore {
        TrustStore::new(&self.dir.path().join(name), self.pin)
    }
}

/// Edits what a document says and signs it anew.
pub(crate) fn forge<T: Signable>(
    bytes: &[u8],
    edit: impl FnOnce(&mut Value),
    keys: &[&SigningKey],
) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(bytes).unwrap();
    edit(&mut document["signed"]);
    document["signatures"] = json!([]);
    let unsigned = serde_json::to_vec(&document).unwrap();
    keys.iter().fold(unsigned, |bytes, key| {
        editor::cosign::<T>(&bytes, *key).unwrap()
    })
}

/// The same, for what the editor refuses to read.
pub(crate) fn forge_plain(
    bytes: &[u8],
    edit: impl FnOnce(&mut Value),
    key: &SigningKey,
) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(bytes).unwrap();
    edit(&mut document["signed"]);
    let message = tamer_release::json::canonical(&document["signed"]).unwrap();
    let signature = hex::encode(key.sign(&message).unwrap());
    document["signatures"] = json!([{ "keyid": key.public().id(), "sig": signature }]);
    serde_json::to_vec(&document).unwrap()
}

/// The whole chain of an error, as a user reads it.
pub(crate) fn said(error: &TrustError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
