//! Signed metadata: what the controller serves is verified from the pinned team root before
//! anything is built on it, and what is built is signed here.

use crate::blobs;
use crate::client::Session;
use crate::drafts;
use crate::error::{Context, Error, Result};
use crate::exit::Exit;
use crate::home::Home;
use crate::keys::{Keys, TeamKey};
use crate::printer::Printer;
use crate::views::human::parse_date;
use async_trait::async_trait;
use std::path::Path;
use std::sync::Arc;
use tamer_core::digest::Digest;
use tamer_core::id::ApplicationName;
use tamer_core::release::ApplicationVersion;
use tamer_core::version::Version;
use tamer_kit::clock;
use tamer_kit::http::{self, GetError};
use tamer_proto::v1::{GetTrustResponse, PublishRootRequest, PublishTargetsRequest};
use tamer_release::trust::document::{Refused, Verified};
use tamer_release::trust::draft::{Draft, Step};
use tamer_release::trust::editor::{EditError, ROOT_LIFE, RoleKeys, TARGETS_LIFE};
use tamer_release::trust::live::{NewTarget, targets_with};
use tamer_release::trust::names::{blob_path, metadata_path, version_target};
use tamer_release::trust::rotation::NextRoot;
use tamer_release::trust::{
    Client, MetadataFile, PublicKey, RepositoryName, SigningKey, Transport, TransportError,
    TrustError, TrustStore, walk,
};
use tough::schema::RoleType;

