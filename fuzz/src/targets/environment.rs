//! The environment file.

use tamer_core::digest::Digest;
use tamer_core::environment::Environment;

pub(super) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let environment = match Environment::parse("production.toml", text) {
        Ok(environment) => environment,
        Err(error) => {
            assert!(error.to_string().starts_with("production.toml"), "{error}");
            return;
        }
    };
    let json = serde_json::to_vec(&environment).unwrap();
    let again: Environment = serde_json::from_slice(&json).unwrap();
    assert_eq!(again, environment);
    if let Ok(text) = toml::to_string(&environment) {
        let again = Environment::parse("production.toml", &text).unwrap();
        assert_eq!(again, environment);
    }
    // Nothing below the minimum, nothing revoked, and nothing without a place is admitted.
    let digest = Digest::new([7; 32]);
    let version: tamer_core::version::Version = "1.0.0".parse().unwrap();
    for (component, minimum) in &environment.minimum {
        let admitted = environment.admits(component, &version, &digest).is_ok();
        assert!(!admitted || (*minimum <= version && environment.place.contains_key(component)));
    }
    for component in environment.place.keys() {
        for revoked in &environment.revoked {
            assert!(environment.admits(component, &version, revoked).is_err());
        }
    }
}

/// The real one of this repository, and one with everything in it.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = super::repository(&["vagrant/environments/vagrant.toml"]);
    seeds.push(
        b"[place]\n\"shop/web\" = { role = \"web\" }\n\"shop/worker\" = {}\n[policy]\ncanary = \"5%\"\nsteps = [\"25%\", \"100%\"]\nmax_parallel = \"20%\"\nmax_failures = \"2%\"\nbake = \"10m\"\non_failure = \"rollback\"\n[evidence]\nrequire = [\"build\", \"test\"]\nmax_age = \"30d\"\nmax_age_of = { test = \"7d\" }\n[evidence.keys.ci]\nkey = \"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\"\nstates = [\"build\", \"test\"]\nperson = \"ci\"\nuntil = \"2027-01-31\"\n[minimum]\n\"shop/web\" = \"1.3.0\"\n[checks.mail]\ntype = \"smtp\"\nserver = \"mail.internal:587\"\nfrom = \"probe@shop.example\"\nto = \"sink@shop.example\"\n".to_vec(),
    );
    let revoked = format!(
        "revoked = [\"{}\"]\n[place]\n\"shop/web\" = {{}}\n",
        "07".repeat(32)
    );
    seeds.push(revoked.into_bytes());
    seeds
}
