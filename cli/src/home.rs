//! What `tamer` keeps on an engineer's machine, in `~/.config/tamer` or `$TAMER_HOME`:
//!
//! ```text
//! config.toml                    which controller is the current one
//! controller.example-7400/       one folder a controller, 0700
//!     controller.toml            its address, your name, the pinned trust root
//!     ca.pem                     its CA; two while it is rotated
//!     renewal-due                the controller's CAs have changed: your certificate is renewed next time
//!     identity.pem               your key and certificate, 0600; one file, so that they always fit
//!     audit-head                 the last line of the audit log that was seen, so that a rewritten log is found out
//!     trust/                     the newest signed metadata seen, so that nothing older is believed
//! keys/                          root.pem, release.pem, environment.pem, 0600 each
//! drafts/                        changes that wait for signatures, or that were cut off
//! ```

use crate::error::{Context, Error, Result};
use crate::exit::Exit;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tamer_core::digest::Digest;
use tamer_core::text;
use tamer_kit::address::Address;
use tamer_kit::chain::Head;
use tamer_kit::{durable, tls};
use tamer_release::trust::TrustStore;

/// The largest file of these that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Where it is remembered that the certificate must be renewed, whatever its age.
const RENEWAL_DUE: &str = "renewal-due";

/// Where it is remembered how far the audit log was seen.
const AUDIT_HEAD: &str = "audit-head";

/// The folder.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
}

/// What is remembered of one controller, without the certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Where it listens.
    pub address: String,
    /// Who you are there.
    pub name: String,
    /// SHA-256 of the team's root, version 1: all trust begins here. Unknown until there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_root: Option<Digest>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    current: Option<String>,
}

/// One controller's folder, and what is in it.
#[derive(Debug, Clone)]
pub struct Login {
    dir: PathBuf,
    /// What is remembered of the controller.
    pub known: Known,
    /// Where it listens.
    pub address: Address,
    /// Its CA, PEM.
    pub ca: String,
    /// Your key and certificate, PEM.
    pub identity: String,
}

// === impl Home ===

impl Home {
    /// The folder given, or else `$XDG_CONFIG_HOME/tamer`, or `~/.config/tamer`.
    ///
    /// # Errors
    /// No folder was given, and there is no home directory.
    pub fn find(given: Option<&Path>) -> Result<Self> {
        let variable = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let dir = given
            .map(Path::to_owned)
            .or_else(|| variable("XDG_CONFIG_HOME").map(|dir| dir.join("tamer")))
            .or_else(|| variable("HOME").map(|dir| dir.join(".config/tamer")))
            .ok_or_else(|| {
                Error::usage("there is no home directory to keep certificates in")
                    .next("set TAMER_HOME to a folder")
            })?;
        Ok(Self { dir })
    }

    /// Where signing keys are.
    pub fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    /// Where changes wait that lack signatures, or that are being handed in.
    pub fn drafts(&self) -> PathBuf {
        self.dir.join("drafts")
    }

    /// The login at `controller`, or at the current one.
    ///
    /// # Errors
    /// There is none, or its files cannot be read.
    pub fn login(&self, controller: Option<&Address>) -> Result<Login> {
        let address = match controller {
            Some(address) => address.clone(),
            None => self.current()?,
        };
        let dir = self.folder(&address);
        if !dir.is_dir() {
            return Err(Error::usage(format!("you are not logged in to {address}"))
                .next("tamer login, with a token from `tamer operator invite`"));
        }
        let path = dir.join("controller.toml");
        let known: Known = text::parse(&path.display().to_string(), &read(&path)?)
            .doing(Exit::Usage, || format!("cannot use the login at {address}"))?;
        Ok(Login {
            ca: read(&dir.join("ca.pem"))?,
            identity: read(&dir.join("identity.pem"))?,
            dir,
            known,
            address,
        })
    }

