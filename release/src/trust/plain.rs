//! Any TUF repository, by the very steps that a host takes: without a label, without a team above it, and
//! with delegations. It is how suites of tests that nobody here wrote reach this code.
//!
//! Delegations are loaded when a name leads to them, in pre-order, each once, and not more than
//! [`MAX_ROLES`] for one name. One that is refused ends the search for the names that lead to it, and for
//! no other: to go on to the next would let whoever can spoil a file choose who is asked.

use super::document::{Document, cap};
use super::error::TrustError;
use super::steps::{At, Steps};
use super::targets::{Delegation, File, Targets};
use super::transport::Transport;
use super::workflow::{Documents, Trusted};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use tamer_core::moment::Moment;

/// How many roles are asked for one name; python-tuf's figure.
pub const MAX_ROLES: usize = 32;

/// What is trusted of a repository, and of the roles that it delegates to.
#[derive(Debug)]
pub struct Plain {
    /// Always there; an option because the steps can begin without.
    trusted: Option<Trusted>,
    delegated: BTreeMap<String, Vec<u8>>,
}

impl Plain {
    /// Begins with what was trusted before: at least a root. `delegated` are documents by their roles,
    /// which are verified again before they are used.
    ///
    /// # Errors
    /// A document that could not have been trusted.
    pub fn restore(
        documents: Documents,
        delegated: BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, TrustError> {
        let refused = |reason| At::Plain.refused("what is kept", reason);
        let trusted = Trusted::restore(None, documents).map_err(refused)?;
        Ok(Self {
            trusted: Some(trusted),
            delegated,
        })
    }

    /// What is trusted, byte for byte.
    pub fn documents(&self) -> Option<Documents> {
        self.trusted.as_ref().map(Trusted::documents)
    }

    /// The documents of roles that were verified, or given, byte for byte.
    pub fn delegated(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.delegated
    }

    /// The whole workflow. What was verified before an error stays trusted.
    ///
    /// # Errors
    /// [`TrustError`].
    pub async fn refresh(
        &mut self,
        transport: &dyn Transport,
        now: Moment,
    ) -> Result<(), TrustError> {
        let at = At::Plain;
        let steps = Steps { at, transport };
        steps.update(&mut self.trusted, None, now).await.map(drop)
    }

    /// 5.6.7 The file of this name, and who vouches for it; to be called after [`Plain::refresh`].
    ///
    /// # Errors
    /// [`TrustError`]; [`TrustError::NoTarget`] where nobody who may does.
    pub async fn find(
        &mut self,
        transport: &dyn Transport,
        name: &str,
        now: Moment,
    ) -> Result<File, TrustError> {
        let none = || TrustError::NoTarget {
            repository: At::Plain.to_string(),
            name: name.to_owned(),
        };
        let top = self.trusted.as_ref().and_then(Trusted::targets);
        let top = top.ok_or_else(none)?.content();
        if let Some(file) = top.file(name) {
            return Ok(file.clone());
        }
        let mut asked = BTreeSet::from(["targets".to_owned()]);
        // The next to be asked is the last.
        let mut ahead = Vec::new();
        push(&mut ahead, top.delegations(name));
        while let Some(next) = ahead.pop() {
            if asked.len() > MAX_ROLES {
                break;
            }
            // 5.6.7.2.1 Below a terminating role only its own are asked.
            if next.terminating {
                ahead.clear();
            }
            if !asked.insert(next.role.clone()) {
                continue;
            }
            let document = self.role(transport, &next, now).await?;
            if let Some(file) = document.content().file(name) {
                return Ok(file.clone());
            }
            push(&mut ahead, document.content().delegations(name));
        }
        Err(none())
    }

    /// The role's document, under the keys of whoever delegates to it now: from what is at hand, or fetched.
    async fn role(
        &mut self,
        transport: &dyn Transport,
        to: &Delegation,
        now: Moment,
    ) -> Result<Document<Targets>, TrustError> {
        let at = At::Plain;
        let shown = to.role.escape_default().to_string();
        let missing = || TrustError::Missing {
            repository: at.to_string(),
            file: shown.clone(),
        };
        let trusted = self.trusted.as_ref().ok_or_else(missing)?;
        let wanted = trusted
            .wanted_role(&to.role)
            .map_err(|reason| at.refused(&shown, reason))?;
        if let Some(bytes) = self.delegated.get(&to.role)
            && let Ok(document) = trusted.delegated(to, bytes.clone(), now)
        {
            return Ok(document);
        }
        let file = format!("{}.{}.json", wanted.version, quoted(&to.role));
        let max = wanted.length.unwrap_or(cap::TARGETS).min(cap::TARGETS);
        let bytes = Steps { at, transport }.must(&file, max).await?;
        let document = trusted
            .delegated(to, bytes.clone(), now)
            .map_err(|reason| at.refused(&file, reason))?;
        self.delegated.insert(to.role.clone(), bytes);
        Ok(document)
    }
}

/// In the order of the document: the first is asked next. A terminating one is the last.
fn push(ahead: &mut Vec<Delegation>, delegations: Vec<Delegation>) {
    let end = delegations.iter().position(|one| one.terminating);
    let count = end.map_or(delegations.len(), |last| last + 1);
    ahead.extend(delegations.into_iter().take(count).rev());
}

/// A name as one part of an address or a path: whatever is not a letter, a digit or one of `_.-~` is
/// percent-encoded, slashes too.
pub fn quoted(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                text.push(char::from(byte));
            }
            // Writing to a string does not fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}
