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

use super::ca::{CLOCK_SKEW, CURRENT, Ca, CaError, Files, read};
use std::collections::BTreeMap;
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

/// All files, in the order in which they are copied: however few of them have come over when the lights go out, the
/// copy is in one of the phases, or on its way between two as a directory of a controller may be.
const ALL: [&str; 6] = [
    NEXT.key,
    NEXT.certificate,
    OLD,
    RETIRED,
    CURRENT.key,
    CURRENT.certificate,
];

/// How often the files are read in search of a moment in which nobody changes them.
const READINGS: usize = 10;

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
    /// PEM; its key is gone.
    old: Option<String>,
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
            .chain(self.old.as_deref());
        all.map(|pem| format!("{}\n", pem.trim_end())).collect()
    }

    /// What there is to know of all that are trusted, the issuing one first.
    ///
    /// # Errors
    /// [`CaError`], in practice never: all were read before.
    pub fn outline(&self) -> Result<Vec<Outline>, CaError> {
        let of = |ca: &Ca, issues, shown| Outline {
            fingerprint: ca.fingerprint(),
            valid: (ca.made(), ca.ends()),
            issues,
            shown,
        };
        let next = self.next.as_ref().map(|ca| of(ca, true, false));
        let current = of(&self.current, self.next.is_none(), true);
        let mut all: Vec<Outline> = next.into_iter().chain([current]).collect();
        if let Some(old) = &self.old {
            let (from, ends) = tls::validity(old)?;
            all.push(Outline {
                fingerprint: tls::fingerprint(old)?,
                valid: (from + Span(CLOCK_SKEW), ends),
                issues: false,
                shown: false,
            });
        }
        Ok(all)
    }

    /// Begins a rotation: makes a new CA, which issues everything from now on.
    ///
    /// # Errors
    /// [`RotationError`]; nothing has changed then.
    pub fn begin(&mut self, now: Moment) -> Result<(), RotationError> {
        if self.phase() != Phase::Steady {
            let since = crate::utc::utc(self.issuing().made());
            return Err(RotationError::UnderWay(since));
        }
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
        let begun = self.phase() == Phase::Begun;
        if begun {
            self.show()?;
        }
        let Some(old) = &self.old else {
            // A copy that was cut off may know already that the old one is retired.
            return begun.then_some(()).ok_or(RotationError::NoneUnderWay);
        };
        let retired = self.dir.join(RETIRED);
        let mut all = match retired.exists() {
            true => read(&retired)?,
            false => String::new(),
        };
        all += &format!("{}\n", old.trim_end());
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
fn old(dir: &Path, current: &Ca) -> Result<Option<String>, CaError> {
    let (file, retired) = (dir.join(OLD), dir.join(RETIRED));
    if !file.exists() {
        return Ok(None);
    }
    let pem = read(&file)?;
    let fingerprint = tls::fingerprint(&pem)?;
    let is_retired =
        retired.exists() && tls::fingerprints(&read(&retired)?)?.contains(&fingerprint);
    Ok(Some(pem).filter(|_| !is_retired && fingerprint != current.fingerprint()))
}

fn remove(path: &Path) -> Result<(), CaError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::new("remove", path)(error).into())
        }
        _ => Ok(()),
    }
}

/// Copies the CAs as they are at one moment; removes nothing from `to`. Blocks, and is durable when it returns.
///
/// # Errors
/// A file cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<(), CaError> {
    let mut files = snapshot(from)?;
    for _ in 1..READINGS {
        let again = snapshot(from)?;
        if again == files {
            break;
        }
        files = again;
    }
    durable::create_dir_all(to, 0o700)?;
    for (name, text) in to_copy(files, &snapshot(to)?) {
        durable::replace(&to.join(name), text.as_bytes(), 0o600)?;
    }
    Ok(())
}

type Snapshot = BTreeMap<&'static str, String>;

