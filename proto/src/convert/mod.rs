//! Wire to core and back. Core's words go out by `From`, and never fail: what is too long for the
//! wire is cut. What comes in is checked, capped and parsed by `TryFrom`, or refused by its field.

mod desired;
mod drift;
mod report;
mod route;
mod transfer;

pub use transfer::{take_transfers, tell_transfer};

use crate::v1;
use std::fmt;
use tamer_core::desired::Slot;
use tamer_core::digest::Digest;
use tamer_core::generation::Generation;
use tamer_core::release::ReleaseRef;

/// The most components in one message: far above what one server runs.
pub const MAX_COMPONENTS: usize = 1_000;

/// The most checks in one list.
pub const MAX_CHECKS: usize = 1_000;

/// The most releases named for one component: to stage, to keep, or whole on disk.
pub const MAX_RELEASES: usize = 1_000;

/// The most differences named of one component.
pub const MAX_DRIFT: usize = tamer_core::drift::NAMED;

/// The most differences named of one component to whoever asks for them all.
pub const MAX_INSPECTED: usize = tamer_core::drift::NAMED_WHEN_ASKED;

/// The most bytes that all differences named to whoever asks may take: half of what a message may.
pub const MAX_NAMES: usize = crate::MAX_MESSAGE / 2;

/// The longest text in bytes: a reason, a message, a path.
pub const MAX_TEXT: usize = 64 << 10;

/// The longest captured output in bytes.
pub const MAX_OUTPUT: usize = 4 << 10;

/// Why a message off the wire was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the message's field `{field}` was refused: {reason}")]
pub struct BadMessage {
    /// The field, with the path to it: `components[3].slot.application`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl BadMessage {
    /// Refuses `field`.
    pub fn new(field: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self {
            field: field.into(),
            reason: reason.to_string(),
        }
    }

    /// The same refusal, told from one message further out.
    fn inside(self, outer: impl fmt::Display) -> Self {
        Self {
            field: format!("{outer}.{}", self.field),
            ..self
        }
    }
}

// === the words that both directions use ===

impl From<&Generation> for v1::Generation {
    fn from(generation: &Generation) -> Self {
        Self {
            epoch: generation.epoch,
            counter: generation.counter,
        }
    }
}

impl From<v1::Generation> for Generation {
    fn from(generation: v1::Generation) -> Self {
        Self {
            epoch: generation.epoch,
            counter: generation.counter,
        }
    }
}

impl From<&ReleaseRef> for v1::ReleaseRef {
    fn from(release: &ReleaseRef) -> Self {
        Self {
            version: release.version.to_string(),
            manifest: digest_bytes(&release.manifest),
        }
    }
}

impl TryFrom<v1::ReleaseRef> for ReleaseRef {
    type Error = BadMessage;
    fn try_from(release: v1::ReleaseRef) -> Result<Self, BadMessage> {
        Ok(Self {
            version: parsed("version", release.version)?,
            manifest: digest("manifest", &release.manifest)?,
        })
    }
}

impl From<&Slot> for v1::Slot {
    fn from(slot: &Slot) -> Self {
        Self {
            application: slot.application.to_string(),
            component: slot.component.to_string(),
            pool: slot.pool.to_string(),
        }
    }
}

impl TryFrom<v1::Slot> for Slot {
    type Error = BadMessage;
    fn try_from(slot: v1::Slot) -> Result<Self, BadMessage> {
        Ok(Self {
            application: parsed("application", slot.application)?,
            component: parsed("component", slot.component)?,
            pool: parsed("pool", slot.pool)?,
        })
    }
}

/// A digest as the wire carries it: its 32 bytes.
pub fn digest_bytes(digest: &Digest) -> Vec<u8> {
    digest.as_bytes().to_vec()
}

/// Reads a digest off the wire.
///
/// # Errors
/// [`BadMessage`] that names `field`, unless there are exactly 32 bytes.
pub fn digest(field: &str, bytes: &[u8]) -> Result<Digest, BadMessage> {
    Digest::try_from(bytes).map_err(|_| {
        let given = bytes.len();
        BadMessage::new(field, format!("a SHA-256 digest has 32 bytes, not {given}"))
    })
}

