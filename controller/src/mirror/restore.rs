//! The way back: from the backups' directory onto a machine that has no controller, or another one.

use super::copy;
use crate::config::Paths;
use crate::store::{StoreError, backup, epoch};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tamer_core::moment::Moment;
use tamer_kit::durable::{self, FileError};

/// Why nothing can be restored from a directory.
#[derive(Debug, thiserror::Error)]
pub enum NoMirror {
    /// It is not what `[backups] directory` was.
    #[error(
        "there is no mirror of a controller in {path}: name the directory that held its backups, or a copy of it, whole",
        path = .0.display()
    )]
    Missing(PathBuf),
    /// The mirror has no store beside it.
    #[error("there is no whole backup of a store in {path}", path = .0.display())]
    NoBackup(PathBuf),
    /// The epoch or the backups can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It may not be looked at, perhaps: this runs as whom the data directory belongs to.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A directory of backups with a mirror in it.
#[derive(Debug, Clone)]
pub struct Source {
    mirror: PathBuf,
    /// The backup of the store to be put in place.
    pub backup: PathBuf,
    /// The last epoch that the mirror knows of.
    pub epoch: u64,
}

impl Source {
    /// Looks at a directory of backups: the mirror, and the newest whole backup, or the one that is named.
    ///
    /// # Errors
    /// [`NoMirror`].
    pub fn find(dir: &Path, backup: Option<&Path>) -> Result<Self, NoMirror> {
        let mirror = dir.join("mirror");
        let certificate = mirror.join("ca/ca.pem");
        match fs::metadata(&certificate) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(NoMirror::Missing(dir.to_owned()));
            }
            Err(e) => return Err(FileError::new("look at", &certificate)(e).into()),
        }
        let backup = match backup {
            Some(file) => file.to_owned(),
            None => {
                let newest = backup::newest(dir)?;
                newest.ok_or_else(|| NoMirror::NoBackup(dir.to_owned()))?.0
            }
        };
        let epoch = epoch::read(&mirror)?;
        Ok(Self {
            mirror,
            backup,
            epoch,
        })
    }

    /// The controller's settings in the mirror of a directory of backups.
    pub fn settings(dir: &Path) -> PathBuf {
        dir.join("mirror/controller.toml")
    }

    /// When the mirror was last known to be whole.
    pub fn as_of(&self) -> Option<Moment> {
        let text = fs::read_to_string(self.mirror.join("as-of")).ok()?;
        text.trim().parse().ok().map(Moment)
    }

    /// Puts everything but the store and the CA in place; without the CA nothing starts.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn put_in_place(&self, paths: &Paths) -> Result<(), FileError> {
        let from = |name: &str| self.mirror.join(name);
        durable::create_dir_all(&paths.data, 0o700)?;
        copy::file(&from("revocations.log"), &paths.revocations)?;
        copy::file(&from("migrations.log"), &paths.migrations)?;
        copy::file(&from("audit.log"), &paths.audit)?;
        copy::tree(&from("online"), &paths.online)?;
        copy::tree(&from("trust"), &paths.trust)?;
        match &paths.artifacts {
            Some(artifacts) => copy::blobs(&from("artifacts/blobs"), &artifacts.join("blobs")),
            None => Ok(()),
        }
    }

    /// Puts the CA in place: from then on there is a controller.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn put_ca_in_place(&self, paths: &Paths) -> Result<(), FileError> {
        copy::tree(&self.mirror.join("ca"), &paths.ca)
    }
}

/// What of a controller lies in its data directory; the artifacts and backups are anybody's.
fn parts(paths: &Paths) -> [&Path; 8] {
    [
        &paths.ca,
        &paths.store,
        &paths.state,
        &paths.trust,
        &paths.online,
        &paths.audit,
        &paths.revocations,
        &paths.migrations,
    ]
}

/// Whether there is a controller, or something of one.
pub fn is_occupied(paths: &Paths) -> bool {
    parts(paths).iter().any(|part| part.exists())
}

/// Moves the controller that is there into a new directory beside it, and gives that.
///
/// # Errors
/// [`FileError`].
pub fn set_aside(paths: &Paths) -> Result<PathBuf, FileError> {
    for n in 1.. {
        let place = paths.data.join(format!("set-aside-{n}"));
        match fs::create_dir(&place) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
            made => made.map_err(FileError::new("create", &place))?,
        }
        for part in parts(paths).into_iter().filter(|part| part.exists()) {
            durable::rename(part, &place.join(part.file_name().unwrap_or_default()))?;
        }
        return Ok(place);
    }
    Ok(paths.data.clone())
}
