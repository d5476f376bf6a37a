//! `init` and `admin-token`: the beginning, and the way back in.

use super::handover::{self, Reading};
use super::{Failure, exe, load, note, start};
use anyhow::{Context, anyhow};
use clap::Args;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tamer_controller::config::{Chosen, Config, DEFAULT_FILE, Paths, template};
use tamer_controller::fleet::persist::genesis;
use tamer_controller::identity::authorities::Authorities;
use tamer_controller::identity::ca::Ca;
use tamer_controller::identity::registry::{Role, Roles};
use tamer_controller::store::sled::SledStore;
use tamer_controller::store::{Store, StoreError, epoch};
use tamer_core::id::OperatorName;
use tamer_kit::hash::sha256;
use tamer_kit::token::{JoinToken, Secret, TokenKind};
use tamer_kit::{clock, durable};
use tamer_release::trust::{PublishedTeam, SigningKey};

#[derive(Debug, Args)]
#[command(after_help = "\
Where there is no configuration file yet, one is written with these settings and every other key
explained; where there is one, it is used as it is.")]
pub(super) struct Init {
    /// The first admin's name, as logs will show it
    #[arg(long, value_name = "NAME", default_value = "admin")]
    admin: OperatorName,
    /// A DNS name or IP address of this controller (several: give it several times)
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// What hosts and operators connect to [default: the first --name and the port]
    #[arg(long, value_name = "HOST:PORT")]
    public: Option<String>,
    /// The address to listen on [default: 0.0.0.0:7400]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Where everything is kept [default: /var/lib/tamer/controller]
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Serve metrics here, on loopback
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(super) struct AdminToken {
    /// Whose login line; a known name gets a new key, and becomes an admin everywhere
    #[arg(value_name = "NAME", default_value = "admin")]
    name: OperatorName,
    /// Why; it stands in the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) fn init(init: &Init, file: Option<&Path>, out: &mut dyn Write) -> Result<(), Failure> {
    let config = configure(init, file, out)?;
    handover::to_owner(&config.data, file.is_none(), Reading::Own)?;
    let paths = config.paths();
    let ca = prepare(&paths)?;
    let store = new_store(&paths)?;
    // Noted first: a token that nobody knows of must not exist.
    note(&config, "controller.init", &config.public.to_string(), None)?;
    // From here on there is a controller: with this commit it has its first admin.
    let token = admit(&config, &ca, &store, &init.admin)?;
    writeln!(out, "a new controller lies in {}", paths.data.display())?;
    writeln!(out, "  its CA has the fingerprint {}", ca.fingerprint())?;
    writeln!(out, "\nstart it here:")?;
    writeln!(out, "  {}", start(file))?;
    say_login(out, &init.admin, &token)?;
    writeln!(out, "\nand after that:")?;
    writeln!(
        out,
        "  tamer trust init                     root and release keys of your team"
    )?;
    writeln!(
        out,
        "  tamer env apply environments/        places, policies, checks"
    )?;
    writeln!(
        out,
        "  tamer host invite --environment production --label role=web\n\
         {:39}a line to paste on each server",
        ""
    )?;
    Ok(())
}

pub(super) fn admin_token(
    config: &Config,
    token: &AdminToken,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let paths = config.paths();
    if let Some(why) = epoch::held(&paths.state)? {
        return Err(Failure::Usage(anyhow!(
            "the controller is held ({why}): a held one makes every token void when it starts; \
             give `tamer-controller unhold` first"
        )));
    }
    let ca = Authorities::load(&paths.ca)?;
    let store = SledStore::open(&paths.store, &exe()?)?;
    note(
        config,
        "admin.token",
        token.name.as_str(),
        token.reason.clone(),
    )?;
    let line = admit(config, ca.shown(), &store, &token.name)?;
    say_login(out, &token.name, &line)?;
    Ok(())
}

fn say_login(out: &mut dyn Write, name: &OperatorName, token: &JoinToken) -> std::io::Result<()> {
    writeln!(
        out,
        "\nlog in as {name} on your own machine; the line serves once, within 24 h:"
    )?;
    writeln!(out, "  tamer login <<< {token}")
}

/// The configuration, written first where there is none.
fn configure(init: &Init, file: Option<&Path>, out: &mut dyn Write) -> Result<Config, Failure> {
    let chosen = Chosen {
        listen: init.listen,
        public: init.public.clone(),
        names: init.names.clone(),
        data: init.data.as_deref().map(std::path::absolute).transpose()?,
        metrics: init.metrics,
    };
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    if path.exists() {
        if !chosen.is_empty() {
            return Err(Failure::Usage(anyhow!(
                "{} is there already: change it there, or leave these options out",
                path.display()
            )));
        }
        return load(Some(path)).map_err(Failure::Usage);
    }
    let text = template(&chosen);
    let config = Config::parse(&text, path).map_err(Failure::Usage)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    durable::create_dir_all(parent.unwrap_or(Path::new(".")), 0o755)?;
    durable::replace(path, text.as_bytes(), 0o644)?;
    writeln!(out, "wrote {}", path.display())?;
    Ok(config)
}

/// Everything but the store. What an `init` that was cut off has made is taken over.
fn prepare(paths: &Paths) -> anyhow::Result<Ca> {
    durable::create_dir_all(&paths.data, 0o700)?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&paths.data, private)
        .with_context(|| format!("cannot make {} yours alone", paths.data.display()))?;
    for dir in [&paths.ca, &paths.online, &paths.state, &paths.trust] {
        durable::create_dir_all(dir, 0o700)?;
    }
    for key in [&paths.snapshot_key, &paths.timestamp_key] {
        if key.exists() {
            SigningKey::load(key)?;
        } else {
            SigningKey::generate()?.save(key)?;
        }
    }
    if paths.ca.join("ca.pem").exists() {
        Ok(Ca::load(&paths.ca)?)
    } else {
        Ok(Ca::create(&paths.ca, clock::now())?)
    }
}

/// A store without content.
fn new_store(paths: &Paths) -> Result<SledStore, Failure> {
    let store = match SledStore::create(&paths.store) {
        Err(StoreError::Exists { .. }) => SledStore::open(&paths.store, &exe()?)?,
        made => made?,
    };
    if store.revision() > 0 {
        return Err(Failure::Usage(anyhow!(
            "there is a controller in {} already: nothing was changed; \
             `tamer-controller admin-token` prints a new login line",
            paths.data.display()
        )));
    }
    Ok(store)
}

/// Makes a one-time token for an admin.
fn admit(
    config: &Config,
    ca: &Ca,
    store: &SledStore,
    name: &OperatorName,
) -> anyhow::Result<JoinToken> {
    let secret = Secret::random()?;
    let roles = Roles::everywhere(Role::Admin);
    // Unknown before `tamer trust init`.
    let root = PublishedTeam::new(&config.paths().trust).read("1.root.json")?;
    let batch = genesis(clock::now(), secret.digest(), name, roles)?;
    store.commit(store.revision(), batch)?;
    Ok(JoinToken {
        kind: TokenKind::Operator,
        controller: config.public.clone(),
        ca: ca.fingerprint(),
        trust_root: root.map(|root| sha256(&root)),
        secret,
    })
}
