//! The team's keys on this machine: which there are, and which of them may sign something.

use crate::error::{Context, Error, Result};
use crate::exit::Exit;
use crate::home::Home;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use tamer_core::moment::Span;
use tamer_core::text;
use tamer_kit::durable;
use tamer_release::trust::external::External;
use tamer_release::trust::{KeyError, PublicKey, Signer, SigningKey};

/// The largest file with a public key that is read, in bytes.
const MAX_PUBLIC: u64 = 16 << 10;

/// One of the team's keys on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TeamKey {
    /// Says who may sign what.
    Root,
    /// Signs releases and versions.
    Release,
    /// Signs environment files.
    Environment,
}

impl TeamKey {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Root, Self::Release, Self::Environment];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Release => "release",
            Self::Environment => "environment",
        }
    }

    /// Its file's name.
    pub fn file(self) -> &'static str {
        match self {
            Self::Root => "root.pem",
            Self::Release => "release.pem",
            Self::Environment => "environment.pem",
        }
    }

    /// The variable that may hold it, for CI: PKCS#8 in PEM.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Root => "TAMER_ROOT_KEY",
            Self::Release => "TAMER_RELEASE_KEY",
            Self::Environment => "TAMER_ENVIRONMENT_KEY",
        }
    }
}

/// The variables that hold private keys: no child process gets them.
pub fn secret_variables() -> impl Iterator<Item = &'static str> {
    let team = TeamKey::ALL.into_iter().map(TeamKey::variable);
    team.chain([EVIDENCE_VARIABLE])
}

/// The name of a person's or a CI's key for evidence, among their keys.
const EVIDENCE: &str = "evidence";
/// The variable that may hold it: PKCS#8 in PEM.
const EVIDENCE_VARIABLE: &str = "TAMER_EVIDENCE_KEY";

/// The variable that names a file with the passphrase of the keys, where there is no terminal.
const PASSPHRASE_FILE: &str = "TAMER_KEY_PASSPHRASE_FILE";

/// How long a program that signs may take: a person may have to touch a key.
const SIGNING: Span = Span::secs(60);

/// `NAME.signer`: a key that a program signs with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProgramFile {
    /// The program and its arguments.
    command: Vec<String>,
    /// The public key, PEM.
    public: String,
    /// How long it may take.
    #[serde(default = "signing")]
    timeout: Span,
}

fn signing() -> Span {
    SIGNING
}

/// The folder of keys, and the variables.
#[derive(Debug, Clone)]
pub struct Keys {
    dir: PathBuf,
}

impl Keys {
    /// Those of this home.
    pub fn of(home: &Home) -> Self {
        Self { dir: home.keys() }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The key of this kind that new repositories begin with: the variable's, or else the file's.
    ///
    /// # Errors
    /// It is not on this machine, or others can read it.
    pub fn usual(&self, which: TeamKey, to: &str) -> Result<Box<dyn Signer>> {
        let missing = format!(
            "ask whoever ran `tamer trust init` to do it, or for {}, and put it into {}",
            which.file(),
            self.dir.display()
        );
        self.named(which.word(), which.variable(), to, missing)
    }

    /// The key that states evidence: the one in this file, `KEY.pem` or `NAME.signer`; without one, as the team's
    /// keys are found.
    ///
    /// # Errors
    /// It is not on this machine, or others can read it.
    pub fn evidence(&self, given: Option<&Path>) -> Result<Box<dyn Signer>> {
        let (to, missing) = ("sign evidence", "tamer attest key".to_owned());
        match given {
            Some(path) => from_file(path, to, missing),
            None => self.named(EVIDENCE, EVIDENCE_VARIABLE, to, missing),
        }
    }

    /// Whether there is such a key.
    pub fn has_evidence(&self, given: Option<&Path>) -> bool {
        let here = |kind| self.dir.join(format!("{EVIDENCE}.{kind}")).exists();
        match given {
            Some(path) => path.exists(),
            None => variable(EVIDENCE_VARIABLE).is_some() || here("signer") || here("pem"),
        }
    }

    /// Makes one in this file, or where it is looked for, and says where that is.
    ///
    /// # Errors
    /// There is one already, or it cannot be written.
    pub fn make_evidence(&self, given: Option<&Path>, sealed: bool) -> Result<PathBuf> {
        let usual = || self.dir.join(format!("{EVIDENCE}.pem"));
        let path = given.map_or_else(usual, Path::to_owned);
        if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
            let doing = || format!("cannot make the key {}", path.display());
            durable::create_dir_all(folder, 0o700).doing(Exit::Usage, doing)?;
        }
        generated(&path, sealed)?;
        Ok(path)
    }