    /// Remembers a controller with your certificate there, and makes it the current one.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn remember(
        &self,
        address: &Address,
        known: Known,
        ca: &str,
        identity: &str,
    ) -> Result<Login> {
        let login = Login {
            dir: self.folder(address),
            known,
            address: address.clone(),
            ca: ca.to_owned(),
            identity: identity.to_owned(),
        };
        durable::create_dir_all(&login.dir, 0o700).doing(Exit::Internal, keeping)?;
        write(&login.dir.join("ca.pem"), ca, 0o600)?;
        write(&login.dir.join("identity.pem"), identity, 0o600)?;
        login.save_known()?;
        let config = Config {
            current: Some(address.to_string()),
        };
        let config = toml::to_string(&config).doing(Exit::Internal, keeping)?;
        write(&self.dir.join("config.toml"), &config, 0o600)?;
        Ok(login)
    }

    fn current(&self) -> Result<Address> {
        let path = self.dir.join("config.toml");
        let name = path.display().to_string();
        let config: Config = match durable::read_capped(&path, MAX_FILE) {
            Ok(None) => Config::default(),
            Ok(Some(bytes)) => text::parse(&name, &String::from_utf8_lossy(&bytes))
                .doing(Exit::Usage, || {
                    "cannot tell which controller to ask".to_owned()
                })?,
            Err(error) => {
                return Err(Error::caused(
                    Exit::Internal,
                    "cannot tell which controller to ask",
                    error,
                ));
            }
        };
        let current = config.current.ok_or_else(|| {
            Error::usage("you are not logged in to a controller").next(
                "tamer login, with the token from `tamer-controller init` or `tamer operator invite`",
            )
        })?;
        current
            .parse()
            .doing(Exit::Usage, || format!("{name} names no controller"))
    }

    fn folder(&self, address: &Address) -> PathBuf {
        // A host has no `/`, and an IPv6 address's colons are no trouble in a file's name.
        self.dir
            .join(format!("{}-{}", address.host(), address.port()))
    }
}

// === impl Login ===

impl Login {
    /// Replaces the certificate, the key with it, and the CA before them.
    ///
    /// # Errors
    /// `ca` is none that may follow the one known here, or a file cannot be written; the certificate is then still the
    /// old one.
    pub fn renew(&mut self, identity: String, ca: String) -> Result<()> {
        let follows = tls::may_follow(&self.ca, &ca);
        if !follows.doing(Exit::Refused, || self.of_another_ca())? {
            return Err(Error::new(Exit::Refused, self.of_another_ca()));
        }
        write(&self.dir.join("ca.pem"), &ca, 0o600)?;
        write(&self.dir.join("identity.pem"), &identity, 0o600)?;
        (self.identity, self.ca) = (identity, ca);
        let due = self.renewal_due();
        match std::fs::remove_file(&due) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error)
                .doing(Exit::Internal, || {
                    format!("cannot remove {}", due.display())
                }),
            _ => Ok(()),
        }
    }

    fn of_another_ca(&self) -> String {
        format!(
            "{} names another CA than the one known here: do not go on before you know why",
            self.address
        )
    }

    /// Where it is noted that the certificate must be renewed, whatever its age: the controller's CAs have changed.
    pub fn renewal_due(&self) -> PathBuf {
        self.dir.join(RENEWAL_DUE)
    }

    /// Pins the team's root. One that is pinned is never replaced.
    ///
    /// # Errors
    /// Another one is pinned, or the file cannot be written.
    pub fn pin(&mut self, root: Digest) -> Result<()> {
        match self.known.trust_root {
            Some(pinned) if pinned == root => Ok(()),
            Some(pinned) => Err(Error::new(
                Exit::Refused,
                format!(
                    "{} names the team root {}, but {} is pinned here: do not go on before you know why",
                    self.address,
                    root.short(),
                    pinned.short()
                ),
            )),
            None => {
                self.known.trust_root = Some(root);
                self.save_known()
            }
        }
    }

    /// The last line of the controller's audit log that this machine has seen.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn audit_head(&self) -> Result<Option<Head>> {
        let path = self.dir.join(AUDIT_HEAD);
        let doing = || {
            format!(
                "cannot tell what was seen of the audit log: {}",
                path.display()
            )
        };
        let Some(bytes) = durable::read_capped(&path, MAX_FILE).doing(Exit::Internal, doing)?
        else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes);
        text.trim().parse().map(Some).doing(Exit::Usage, doing)
    }

    /// Remembers the last line of the audit log.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_audit_head(&self, head: Head) -> Result<()> {
        let path = self.dir.join(AUDIT_HEAD);
        durable::replace(&path, format!("{head}\n").as_bytes(), 0o600).doing(Exit::Internal, || {
            "cannot remember the audit log".to_owned()
        })
    }

    /// What is trusted under the pinned root.
    pub fn trust_store(&self, pin: Digest) -> TrustStore {
        TrustStore::new(&self.dir.join("trust"), pin)
    }

    fn save_known(&self) -> Result<()> {
        let known = toml::to_string(&self.known).doing(Exit::Internal, keeping)?;
        write(&self.dir.join("controller.toml"), &known, 0o600)
    }
}

