//! Manifests read as they come: the whole value, or what one caller wants of them while the rest passes by.
//!
//! A long text is never held; a short one is, because it is read quicker so. Whoever reads one hashes it
//! on the way, and believes it only when the digest is the one that was wanted.

use super::{Head, ManifestError, digest, known, validate};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufReader, Read};
use std::marker::PhantomData;
use tamer_core::application::ComponentSpec;
use tamer_core::digest::Digest;
use tamer_core::id::{ApplicationName, ComponentName};
use tamer_core::release::{Entry, Frame, MAX_MANIFEST, Manifest};
use tamer_core::version::Version;
use tamer_kit::hash::Hasher;

/// How much is read at once, in bytes.
const BUFFER: usize = 64 << 10;

/// A text of fewer bytes is short: that of some 8,000 files is.
const SHORT: u64 = 2 << 20;

/// What a release says of itself, without its files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct About {
    format: u32,
    requires: BTreeSet<String>,
    /// The application it belongs to.
    pub application: ApplicationName,
    /// The component it is a release of.
    pub component: ComponentName,
    /// The version it was first published as.
    pub version: Version,
    /// What `tamer.toml` said of the component.
    pub spec: ComponentSpec,
}

impl About {
    /// Whether a release with this manifest says the same of itself: its version, its time, its files and how they
    /// are packed aside.
    pub fn describes(&self, manifest: &Manifest) -> bool {
        let Self {
            format,
            requires,
            application,
            component,
            version: _,
            spec,
        } = self;
        *format == manifest.format
            && *requires == manifest.requires
            && *application == manifest.application
            && *component == manifest.component
            && *spec == manifest.spec
    }
}

/// Who is told of a manifest's parts, one after the other.
pub trait Visit {
    /// The next frame; all frames come before all entries.
    fn frame(&mut self, frame: Frame);

    /// The next entry.
    fn entry(&mut self, entry: Entry);
}

/// Reads a manifest and judges it, see [`validate`]; gives the digest of its bytes too. `open` begins at its
/// first byte: once, or twice where it cannot be read.
///
/// # Errors
/// [`ManifestError`]. A format or a feature that is not known is named before anything else is looked at.
pub fn read<R: Read>(
    open: impl Fn() -> io::Result<R>,
) -> Result<(Manifest, Digest), ManifestError> {
    let mut from = Source::new(open().map_err(ManifestError::Read)?);
    let manifest: Manifest = match json(&mut from, PhantomData) {
        Ok(manifest) => manifest,
        Err(error) => {
            if let Some(error) = from.failed(&error) {
                return Err(error);
            }
            // A newer packer may have written what this code cannot read: then it said so in front.
            let mut again = Source::new(open().map_err(ManifestError::Read)?);
            if let Ok(head) = json(&mut again, PhantomData::<Head>) {
                known(head.format, &head.requires)?;
            }
            return Err(ManifestError::Json(error));
        }
    };
    validate(&manifest)?;
    let found = from.finish();
    if digest(&manifest) != found {
        return Err(ManifestError::Spelling);
    }
    Ok((manifest, found))
}

/// Reads what a release says of itself, and gives the digest of all of the manifest's bytes. Its files are not
/// judged.
///
/// # Errors
/// [`ManifestError`].
pub fn about(from: impl Read) -> Result<(About, Digest), ManifestError> {
    let mut from = Source::new(from);
    match json(&mut from, PhantomData::<About>) {
        Ok(about) => {
            known(about.format, &about.requires)?;
            Ok((about, from.finish()))
        }
        Err(error) => Err(from.failed(&error).unwrap_or(ManifestError::Json(error))),
    }
}

/// Tells of a manifest's frames and entries as they come, and gives the digest of all of its bytes. They are not
/// judged, but for their paths.
///
/// # Errors
/// [`ManifestError`]; what was told until then may be half of it.
pub fn visit(from: impl Read, who: &mut dyn Visit) -> Result<Digest, ManifestError> {
    let mut from = Source::new(from);
    match json(&mut from, Whole(who)) {
        Ok(()) => Ok(from.finish()),
        Err(error) => Err(from.failed(&error).unwrap_or(ManifestError::Json(error))),
    }
}

/// Reads the one value that the text is.
fn json<R: Read, T>(
    from: &mut Source<R>,
    what: impl for<'de> DeserializeSeed<'de, Value = T>,
) -> serde_json::Result<T> {
    let mut text = Vec::new();
    from.by_ref()
        .take(SHORT)
        .read_to_end(&mut text)
        .map_err(serde_json::Error::io)?;
    if (text.len() as u64) < SHORT {
        let mut json = serde_json::Deserializer::from_slice(&text);
        let value = what.deserialize(&mut json)?;
        json.end().map(|()| value)
    } else {
        let mut json = serde_json::Deserializer::from_reader(text.chain(from));
        let value = what.deserialize(&mut json)?;
        json.end().map(|()| value)
    }
}

// === bytes ===

/// Bytes that are counted and hashed on their way.
struct Source<R>(BufReader<Counted<R>>);

struct Counted<R> {
    inner: R,
    hasher: Hasher,
    count: u64,
    failed: Option<io::Error>,
}

impl<R: Read> Source<R> {
    fn new(inner: R) -> Self {
        let counted = Counted {
            inner,
            hasher: Hasher::default(),
            count: 0,
            failed: None,
        };
        Self(BufReader::with_capacity(BUFFER, counted))
    }

    /// Why the bytes did not come, if it was that.
    fn failed(&mut self, error: &serde_json::Error) -> Option<ManifestError> {
        let counted = self.0.get_mut();
        if counted.count > MAX_MANIFEST {
            return Some(ManifestError::TooLarge(counted.count));
        }
        let failed = counted.failed.take().filter(|_| error.is_io());
        failed.map(ManifestError::Read)
    }

    /// The digest of what was read: all of it, for a document ends where its bytes do.
    fn finish(self) -> Digest {
        self.0.into_inner().hasher.finish()
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = match self.inner.read(into) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                let told = io::Error::new(error.kind(), error.to_string());
                self.failed = Some(error);
                return Err(told);
            }
            read => read?,
        };
        self.count += n as u64;
        if self.count > MAX_MANIFEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.hasher.update(&into[..n]);
        Ok(n)
    }
}

// === parts ===

struct Whole<'a>(&'a mut dyn Visit);
struct InArchive<'a>(&'a mut dyn Visit);
struct Frames<'a>(&'a mut dyn Visit);
struct Entries<'a>(&'a mut dyn Visit);

macro_rules! seed {
    ($name:ident, $ask:ident) => {
        impl<'de> DeserializeSeed<'de> for $name<'_> {
            type Value = ();
            fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
                from.$ask(self)
            }
        }
    };
}

seed!(Whole, deserialize_map);
seed!(InArchive, deserialize_map);
seed!(Frames, deserialize_seq);
seed!(Entries, deserialize_seq);

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "archive" => map.next_value_seed(InArchive(&mut *self.0))?,
                "files" => map.next_value_seed(Entries(&mut *self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for InArchive<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an archive")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "frames" => map.next_value_seed(Frames(&mut *self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Frames<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("frames")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while let Some(frame) = values.next_element()? {
            self.0.frame(frame);
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while let Some(entry) = values.next_element()? {
            self.0.entry(entry);
        }
        Ok(())
    }
}
