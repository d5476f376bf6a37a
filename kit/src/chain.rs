//! Lines that hang together: made, and verified by whoever has them.
//!
//! Each line is JSON and begins with its own hash, which is the SHA-256 of the line's bytes behind it; these
//! hold the hash of the line before. So a line that was changed, removed, inserted or moved breaks the chain.
//! Lines cut off at the *end* can be told only by whoever kept a [`Head`]. No I/O: files are the business of
//! who keeps the log; a person's machine verifies what it was sent.

use crate::hash;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use tamer_core::digest::Digest;

/// The longest line, in bytes.
pub const MAX_LINE: usize = 64 << 10;

/// A place in the chain. Kept elsewhere, it proves later that nothing up to it was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Head {
    /// The number of the line, from 1; 0 in an empty log.
    pub line: u64,
    /// The line's hash; zeros in an empty log.
    pub hash: Digest,
}

/// The place before the first line.
pub const START: Head = Head {
    line: 0,
    hash: Digest::new([0; 32]),
};

/// What a line holds behind its hash.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Link<T> {
    line: u64,
    prev: Digest,
    entry: T,
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Broken {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
}

/// A text is no [`Head`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write it as LINE:HASH, as `audit verify` and `audit head` print it")]
pub struct BadHead;

/// Follows a chain, and says where it breaks.
#[derive(Debug, Clone)]
pub struct Follower {
    /// The place reached; `None` before the first line where that may be any.
    head: Option<Head>,
    /// Heads that were kept elsewhere and did not come by yet.
    known: Vec<Head>,
}

// === impl Head ===

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.hash)
    }
}

impl FromStr for Head {
    type Err = BadHead;
    fn from_str(given: &str) -> Result<Self, BadHead> {
        let (line, hash) = given.split_once(':').ok_or(BadHead)?;
        Ok(Self {
            line: line.parse().map_err(|_| BadHead)?,
            hash: hash.parse().map_err(|_| BadHead)?,
        })
    }
}

impl TryFrom<String> for Head {
    type Error = BadHead;
    fn try_from(given: String) -> Result<Self, BadHead> {
        given.parse()
    }
}

impl From<Head> for String {
    fn from(head: Head) -> Self {
        head.to_string()
    }
}

// === impl Follower ===

impl Follower {
    /// From the first line on; with heads that were kept elsewhere, also that nothing was cut off or rewritten up to
    /// each of them.
    pub fn new(known: impl IntoIterator<Item = Head>) -> Self {
        Self {
            head: Some(START),
            known: known.into_iter().filter(|known| *known != START).collect(),
        }
    }

    /// From any line on. Of heads that lie before it nothing can be said.
    pub fn midway(known: impl IntoIterator<Item = Head>) -> Self {
        Self {
            head: None,
            ..Self::new(known)
        }
    }

    /// The next line, without its newline: what it holds, if it follows the one before.
    ///
    /// # Errors
    /// [`Broken`]; the chain cannot be followed further.
    pub fn next<T: DeserializeOwned>(&mut self, bytes: &[u8]) -> Result<T, Broken> {
        let expected = self.head.map_or(0, |head| head.line + 1);
        let broken = |line, why: &str| Broken {
            line,
            why: why.to_owned(),
        };
        if bytes.len() >= MAX_LINE {
            return Err(broken(expected, "it is too long"));
        }
        let (hash, prev, line, entry) = parse(bytes).map_err(|why| broken(expected, &why))?;
        if let Some(head) = self.head
            && (prev != head.hash || line != expected)
        {
            let why =
                "it does not follow the line before it: a line was removed, inserted or moved";
            return Err(broken(expected, why));
        }
        let head = Head { line, hash };
        if self
            .known
            .iter()
            .any(|known| known.line == line && *known != head)
        {
            let why = "it was known to be another one: the log was rewritten, up to here or before";
            return Err(broken(line, why));
        }
        self.known.retain(|known| known.line > line);
        self.head = Some(head);
        Ok(entry)
    }

    /// The place reached so far.
    pub fn head(&self) -> Head {
        self.head.unwrap_or(START)
    }

    /// There are no more lines: the last one's place.
    ///
    /// # Errors
    /// [`Broken`]: a known line did not come by.
    pub fn end(self) -> Result<Head, Broken> {
        match self.known.first() {
            None => Ok(self.head()),
            Some(known) => Err(Broken {
                line: known.line,
                why:
                    "the log that was known to hold this line does not: it was cut off or rewritten"
                        .to_owned(),
            }),
        }
    }
}

/// The line of an entry that follows `head`, with its newline.
pub fn line<T: Serialize>(head: Head, entry: &T) -> (Vec<u8>, Head) {
    let link = serde_json::json!({ "line": head.line + 1, "prev": head.hash, "entry": entry });
    // `{"entry":…}`: everything behind the brace is hashed as it stands in the file.
    let text = link.to_string();
    let rest = &text[1..];
    let hash = hash::sha256(rest.as_bytes());
    let next = Head {
        line: head.line + 1,
        hash,
    };
    (format!("{{\"hash\":\"{hash}\",{rest}\n").into_bytes(), next)
}

