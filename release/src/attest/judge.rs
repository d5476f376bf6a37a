//! What is proven of a release, by whom, and what is lacking and why. Pure: time is an argument.
//!
//! Of the statements of one kind that count, the newest decides, so that a run that failed later takes back an
//! earlier one that passed. A review counts if it is of the commit that the deciding build names, and by nobody
//! who wrote it.

use super::bundle::{BadBundle, Bundle};
use super::statement::{BadStatement, Build, Claim, CommitId, Statement, Subject};
use super::{MAX_BUNDLES, key_hint};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tamer_core::digest::Digest;
use tamer_core::evidence::{Demanded, EvidenceKey, EvidenceKind, Until, VerifyingKey, same_person};
use tamer_core::id::KeyName;
use tamer_core::moment::{Moment, Span};

/// How far the clock of whoever made a statement may be ahead of ours.
pub const SKEW: Duration = Duration::from_secs(600);

/// Why a bundle does not count, or not for this release.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Not a bundle.
    #[error("it cannot be read: {0}")]
    Bundle(#[from] BadBundle),
    /// No listed key signed it.
    #[error("it is by a key that is not listed here ({0}…)")]
    UnknownKey(String),
    /// It names a listed key, and that key did not sign it.
    #[error("its signature is not that of key `{0}`: it was changed, or forged")]
    Signature(KeyName),
    /// Signed, but not a statement.
    #[error("key `{key}` signed something else: {source}")]
    Statement {
        /// Who signed it.
        key: KeyName,
        /// What is wrong with it.
        source: BadStatement,
    },
    /// The key is past its `until`.
    #[error("since {until} nothing counts that key `{key}` signed")]
    KeyEnded {
        /// The key.
        key: KeyName,
        /// Since when.
        until: Until,
    },
    /// The key is for something else.
    #[error("key `{key}` may not state {what}")]
    MayNotState {
        /// The key.
        key: KeyName,
        /// What it stated.
        what: String,
    },
    /// It is about something else.
    #[error("it is about {0}, not about this release")]
    OtherSubject(String),
    /// It is about something else than this commit.
    #[error("it is of commit {reviewed}, and the release was built from {built}")]
    OtherCommit {
        /// What was reviewed.
        reviewed: String,
        /// What was built.
        built: String,
    },
    /// Without a build that counts, no commit is known.
    #[error("no build that counts says from which commit the release was made")]
    NoBuild,
    /// Who wrote the commit must not review it.
    #[error("{0} wrote the commit, and an author's own review does not count")]
    OwnReview(String),
    /// It says itself that it failed.
    #[error("it says FAILED{0}")]
    Failed(String),
    /// Too old.
    #[error("it is {age} old, and {most} is the most here")]
    Stale {
        /// How old it is.
        age: Span,
        /// How old it may be.
        most: Span,
    },
    /// Made at a time that is still to come.
    #[error("it says that it was made on {0}, which is still to come")]
    Future(Until),
    /// More bundles than are looked at.
    #[error("it is one of more than {MAX_BUNDLES}, which are the most that are looked at")]
    TooMany,
}

/// A bundle that does not count, and why.
#[derive(Debug)]
pub struct SetAside {
    /// Which one: its place among those that were given, from zero.
    pub index: usize,
    /// What it says it is; where the signature does not hold, believed by nobody.
    pub claimed: Option<EvidenceKind>,
    /// Why.
    pub why: Refusal,
}

/// Something that is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Which bundle proves it: its place among those that were given, from zero.
    pub index: usize,
    /// By which key.
    pub key: KeyName,
    /// Whose key it is, where the environment says so.
    pub person: Option<String>,
    /// What was said.
    pub claim: Claim,
}

/// What is proven of a release.
#[derive(Debug, Default)]
pub struct Judged {
    /// What is proven, whether demanded or not.
    pub proven: BTreeMap<EvidenceKind, Proof>,
    /// What is demanded and not proven.
    pub lacking: BTreeSet<EvidenceKind>,
    /// What does not count, and why.
    pub set_aside: Vec<SetAside>,
}

