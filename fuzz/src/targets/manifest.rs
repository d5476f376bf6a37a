//! A manifest's bytes.

use super::sound;
use crate::corpus::corpus;
use crate::made::{large, small, spec};
use tamer_release::manifest;

pub(super) fn run(bytes: &[u8]) {
    match manifest::parse(bytes) {
        Ok(manifest) => sound::manifest(&manifest),
        Err(error) => super::is_said(&error),
    }
}

/// Good ones, and all of the corpus.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut full = small();
    full.manifest.spec = spec(
        "user = \"shop\"\nshared = [\"media/\", \"local.env\"]\nservice = \"shop-web.service\"\nhooks = { start = \"bin/run\" }\nhook_timeout = \"1m 30s\"\n[component.web.checks.home]\ntype = \"http\"\nurl = \"http://127.0.0.1:8000/health\"",
    );
    let mut seeds = vec![
        manifest::to_bytes(&small().manifest),
        manifest::to_bytes(&large().manifest),
        manifest::to_bytes(&full.manifest),
    ];
    seeds.extend(corpus().into_iter().map(|hostile| hostile.manifest));
    seeds
}