/// A line by itself: its place, and what it holds. That it follows another one is not looked at.
///
/// # Errors
/// Why it is none.
pub fn read_line<T: DeserializeOwned>(bytes: &[u8]) -> Result<(Head, T), String> {
    let (hash, _, line, entry) = parse(bytes)?;
    Ok((Head { line, hash }, entry))
}

/// Reads a line without its newline, and checks its own hash: that, the one before, its number, its entry.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<(Digest, Digest, u64, T), String> {
    let not_one = || "it is not a line of this log".to_owned();
    let behind = bytes.strip_prefix(b"{\"hash\":\"").ok_or_else(not_one)?;
    let (hash, behind) = behind.split_at_checked(64).ok_or_else(not_one)?;
    let rest = behind.strip_prefix(b"\",").ok_or_else(not_one)?;
    let hash: Digest = std::str::from_utf8(hash)
        .ok()
        .and_then(|hash| hash.parse().ok())
        .ok_or_else(not_one)?;
    if hash::sha256(rest) != hash {
        return Err("it was changed: its hash does not agree".to_owned());
    }
    let mut text = vec![b'{'];
    text.extend_from_slice(rest);
    let link: Link<T> = serde_json::from_slice(&text).map_err(|_| not_one())?;
    Ok((hash, link.prev, link.line, link.entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log(count: u64) -> (Vec<Vec<u8>>, Head) {
        let (mut lines, mut head) = (Vec::new(), START);
        for n in 0..count {
            let (mut text, next) = line(head, &format!("entry {n}"));
            text.pop();
            lines.push(text);
            head = next;
        }
        (lines, head)
    }

    fn follow(lines: &[Vec<u8>], known: Option<Head>) -> Result<Head, Broken> {
        let mut follower = Follower::new(known);
        for line in lines {
            follower.next::<String>(line)?;
        }
        follower.end()
    }

    proptest! {
        #[test]
        fn a_changed_removed_inserted_or_moved_line_is_found(
            count in 2_u64..12, at: prop::sample::Index, to: prop::sample::Index,
            what in 0..4, bit in 0..8_u8, byte: prop::sample::Index,
        ) {
            let (honest, head) = log(count);
            prop_assert_eq!(follow(&honest, Some(head)), Ok(head));
            let mut lines = honest.clone();
            let (at, to) = (at.index(lines.len()), to.index(lines.len()));
            match what {
                0 => {
                    let byte = byte.index(lines[at].len());
                    lines[at][byte] ^= 1 << bit;
                }
                1 => drop(lines.remove(at)),
                2 => lines.insert(at, lines[to].clone()),
                _ => lines.swap(at, to),
            }
            prop_assume!(lines != honest);
            prop_assert!(follow(&lines, Some(head)).is_err());
            // Without the head only a shorter log looks whole.
            if let Ok(end) = follow(&lines, None) {
                prop_assert_eq!((what, end.line), (1, count - 1));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text: String) {
            let _ = read_line::<String>(&bytes);
            let _ = text.parse::<Head>();
        }
    }

    #[test]
    fn a_head_is_read_as_it_is_written() {
        let (_, head) = log(3);
        assert_eq!(head.to_string().parse(), Ok(head));
        for bad in ["", "3", "x:00", "3:00"] {
            assert_eq!(bad.parse::<Head>(), Err(BadHead));
        }
    }

    #[test]
    fn a_part_of_a_log_is_followed_from_where_it_begins() {
        let (lines, head) = log(6);
        let follow = |lines: &[Vec<u8>], known| {
            let mut follower = Follower::midway(known);
            for line in lines {
                follower.next::<String>(line)?;
            }
            follower.end()
        };
        assert_eq!(follow(&lines[3..], Some(head)), Ok(head));
        // It was known before this part, so nothing can be said of it.
        let second = Head { line: 2, ..head };
        assert_eq!(follow(&lines[3..], Some(second)), Ok(head));
        let mut torn = lines[3..].to_vec();
        torn.remove(1);
        assert_eq!(follow(&torn, None).unwrap_err().line, 5);
        let cut = follow(&lines[3..5], Some(head)).unwrap_err();
        assert_eq!(cut.line, 6);
    }

    #[test]
    fn a_log_that_was_written_anew_is_not_the_known_one() {
        let (lines, _) = log(3);
        let (_, longer) = log(4);
        let other = Head { line: 2, ..longer };
        for known in [longer, other] {
            let why = follow(&lines, Some(known)).unwrap_err().to_string();
            assert!(why.contains("rewritten"), "{why}");
            assert!(why.starts_with(&format!("line {}:", known.line)), "{why}");
        }
    }
}
