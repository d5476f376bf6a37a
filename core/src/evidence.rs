//! What an environment demands to be proven of a release, by whose keys, and how fresh; and whose approval a
//! deployment there needs.

mod key;

pub use key::{BadKey, Until, VerifyingKey};

use crate::id::KeyName;
use crate::moment::{Moment, Span};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The most keys that one table of an environment file may list.
pub const MAX_KEYS: usize = 64;

/// A kind of signed statement about a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// How it was built, from which commit.
    Build,
    /// The linters passed.
    Lint,
    /// The tests passed.
    Test,
    /// The tests of single units passed.
    Unit,
    /// The tests of what it does passed.
    Functional,
    /// The tests that decide whether it is accepted passed.
    Acceptance,
    /// Somebody other than the author reviewed the commit.
    Review,
}

impl EvidenceKind {
    /// All kinds, in the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::Build,
        Self::Lint,
        Self::Test,
        Self::Unit,
        Self::Functional,
        Self::Acceptance,
        Self::Review,
    ];

    /// Its name, as in environment files and statements.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Lint => "lint",
            Self::Test => "test",
            Self::Unit => "unit",
            Self::Functional => "functional",
            Self::Acceptance => "acceptance",
            Self::Review => "review",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it is the result of a run that passes or fails.
    pub const fn is_result(self) -> bool {
        !matches!(self, Self::Build | Self::Review)
    }
}

impl fmt::Display for EvidenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What an environment demands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demanded {
    /// The kinds that must all be proven.
    #[serde(default)]
    pub require: BTreeSet<EvidenceKind>,
    /// How old a statement may be; without it, of any age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
    /// How old a statement of one kind may be, where that differs from `max_age`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub max_age_of: BTreeMap<EvidenceKind, Span>,
    /// The keys whose statements count here, and what each may state.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<KeyName, EvidenceKey>,
}

/// A key whose statements count in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceKey {
    /// The public key, ECDSA P-256.
    pub key: VerifyingKey,
    /// The kinds of evidence that it may state.
    pub states: BTreeSet<EvidenceKind>,
    /// Whose key it is: the address that this person's commits carry. Needed to state `review`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// When nothing that it signed counts any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
}

/// Whose approval a deployment needs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// How many people must approve each deployment.
    #[serde(default)]
    pub needed: u32,
    /// Whether who asks for a deployment cannot approve it: by the name of their key, or its `person`.
    #[serde(default)]
    pub four_eyes: bool,
    /// The keys whose approvals count here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<KeyName, ApprovalKey>,
}

/// A key whose approvals count in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalKey {
    /// The public key, ECDSA P-256.
    pub key: VerifyingKey,
    /// Whose key it is: several keys of one person are one approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// When nothing that it signed counts any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
}

/// The longest name of a person, in bytes: that of an address (RFC 5321, 4.5.3.1.3).
pub const MAX_PERSON: usize = 254;

/// Whether two names are the same person's: addresses differ in more than case and space.
pub fn same_person(one: &str, other: &str) -> bool {
    one.trim().to_lowercase() == other.trim().to_lowercase()
}

fn check_person(whose: &KeyName, person: Option<&str>) -> Result<(), String> {
    match person {
        Some(person) if person.trim().is_empty() || person.len() > MAX_PERSON => Err(format!(
            "key `{whose}`: `person` must be the address in this person's commits, at most {MAX_PERSON} bytes"
        )),
        Some(person) if person.chars().any(char::is_control) => Err(format!(
            "key `{whose}`: `person` has a control character: {person:?}"
        )),
        _ => Ok(()),
    }
}

/// Refuses too many keys, and one key under two names: what it may do must stand in one place.
fn check_keys<'a>(
    keys: impl ExactSizeIterator<Item = (&'a KeyName, &'a VerifyingKey)>,
) -> Result<(), String> {
    if keys.len() > MAX_KEYS {
        return Err(format!("{MAX_KEYS} keys are the most"));
    }
    let mut seen = BTreeMap::new();
    for (name, key) in keys {
        if let Some(other) = seen.insert(key, name) {
            return Err(format!(
                "`{other}` and `{name}` are the same key: list it once, with all that it may state"
            ));
        }
    }
    Ok(())
}

