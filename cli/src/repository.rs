//! Signed metadata: what the controller serves is verified from the pinned team root before
//! anything is built on it, and what is built is signed here.

use crate::blobs;
use crate::client::Session;
use crate::error::{Context, Error, Result};
use crate::exit::Exit;
use crate::home::Home;
use crate::printer::Printer;
use crate::views::human::parse_date;
use async_trait::async_trait;
use std::path::Path;
use std::sync::Arc;
use tamer_core::digest::Digest;
use tamer_kit::clock;
use tamer_kit::http::{self, GetError};
use tamer_proto::v1::{
    GetTrustRequest, GetTrustResponse, PublishRootRequest, PublishTargetsRequest,
};
use tamer_release::trust::document::Verified;
use tamer_release::trust::editor::{
    EditError, ROOT_LIFE, RepositoryRoles, RoleKeys, TARGETS_LIFE, repository_root,
};
use tamer_release::trust::live::{NewTarget, targets_with};
use tamer_release::trust::names::{blob_path, metadata_path};
use tamer_release::trust::{
    Client, KeyError, PublicKey, RepositoryName, SigningKey, Transport, TransportError, TrustError,
    TrustStore,
};

/// One of the team's keys on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TeamKey {
    /// Says who may sign what.
    Root,
    /// Signs releases and versions.
    Release,
    /// Signs environment files.
    Environment,
}

impl TeamKey {
    /// Its file's name.
    pub fn file(self) -> &'static str {
        match self {
            Self::Root => "root.pem",
            Self::Release => "release.pem",
            Self::Environment => "environment.pem",
        }
    }

    /// Loads it.
    ///
    /// # Errors
    /// It is not on this machine, or others can read it.
    pub fn load(self, home: &Home, to: &str) -> Result<SigningKey> {
        let path = home.keys().join(self.file());
        SigningKey::load(&path).map_err(|error| {
            let missing = matches!(error, KeyError::Missing(_));
            let error = Error::caused(Exit::Usage, format!("cannot {to}"), error);
            if missing {
                error.next(format!(
                    "ask whoever ran `tamer trust init` to do it, or for {}, and put it into {}",
                    self.file(),
                    home.keys().display()
                ))
            } else {
                error
            }
        })
    }
}

/// One repository at the controller, as far as it could be verified.
pub struct Repository {
    name: RepositoryName,
    client: Client,
    store: TrustStore,
    trust: GetTrustResponse,
    verified: Option<Verified>,
}

impl Repository {
    /// Asks the controller for the repository, and verifies what it serves from the pinned root.
    ///
    /// # Errors
    /// It cannot be reached, or serves what cannot be verified.
    pub async fn open(
        session: &mut Session,
        name: RepositoryName,
        printer: &Printer,
    ) -> Result<Self> {
        let pin = session.trust_root(printer).await?;
        let trust = session
            .operators()
            .get_trust(GetTrustRequest {})
            .await?
            .into_inner();
        if trust.team_root != pin.to_string() {
            return Err(Error::new(
                Exit::Refused,
                "the controller has another team root than the one pinned here: do not go on before you know why",
            ));
        }
        let store = session.login.trust_store(pin);
        let transport = Arc::new(Http::new(session));
        let client = Client::new(store.clone(), transport);
        let mut repository = Self {
            name,
            client,
            store,
            trust,
            verified: None,
        };
        repository.refresh().await?;
        Ok(repository)
    }

    /// What is signed there; `None` before the first targets.
    pub fn verified(&self) -> Option<&Verified> {
        self.verified.as_ref()
    }

    /// When the targets expire by the controller's word; 0 where there are none. Only for deciding
    /// whether to sign anew.
    pub fn targets_expire_ms(&self) -> u64 {
        self.row().map_or(0, |row| parse_date(&row.targets_expires))
    }

