//! Paths inside a release, and targets of its links: bytes, for Linux demands no encoding of a name.
//!
//! In JSON they are strings where they are UTF-8, and `{"hex":"61ff"}` where they are not, and only there: one
//! path has one spelling. People see them escaped, so that no name can move a cursor or pass for another one;
//! [`TreePath::from_shown`] reads that back.

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;

/// The longest path of an entry, in bytes: with the install root before it, it must fit `PATH_MAX`.
pub const MAX_PATH: usize = 2048;

/// The longest name in a path, in bytes (`NAME_MAX`).
pub const MAX_NAME: usize = 255;

/// The longest target of a link, in bytes (`PATH_MAX` less its NUL).
pub const MAX_TARGET: usize = 4095;

/// Why bytes are not the path of an entry, or not the target of a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}`: {reason}")]
pub struct BadPath {
    /// The bytes, escaped; the first of them, where there are many.
    pub shown: String,
    /// The rule that they break.
    pub reason: &'static str,
}

/// The path of an entry: relative to the release's directory, plain names with `/` between, no `.`, `..` or
/// empty name, of at most [`MAX_PATH`] bytes.
///
/// Paths are ordered as a walk meets them: what lies below a directory comes right after it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TreePath(Box<[u8]>);

/// What a symbolic link of a release points to: relative, at most [`MAX_TARGET`] bytes. Whether it stays in
/// the release depends on where the link is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkTarget(Box<[u8]>);

/// Bytes of a path as people see them.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a [u8]);

/// The order in which a walk meets paths: what lies below a directory comes right after it.
pub fn walk_order(a: &[u8], b: &[u8]) -> Ordering {
    // The end of a name comes before everything, also before a zero byte, which only what was not judged has.
    let plain = |byte: u8| match byte {
        b'/' => 0,
        byte => u16::from(byte) + 1,
    };
    match a.iter().zip(b).position(|(x, y)| x != y) {
        Some(at) => plain(a[at]).cmp(&plain(b[at])),
        None => a.len().cmp(&b.len()),
    }
}

/// The rule that a path of an entry breaks; `None`: it breaks none.
fn broken(path: &[u8]) -> Option<&'static str> {
    let plain =
        |name: &[u8]| !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'\0');
    if !path.split(|byte| *byte == b'/').all(plain) {
        return Some("it is not a relative path of plain names");
    }
    let long = |name: &[u8]| name.len() > MAX_NAME;
    (path.len() > MAX_PATH || path.split(|byte| *byte == b'/').any(long))
        .then_some("it is too long")
}

fn broken_target(target: &[u8]) -> Option<&'static str> {
    if target.is_empty() || target.len() > MAX_TARGET || target.contains(&b'\0') {
        return Some("its target is no path");
    }
    target
        .starts_with(b"/")
        .then_some("it points to an absolute path")
}

// === impl BadPath ===

impl BadPath {
    /// These bytes break this rule.
    pub fn new(bytes: &[u8], reason: &'static str) -> Self {
        const MOST: usize = 200;
        let shown = Shown(&bytes[..bytes.len().min(MOST)]).to_string();
        Self { shown, reason }
    }
}

// === impl TreePath ===

impl TreePath {
    /// Takes bytes for the path of an entry.
    ///
    /// # Errors
    /// [`BadPath`] with the rule that they break.
    pub fn new(bytes: &[u8]) -> Result<Self, BadPath> {
        match broken(bytes) {
            Some(reason) => Err(BadPath::new(bytes, reason)),
            None => Ok(Self(bytes.into())),
        }
    }

