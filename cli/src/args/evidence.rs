//! Evidence: how releases are built, stated about, reviewed and verified.

use clap::{Args, Subcommand};
use std::path::PathBuf;
use tamer_core::id::ApplicationName;
use tamer_core::version::Version;

/// `tamer build`
#[derive(Debug, Args)]
#[command(after_help = "\
Runs [build] of tamer.toml in a clean checkout of the commit, with a clean environment, and stops at the
first command that fails. Each release gets signed statements of how it was built and of what passed, beside it
in NAME.evidence.

Examples:
  tamer build 1.4.2                        the commit that is checked out; published
  tamer build 1.4.2 --commit v1.4.2 --twice
  tamer build 1.4.2 --offline --out dist   publishes nothing")]
pub struct Build {
    /// The version of the application.
    pub version: Version,
    /// The commit, by any name that git knows.
    #[arg(long, value_name = "COMMIT", default_value = "HEAD")]
    pub commit: String,
    /// Builds a second time in another folder, and demands the same releases.
    #[arg(long)]
    pub twice: bool,
    /// Publishes nothing.
    #[arg(long)]
    pub offline: bool,
    /// The folder for releases and their evidence [default: one beside git's own files].
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The application's description.
    #[arg(long, short, value_name = "FILE", default_value = "tamer.toml")]
    pub file: PathBuf,
    /// The key that signs.
    #[command(flatten)]
    pub key: EvidenceKeyFile,
}

/// Which key signs evidence.
#[derive(Debug, Clone, Args)]
pub struct EvidenceKeyFile {
    /// The key that signs, a .pem or a .signer [default: what TAMER_EVIDENCE_KEY holds, or `evidence` among your keys].
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// `tamer attest key`
#[derive(Debug, Args)]
pub struct AttestKey {
    /// Which one.
    #[command(flatten)]
    pub key: EvidenceKeyFile,
    /// Puts a new one under a passphrase.
    #[arg(long)]
    pub passphrase: bool,
}

/// `tamer attest …`
#[derive(Debug, Subcommand)]
pub enum AttestCommand {
    /// Makes your key for evidence, once, and prints what an environment file says about it.
    #[command(after_help = "\
Like the team's keys it may lie under a passphrase, be in a variable (TAMER_EVIDENCE_KEY holds what the file would), or
never leave a KMS: then a file NAME.signer names the program that signs.

Examples:
  tamer attest key
  tamer attest key --key ci.pem
  tamer attest key --passphrase")]
    Key(AttestKey),
    /// States that releases were built from a commit.
    #[command(after_help = "Examples:\n  tamer attest build --commit HEAD dist/*.manifest.json")]
    Build(AttestBuild),
    /// States how the linters ended.
    #[command(after_help = "Examples:\n  tamer attest lint --exit-code $? dist/*.manifest.json")]
    Lint(AttestRun),
    /// States how the tests ended.
    #[command(
        after_help = "Examples:\n  tamer attest test --junit junit.xml dist/shop-web-1.4.2.manifest.json"
    )]
    Test(AttestRun),
    /// States how the tests of single units ended.
    #[command(after_help = "Examples:\n  tamer attest unit --junit unit.xml dist/*.manifest.json")]
    Unit(AttestRun),
    /// States how the tests of what it does ended.
    #[command(
        after_help = "Examples:\n  tamer attest functional --junit functional.xml dist/*.manifest.json"
    )]
    Functional(AttestRun),
    /// States how the tests that decide whether it is accepted ended.
    #[command(
        after_help = "Examples:\n  tamer attest acceptance --exit-code 0 dist/*.manifest.json"
    )]
    Acceptance(AttestRun),
    /// Hands the evidence beside published releases to the controller, and the reviews of their commit.
    #[command(after_help = "\
`tamer build` does that when it publishes; a review that comes later is sent by this.