// === impl Demanded ===

impl Demanded {
    /// What is demanded and not proven; empty when the release may be accepted.
    pub fn missing(&self, proven: &BTreeSet<EvidenceKind>) -> BTreeSet<EvidenceKind> {
        self.require.difference(proven).copied().collect()
    }

    /// How old a statement of this kind may be.
    pub fn max_age(&self, kind: EvidenceKind) -> Option<Span> {
        self.max_age_of.get(&kind).copied().or(self.max_age)
    }

    /// Refuses demands that nobody could ever meet, and keys that serve nothing.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn validate(&self) -> Result<(), String> {
        check_keys(self.keys.iter().map(|(name, key)| (name, &key.key)))?;
        for (name, key) in &self.keys {
            if key.states.is_empty() {
                return Err(format!(
                    "key `{name}` states nothing: give it kinds of evidence in `states`, or leave it out"
                ));
            }
            check_person(name, key.person.as_deref())?;
            if key.states.contains(&EvidenceKind::Review) && key.person.is_none() {
                return Err(format!(
                    "key `{name}` states review and names nobody: say whose it is in `person`, as an author must not review"
                ));
            }
        }
        let stated = |kind| self.keys.values().any(|key| key.states.contains(&kind));
        if let Some(kind) = self.require.iter().find(|kind| !stated(**kind)) {
            return Err(format!(
                "{kind} is required, and no key may state it: list one under [evidence.keys.NAME] with states = [\"{kind}\"]"
            ));
        }
        if self.require.contains(&EvidenceKind::Review) && !stated(EvidenceKind::Build) {
            return Err(
                "review is required, and a review is of the commit that a build names: list a key that states build too"
                    .to_owned(),
            );
        }
        let ages = self.max_age_of.values().chain(&self.max_age);
        if ages.into_iter().any(|age| age.0.is_zero()) {
            return Err(
                "`max_age` is 0, which no statement can meet: leave it out for any age".to_owned(),
            );
        }
        Ok(())
    }
}

impl EvidenceKey {
    /// Whether nothing that it signed counts any more.
    pub fn has_ended(&self, now: Moment) -> bool {
        self.until.is_some_and(|until| until.0 <= now)
    }
}

// === impl Approval ===

impl Approval {
    /// How many different people can approve here.
    pub fn people(&self) -> usize {
        let people = self.keys.iter().map(|(name, key)| key.whose(name));
        let people: BTreeSet<_> = people.map(|who| who.trim().to_lowercase()).collect();
        people.len()
    }