/// The largest description of a version that is read, in bytes.
const MAX_VERSION_FILE: u64 = 1 << 20;

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
        let trust = session.published().await?;
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

    /// What a version of the application consists of, as it was signed; `None` where it is not published.
    ///
    /// # Errors
    /// It cannot be fetched, or is not what was signed.
    pub async fn version(
        &self,
        application: &ApplicationName,
        version: &Version,
    ) -> Result<Option<ApplicationVersion>> {
        let name = version_target(application, version);
        let verified = self.verified.as_ref();
        if verified.and_then(|it| it.target(&name)).is_none() {
            return Ok(None);
        }
        let bytes = self.fetch(&name, MAX_VERSION_FILE).await?;
        serde_json::from_slice(&bytes)
            .map(Some)
            .doing(Exit::Internal, || format!("cannot read the signed {name}"))
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

    /// Makes sure that the repository has a root; makes one with the root keys if it has none.
    ///
    /// # Errors
    /// There is none, and too few of the root keys are on this machine.
    pub async fn ensure_root(
        &mut self,
        session: &Session,
        at: &Home,
        targets: &PublicKey,
    ) -> Result<()> {
        if self.row().is_some_and(|row| row.root_version > 0) {
            return Ok(());
        }
        let name = self.name.clone();
        let doing = || format!("cannot begin the repository {name}");
        let transport = Http::new(session);
        let team = walk::team(&transport, self.store.pin()).await;
        let team = team.map_err(|error| refused(error, doing()))?;
        let root = RoleKeys::of(team.current(), RoleType::Root).doing(Exit::Internal, doing)?;
        let keys = Keys::of(at);
        if keys.among(&root.keys)?.is_empty() {
            let what = format!("begin the repository {name}, which needs the team's root key");
            // Says who has one, or that the one here is not the team's any more.
            keys.usual(TeamKey::Root, &what)?;
        }
        let mut next = NextRoot::first_of(&name, root, RoleKeys::one(targets), self.online()?);
        let known = NextRoot::after(None, team.current()).doing(Exit::Internal, doing)?;
        next.hold_as(&known);
        let bytes = next.write(clock::now() + ROOT_LIFE);
        let bytes = bytes.doing(Exit::Internal, doing)?;
        let step = Step::new(Some(name.clone()), None, Some(&bytes), None);
        let steps = vec![step.doing(Exit::Internal, doing)?];
        let asked = format!("begin the repository {name}");
        let draft = Draft::new(asked, Some(team.current()), steps).doing(Exit::Internal, doing)?;
        let root = drafts::signed_or_kept(at, draft)?;
        let root = root.steps[0].root().doing(Exit::Internal, doing)?;
        let request = PublishRootRequest {
            repository: name.to_string(),
            root: root.unwrap_or_default(),
            ..PublishRootRequest::default()
        };
        session.operators().publish_root(request).await?;
        Ok(())
    }

    /// The controller's keys for snapshot and timestamp, as it names them now.
    fn online(&self) -> Result<RoleKeys> {
        online_keys(&self.trust)
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
        at: &Home,
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
                targets: self.signed(session, at, additions, expected).await?,
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
        self.trust = session.published().await?;
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

    /// The next targets with the signatures that they need; where too few keys are at hand, a draft
    /// of them is kept for the others to sign.
    async fn signed(
        &self,
        session: &Session,
        at: &Home,
        additions: &[NewTarget],
        expected: u64,
    ) -> Result<Vec<u8>> {
        let doing = || format!("cannot sign {}", self.name);
        // Only what was verified, never what was merely served, is built on.
        let previous = match &self.verified {
            Some(_) => self.client.accepted_targets(&self.name),
            None => Ok(None),
        };
        let previous = previous.doing(Exit::Internal, doing)?;
        let unsigned = unsigned_targets(&self.name, previous.as_deref(), additions);
        let unsigned = unsigned.map_err(|error| match error {
            EditError::Immutable(_) => Error::usage(error.to_string()),
            error => Error::caused(Exit::Internal, doing(), error),
        })?;
        let transport = Http::new(session);
        let team = walk::team(&transport, self.store.pin()).await;
        let team = team.map_err(|error| refused(error, doing()))?;
        let root = walk::repository(&transport, &self.name, &team).await;
        let root = root.map_err(|error| refused(error, doing()))?;
        let root = root.ok_or_else(|| Error::usage(format!("{} has no root", self.name)))?;
        let name = Some(self.name.clone());
        let step = Step::new(
            name,
            Some(root.current()),
            None,
            Some((&unsigned, expected)),
        );
        let steps = vec![step.doing(Exit::Internal, doing)?];
        let asked = match additions {
            [] => format!("sign {} anew", self.name),
            more => {
                let names: Vec<_> = more.iter().map(NewTarget::name).collect();
                format!("publish {}", names.join(", "))
            }
        };
        let draft = Draft::new(asked, Some(team.current()), steps).doing(Exit::Internal, doing)?;
        let draft = drafts::signed_or_kept(at, draft)?;
        let targets = draft.steps[0].targets().doing(Exit::Internal, doing)?;
        Ok(targets.unwrap_or_default())
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

/// The targets that follow, which nobody has signed yet.
///
/// # Errors
/// [`EditError`].
pub fn unsigned_targets(
    name: &RepositoryName,
    previous: Option<&[u8]>,
    additions: &[NewTarget],
) -> std::result::Result<Vec<u8>, EditError> {
    let nobody: &[&SigningKey] = &[];
    let expires = clock::now() + TARGETS_LIFE;
    targets_with(name, previous, additions.to_vec(), &[], expires, nobody)
}

/// The controller's keys for snapshot and timestamp, as it names them.
///
/// # Errors
/// They are damaged.
pub fn online_keys(trust: &GetTrustResponse) -> Result<RoleKeys> {
    let doing = || "the controller names damaged online keys".to_owned();
    let mut keys: Vec<PublicKey> = Vec::new();
    for json in [&trust.snapshot_key, &trust.timestamp_key] {
        let key: PublicKey = serde_json::from_str(json).doing(Exit::Internal, doing)?;
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Ok(RoleKeys { keys, threshold: 1 })
}

/// What failed on the way is no reason for distrust.
pub fn refused(error: TrustError, what: String) -> Error {
    let TrustError::Fetch { file, source, .. } = error else {
        let renewal = renewal(&error);
        let error = Error::caused(Exit::Refused, what, error);
        return match renewal {
            Some(command) => error.next(command),
            None => error,
        };
    };
    let what = format!("cannot get {file} from the controller");
    match source.0.downcast::<GetError>().map(|error| *error) {
        Ok(GetError::Line(error)) => Error::away(error),
        Ok(error) => Error::caused(Exit::Internal, what, error),
        Err(error) => Error::caused(Exit::Internal, what, error),
    }
}

/// What signs anew what has expired, where the team can. Snapshots and timestamps are the controller's.
fn renewal(error: &TrustError) -> Option<String> {
    let TrustError::Refused {
        repository,
        file,
        reason: Refused::Expired(_),
    } = error
    else {
        return None;
    };
    match file.parse().ok()? {
        MetadataFile::Root(_) => Some("tamer trust renew root".to_owned()),
        MetadataFile::Targets(_) => {
            let role = match repository.parse().ok()? {
                RepositoryName::Application(_) => "release",
                RepositoryName::Environment(_) => "environment",
            };
            Some(format!(
                "tamer trust renew {role} --repository {repository}"
            ))
        }
        MetadataFile::Snapshot(_) | MetadataFile::Timestamp => None,
    }
}

/// The controller's HTTP paths as the trust client's transport.
pub struct Http {
    http: reqwest::Client,
    base: String,
}

impl Http {
    /// Those of this session.
    pub fn new(session: &Session) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_expired_says_how_it_is_signed_anew() {
        let said = |repository: &str, file: &str| {
            let error = TrustError::Refused {
                repository: repository.to_owned(),
                file: file.to_owned(),
                reason: Refused::Expired("2027-02-24T15:31:46Z".to_owned()),
            };
            refused(error, String::new()).next
        };
        let release = "tamer trust renew release --repository app/shop";
        assert_eq!(said("app/shop", "2.targets.json"), [release]);
        let environment = "tamer trust renew environment --repository env/production";
        assert_eq!(said("env/production", "7.targets.json"), [environment]);
        assert_eq!(said("team", "1.root.json"), ["tamer trust renew root"]);
        assert!(said("app/shop", "timestamp.json").is_empty());
    }
}
