//! Logging in, keys, invitations.

use super::deploy::Why;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use tamer_core::id::{EnvironmentName, HostName, OperatorName};
use tamer_core::moment::Span;
use tamer_core::selector::parse_label;
use tamer_release::trust::RepositoryName;

/// `tamer login`
#[derive(Debug, Args)]
#[command(after_help = "\
Asks for the token, and does not show it; or reads it from standard input where that is no
terminal. It is no word of the command: those stand in the list of processes, for everybody on
the machine.
The token carries the controller's address and the fingerprint of its CA, so nothing is trusted blindly.

Examples:
  tamer login
  tamer login <<< tamer-join-AQEa…
  tamer login --token-file token https://controller:7400")]
pub struct Login {
    /// The controller's address, where the one in the token does not reach it.
    #[arg(value_name = "ADDRESS")]
    pub address: Option<String>,
    /// The file that holds the token; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// `tamer trust …`
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// Makes root, release and environment keys on this machine, and registers the root.
    #[command(after_help = "\
Whoever has enough of the root keys decides what your servers trust: take copies offline.
With root keys of others and a threshold, the root is a draft until enough of them have signed it.

Examples:
  tamer trust init
  tamer trust init --root-key anna.pub --root-key ben.pub --threshold 2")]
    Init {
        /// The public root key of somebody else; may be given more than once.
        #[arg(long = "root-key", value_name = "FILE")]
        root_keys: Vec<PathBuf>,
        /// How many of the root keys must sign.
        #[arg(long, value_name = "N", default_value_t = 1)]
        threshold: u64,
        /// Puts the new keys under a passphrase.
        #[arg(long)]
        passphrase: bool,
    },
    /// Shows repositories, their versions, whose keys sign them, and what expires when.
    #[command(after_help = "Examples:\n  tamer trust status")]
    Status,
    /// Makes a key on this machine: NAME.pem stays here, NAME.pub is for others.
    #[command(after_help = "\
The passphrase is asked for on the terminal, or read from the file that TAMER_KEY_PASSPHRASE_FILE names.

Examples:
  tamer trust key anna
  tamer trust key anna --passphrase")]
    Key {
        /// The name of its files.
        name: OperatorName,
        /// Puts it under a passphrase.
        #[arg(long)]
        passphrase: bool,
    },
    /// Puts a new key in an old one's place.
    #[command(after_help = "\
The old key's file is kept under a name with its id: with it what leads over to the new one is signed.

Examples:
  tamer trust rotate release                          in every application that has this machine's key
  tamer trust rotate release --repository app/shop
  tamer trust rotate root --key 3f2a9c --with anna.pub
  tamer trust rotate online                           after `tamer-controller rotate-online-keys`")]
    Rotate {
        /// Whose keys, and where.
        #[command(flatten)]
        of: OfRole,
        /// The key that goes out, by the beginning of its id [default: the one on this machine].
        #[arg(long, value_name = "ID")]
        key: Option<String>,
        /// The public key that comes in [default: a new one, made here].
        #[arg(long, value_name = "FILE")]
        with: Option<PathBuf>,
    },
    /// Lets one more key sign.
    #[command(after_help = "\
Examples:
  tamer trust add-key release ci.pub --repository app/shop --holder 'CI of shop'
  tamer trust add-key root anna.pub --holder anna@shop.example")]
    AddKey {
        /// Whose keys, and where.
        #[command(flatten)]
        of: OfRole,
        /// The public key, as `tamer trust key` or `openssl pkey -pubout` writes it.
        file: PathBuf,
        /// Who has it: a word for people, signed along.
        #[arg(long, value_name = "TEXT")]
        holder: Option<String>,
    },
    /// Lets a key sign no more.
    #[command(
        after_help = "Examples:\n  tamer trust revoke-key release 3f2a9c --repository app/shop"
    )]
    RevokeKey {
        /// Whose keys, and where.
        #[command(flatten)]
        of: OfRole,
        /// The key, by the beginning of its id.
        id: String,
    },
    /// Says how many keys must sign.
    #[command(after_help = "\
Examples:
  tamer trust threshold root 2
  tamer trust threshold release 2 --repository app/shop")]
    Threshold {
        /// Whose keys, and where.
        #[command(flatten)]
        of: OfRole,
        /// How many.
        number: u64,
    },
    /// Signs anew what ends soon, with a later end.
    #[command(after_help = "\
Examples:
  tamer trust renew root                               the team's root and every repository's, for a year
  tamer trust renew release --repository app/shop      its targets, for 90 days")]
    Renew {
        /// Whose keys, and where.
        #[command(flatten)]
        of: OfRole,
    },
    /// Signs a draft with the keys on this machine; no controller is needed.
    #[command(after_help = "Examples:\n  tamer trust sign change.draft")]
    Sign {
        /// The draft.
        draft: PathBuf,
    },
    /// Hands in a draft that has all its signatures, or goes on with one that was cut off.
    #[command(after_help = "Examples:\n  tamer trust publish change.draft")]
    Publish {
        /// The draft.
        draft: PathBuf,
    },
}

/// Whose keys.
#[derive(Debug, Args)]
pub struct OfRole {
    /// Whose keys.
    #[arg(value_enum)]
    pub role: KeyRoleName,
    /// One repository [default: all that have such keys].
    #[arg(long, value_name = "NAME")]
    pub repository: Option<RepositoryName>,
}

