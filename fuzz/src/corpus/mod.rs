//! Hostile releases: each tries one thing, is signed as if it were good, and is refused for a reason of its own.
//!
//! They are made here and kept nowhere: `deploy-scripts/hostile-corpus DIRECTORY` writes them, a directory each,
//! for whoever wants to try another program on them. The same code gives the same bytes everywhere.

mod entries;
mod frames;
mod headers;
mod json;
mod sizes;

use crate::made::Made;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use tamer_release::{manifest, patch, unpack};

/// A hostile release: what an agent would be given, and what it must answer.
#[derive(Debug, Clone)]
pub struct Hostile {
    /// What it tries, in words with `-` between: the name of its directory.
    pub name: String,
    /// Its manifest's bytes, or a patch to [`Hostile::known`] that should give them.
    pub manifest: Vec<u8>,
    /// The manifest that the agent has, for one that comes as a patch.
    pub known: Option<Vec<u8>>,
    /// Its archive.
    pub archive: Vec<u8>,
    /// A part of the refusal: the rule that it breaks.
    pub says: String,
}

/// All of them.
pub fn corpus() -> Vec<Hostile> {
    [
        headers::all(),
        entries::all(),
        frames::all(),
        sizes::all(),
        json::all(),
    ]
    .concat()
}

// === impl Hostile ===

impl Hostile {
    fn new(name: &str, made: &Made, says: &str) -> Self {
        Self {
            name: name.to_owned(),
            manifest: manifest::to_bytes(&made.manifest),
            known: None,
            archive: made.archive.clone(),
            says: says.to_owned(),
        }
    }

    /// Does with it what an agent does, and gives the refusal with all its causes; `None` if there was none.
    ///
    /// # Errors
    /// There is no room for the archive in the temporary directory.
    pub fn refusal(&self, releases: &Path) -> io::Result<Option<String>> {
        let opened = match &self.known {
            None => self.manifest.clone(),
            Some(known) => {
                let digest = tamer_kit::hash::sha256(known);
                match patch::open(&self.manifest, known, &digest, patch::MAX) {
                    Ok(bytes) => bytes,
                    Err(error) => return Ok(Some(crate::said(&error))),
                }
            }
        };
        let judged = match manifest::parse(&opened) {
            Ok(judged) => judged,
            Err(error) => return Ok(Some(crate::said(&error))),
        };
        let unpacked = unpack::unpack(&held(&self.archive)?, &judged, releases, "r", None);
        Ok(unpacked.err().map(|error| crate::said(&error)))
    }

    /// Writes it as a directory below `corpus`: `manifest.json` (or `manifest.pieces` and `known.json`),
    /// `archive.tar.zst`, and `refusal`, which is what it must say.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, corpus: &Path) -> io::Result<()> {
        let dir = corpus.join(&self.name);
        fs::create_dir_all(&dir)?;
        let manifest = match &self.known {
            None => "manifest.json",
            Some(known) => {
                fs::write(dir.join("known.json"), known)?;
                "manifest.pieces"
            }
        };
        fs::write(dir.join(manifest), &self.manifest)?;
        fs::write(dir.join("archive.tar.zst"), &self.archive)?;
        fs::write(dir.join("refusal"), format!("{}\n", self.says))
    }

    /// Reads what [`Hostile::write`] wrote.
    ///
    /// # Errors
    /// It is not there.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let known = fs::read(dir.join("known.json")).ok();
        let manifest = if known.is_some() {
            "manifest.pieces"
        } else {
            "manifest.json"
        };
        Ok(Self {
            name: dir
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            manifest: fs::read(dir.join(manifest))?,
            known,
            archive: fs::read(dir.join("archive.tar.zst"))?,
            says: fs::read_to_string(dir.join("refusal"))?
                .trim_end()
                .to_owned(),
        })
    }
}

/// A file that holds these bytes, and has no name.
///
/// # Errors
/// There is no room for it in the temporary directory.
pub fn held(bytes: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::Write::write_all(&mut file, bytes)?;
    Ok(file)
}