impl Judged {
    /// Whether everything is proven that is demanded.
    pub fn is_enough(&self) -> bool {
        self.lacking.is_empty()
    }

    /// The kinds that are proven.
    pub fn kinds(&self) -> BTreeSet<EvidenceKind> {
        self.proven.keys().copied().collect()
    }

    /// The commit that the release was built from.
    pub fn commit(&self) -> Option<&CommitId> {
        self.build().map(|build| &build.commit)
    }

    fn build(&self) -> Option<&Build> {
        match &self.proven.get(&EvidenceKind::Build)?.claim {
            Claim::Build(build) => Some(build),
            _ => None,
        }
    }
}

/// A statement of a listed key.
struct Stated<'a> {
    index: usize,
    name: &'a KeyName,
    key: &'a EvidenceKey,
    statement: Statement,
}

/// Judges bundles: what they prove of the release with this manifest, at this time.
pub fn judge<B: AsRef<[u8]>>(
    demanded: &Demanded,
    manifest: &Digest,
    bundles: &[B],
    now: Moment,
) -> Judged {
    let mut judged = Judged::default();
    let ring = Ring::new(demanded.keys.iter().map(|(name, it)| (name, &it.key, it)));
    let mut stated: BTreeMap<EvidenceKind, Vec<Stated<'_>>> = BTreeMap::new();
    for (index, bundle) in bundles.iter().enumerate() {
        let opened = match index < MAX_BUNDLES {
            true => ring.open(bundle.as_ref()),
            false => Err((None, Refusal::TooMany)),
        };
        let opened = opened.and_then(|(name, key, statement)| {
            let claimed = statement.kind();
            may_count(demanded, name, key, &statement, now)
                .map(|kind| {
                    (
                        kind,
                        Stated {
                            index,
                            name,
                            key,
                            statement,
                        },
                    )
                })
                .map_err(|why| (claimed, why))
        });
        match opened {
            Ok((kind, it)) => stated.entry(kind).or_default().push(it),
            Err((claimed, why)) => judged.set_aside.push(SetAside {
                index,
                claimed,
                why,
            }),
        }
    }
    // `Review` is the last kind: what it needs of the build is known by then.
    for (kind, stated) in stated {
        judged.decide(kind, stated, manifest);
    }
    judged.set_aside.sort_by_key(|it| it.index);
    judged.lacking = demanded.missing(&judged.kinds());
    judged
}

/// Whether a key may say this, now; about what is not looked at yet.
fn may_count(
    demanded: &Demanded,
    name: &KeyName,
    key: &EvidenceKey,
    statement: &Statement,
    now: Moment,
) -> Result<EvidenceKind, Refusal> {
    let may_not = |what: &str| Refusal::MayNotState {
        key: name.clone(),
        what: what.to_owned(),
    };
    if let Some(until) = key.until.filter(|_| key.has_ended(now)) {
        let key = name.clone();
        return Err(Refusal::KeyEnded { key, until });
    }
    let kind = statement.kind().ok_or_else(|| may_not("an approval"))?;
    if !key.states.contains(&kind) {
        return Err(may_not(kind.name()));
    }
    let at = statement.claim.at();
    if at.since(now) > SKEW {
        return Err(Refusal::Future(Until(at)));
    }
    let age = Span::secs(now.since(at).as_secs());
    match demanded.max_age(kind) {
        Some(most) if age > most => Err(Refusal::Stale { age, most }),
        _ => Ok(kind),
    }
}

impl Judged {
    fn decide(&mut self, kind: EvidenceKind, stated: Vec<Stated<'_>>, manifest: &Digest) {
        let mut best: Option<Stated<'_>> = None;
        for it in stated {
            if let Err(why) = self.is_about(&it, manifest) {
                self.put_aside(kind, &it, why);
                continue;
            }
            let rank =
                |it: &Stated<'_>| (it.statement.claim.at(), failure(&it.statement).is_some());
            match &best {
                Some(other) if rank(other) >= rank(&it) => {}
                _ => best = Some(it),
            }
        }
        let Some(it) = best else { return };
        if let Some(why) = failure(&it.statement) {
            self.put_aside(kind, &it, why);
            return;
        }
        let proof = Proof {
            index: it.index,
            key: it.name.clone(),
            person: it.key.person.clone(),
            claim: it.statement.claim,
        };
        self.proven.insert(kind, proof);
    }