fn keeping() -> String {
    "cannot keep your login".to_owned()
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    durable::replace(path, text.as_bytes(), mode).doing(Exit::Internal, keeping)
}

fn read(path: &Path) -> Result<String> {
    let name = path.display();
    let doing = || format!("cannot read {name}");
    let bytes = durable::read_capped(path, MAX_FILE)
        .doing(Exit::Internal, doing)?
        .ok_or_else(|| {
            Error::usage(format!("{name} is missing: log in again")).next("tamer login")
        })?;
    String::from_utf8(bytes).doing(Exit::Usage, doing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn known(name: &str) -> Known {
        Known {
            address: "https://c:7400".into(),
            name: name.into(),
            trust_root: None,
        }
    }

    #[test]
    fn logins_are_kept_apart_and_the_last_one_is_current() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(&dir.path().join("tamer"))).unwrap();
        let said = home.login(None).unwrap_err();
        assert!(said.next[0].starts_with("tamer login"), "{said:?}");
        let (one, two): (Address, Address) = ("c:1".parse().unwrap(), "[::1]:2".parse().unwrap());
        home.remember(&one, known("anna"), "ca 1", "key 1").unwrap();
        home.remember(&two, known("ci"), "ca 2", "key 2").unwrap();
        assert_eq!(home.login(None).unwrap().known.name, "ci");
        let mut login = home.login(Some(&one)).unwrap();
        assert_eq!((&*login.ca, &*login.identity), ("ca 1", "key 1"));
        // What is no CA at all is followed by nothing.
        let refused = login.renew("key 3".into(), "ca 3".into()).unwrap_err();
        assert_eq!(refused.exit, Exit::Refused);
        assert_eq!(home.login(Some(&one)).unwrap().identity, "key 1");
        let mode = |path: &str| {
            let found = std::fs::metadata(dir.path().join("tamer").join(path)).unwrap();
            found.permissions().mode() & 0o777
        };
        assert_eq!(mode("c-1"), 0o700);
        assert_eq!(mode("c-1/identity.pem"), 0o600);
    }

    #[test]
    fn a_pinned_root_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path())).unwrap();
        let address = "c".parse().unwrap();
        let mut login = home.remember(&address, known("anna"), "", "").unwrap();
        login.pin(Digest::new([1; 32])).unwrap();
        login.pin(Digest::new([1; 32])).unwrap();
        let refused = home
            .login(None)
            .unwrap()
            .pin(Digest::new([2; 32]))
            .unwrap_err();
        assert_eq!(refused.exit, Exit::Refused);
        assert_eq!(
            home.login(None).unwrap().known.trust_root,
            Some(Digest::new([1; 32]))
        );
    }
}