// === what the conversions are made of ===

/// A digest that may be missing: then there are no bytes.
fn digest_or_nothing(digest: Option<&Digest>) -> Vec<u8> {
    digest.map_or_else(Vec::new, digest_bytes)
}

fn digest_if_any(field: &str, bytes: &[u8]) -> Result<Option<Digest>, BadMessage> {
    match bytes {
        [] => Ok(None),
        bytes => digest(field, bytes).map(Some),
    }
}

fn parsed<T>(field: &str, given: String) -> Result<T, BadMessage>
where
    T: TryFrom<String>,
    T::Error: fmt::Display,
{
    T::try_from(given).map_err(|reason| BadMessage::new(field, reason))
}

fn needed<W, T>(field: &str, given: Option<W>) -> Result<T, BadMessage>
where
    T: TryFrom<W>,
    BadMessage: From<T::Error>,
{
    let given = given.ok_or_else(|| BadMessage::new(field, "it is missing"))?;
    T::try_from(given).map_err(|e| BadMessage::from(e).inside(field))
}

fn optional<W, T>(field: &str, given: Option<W>) -> Result<Option<T>, BadMessage>
where
    T: TryFrom<W>,
    BadMessage: From<T::Error>,
{
    given.map(|given| needed(field, Some(given))).transpose()
}

/// So that `needed` also takes words whose conversion cannot fail.
impl From<std::convert::Infallible> for BadMessage {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

fn list<W, T>(
    field: &str,
    max: usize,
    given: Vec<W>,
    read: impl Fn(W) -> Result<T, BadMessage>,
) -> Result<Vec<T>, BadMessage> {
    at_most(field, max, given.len())?;
    // Not collected: that would keep the room of what was given, which is larger, for as long as this list is kept.
    let mut list = Vec::with_capacity(given.len());
    for (n, item) in given.into_iter().enumerate() {
        list.push(read(item).map_err(|e| e.inside(format_args!("{field}[{n}]")))?);
    }
    Ok(list)
}

fn digests(field: &str, given: &[Vec<u8>]) -> Result<Vec<Digest>, BadMessage> {
    at_most(field, MAX_RELEASES, given.len())?;
    given
        .iter()
        .enumerate()
        .map(|(n, bytes)| digest(&format!("{field}[{n}]"), bytes))
        .collect()
}

fn at_most(field: &str, max: usize, given: usize) -> Result<(), BadMessage> {
    if given > max {
        let reason = format!("there are {given} of them, and at most {max} are read");
        return Err(BadMessage::new(field, reason));
    }
    Ok(())
}

fn text(field: &str, max: usize, given: String) -> Result<String, BadMessage> {
    if given.len() > max {
        let reason = format!("it has {} bytes, and at most {max} are read", given.len());
        return Err(BadMessage::new(field, reason));
    }
    Ok(given)
}

/// Each component may be named once: which of two statements holds would be anyone's guess.
fn no_slot_twice<'a>(slots: impl IntoIterator<Item = &'a Slot>) -> Result<(), BadMessage> {
    let mut seen = std::collections::BTreeSet::new();
    for slot in slots {
        if !seen.insert(slot) {
            return Err(BadMessage::new(
                "components",
                format!("`{slot}` is named twice"),
            ));
        }
    }
    Ok(())
}

/// The beginning of a text, at most `max` bytes.
fn head(text: &str, max: usize) -> String {
    let end = (0..=max.min(text.len()))
        .rev()
        .find(|&n| text.is_char_boundary(n));
    text[..end.unwrap_or(0)].to_owned()
}

/// The end of a text, at most `max` bytes: of an output the last lines say what went wrong.
fn tail(text: &str, max: usize) -> String {
    let from = (text.len().saturating_sub(max)..text.len()).find(|&n| text.is_char_boundary(n));
    text[from.unwrap_or(text.len())..].to_owned()
}
