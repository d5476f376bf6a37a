//! Evidence as files: the folder beside a packed release, a bundle a file, and the key that signs.

use crate::client::Session;
use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use std::path::{Path, PathBuf};
use tamer_core::digest::Digest;
use tamer_core::release::{MAX_MANIFEST, Manifest};
use tamer_kit::durable;
use tamer_kit::hash::sha256;
use tamer_proto::v1::AttachEvidenceRequest;
use tamer_release::attest::{MAX_BUNDLE, MAX_BUNDLES, Statement, Subject, seal};
use tamer_release::manifest;
use tamer_release::trust::Signer;

/// How the names of manifests end that `tamer pack` writes.
const MANIFEST: &str = ".manifest.json";
/// How the names of bundles end.
const BUNDLE: &str = ".sigstore.json";

/// A packed release, by its manifest.
#[derive(Debug, Clone)]
pub struct Packed {
    /// What it says.
    pub manifest: Manifest,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Where its evidence is.
    pub folder: PathBuf,
}

impl Packed {
    /// Reads a manifest that `tamer pack` wrote.
    ///
    /// # Errors
    /// It is not there, or no manifest.
    pub fn read(path: &Path) -> Result<Self> {
        let doing = || format!("cannot read the manifest {}", path.display());
        let bytes = durable::read_capped(path, MAX_MANIFEST).doing(Exit::Usage, doing)?;
        let bytes = bytes.ok_or_else(|| {
            Error::usage(format!("there is no manifest {}", path.display()))
                .next("tamer pack 1.0.0 --out dist")
        })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.strip_suffix(MANIFEST).unwrap_or(&name);
        Ok(Self {
            manifest: manifest::parse(&bytes).doing(Exit::Usage, doing)?,
            digest: sha256(&bytes),
            folder: path.with_file_name(format!("{stem}.evidence")),
        })
    }

    /// What people call it.
    pub fn name(&self) -> String {
        let it = &self.manifest;
        format!("{}/{} {}", it.application, it.component, it.version)
    }

    /// It, as what a statement is about.
    pub fn subject(&self) -> Subject {
        Subject::Manifest {
            name: self.name(),
            digest: self.digest,
        }
    }
}

/// Signs a statement and puts it beside each release that it is about.
///
/// # Errors
/// The key refuses, or a file cannot be written.
pub fn attach(
    statement: &Statement,
    key: &dyn Signer,
    releases: &[Packed],
) -> Result<Vec<PathBuf>> {
    let kind = statement.kind().map_or("approval", |kind| kind.name());
    let bundle = seal(statement, key).doing(Exit::Usage, || format!("cannot state {kind}"))?;
    let put = releases
        .iter()
        .map(|release| put(&release.folder, kind, &bundle));
    put.collect()
}

/// Writes a bundle into a folder, under a name of its own.
///
/// # Errors
/// It cannot be written.
pub fn put(folder: &Path, kind: &str, bundle: &[u8]) -> Result<PathBuf> {
    let doing = || format!("cannot write to {}", folder.display());
    durable::create_dir_all(folder, 0o755).doing(Exit::Usage, doing)?;
    let path = folder.join(format!("{kind}-{}{BUNDLE}", sha256(bundle).short()));
    durable::replace(&path, bundle, 0o644).doing(Exit::Usage, doing)?;
    Ok(path)
}

/// The bundles in a folder, or in one file; none where there is no such folder.
///
/// # Errors
/// It cannot be read, or there are too many.
pub fn bundles(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let doing = || format!("cannot read evidence from {}", path.display());
    let mut files = Vec::new();
    match std::fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.doing(Exit::Usage, doing)?.path();
                if path.to_string_lossy().ends_with(BUNDLE) {
                    files.push(path);
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            files.push(path.to_owned());
        }
        Err(error) => return Err(Error::caused(Exit::Usage, doing(), error)),
    }
    if files.len() > MAX_BUNDLES {
        return Err(Error::usage(format!(
            "{} holds {} bundles, and {MAX_BUNDLES} are looked at",
            path.display(),
            files.len()
        )));
    }
    files.sort();
    let mut found = Vec::new();
    for file in files {
        // One that is too large is named by the judge, like any other that does not count.
        let bytes = read_at_most(&file, MAX_BUNDLE as u64 + 1).doing(Exit::Usage, doing)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        found.push((name.into_owned(), bytes));
    }
    Ok(found)
}

/// Hands bundles about a release to the controller, which keeps them for the agents. Gives how many were new to it.
///
/// # Errors
/// The release is not published there, a bundle is none, or there is no room for more.
pub async fn send(session: &Session, release: &Packed, bundles: Vec<Vec<u8>>) -> Result<u32> {
    let request = AttachEvidenceRequest {
        manifest: release.digest.to_string(),
        bundles,
    };
    let answer = session.operators().attach_evidence(request).await?;
    Ok(answer.into_inner().added)
}

fn read_at_most(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(most)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