    fn put_aside(&mut self, kind: EvidenceKind, it: &Stated<'_>, why: Refusal) {
        self.set_aside.push(SetAside {
            index: it.index,
            claimed: Some(kind),
            why,
        });
    }

    fn is_about(&self, it: &Stated<'_>, manifest: &Digest) -> Result<(), Refusal> {
        let Claim::Review(_) = it.statement.claim else {
            return match it.statement.is_about(manifest) {
                true => Ok(()),
                false => Err(Refusal::OtherSubject(named(&it.statement))),
            };
        };
        let build = self.build().ok_or(Refusal::NoBuild)?;
        if !it
            .statement
            .subjects
            .contains(&Subject::Commit(build.commit.clone()))
        {
            return Err(Refusal::OtherCommit {
                reviewed: named(&it.statement),
                built: build.commit.short().to_owned(),
            });
        }
        // An environment file without it is refused when it is read.
        let person = it.key.person.as_deref().unwrap_or_default();
        let own = build
            .authors
            .iter()
            .any(|author| same_person(author, person));
        match own || person.is_empty() {
            true => Err(Refusal::OwnReview(person.to_owned())),
            false => Ok(()),
        }
    }
}

/// Why a run proves nothing, if it says itself that it failed.
fn failure(statement: &Statement) -> Option<Refusal> {
    match &statement.claim {
        Claim::Run(run) if !run.passed => Some(Refusal::Failed(match &run.failed[..] {
            [] => String::new(),
            [only] => format!(": `{only}`"),
            [first, more @ ..] => format!(": `{first}` and {} more", more.len()),
        })),
        _ => None,
    }
}

/// What a statement is about, in a few words.
fn named(statement: &Statement) -> String {
    let first = statement.subjects.first();
    let more = statement.subjects.len().saturating_sub(1);
    let first = match first {
        Some(Subject::Manifest { name, digest }) => format!("{name} ({})", digest.short()),
        Some(Subject::Commit(commit)) => commit.short().to_owned(),
        None => "nothing".to_owned(),
    };
    match more {
        0 => first,
        _ => format!("{first} and {more} more"),
    }
}

// === keys ===

/// The listed keys, found by what bundles call them.
pub(super) struct Ring<'a, K>(BTreeMap<Digest, Listed<'a, K>>);

type Listed<'a, K> = (&'a KeyName, &'a VerifyingKey, &'a K);

impl<'a, K> Ring<'a, K> {
    pub(super) fn new(keys: impl Iterator<Item = (&'a KeyName, &'a VerifyingKey, &'a K)>) -> Self {
        let mut ring = BTreeMap::new();
        for listed in keys {
            ring.entry(key_hint(listed.1)).or_insert(listed);
        }
        Self(ring)
    }

    /// Opens a bundle: who signed it, and what it says. Only the key that it names is tried: one verification for each
    /// bundle is the most that rubbish costs, however many keys are listed.
    pub(super) fn open(
        &self,
        bundle: &[u8],
    ) -> Result<(&'a KeyName, &'a K, Statement), (Option<EvidenceKind>, Refusal)> {
        let bundle = Bundle::parse(bundle).map_err(|why| (None, why.into()))?;
        let envelope = &bundle.envelope;
        let claimed = || {
            let unverified = Statement::parse(envelope.unverified());
            unverified.ok().and_then(|statement| statement.kind())
        };
        let named = bundle.key().and_then(|key| self.0.get(&key));
        let Some((name, key, what)) = named else {
            let hint = bundle.hint.chars().take(12).collect();
            return Err((claimed(), Refusal::UnknownKey(hint)));
        };
        let Some(payload) = envelope.verify(key) else {
            let forged = Refusal::Signature((*name).clone());
            return Err((claimed(), forged));
        };
        let statement = Statement::parse(payload).map_err(|source| {
            let key = (*name).clone();
            (None, Refusal::Statement { key, source })
        })?;
        Ok((name, what, statement))
    }
}
