//! Drafts: changes of keys, and publications, that need more signatures than the keys on this
//! machine can give. A draft is a file; it travels between those who hold keys.

use crate::error::{Context, Error, Result};
use crate::exit::Exit;
use crate::home::Home;
use crate::keys::Keys;
use std::path::{Path, PathBuf};
use tamer_kit::durable;
use tamer_kit::hash::sha256;
use tamer_release::trust::PublicKey;
use tamer_release::trust::draft::{Draft, MAX_DRAFT};

/// Reads a draft.
///
/// # Errors
/// It is not there, or not a draft.
pub fn read(path: &Path) -> Result<Draft> {
    let doing = || format!("cannot use the draft {}", path.display());
    let bytes = durable::read_capped(path, MAX_DRAFT).doing(Exit::Usage, doing)?;
    let bytes =
        bytes.ok_or_else(|| Error::usage(format!("there is no file {}", path.display())))?;
    Draft::parse(&bytes).doing(Exit::Usage, doing)
}

/// Writes a draft, durably.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, draft: &Draft) -> Result<()> {
    let doing = || format!("cannot write the draft {}", path.display());
    let bytes = draft.write().doing(Exit::Internal, doing)?;
    durable::replace(path, &bytes, 0o644).doing(Exit::Internal, doing)
}

/// Keeps a draft where drafts wait; the same change has the same name.
///
/// # Errors
/// It cannot be written.
pub fn keep(home: &Home, draft: &Draft) -> Result<PathBuf> {
    let dir = home.drafts();
    let doing = || format!("cannot write to {}", dir.display());
    durable::create_dir_all(&dir, 0o700).doing(Exit::Internal, doing)?;
    let name = sha256(draft.asked.as_bytes()).to_string();
    let path = dir.join(format!("{}.draft", &name[..12]));
    write(&path, draft)?;
    Ok(path)
}

/// Drafts that wait here.
///
/// # Errors
/// One cannot be read.
pub fn waiting(home: &Home) -> Result<Vec<(PathBuf, Draft)>> {
    let dir = home.drafts();
    let Ok(entries) = std::fs::read_dir(&dir) else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "draft")
        {
            let draft = read(&path)?;
            all.push((path, draft));
        }
    }
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(all)
}

/// Signs with every key at hand that is asked for; the ids of those that signed something.
///
/// # Errors
/// A key cannot be used.
pub fn sign(home: &Home, draft: &mut Draft) -> Result<Vec<String>> {
    let doing = || "cannot sign the draft".to_owned();
    let mut wanted: Vec<PublicKey> = Vec::new();
    for step in &draft.steps {
        for (_, demand) in draft.demands(step).doing(Exit::Usage, doing)? {
            for key in demand.keys.keys {
                if !demand.signed.contains(&key.id()) && !wanted.contains(&key) {
                    wanted.push(key);
                }
            }
        }
    }
    let mut signed = Vec::new();
    for key in Keys::of(home).among(&wanted)? {
        if draft.sign(&*key).doing(Exit::Internal, doing)? > 0 {
            signed.push(key.public().id());
        }
    }
    Ok(signed)
}

/// What is missing, a line a document: how many signatures, and by which keys.
///
/// # Errors
/// The draft is damaged.
pub fn lacking(draft: &Draft) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for step in &draft.steps {
        let demands = draft.demands(step);
        for (what, demand) in demands.doing(Exit::Usage, || "cannot use the draft".to_owned())? {
            if demand.missing() == 0 {
                continue;
            }
            let ids = demand.keys.keys.iter().map(PublicKey::id);
            let left = ids.filter(|id| !demand.signed.contains(id));
            let left: Vec<_> = left.map(|id| id[..16].to_owned()).collect();
            lines.push(format!(
                "{} {what}: {} more of {} ({})",
                step.label(),
                demand.missing(),
                demand.by,
                left.join(", ")
            ));
        }
    }
    Ok(lines)
}

/// Signs with the keys at hand. Where they are too few, the draft is kept, and the error says what
/// becomes of it.
///
/// # Errors
/// Too few keys: exit code 8, for it waits for others.
pub fn signed_or_kept(home: &Home, mut draft: Draft) -> Result<Draft> {
    sign(home, &mut draft)?;
    let lacking = lacking(&draft)?;
    if lacking.is_empty() {
        return Ok(draft);
    }
    let path = keep(home, &draft)?;
    Err(waits(&draft, &path, &lacking))
}

/// A draft that waits for others.
pub fn waits(draft: &Draft, path: &Path, lacking: &[String]) -> Error {
    let path = path.display();
    Error::new(
        Exit::Approval,
        format!(
            "to {}, others must sign too:\n  {}\nthe draft is {path}",
            draft.asked,
            lacking.join("\n  ")
        ),
    )
    .next(format!(
        "whoever has one of these keys: tamer trust sign {path}"
    ))
    .next(format!("then: tamer trust publish {path}"))
}