    /// The bytes of a target, verified.
    ///
    /// # Errors
    /// It cannot be fetched, or is not what was signed.
    pub async fn fetch(&self, target: &str, max: u64) -> Result<Vec<u8>> {
        let what = || format!("cannot get {target}");
        let verified = self.verified.as_ref();
        let verified =
            verified.ok_or_else(|| Error::usage(format!("{target} is not published")))?;
        self.client
            .fetch(verified, target, max)
            .await
            .map_err(|error| refused(error, what()))
    }

    /// Fetches a target into a file, which is made, and gives its digest once it is found to be what was signed. None
    /// of it is held.
    ///
    /// # Errors
    /// It cannot be fetched, or is not what was signed.
    pub async fn fetch_to(
        &self,
        session: &Session,
        target: &str,
        max: u64,
        path: &Path,
    ) -> Result<Digest> {
        let (name, repository) = (target.to_owned(), self.name.to_string());
        let signed = self.verified.as_ref().and_then(|it| it.target(target));
        let error = match signed {
            None => TrustError::NoTarget { repository, name },
            Some(signed) if signed.length > max => TrustError::TooLarge {
                name,
                length: signed.length,
                max,
            },
            Some(signed) => {
                let (digest, length) = (signed.digest, signed.length);
                if blobs::download(session, &digest, length, path).await? {
                    return Ok(digest);
                }
                TrustError::Tampered { repository, name }
            }
        };
        Err(refused(error, format!("cannot get {target}")))
    }

    /// Makes sure that the repository has a root; makes one with the root key if it has none.
    ///
    /// # Errors
    /// There is none, and the root key is not on this machine.
    pub async fn ensure_root(
        &mut self,
        session: &Session,
        home: &Home,
        targets: &SigningKey,
    ) -> Result<()> {
        if self.row().is_some_and(|row| row.root_version > 0) {
            return Ok(());
        }
        let name = self.name.clone();
        let what = format!("begin the repository {name}, which needs the team's root key");
        let key = TeamKey::Root.load(home, &what)?;
        let doing = || format!("cannot begin the repository {name}");
        let mut online: Vec<PublicKey> = Vec::new();
        for json in [&self.trust.snapshot_key, &self.trust.timestamp_key] {
            let key: PublicKey = serde_json::from_str(json).doing(Exit::Internal, doing)?;
            if !online.contains(&key) {
                online.push(key);
            }
        }
        let roles = RepositoryRoles {
            root: RoleKeys::one(key.public()),
            targets: RoleKeys::one(targets.public()),
            online: RoleKeys {
                keys: online,
                threshold: 1,
            },
        };
        let root = repository_root(&name, &roles, 1, clock::now() + ROOT_LIFE, &[&key]);
        let request = PublishRootRequest {
            repository: name.to_string(),
            root: root.doing(Exit::Internal, doing)?,
        };
        session.operators().publish_root(request).await?;
        Ok(())
    }

    /// Signs the targets that follow with these additions, and publishes them. Where somebody else
    /// was faster, reads again and tries again as long as `still_fine` says that the additions
    /// still mean the same.
    ///
    /// # Errors
    /// The controller or the rules refuse them, or somebody else changed what they build on.
    pub async fn publish(
        &mut self,
        session: &Session,
        key: &SigningKey,
        additions: &[NewTarget],
        still_fine: impl Fn(Option<&Verified>) -> bool,
    ) -> Result<u64> {
        const TRIES: usize = 4;
        for _ in 0..TRIES {
            let expected = self
                .verified
                .as_ref()
                .map_or(0, |verified| verified.targets_version);
            let request = PublishTargetsRequest {
                repository: self.name.to_string(),
                targets: self.signed(key, additions)?,
                expected,
            };
            let refused = match session.operators().publish_targets(request).await {
                Ok(answer) => {
                    let version = answer.into_inner().version;
                    self.remember(session).await?;
                    return Ok(version);
                }
                Err(status) => status,
            };
            // Whatever the words of the refusal: it was a race if the version has moved.
            self.remember(session).await?;
            let now = self
                .verified
                .as_ref()
                .map_or(0, |verified| verified.targets_version);
            if now == expected {
                return Err(refused.into());
            }
            if !still_fine(self.verified.as_ref()) {
                return Err(self.overtaken());
            }
        }
        Err(self.overtaken())
    }

