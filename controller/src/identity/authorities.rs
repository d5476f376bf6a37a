//! The CAs of a controller: one, or two while one takes the other's place.
//!
//! ```text
//! ca.pem  ca-key.pem       vouches for the controller; join tokens pin it
//! next.pem  next-key.pem   made by a rotation: issues whatever is issued from now on, and vouches for the controller
//!                          once everybody trusts it
//! old.pem                  no key of it is left; its certificates are good until the rotation is finished
//! retired.pem              what was old once: good for nothing any more
//! ```
//!
//! | phase | files | issues | shown by the controller | trusted |
//! |---|---|---|---|---|
//! | [`Phase::Steady`] | `ca` | `ca` | `ca` | `ca` |
//! | [`Phase::Begun`] | `ca`, `next` | `next` | `ca` | both |
//! | [`Phase::Shown`] | `ca`, `old` | `ca` | `ca` | both |
//!
//! The phase is which files there are. Each step is a rename or a replacement that is durable, in an order in which
//! every beginning of it is one of the phases, or is brought to its end when they are loaded. Whether somebody still
//! needs a CA is not asked here: the registry knows.

mod copy;

pub use copy::copy;

use super::ca::{CLOCK_SKEW, CURRENT, Ca, CaError, Files, read};
use std::path::{Path, PathBuf};
use tamer_core::digest::Digest;
use tamer_core::moment::{Moment, Span};
use tamer_kit::durable::{self, FileError};
use tamer_kit::tls;

const NEXT: Files = Files {
    certificate: "next.pem",
    key: "next-key.pem",
};
/// The new CA's certificate with the key that has moved into its place already.
const TAKING_OVER: Files = Files {
    certificate: NEXT.certificate,
    key: CURRENT.key,
};
const OLD: &str = "old.pem";
const RETIRED: &str = "retired.pem";
const EVERYBODYS: u32 = 0o644;

/// How far a rotation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// None is under way.
    Steady,
    /// There is a new CA; peers learn of it, and the old one still vouches for the controller.
    Begun,
    /// The new CA vouches for the controller; certificates of the old one are still accepted.
    Shown,
}

/// The CAs of a controller.
#[derive(Debug)]
pub struct Authorities {
    dir: PathBuf,
    current: Ca,
    next: Option<Ca>,
    old: Option<Old>,
}

/// A CA whose key is gone.
#[derive(Debug)]
struct Old {
    pem: String,
    outline: Outline,
}

/// What there is to know of one CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// SHA-256 of its certificate.
    pub fingerprint: Digest,
    /// When it was made, and the last moment of its validity.
    pub valid: (Moment, Moment),
    /// It issues whatever is issued.
    pub issues: bool,
    /// It vouches for the controller.
    pub shown: bool,
}

/// Why a step of a rotation cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// There is one already.
    #[error(
        "a rotation of the CA is under way since {0}: `tamer ca status` says who is waited for"
    )]
    UnderWay(String),
    /// There is none.
    #[error("no rotation of the CA is under way: `tamer ca rotate` begins one")]
    NoneUnderWay,
    /// The files do not obey.
    #[error(transparent)]
    Ca(#[from] CaError),
}

// === impl Phase ===

impl Phase {
    /// In a word: `steady`, `begun`, `shown`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Begun => "begun",
            Self::Shown => "shown",
        }
    }
}

// === impl Authorities ===