    /// The key of this name: the variable's, or else the program's, or else the file's.
    fn named(
        &self,
        name: &str,
        held_by: &str,
        to: &str,
        missing: String,
    ) -> Result<Box<dyn Signer>> {
        if let Some(key) = from_variable(held_by)? {
            return Ok(Box::new(key));
        }
        let file = |kind: &str| self.dir.join(format!("{name}.{kind}"));
        match file("signer") {
            program if program.exists() => from_file(&program, to, missing),
            _ => from_file(&file("pem"), to, missing),
        }
    }

    /// Those of the wanted keys that are at hand, in files or in variables.
    ///
    /// # Errors
    /// A key file cannot be used.
    pub fn among(&self, wanted: &[PublicKey]) -> Result<Vec<Box<dyn Signer>>> {
        let mut found: Vec<Box<dyn Signer>> = Vec::new();
        let mut take = |key: Box<dyn Signer>| {
            let new = !found.iter().any(|known| known.public() == key.public());
            if new && wanted.contains(key.public()) {
                found.push(key);
            }
        };
        for which in TeamKey::ALL {
            if let Some(key) = from_variable(which.variable())? {
                take(Box::new(key));
            }
        }
        for path in self.files("signer")? {
            take(Box::new(external(&path)?));
        }
        for path in self.files("pem")? {
            // Nobody is asked for the passphrase of a key that is not wanted.
            let beside = path.with_extension("pub");
            if beside.exists() && !wanted.contains(&public(&beside)?) {
                continue;
            }
            let key = load(&path).doing(Exit::Usage, || {
                format!("cannot use the key file {}", path.display())
            })?;
            take(Box::new(key));
        }
        Ok(found)
    }

    /// The files of this kind, by name.
    fn files(&self, kind: &str) -> Result<Vec<PathBuf>> {
        let doing = || format!("cannot read {}", self.dir.display());
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).doing(Exit::Internal, doing),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.doing(Exit::Internal, doing)?.path();
            if path.extension().is_some_and(|extension| extension == kind) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Makes a key with this name, under a passphrase if one is wanted, and its public half beside
    /// it, for others to have.
    ///
    /// # Errors
    /// There is one already, or it cannot be written.
    pub fn make(&self, name: &str, sealed: bool) -> Result<SigningKey> {
        let doing = || format!("cannot make the key {name}");
        durable::create_dir_all(&self.dir, 0o700).doing(Exit::Internal, doing)?;
        let key = generated(&self.dir.join(format!("{name}.pem")), sealed)?;
        let public = key.public().to_pem().doing(Exit::Internal, doing)?;
        durable::replace(&self.public_file(name), public.as_bytes(), 0o644)
            .doing(Exit::Internal, doing)?;
        Ok(key)
    }

    /// Where the public half of a key is.
    pub fn public_file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.pub"))
    }

    /// A new key in the usual one's place; the old one stays, under a name with its id, for it still
    /// signs what leads over to the new one. A usual key that `named` does not know was made by a
    /// rotation that was cut off, and is taken.
    ///
    /// # Errors
    /// A file cannot be used or written.
    pub fn renewed(
        &self,
        which: TeamKey,
        named: impl Fn(&PublicKey) -> bool,
    ) -> Result<Box<dyn Signer>> {
        let program = self.dir.join(format!("{}.signer", which.word()));
        if program.exists() {
            let program = program.display();
            return Err(
                Error::usage(format!("{program} names a key that is not made here"))
                    .next("make the new one where the old one is, and give it: --with FILE.pub"),
            );
        }
        let path = self.dir.join(which.file());
        let mut sealed = false;
        if path.exists() {
            let old =
                load(&path).doing(Exit::Usage, || format!("cannot use {}", path.display()))?;
            if !named(old.public()) {
                return Ok(Box::new(old));
            }
            sealed = is_sealed(&path);
            let kept = format!("{}-{}", which.word(), &old.public().id()[..8]);
            let kept = self.dir.join(kept);
            // First the public half: a file without one is only asked about, never lost.
            for kind in ["pub", "pem"] {
                let (from, to) = (path.with_extension(kind), kept.with_extension(kind));
                let doing = || format!("cannot keep the old key as {}", to.display());
                if from.exists() {
                    durable::rename(&from, &to).doing(Exit::Internal, doing)?;
                }
            }
        }
        Ok(Box::new(self.make(which.word(), sealed)?))
    }
}