    /// Reads again and verifies again; what is seen now is never believed to be gone later.
    async fn remember(&mut self, session: &Session) -> Result<()> {
        let answer = session.operators().get_trust(GetTrustRequest {}).await?;
        self.trust = answer.into_inner();
        self.refresh().await
    }

    fn overtaken(&self) -> Error {
        Error::new(
            Exit::Locked,
            format!(
                "somebody else changed {} at the same time: nothing was published, look and try again",
                self.name
            ),
        )
    }

    fn signed(&self, key: &SigningKey, additions: &[NewTarget]) -> Result<Vec<u8>> {
        let doing = || format!("cannot sign {}", self.name);
        let stored = self
            .store
            .load(Some(&self.name))
            .doing(Exit::Internal, doing)?;
        let accepted = stored.and_then(|stored| stored.accepted);
        // Only what was verified, never what was merely served, is built on.
        let previous = match &self.verified {
            Some(_) => accepted.and_then(|documents| documents.targets),
            None => None,
        };
        let expires = clock::now() + TARGETS_LIFE;
        let signed = targets_with(
            &self.name,
            previous.as_deref(),
            additions.to_vec(),
            &[],
            expires,
            &[key],
        );
        signed.map_err(|error| match error {
            EditError::Immutable(_) => Error::usage(error.to_string()),
            error => Error::caused(Exit::Internal, doing(), error),
        })
    }

    async fn refresh(&mut self) -> Result<()> {
        let name = self.name.clone();
        let doing = || format!("what the controller serves as {name} cannot be trusted");
        if self.row().is_some_and(|row| row.targets_version > 0) {
            let verified = self.client.refresh(&self.name, clock::now()).await;
            self.verified = Some(verified.map_err(|error| refused(error, doing()))?);
            return Ok(());
        }
        // "Nothing is published" is only believed of what was never seen here.
        match self
            .client
            .cached(&self.name)
            .doing(Exit::Internal, doing)?
        {
            None => Ok(()),
            Some(seen) => Err(Error::new(
                Exit::Refused,
                format!(
                    "the controller says that {name} is empty, but version {} was seen here: do not go on before you know why",
                    seen.targets_version
                ),
            )),
        }
    }

    fn row(&self) -> Option<&tamer_proto::v1::RepositoryStatus> {
        let name = self.name.to_string();
        self.trust.repositories.iter().find(|row| row.name == name)
    }
}

/// What failed on the way is no reason for distrust.
fn refused(error: TrustError, what: String) -> Error {
    let TrustError::Fetch { file, source, .. } = error else {
        return Error::caused(Exit::Refused, what, error);
    };
    let what = format!("cannot get {file} from the controller");
    match source.0.downcast::<GetError>().map(|error| *error) {
        Ok(GetError::Line(error)) => Error::away(error),
        Ok(error) => Error::caused(Exit::Internal, what, error),
        Err(error) => Error::caused(Exit::Internal, what, error),
    }
}

/// The controller's HTTP paths as the trust client's transport.
struct Http {
    http: reqwest::Client,
    base: String,
}

impl Http {
    fn new(session: &Session) -> Self {
        Self {
            http: session.http().clone(),
            base: session.url(""),
        }
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(format!("{}{path}", self.base))
    }
}

#[async_trait]
impl Transport for Http {
    async fn metadata(
        &self,
        repository: Option<&RepositoryName>,
        file: &str,
        max: u64,
    ) -> std::result::Result<Option<Vec<u8>>, TransportError> {
        let request = self.get(&metadata_path(repository, file));
        http::whole(request, max).await.map_err(TransportError::new)
    }

    async fn blob(
        &self,
        digest: &Digest,
        max: u64,
    ) -> std::result::Result<Vec<u8>, TransportError> {
        let found = http::whole(self.get(&blob_path(digest)), max).await;
        let found = found.map_err(TransportError::new)?;
        found.ok_or_else(|| TransportError::new("the controller does not have it"))
    }
}