/// What is to be written to have these files where others are now, in this order.
fn to_copy(mut files: Snapshot, there: &Snapshot) -> Vec<(&'static str, String)> {
    let (next, current) = (NEXT.certificate, CURRENT.certificate);
    let other = there
        .get(current)
        .is_some_and(|it| Some(it) != files.get(current));
    if other && !files.contains_key(next) {
        // A certificate and its key are two files: the new ones come first where they say nothing once all are there.
        for (as_next, name) in [(NEXT.key, CURRENT.key), (next, current)] {
            let copied = files.get(name).cloned();
            files.extend(copied.map(|it| (as_next, it)));
        }
    }
    let all = ALL.iter().filter_map(|name| files.remove_entry(name));
    all.filter(|(name, text)| there.get(name) != Some(text))
        .collect()
}

fn snapshot(dir: &Path) -> Result<Snapshot, CaError> {
    let mut files = Snapshot::new();
    for name in ALL {
        if let Some(text) = snapshot_of(dir, name)? {
            files.insert(name, text);
        }
    }
    Ok(files)
}

fn snapshot_of(dir: &Path, name: &str) -> Result<Option<String>, CaError> {
    match read(&dir.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(CaError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
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
mod tests {
    use super::*;
    use std::fs;

    const NOW: Moment = Moment(1_800_000_000_000);

    type Tree = BTreeMap<String, Vec<u8>>;

    fn new() -> (tempfile::TempDir, Authorities) {
        let dir = tempfile::tempdir().unwrap();
        Ca::create(dir.path(), NOW).unwrap();
        let all = Authorities::load(dir.path()).unwrap();
        (dir, all)
    }

    fn shape(all: &Authorities) -> (Phase, Digest, Digest, String) {
        let (issuing, shown) = (all.issuing().fingerprint(), all.shown().fingerprint());
        (all.phase(), issuing, shown, all.trusted())
    }

    fn files(dir: &Path) -> Tree {
        let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
        let name = |it: &fs::DirEntry| it.file_name().into_string().unwrap();
        entries
            .map(|it| (name(&it), fs::read(it.path()).unwrap()))
            .collect()
    }

    fn write(tree: &Tree) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in tree {
            durable::replace(&dir.path().join(name), bytes, 0o600).unwrap();
        }
        dir
    }

    #[test]
    fn a_new_ca_takes_the_place_of_the_old_one_in_three_steps() {
        let (dir, mut all) = new();
        let first = all.shown().fingerprint();
        assert!(matches!(all.show(), Err(RotationError::NoneUnderWay)));
        assert!(matches!(all.finish(), Err(RotationError::NoneUnderWay)));
        all.begin(NOW).unwrap();
        let second = all.issuing().fingerprint();
        assert!(second != first && all.shown().fingerprint() == first);
        assert_ne!(all.issuing().name(), all.shown().name());
        assert!(matches!(all.begin(NOW), Err(RotationError::UnderWay(_))));
        assert_eq!(tls::fingerprints(&all.trusted()).unwrap(), [second, first]);
        all.show().unwrap();
        assert_eq!(
            (all.issuing().fingerprint(), all.shown().fingerprint()),
            (second, second)
        );
        assert_eq!(tls::fingerprints(&all.trusted()).unwrap(), [second, first]);
        // From here on nobody signs with the old key.
        let keys = files(dir.path())
            .into_keys()
            .filter(|it| it.contains("key"));
        assert_eq!(keys.collect::<Vec<_>>(), [CURRENT.key]);
        all.finish().unwrap();
        assert_eq!(tls::fingerprints(&all.trusted()).unwrap(), [second]);
        assert_eq!(all.phase(), Phase::Steady);
        // And once more; all of them are remembered.
        all.begin(NOW).unwrap();
        all.finish().unwrap();
        let ever = ever(dir.path()).unwrap();
        assert!(ever.contains(&first) && ever.contains(&second) && ever.len() == 3);
        assert_eq!(tls::fingerprints(&all.trusted()).unwrap().len(), 1);
    }

    /// Every state of the files between two steps is read as the phase before or after it, and goes on from there; so
    /// is what a mirror has, which removes nothing.
    #[test]
    fn a_rotation_that_is_cut_off_anywhere_goes_on_where_it_was() {
        let (dir, mut all) = new();
        let first = all.shown().fingerprint();
        let steady = files(dir.path());
        all.begin(NOW).unwrap();
        let (begun, begun_shape) = (files(dir.path()), shape(&all));
        let second = all.issuing().fingerprint();
        all.show().unwrap();
        let (shown, shown_shape) = (files(dir.path()), shape(&all));
        all.finish().unwrap();
        let (done, done_shape) = (files(dir.path()), shape(&all));
        let old = || (OLD.to_owned(), begun[CURRENT.certificate].clone());
        let (key, cert) = (
            || (NEXT.key.to_owned(), begun[NEXT.key].clone()),
            || (NEXT.certificate.to_owned(), begun[NEXT.certificate].clone()),
        );
        let moved = || (CURRENT.key.to_owned(), begun[NEXT.key].clone());
        let with = |base: &Tree, more: Vec<(String, Vec<u8>)>, less: &[&str]| {
            let mut tree = base.clone();
            tree.extend(more);
            tree.retain(|name, _| !less.contains(&name.as_str()));
            tree
        };
        for (tree, expected) in [
            // `begin` has only written the key.
            (with(&steady, vec![key()], &[]), None),
            // `show`, after its first and its second step.
            (with(&begun, vec![old()], &[]), Some(&begun_shape)),
            (
                with(&begun, vec![old(), moved()], &[NEXT.key]),
                Some(&shown_shape),
            ),
            // `finish`, after its first step.
            (with(&done, vec![old()], &[]), Some(&done_shape)),
            // The same in a mirror.
            (with(&begun, vec![old(), moved()], &[]), Some(&shown_shape)),
            (with(&shown, vec![key(), cert()], &[]), Some(&shown_shape)),
            (
                with(&done, vec![old(), key(), cert()], &[]),
                Some(&done_shape),
            ),
        ] {
            let names: Vec<_> = tree.keys().collect();
            let dir = write(&tree);
            let mut all = Authorities::load(dir.path()).unwrap();
            match expected {
                Some(expected) => assert_eq!(&shape(&all), expected, "{names:?}"),
                None => assert_eq!(
                    (all.phase(), shape(&all).1),
                    (Phase::Steady, first),
                    "{names:?}"
                ),
            }
            let again = Authorities::load(dir.path()).unwrap();
            assert_eq!(shape(&again), shape(&all), "{names:?}");
            // It goes on to its end from there.
            if shape(&all).1 == first {
                all.begin(NOW).unwrap();
            }
            if all.phase() != Phase::Steady {
                all.finish().unwrap();
            }
            assert_eq!(all.phase(), Phase::Steady, "{names:?}");
            assert!(expected.is_none() || all.issuing().fingerprint() == second);
        }
    }

    /// A copy that is cut off after any of its files has a CA that issues, and a rotation of it goes on to the end.
    #[test]
    fn a_copy_that_is_cut_off_anywhere_is_of_use() {
        let (dir, mut all) = new();
        let mut moments = vec![(snapshot(dir.path()).unwrap(), shape(&all))];
        for step in [
            |all: &mut Authorities| all.begin(NOW),
            Authorities::show,
            Authorities::finish,
        ] {
            step(&mut all).unwrap();
            moments.push((snapshot(dir.path()).unwrap(), shape(&all)));
        }
        for (n, (before, _)) in moments.iter().enumerate() {
            for (m, (after, whole)) in moments.iter().enumerate().skip(n) {
                let writes = to_copy(after.clone(), before);
                for cut in 0..=writes.len() {
                    let mut there = before.clone();
                    there.extend(writes[..cut].iter().cloned());
                    let case = format!("{n} to {m}, {cut}: {:?}", there.keys());
                    let bytes = |(name, text): (&str, String)| (name.to_owned(), text.into());
                    let dir = write(&there.into_iter().map(bytes).collect());
                    let mut all = Authorities::load(dir.path()).expect(&case);
                    if cut == writes.len() {
                        assert_eq!(&shape(&all), whole, "{case}");
                    }
                    if all.phase() == Phase::Steady {
                        all.begin(NOW).expect(&case);
                    }
                    all.finish().expect(&case);
                    let trusted = tls::fingerprints(&all.trusted()).unwrap();
                    assert_eq!(trusted, [all.issuing().fingerprint()], "{case}");
                }
            }
        }
        // The whole of it, file by file.
        let mirror = tempfile::tempdir().unwrap();
        copy(dir.path(), mirror.path()).unwrap();
        assert_eq!(files(mirror.path()), files(dir.path()));
    }
}
