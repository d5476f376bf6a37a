//! What more than one test needs: certificates, and the mail check in few words.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "shared by tests that each use a part"
)]

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::{Path, PathBuf};
use tamer_agent::checks::{Surroundings, run};
use tamer_core::check::{CheckResult, Checks};

/// A certificate authority of a test, and a certificate of its for `localhost` and 127.0.0.1.
pub(crate) struct Pki {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Writes a new one into `dir`, with `name` before every file's name.
pub(crate) fn pki(dir: &Path, name: &str) -> Pki {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let cert = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &ca)
        .unwrap();
    let file = |what: &str, text: String| {
        let path = dir.join(format!("{name}-{what}.pem"));
        std::fs::write(&path, text).unwrap();
        path
    };
    Pki {
        ca: file("ca", ca.pem()),
        cert: file("cert", cert.pem()),
        key: file("key", key.serialize_pem()),
    }
}

/// Tries an `smtp` check with these lines; the sentence of a failure, empty if it held.
pub(crate) async fn mail(server: &str, rest: &str) -> String {
    let text = format!("[it]\ntype = \"smtp\"\nserver = \"{server}\"\n{rest}");
    let checks: Checks = tamer_core::text::parse("checks", &text).unwrap();
    let around = Surroundings {
        host: "web-01.shop.example".to_owned(),
        ..Surroundings::default()
    };
    match run(checks.values().next().unwrap(), &around).await {
        CheckResult::Passed => String::new(),
        CheckResult::Failed(why) => why,
    }
}