    /// Takes any bytes: for tests of those who must refuse them.
    #[doc(hidden)]
    pub fn unjudged(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Judges what [`TreePath::unjudged`] may have made.
    ///
    /// # Errors
    /// [`BadPath`] with the rule that it breaks.
    pub fn judge(&self) -> Result<(), BadPath> {
        broken(&self.0).map_or(Ok(()), |reason| Err(BadPath::new(&self.0, reason)))
    }

    /// Reads a path as it is shown to people.
    ///
    /// # Errors
    /// [`BadPath`]: it is no path, or cannot have been shown like this.
    pub fn from_shown(shown: &str) -> Result<Self, BadPath> {
        match unescaped(shown) {
            Some(bytes) => Self::new(&bytes),
            None => Err(BadPath::new(
                shown.as_bytes(),
                "it has a `\\` with something strange behind it",
            )),
        }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a path of the file system, relative to the release.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The path of the directory that it lies in; `None` for the release's own.
    pub fn parent(&self) -> Option<&[u8]> {
        let slash = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(&self.0[..slash])
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        walk_order(&self.0, &other.0)
    }
}

impl FromStr for TreePath {
    type Err = BadPath;
    fn from_str(text: &str) -> Result<Self, BadPath> {
        Self::new(text.as_bytes())
    }
}

impl PartialEq<str> for TreePath {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl PartialEq<&str> for TreePath {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl AsRef<Path> for TreePath {
    fn as_ref(&self) -> &Path {
        self.as_path()
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&self.0).fmt(f)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl Serialize for TreePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for TreePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let judge = |bytes: &[u8]| Self::new(bytes);
        deserializer.deserialize_any(Bytes(judge))
    }
}

// === impl LinkTarget ===

impl LinkTarget {
    /// Takes bytes for the target of a link.
    ///
    /// # Errors
    /// [`BadPath`] with the rule that they break.
    pub fn new(bytes: &[u8]) -> Result<Self, BadPath> {
        match broken_target(bytes) {
            Some(reason) => Err(BadPath::new(bytes, reason)),
            None => Ok(Self(bytes.into())),
        }
    }

    /// Takes any bytes: for tests of those who must refuse them.
    #[doc(hidden)]
    pub fn unjudged(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Judges where a link at `path` points to: inside the tree, and with `..` only in front.
    ///
    /// A `..` in front counts from the link's own directory, which is a real one. After a name it would count
    /// from wherever that name leads, if it is a link itself, and could leave the tree although it reads as if
    /// it stayed.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn judge(&self, path: &TreePath) -> Result<(), &'static str> {
        if let Some(reason) = broken_target(&self.0) {
            return Err(reason);
        }
        let mut depth = path.0.iter().filter(|byte| **byte == b'/').count();
        let mut names = false;
        for part in self.0.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." if names => return Err("its target has `..` after a name"),
                b".." => depth = depth.checked_sub(1).ok_or("it points out of the release")?,
                _ => names = true,
            }
        }
        Ok(())
    }
}

impl FromStr for LinkTarget {
    type Err = BadPath;
    fn from_str(text: &str) -> Result<Self, BadPath> {
        Self::new(text.as_bytes())
    }
}

impl fmt::Display for LinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&self.0).fmt(f)
    }
}

impl fmt::Debug for LinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl Serialize for LinkTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for LinkTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let judge = |bytes: &[u8]| Self::new(bytes);
        deserializer.deserialize_any(Bytes(judge))
    }
}

// === in JSON ===

fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if let Ok(text) = str::from_utf8(bytes) {
        return serializer.serialize_str(text);
    }
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry("hex", &hex::encode(bytes))?;
    map.end()
}

/// Reads bytes in either spelling, and hands them on to be judged.
struct Bytes<F>(F);

impl<'de, T, F: FnOnce(&[u8]) -> Result<T, BadPath>> Visitor<'de> for Bytes<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path: a string, or {\"hex\": …} where it is not UTF-8")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text.as_bytes()).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let key: Option<String> = map.next_key()?;
        if key.as_deref() != Some("hex") {
            return Err(A::Error::custom("a path that is no string has `hex` alone"));
        }
        let text: String = map.next_value()?;
        if map.next_key::<String>()?.is_some() {
            return Err(A::Error::custom("a path that is no string has `hex` alone"));
        }
        let small = text.bytes().all(|byte| !byte.is_ascii_uppercase());
        let bytes = hex::decode(&text)
            .ok()
            .filter(|_| small)
            .ok_or_else(|| A::Error::custom("the `hex` of a path is not hexadecimal"))?;
        // Two spellings of one path would be two releases of one tree.
        if str::from_utf8(&bytes).is_ok() {
            return Err(A::Error::custom(
                "a path that is UTF-8 is written as a string",
            ));
        }
        (self.0)(&bytes).map_err(A::Error::custom)
    }
}

// === as people see it ===

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    c if is_unseen(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Characters that have no shape of their own, or that turn the text around them about (Unicode, Bidi_Control
/// and Default_Ignorable_Code_Point, the common ones).
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

fn unescaped(shown: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(shown.len());
    let mut rest = shown;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let kind = escape.chars().next()?;
        let after = &escape[kind.len_utf8()..];
        rest = match kind {
            '\\' | 'n' | 'r' | 't' => {
                bytes.push(match kind {
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    _ => b'\\',
                });
                after
            }
            'x' => {
                bytes.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
                after.get(2..)?
            }
            'u' => {
                let (number, after) = after.strip_prefix('{')?.split_once('}')?;
                let c = char::from_u32(u32::from_str_radix(number, 16).ok()?)?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                after
            }
            _ => return None,
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

#[cfg(test)]
mod tests;