/// Whose keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyRoleName {
    /// The team's root keys, which say who may sign what.
    Root,
    /// The keys that publish an application's releases.
    Release,
    /// The keys that sign an environment's file.
    Environment,
    /// The controller's keys for snapshots and timestamps.
    Online,
}

impl KeyRoleName {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Release => "release",
            Self::Environment => "environment",
            Self::Online => "online",
        }
    }
}

/// `tamer ca …`
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Shows the controller's CA, and how far a rotation has come.
    #[command(after_help = "Examples:\n  tamer ca status")]
    Status,
    /// Begins to put a new CA in the old one's place; nothing stops for it.
    #[command(after_help = "\
Servers and people come over by themselves, over the lines they have, and get their certificates
of the new CA. When all have, it vouches for the controller, too. Until `tamer ca finish` both are
good.

Examples:
  tamer ca rotate --reason 'the yearly rotation'
  tamer ca status                     who has not come over yet")]
    Rotate {
        /// Why.
        #[command(flatten)]
        why: Why,
    },
    /// Ends a rotation: from then on the old CA is good for nothing.
    #[command(after_help = "\
Refused while somebody has no certificate of the new CA; whoever is locked out joins again with a
new invitation.

Examples:
  tamer ca finish
  tamer ca finish --lock-out --reason 'the old key was stolen'")]
    Finish {
        /// Locks out whoever has not come over.
        #[arg(long)]
        lock_out: bool,
        /// Why.
        #[command(flatten)]
        why: Why,
    },
}

/// `tamer host …`
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Prints the line to paste on a new server.
    Invite(InviteHost),
    /// Takes a server out of the fleet: its certificate is worth nothing from then on.
    #[command(after_help = "Examples:\n  tamer host remove web-07 --reason 'broken disk'")]
    Remove {
        /// The host.
        name: HostName,
        /// Why.
        #[command(flatten)]
        why: Why,
    },
    /// Believes a server again that has heard what this controller never said, and speaks above that from then on.
    #[command(
        after_help = "Another controller spoke to it with the keys of this one; `tamer status` names such servers.\n\nExamples:\n  tamer host take-back web-07 --reason 'the stolen controller is off'"
    )]
    TakeBack {
        /// The host.
        name: HostName,
        /// Why.
        #[command(flatten)]
        why: Why,
    },
}

/// `tamer host invite`
#[derive(Debug, Args)]
#[command(after_help = "\
The token is good for one server. A host's name is the server's own, unless it says otherwise.

Examples:
  tamer host invite --environment staging --label role=web
  tamer host invite --environment production --label role=web --label zone=a --valid 15m
  tamer host invite --environment production --replace web-07")]
pub struct InviteHost {
    /// The environment that the host will belong to.
    #[arg(long, short, value_name = "NAME")]
    pub environment: EnvironmentName,
    /// A label, by which environments place components; may be given more than once.
    #[arg(long = "label", short, value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// How long the token may be used.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub valid: Span,
    /// The host that a rebuilt server takes the place of: its old key is revoked when the new one joins.
    #[arg(long, value_name = "HOST")]
    pub replace: Option<HostName>,
}

/// `tamer operator …`
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Prints the token for a person or a CI job.
    Invite(InviteOperator),
    /// Lists people and CI jobs, and what they may do.
    #[command(after_help = "Examples:\n  tamer operator list")]
    List,
    /// Shuts somebody out: what runs for them ends, and their certificate is worth nothing from then on.
    #[command(after_help = "\
Examples:
  tamer operator remove ben --reason 'left the team'
  tamer operator remove ben --environment staging          only the role that ben has there
  tamer operator remove ben --everywhere                   only the role that holds everywhere")]
    Remove {
        /// The operator.
        name: OperatorName,
        /// Takes only the role in this environment, and shuts nobody out.
        #[arg(long, short, value_name = "NAME")]
        environment: Option<EnvironmentName>,
        /// Takes only the role that holds everywhere; those in single environments stay.
        #[arg(long, conflicts_with = "environment")]
        everywhere: bool,
        /// Why.
        #[command(flatten)]
        why: Why,
    },
}

/// `tamer operator invite`
#[derive(Debug, Args)]
#[command(after_help = "\
Somebody who is known logs in anew, and has this role besides those elsewhere; without --role they
stay what they are.

Examples:
  tamer operator invite anna --role deployer
  tamer operator invite ben --role deployer --environment staging --environment lab
  tamer operator invite ben                       a new key, because the old one is lost
  tamer operator invite ci --role deployer --valid 10m")]
pub struct InviteOperator {
    /// The operator's name, as logs will show it.
    pub name: OperatorName,
    /// What the operator may do [default: what they do already; somebody new looks]
    #[arg(long, value_enum)]
    pub role: Option<Role>,
    /// The environment in which the operator may do it (several: give it several times); without it, everywhere.
    #[arg(long = "environment", value_name = "NAME", requires = "role")]
    pub environments: Vec<EnvironmentName>,
    /// How long the token may be used.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub valid: Span,
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Look, but not read what hooks and services printed.
    Viewer,
    /// Look, publish, deploy, go back.
    Deployer,
    /// All that, and invite.
    Admin,
}

impl Role {
    /// The word for it on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Admin => "admin",
        }
    }
}