Examples:
  tamer attest send dist/*.manifest.json
  tamer attest send --commit v1.4.2 dist/shop-web-1.4.2.manifest.json")]
    Send(AttestSend),
}

/// `tamer attest send`
#[derive(Debug, Args)]
pub struct AttestSend {
    /// The manifests of the releases; the evidence is in the folder beside each.
    #[arg(required = true, value_name = "MANIFEST")]
    pub manifests: Vec<PathBuf>,
    /// The commit whose reviews are sent too, by any name that git knows.
    #[arg(long, value_name = "COMMIT", default_value = "HEAD")]
    pub commit: String,
}

/// `tamer attest build`
#[derive(Debug, Args)]
pub struct AttestBuild {
    /// The manifests of the releases.
    #[arg(required = true, value_name = "MANIFEST")]
    pub manifests: Vec<PathBuf>,
    /// The commit, by any name that git knows.
    #[arg(long, value_name = "COMMIT", default_value = "HEAD")]
    pub commit: String,
    /// The command that built them.
    #[arg(long, value_name = "LINE")]
    pub command: Option<String>,
    /// The key that signs.
    #[command(flatten)]
    pub key: EvidenceKeyFile,
}

/// `tamer attest lint`, `test` and so on.
#[derive(Debug, Args)]
pub struct AttestRun {
    /// The manifests of the releases.
    #[arg(required = true, value_name = "MANIFEST")]
    pub manifests: Vec<PathBuf>,
    /// A JUnit file that the run wrote; may be given more than once.
    #[arg(long, value_name = "FILE")]
    pub junit: Vec<PathBuf>,
    /// How the command ended: 0 for good.
    #[arg(long, value_name = "CODE", required_unless_present = "junit")]
    pub exit_code: Option<i32>,
    /// The command that was run.
    #[arg(long, value_name = "LINE")]
    pub command: Option<String>,
    /// The key that signs.
    #[command(flatten)]
    pub key: EvidenceKeyFile,
}

/// `tamer review …`
#[derive(Debug, Subcommand)]
pub enum ReviewCommand {
    /// Says, with your key, that you reviewed a commit and found it good. You cannot have written it.
    #[command(after_help = "\
The statement becomes a git note of the commit: git push origin refs/notes/tamer-review

Examples:
  tamer review approve HEAD
  tamer review approve 1f3c2ab --comment 'tried it on staging' --out review.json")]
    Approve(Approve),
}

/// `tamer review approve`
#[derive(Debug, Args)]
pub struct Approve {
    /// The commit, by any name that git knows.
    pub commit: String,
    /// What else you have to say.
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// Writes the statement into a file, and no note.
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Who you are: the address in your commits [default: git's user.email].
    #[arg(long, value_name = "ADDRESS")]
    pub person: Option<String>,
    /// The key that signs.
    #[command(flatten)]
    pub key: EvidenceKeyFile,
}

/// `tamer verify`
#[derive(Debug, Args)]
#[command(after_help = "\
Ends with 3 if an environment lacks something. Reviews are read from git's notes too.

Examples:
  tamer verify 1.4.2                              what is published, in every environment
  tamer verify web@1.4.3 -e production
  tamer verify dist/shop-web-1.4.2.manifest.json -e environments/production.toml")]
pub struct Verify {
    /// A published version, COMPONENT@VERSION, or the file of a manifest, whose evidence is in the folder beside it.
    #[arg(value_name = "RELEASE")]
    pub release: String,
    /// The application of the version [default: the only one that is published].
    #[arg(long, short, value_name = "NAME")]
    pub application: Option<ApplicationName>,
    /// An environment, or the file of one; may be given more than once [default: all that the controller has].
    #[arg(long = "environment", short, value_name = "NAME|FILE")]
    pub environments: Vec<String>,
    /// Another folder or file with evidence; may be given more than once.
    #[arg(long, value_name = "PATH")]
    pub evidence: Vec<PathBuf>,
}