impl Authorities {
    /// Loads them from `dir`, and brings a step to its end that was cut off.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn load(dir: &Path) -> Result<Self, CaError> {
        let next = match dir.join(NEXT.certificate).exists() {
            false => None,
            true => next(dir)?,
        };
        let current = Ca::load_from(dir, CURRENT)?;
        let old = match next {
            // The beginning of `show`, which goes on when it is asked for.
            Some(_) => None,
            None => old(dir, &current)?,
        };
        Ok(Self {
            dir: dir.to_owned(),
            current,
            next,
            old,
        })
    }

    /// Where they lie.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How far a rotation has come.
    pub fn phase(&self) -> Phase {
        match (&self.next, &self.old) {
            (Some(_), _) => Phase::Begun,
            (None, Some(_)) => Phase::Shown,
            (None, None) => Phase::Steady,
        }
    }

    /// The CA that issues certificates of hosts and operators.
    pub fn issuing(&self) -> &Ca {
        self.next.as_ref().unwrap_or(&self.current)
    }

    /// The CA that issues the controller's own certificate, and that join tokens pin.
    pub fn shown(&self) -> &Ca {
        &self.current
    }

    /// The certificates of all that are trusted, PEM, the issuing one first.
    pub fn trusted(&self) -> String {
        let next = self.next.as_ref().map(Ca::certificate_pem);
        let all = next
            .into_iter()
            .chain([self.current.certificate_pem()])
            .chain(self.old.as_ref().map(|it| it.pem.as_str()));
        all.map(|pem| format!("{}\n", pem.trim_end())).collect()
    }

    /// What there is to know of all that are trusted, the issuing one first.
    pub fn outline(&self) -> Vec<Outline> {
        let of = |ca: &Ca, issues, shown| Outline {
            fingerprint: ca.fingerprint(),
            valid: (ca.made(), ca.ends()),
            issues,
            shown,
        };
        let next = self.next.as_ref().map(|ca| of(ca, true, false));
        let current = of(&self.current, self.next.is_none(), true);
        let old = self.old.as_ref().map(|it| it.outline.clone());
        next.into_iter().chain([current]).chain(old).collect()
    }

    /// Whether a rotation can begin.
    ///
    /// # Errors
    /// [`RotationError::UnderWay`].
    pub fn may_begin(&self) -> Result<(), RotationError> {
        match self.phase() {
            Phase::Steady => Ok(()),
            Phase::Begun | Phase::Shown => {
                let since = crate::utc::utc(self.issuing().made());
                Err(RotationError::UnderWay(since))
            }
        }
    }

    /// Whether there is a rotation to finish.
    ///
    /// # Errors
    /// [`RotationError::NoneUnderWay`].
    pub fn may_finish(&self) -> Result<(), RotationError> {
        match self.phase() {
            Phase::Steady => Err(RotationError::NoneUnderWay),
            Phase::Begun | Phase::Shown => Ok(()),
        }
    }

    /// Begins a rotation: makes a new CA, which issues everything from now on.
    ///
    /// # Errors
    /// [`RotationError`]; nothing has changed then.
    pub fn begin(&mut self, now: Moment) -> Result<(), RotationError> {
        self.may_begin()?;
        self.next = Some(Ca::create_in(&self.dir, NEXT, now)?);
        Ok(())
    }

    /// Lets the new CA vouch for the controller, and writes its key over the old one's: everybody trusts the new one.
    ///
    /// # Errors
    /// [`RotationError`]. It goes on with the next try, or the next start.
    pub fn show(&mut self) -> Result<(), RotationError> {
        if self.next.is_none() {
            return Err(RotationError::NoneUnderWay);
        }
        let old = self.current.certificate_pem().to_owned();
        let file = self.dir.join(OLD);
        durable::replace(&file, old.as_bytes(), EVERYBODYS).map_err(CaError::from)?;
        let (key, place) = (self.dir.join(NEXT.key), self.dir.join(CURRENT.key));
        if key.exists() {
            durable::rename(&key, &place).map_err(CaError::from)?;
        }
        take_over(&self.dir)?;
        *self = Self::load(&self.dir)?;
        Ok(())
    }

    /// Ends a rotation: the old CA is good for nothing any more.
    ///
    /// # Errors
    /// [`RotationError`]. It goes on with the next try.
    pub fn finish(&mut self) -> Result<(), RotationError> {
        self.may_finish()?;
        if self.phase() == Phase::Begun {
            self.show()?;
        }
        let Some(old) = &self.old else {
            // A copy that was cut off may know already that the old one is retired.
            return Ok(());
        };
        let retired = self.dir.join(RETIRED);
        let mut all = match retired.exists() {
            true => read(&retired)?,
            false => String::new(),
        };
        all += &format!("{}\n", old.pem.trim_end());
        // This decides. The other file says nothing from here on, also where a mirror keeps a copy of it.
        durable::replace(&retired, all.as_bytes(), EVERYBODYS).map_err(CaError::from)?;
        remove(&self.dir.join(OLD))?;
        *self = Self::load(&self.dir)?;
        Ok(())
    }
}

/// The new CA, unless it has become the current one.
fn next(dir: &Path) -> Result<Option<Ca>, CaError> {
    let (next_file, current_file) = (dir.join(NEXT.certificate), dir.join(CURRENT.certificate));
    let fingerprint = |file: &Path| Ok::<_, CaError>(tls::fingerprint(&read(file)?)?);
    if fingerprint(&next_file)? != fingerprint(&current_file)? {
        if Ca::load_from(dir, TAKING_OVER).is_err() {
            return Ca::load_from(dir, NEXT).map(Some);
        }
        // `show` was cut off between its two renames.
        take_over(dir)?;
    }
    // What is left, where this is a mirror's copy: mirrors remove nothing.
    remove(&dir.join(NEXT.key))?;
    remove(&next_file)?;
    Ok(None)
}

/// The last of the renames of `show`. Whoever loads the files meanwhile may have made it already.
fn take_over(dir: &Path) -> Result<(), CaError> {
    let (from, to) = (dir.join(NEXT.certificate), dir.join(CURRENT.certificate));
    if from.exists() {
        durable::rename(&from, &to)?;
    }
    Ok(())
}

/// The old CA, unless it was retired or is still the current one.
fn old(dir: &Path, current: &Ca) -> Result<Option<Old>, CaError> {
    let (file, retired) = (dir.join(OLD), dir.join(RETIRED));
    if !file.exists() {
        return Ok(None);
    }
    let pem = read(&file)?;
    let fingerprint = tls::fingerprint(&pem)?;
    let is_retired =
        retired.exists() && tls::fingerprints(&read(&retired)?)?.contains(&fingerprint);
    if is_retired || fingerprint == current.fingerprint() {
        return Ok(None);
    }
    let (from, ends) = tls::validity(&pem)?;
    let outline = Outline {
        fingerprint,
        valid: (from + Span(CLOCK_SKEW), ends),
        issues: false,
        shown: false,
    };
    Ok(Some(Old { pem, outline }))
}

fn remove(path: &Path) -> Result<(), CaError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::new("remove", path)(error).into())
        }
        _ => Ok(()),
    }
}

/// The fingerprints of all CAs that the controller in `dir` ever had.
///
/// # Errors
/// A file that is there cannot be read.
pub fn ever(dir: &Path) -> Result<Vec<Digest>, CaError> {
    let mut all = Vec::new();
    for name in [CURRENT.certificate, NEXT.certificate, OLD, RETIRED] {
        let file = dir.join(name);
        if file.exists() {
            all.extend(tls::fingerprints(&read(&file)?)?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