/// A new key in a file that is not there yet, under a passphrase if one is wanted.
fn generated(path: &Path, sealed: bool) -> Result<SigningKey> {
    let doing = || format!("cannot make the key {}", path.display());
    let key = SigningKey::generate().doing(Exit::Internal, doing)?;
    if sealed {
        let word = new_passphrase(path).doing(Exit::Usage, doing)?;
        key.save_sealed(path, &word).doing(Exit::Usage, doing)?;
    } else {
        key.save(path).doing(Exit::Usage, doing)?;
    }
    Ok(key)
}

fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn from_variable(name: &str) -> Result<Option<SigningKey>> {
    let Some(pem) = variable(name) else {
        return Ok(None);
    };
    let key = pem.to_str().ok_or(KeyError::Format);
    key.and_then(SigningKey::from_pem)
        .map(Some)
        .doing(Exit::Usage, || {
            format!("cannot use the key in the variable {name}")
        })
}

/// What a file holds or names: a key, or a program that has one. `missing`: what to do where there is no file.
fn from_file(path: &Path, to: &str, missing: String) -> Result<Box<dyn Signer>> {
    if path.extension().is_some_and(|kind| kind == "signer") {
        return Ok(Box::new(external(path)?));
    }
    load(path)
        .map(|key| Box::new(key) as Box<dyn Signer>)
        .map_err(|error| {
            let gone = matches!(error, KeyError::Missing(_));
            let error = Error::caused(Exit::Usage, format!("cannot {to}"), error);
            match gone {
                true => error.next(missing),
                false => error,
            }
        })
}

/// A key file; where it is under a passphrase, that is asked for.
fn load(path: &Path) -> std::result::Result<SigningKey, KeyError> {
    SigningKey::load_with(path, || passphrase(path, "passphrase of"))
}

fn is_sealed(path: &Path) -> bool {
    matches!(SigningKey::load(path), Err(KeyError::Sealed(_)))
}

/// From the file that the variable names, or from the terminal.
fn passphrase(path: &Path, what: &str) -> std::result::Result<String, KeyError> {
    let read = match variable(PASSPHRASE_FILE) {
        Some(file) => std::fs::read_to_string(file).map(|text| text.trim_end().to_owned()),
        None => tamer_kit::terminal::ask(&format!("{what} {}: ", path.display())),
    };
    read.map_err(|_| KeyError::Sealed(path.to_owned()))
}

/// Asked for twice on a terminal: nobody sees what they type.
fn new_passphrase(path: &Path) -> std::result::Result<String, KeyError> {
    let first = passphrase(path, "new passphrase of")?;
    if std::env::var_os(PASSPHRASE_FILE).is_none() && passphrase(path, "once more, for")? != first {
        return Err(KeyError::Passphrase);
    }
    if first.is_empty() {
        return Err(KeyError::Sealed(path.to_owned()));
    }
    Ok(first)
}

/// A key that a program signs with.
fn external(path: &Path) -> Result<External> {
    let doing = || format!("cannot use {}", path.display());
    let bytes = durable::read_capped(path, MAX_PUBLIC).doing(Exit::Usage, doing)?;
    let given = String::from_utf8(bytes.unwrap_or_default()).doing(Exit::Usage, doing)?;
    let file: ProgramFile =
        text::parse(&path.display().to_string(), &given).doing(Exit::Usage, doing)?;
    let key = PublicKey::from_pem(&file.public).doing(Exit::Usage, doing)?;
    let limit = file.timeout.0;
    let without = secret_variables().collect();
    External::new(key, file.command, limit, without).doing(Exit::Usage, doing)
}

/// A public key from a file, as another holder sends it.
///
/// # Errors
/// It is not there, or not a public key.
pub fn public(path: &Path) -> Result<PublicKey> {
    let doing = || format!("cannot use {} as a public key", path.display());
    let bytes = durable::read_capped(path, MAX_PUBLIC).doing(Exit::Usage, doing)?;
    let bytes =
        bytes.ok_or_else(|| Error::usage(format!("there is no file {}", path.display())))?;
    let text = std::str::from_utf8(&bytes).doing(Exit::Usage, doing)?;
    let key = PublicKey::from_pem(text).doing(Exit::Usage, doing);
    key.map_err(|error| {
        error.next("a file as `tamer trust key NAME` or `openssl pkey -pubout` writes it")
    })
}