    /// Refuses a number of people that cannot be reached, and keys that serve nothing.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn validate(&self) -> Result<(), String> {
        check_keys(self.keys.iter().map(|(name, key)| (name, &key.key)))?;
        for (name, key) in &self.keys {
            check_person(name, key.person.as_deref())?;
        }
        let people = self.people();
        if usize::try_from(self.needed).map_or(true, |needed| needed > people) {
            return Err(format!(
                "{} must approve, and the keys are those of {people}: list more under [approval.keys.NAME]",
                self.needed
            ));
        }
        if self.needed == 0 && !self.keys.is_empty() {
            return Err(
                "keys are listed and nobody must approve: say `needed = 1`, or leave them out"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

impl ApprovalKey {
    /// Whose it is: the person, or the key's own name.
    pub fn whose<'a>(&'a self, name: &'a KeyName) -> &'a str {
        self.person.as_deref().unwrap_or(name.as_str())
    }

    /// Whether nothing that it signed counts any more.
    pub fn has_ended(&self, now: Moment) -> bool {
        self.until.is_some_and(|until| until.0 <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    /// A public key as `openssl ec -pubout -outform DER | base64` writes them.
    const CI: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";

    fn refused(text: &str) -> String {
        let text = text.replace("CI", CI);
        Environment::parse("p.toml", &text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_demanded_by_whose_keys_and_how_fresh() {
        let text = format!(
            "[evidence]\nrequire = [\"build\", \"test\", \"review\"]\nmax_age = \"30d\"\nmax_age_of = {{ test = \"7d\" }}\n\
             [evidence.keys.ci]\nkey = \"{CI}\"\nstates = [\"build\", \"test\"]\nuntil = \"2027-01-01\"\n\
             [evidence.keys.anna]\nkey = \"{}\"\nstates = [\"review\"]\nperson = \"anna@shop.example\"\n\
             [approval]\nneeded = 1\n[approval.keys.anna]\nkey = \"{CI}\"\n",
            other()
        );
        let here = Environment::parse("p.toml", &text).unwrap();
        let demanded = &here.evidence;
        assert_eq!(
            demanded.max_age(EvidenceKind::Test),
            Some(Span::secs(7 * 86_400))
        );
        assert_eq!(
            demanded.max_age(EvidenceKind::Build),
            Some(Span::secs(30 * 86_400))
        );
        let ci = &demanded.keys[&"ci".parse().unwrap()];
        assert!(
            !ci.has_ended(Moment(1_798_761_599_999)) && ci.has_ended(Moment(1_798_761_600_000))
        );
        let missing = demanded.missing(&BTreeSet::from([EvidenceKind::Build]));
        assert_eq!(
            missing,
            BTreeSet::from([EvidenceKind::Test, EvidenceKind::Review])
        );
        assert_eq!(here.approval.people(), 1);
        let json = serde_json::to_string(&here).unwrap();
        assert_eq!(serde_json::from_str::<Environment>(&json).unwrap(), here);
    }

    /// Another well-formed key than [`CI`].
    fn other() -> String {
        let mut text = CI.to_owned();
        text.replace_range(60..64, "AAAA");
        text
    }

    #[test]
    fn demands_that_nobody_could_meet_are_refused_with_the_reason() {
        for (text, reason) in [
            ("[evidence]\nrequire = [\"test\"]", "no key may state it"),
            ("[evidence]\nrequire = [\"tset\"]", "did you mean `test`?"),
            (
                "[evidence]\nrequires = [\"test\"]",
                "did you mean `require`?",
            ),
            (
                "[evidence.keys.ci]\nkey = \"CI\"\nstates = []",
                "states nothing",
            ),
            (
                "[evidence.keys.ci]\nkey = \"CI\"\nstate = []",
                "did you mean `states`?",
            ),
            (
                "[evidence.keys.ci]\nkey = \"CI\"\nstates = [\"review\"]",
                "names nobody",
            ),
            (
                "[evidence]\nrequire = [\"review\"]\n[evidence.keys.a]\nkey = \"CI\"\nstates = [\"review\"]\nperson = \"a@b\"",
                "a key that states build too",
            ),
            (
                "[evidence.keys.a]\nkey = \"CI\"\nstates = [\"test\"]\n[evidence.keys.b]\nkey = \"CI\"\nstates = [\"lint\"]",
                "the same key",
            ),
            ("[evidence]\nmax_age = \"0s\"", "no statement can meet"),
            (
                "[evidence.keys.ci]\nkey = \"hello\"\nstates = [\"test\"]",
                "ECDSA P-256",
            ),
            (
                "[evidence.keys.ci]\nkey = \"CI\"\nstates = [\"test\"]\nuntil = \"soon\"",
                "2027-01-31",
            ),
            ("[approval]\nneeded = 1", "those of 0"),
            (
                "[approval]\nneeded = 2\n[approval.keys.a]\nkey = \"CI\"\nperson = \"anna\"",
                "2 must approve, and the keys are those of 1",
            ),
            ("[approval.keys.a]\nkey = \"CI\"", "nobody must approve"),
            ("[approval]\nfour_eyes = true", "nobody must approve"),
            ("[approval]\nneed = 1", "did you mean `needed`?"),
        ] {
            let said = refused(text);
            assert!(said.contains(reason), "{text}\n{said}");
        }
    }

    #[test]
    fn one_persons_keys_are_one_person() {
        assert!(same_person("Anna@shop.example ", "anna@shop.example"));
        assert!(!same_person("anna@shop.example", "ben@shop.example"));
    }

    #[test]
    fn every_kind_has_one_name() {
        for kind in EvidenceKind::ALL {
            assert_eq!(EvidenceKind::named(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
