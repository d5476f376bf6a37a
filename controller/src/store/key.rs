//! Keys and batches, valid by construction: what is too long or too large is refused where it is made.

use super::frame::HEADER;
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// The longest key, in bytes: a kind, the longest host name (253) and room for a number. Longer
/// ones would make sled's index pages (256 keys) spill into blob files.
pub const MAX_KEY: usize = 320;

/// The largest value, in bytes: 64 KiB on disk, frame included.
pub const MAX_VALUE: usize = (64 << 10) - HEADER;

/// The largest batch, in bytes of keys and values.
pub const MAX_BATCH: usize = 4 << 20;

/// Why something does not fit into the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// A key breaks a rule.
    #[error("`{given}` is not a valid key: {reason}")]
    Key {
        /// The key as given, at most 80 characters of it.
        given: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A value is too large: whoever writes it must split it.
    #[error("the value of `{key}` has {size} bytes: the store takes at most {MAX_VALUE}")]
    Value {
        /// The key.
        key: Key,
        /// The size of the value, in bytes.
        size: usize,
    },
    /// A batch is too large: whoever writes it must split it.
    #[error("a batch of more than {MAX_BATCH} bytes is not taken: `{key}` does not fit any more")]
    Batch {
        /// The key that did not fit.
        key: Key,
    },
}

/// The name of an object: `host/web-01`, `event/00000000000000000042`. Keys are ordered as bytes,
/// so numbers are written with leading zeros: see [`Key::numbered`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// `kind/` and a number of twenty digits, so that the order of keys is that of the numbers.
    ///
    /// # Errors
    /// [`BadEntry::Key`] for a bad kind.
    pub fn numbered(kind: &str, number: u64) -> Result<Self, BadEntry> {
        format!("{kind}/{number:020}").try_into()
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number that [`Key::numbered`] put at the end.
    pub fn number(&self) -> Option<u64> {
        let (_, digits) = self.0.rsplit_once('/')?;
        (digits.len() == 20).then(|| digits.parse().ok()).flatten()
    }
}

impl FromStr for Key {
    type Err = BadEntry;
    fn from_str(given: &str) -> Result<Self, BadEntry> {
        given.to_owned().try_into()
    }
}

impl TryFrom<String> for Key {
    type Error = BadEntry;
    fn try_from(given: String) -> Result<Self, BadEntry> {
        let bad = |reason| {
            Err(BadEntry::Key {
                given: given.chars().take(80).collect(),
                reason,
            })
        };
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._:@+=/".contains(&b);
        if given.len() > MAX_KEY {
            return bad("it is too long");
        }
        if !given.bytes().all(fits) {
            return bad("only letters, digits and -._:@+=/ may stand in it");
        }
        if given.split('/').any(str::is_empty) {
            return bad("an empty part may not stand in it");
        }
        Ok(Self(given))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// One change of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// The object has this value from now on.
    Put(Key, Vec<u8>),
    /// The object is gone, if it was there.
    Delete(Key),
}

/// Changes that happen together or not at all; of two changes of one key the later one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Vec<Op>,
    size: usize,
}

impl Batch {
    /// Adds a change: `key` has `value` from now on.
    ///
    /// # Errors
    /// [`BadEntry::Value`] or [`BadEntry::Batch`]; the batch is then as before.
    pub fn put(&mut self, key: Key, value: Vec<u8>) -> Result<(), BadEntry> {
        if value.len() > MAX_VALUE {
            return Err(BadEntry::Value {
                key,
                size: value.len(),
            });
        }
        self.add(key.0.len() + value.len(), Op::Put(key, value))
    }

    /// Adds a change: `key` is gone from now on.
    ///
    /// # Errors
    /// [`BadEntry::Batch`]; the batch is then as before.
    pub fn delete(&mut self, key: Key) -> Result<(), BadEntry> {
        self.add(key.0.len(), Op::Delete(key))
    }

    fn add(&mut self, size: usize, op: Op) -> Result<(), BadEntry> {
        if self.size + size > MAX_BATCH {
            let (Op::Put(key, _) | Op::Delete(key)) = op;
            return Err(BadEntry::Batch { key });
        }
        self.size += size;
        self.ops.push(op);
        Ok(())
    }

    /// The changes, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The bytes of all keys and values.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_plain_ordered_and_bounded() {
        for good in [
            "a",
            "host/web-01.example.org",
            "target/p/shop/web",
            "x/A:@+=_",
        ] {
            assert_eq!(good.parse::<Key>().unwrap().as_str(), good);
        }
        let long = "k".repeat(MAX_KEY + 1);
        for bad in ["", "/a", "a/", "a//b", "a b", "a\0b", "ä", long.as_str()] {
            assert!(bad.parse::<Key>().is_err(), "{bad:?}");
        }
        let nine = Key::numbered("event", 9).unwrap();
        let ten = Key::numbered("event", 10).unwrap();
        assert!(nine < ten);
        assert_eq!(ten.number(), Some(10));
        assert_eq!("host/web".parse::<Key>().unwrap().number(), None);
    }

    #[test]
    fn too_large_is_refused_by_name_and_changes_nothing() {
        let key: Key = "host/a".parse().unwrap();
        let mut batch = Batch::default();
        batch.put(key.clone(), vec![0; MAX_VALUE]).unwrap();
        let refused = batch.put(key.clone(), vec![0; MAX_VALUE + 1]).unwrap_err();
        assert!(matches!(refused, BadEntry::Value { size, .. } if size == MAX_VALUE + 1));
        assert!(refused.to_string().contains("host/a"));
        assert_eq!(batch.ops().len(), 1);
        let full = (0..100).find_map(|_| batch.put(key.clone(), vec![0; MAX_VALUE]).err());
        assert!(matches!(full, Some(BadEntry::Batch { .. })));
        assert!(batch.size() <= MAX_BATCH);
    }
}
