//! A tree becomes an archive and a manifest: the same tree gives the same bytes, on any machine, at any time.
//!
//! What of a tree counts: the paths, the contents, whether a file is executable, whether others than its owner's
//! group may read it, and where links point to. What does not: the order on disk, owners, times, inodes (a
//! hard-linked file is packed as often as it has names), extended attributes, and all other permission bits: they
//! depend on who checked the tree out. Files become 0755, 0644, 0750 or 0640, directories 0755 or 0750.

mod stream;
mod walk;

pub(crate) use stream::overlap;

use crate::frames;
use crate::manifest::{self, ManifestError};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tamer_core::application::ComponentSpec;
use tamer_core::digest::Digest;
use tamer_core::id::{ApplicationName, ComponentName, SchemaName};
use tamer_core::path::Shown;
use tamer_core::release::{Archive, Entry, EntryKind, FORMAT, Manifest};
use tamer_core::version::Version;
use tamer_kit::durable::{self, FileError};

/// What a tree is packed as.
#[derive(Debug, Clone)]
pub struct PackSpec {
    /// The application.
    pub application: ApplicationName,
    /// The component that the tree is a release of.
    pub component: ComponentName,
    /// The version that it is first published as.
    pub version: Version,
    /// What `tamer.toml` says of the component.
    pub spec: ComponentSpec,
    /// The time that unpacked files will carry, in seconds since the Unix epoch: `SOURCE_DATE_EPOCH`, or
    /// the time of the commit; never the time of packing.
    pub mtime: u64,
}

/// A release that was packed.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Its manifest.
    pub manifest: Manifest,
    /// SHA-256 of the manifest's bytes: the release's identity.
    pub digest: Digest,
}

/// Why a tree was not packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Something in the tree cannot be part of a release.
    #[error("cannot pack {path}: {reason}", path = Shown(path.as_os_str().as_bytes()))]
    Refused {
        /// Where it is.
        path: PathBuf,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A file has capabilities, and `tamer.toml` says something else.
    #[error("cannot pack {path}: it has capabilities that tamer.toml does not list: {remedy}", path = Shown(path.as_os_str().as_bytes()))]
    Capabilities {
        /// Where it is.
        path: PathBuf,
        /// What to write, or to do.
        remedy: String,
    },
    /// A hook does not name an executable file of the tree.
    #[error("the hook {hook} names `{path}`, which is not an executable file in the tree")]
    Hook {
        /// The hook's name.
        hook: &'static str,
        /// What it names.
        path: String,
    },
    /// A program of a database is no executable file of the tree.
    #[error(
        "schema `{schema}`: `{key}` names `{path}`, which is not an executable file in the tree"
    )]
    Program {
        /// The database.
        schema: SchemaName,
        /// The key that it stands under.
        key: &'static str,
        /// What it names.
        path: String,
    },
    /// The release would be refused by every agent.
    #[error("the tree makes no release")]
    Manifest(#[from] ManifestError),
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// zstd failed.
    #[error("cannot compress the archive")]
    Compress(#[source] io::Error),
}

/// What an agent must know to run a release: each feature only where it is used.
fn requires(spec: &ComponentSpec) -> BTreeSet<String> {
    let schema = (!spec.schemas.is_empty()).then_some(manifest::SCHEMA);
    let capabilities = (!spec.capabilities.is_empty()).then_some(manifest::CAPABILITIES);
    let all = schema.into_iter().chain(capabilities);
    all.map(str::to_owned).collect()
}

/// Packs the tree into the file `archive_out`, which is replaced durably, and gives the manifest.
///
/// # Errors
/// [`PackError`]; `archive_out` is then what it was.
pub fn pack(tree: &Path, what: &PackSpec, archive_out: &Path) -> Result<Packed, PackError> {
    let mut manifest = Manifest {
        format: FORMAT,
        requires: requires(&what.spec),
        application: what.application.clone(),
        component: what.component.clone(),
        version: what.version.clone(),
        mtime: what.mtime,
        archive: Archive {
            sha256: Digest::new([0; 32]),
            length: 0,
            unpacked: 0,
            frames: Vec::new(),
        },
        files: walk::entries(tree, what)?,
        spec: what.spec.clone(),
    };
    judge_programs(&manifest)?;
    let layout = manifest::layout(&manifest)?;
    let parts = frames::cut(&manifest.files, &layout);

    let mut name = std::ffi::OsString::from(".");
    name.push(archive_out.file_name().unwrap_or_default());
    name.push(".new");
    let aside = archive_out.with_file_name(name);
    let written = File::create(&aside)
        .map_err(FileError::new("create", &aside))
        .map_err(PackError::from)
        .and_then(|file| {
            let out = stream::Out {
                file: &file,
                path: &aside,
            };
            let archive = stream::write(tree, &mut manifest.files, &layout, parts, out)?;
            drop(layout);
            file.sync_all().map_err(FileError::new("fsync", &aside))?;
            Ok(archive)
        })
        .and_then(|archive| {
            manifest.archive = archive;
            manifest::validate(&manifest)?;
            durable::rename(&aside, archive_out)?;
            Ok(())
        });
    if let Err(error) = written {
        // Nothing depends on the removal: the next packing truncates the file.
        let _ = fs::remove_file(&aside);
        return Err(error);
    }
    Ok(Packed {
        digest: manifest::digest(&manifest),
        manifest,
    })
}

impl Packed {
    /// The manifest's bytes: what is signed. They are far longer than the manifest: [`manifest::write`] holds few of
    /// them at a time.
    pub fn manifest_bytes(&self) -> Vec<u8> {
        manifest::to_bytes(&self.manifest)
    }
}

/// A hook that no agent could run is told now, not on the servers.
fn judge_programs(manifest: &Manifest) -> Result<(), PackError> {
    for (hook, path) in &manifest.spec.hooks {
        if !runs(manifest, path) {
            return Err(PackError::Hook {
                hook: hook.name(),
                path: path.clone(),
            });
        }
    }
    for (schema, spec) in &manifest.spec.schemas {
        for (key, program) in spec.programs() {
            if !runs(manifest, program.path()) {
                return Err(PackError::Program {
                    schema: schema.clone(),
                    key,
                    path: program.path().to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// Whether the path can be an executable file.
fn runs(manifest: &Manifest, path: &str) -> bool {
    let runs = |entry: &Entry| match entry.kind {
        EntryKind::File { mode, .. } => mode & 0o111 != 0,
        // What it leads to may lie in `shared`, and then only the server knows.
        EntryKind::Link { .. } => true,
        EntryKind::Directory { .. } => false,
    };
    manifest.entry(path.as_bytes()).is_some_and(runs)
}
