//! Tools that nobody here wrote: what securesystemslib with in-toto-attestation, and @sigstore/verify, say of our
//! bundles, and what we say of theirs. `deploy-scripts/test` installs them; without them nothing is claimed.

use super::made::{NOW, RELEASE, Team, ago, build, commit, public, review, run, tampered};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::{Path, PathBuf};
use std::process::Command;
use tamer_core::environment::Environment;
use tamer_core::evidence::EvidenceKind::Test;
use tamer_release::attest::{judge, seal};

/// Where `deploy-scripts/lib/tools.sh` puts them.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/evidence")
}

fn script(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attest");
    tests.join(name)
}

/// Python with the libraries, or said loudly that it is not there.
#[expect(clippy::print_stderr, reason = "what is not tried is said")]
fn python() -> Option<Command> {
    let python = tools().join("python/bin/python3");
    if !python.is_file() {
        eprintln!("\nSKIP: securesystemslib was NOT tried: deploy-scripts/test installs it\n");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(script("others.py"));
    Some(command)
}

/// Node with the library, or said loudly that it is not there.
#[expect(clippy::print_stderr, reason = "what is not tried is said")]
fn node() -> Option<Command> {
    let modules = tools().join("node_modules");
    if !modules.is_dir() {
        eprintln!("\nSKIP: @sigstore/verify was NOT tried: deploy-scripts/test installs it\n");
        return None;
    }
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).arg(script("others.cjs"));
    Some(command)
}

/// Our bundles, each with what is good in it, and each tampered with in three ways.
#[track_caller]
fn they_take_ours_and_refuse_what_was_touched(tool: impl Fn(&[&str]) -> Command) {
    let team = Team::new();
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key.pem");
    let path = dir.path().join("bundle.json");
    let verifies = |bundle: &[u8]| {
        std::fs::write(&path, bundle).unwrap();
        let words = [path.to_str().unwrap(), key.to_str().unwrap()];
        let output = tool(&words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    for statement in [
        build(ago(1), &["ben@shop.example"]),
        run(Test, true, ago(1)),
        run(Test, false, ago(1)),
        review(commit('a'), ago(1)),
    ] {
        std::fs::write(&key, public(&team.ci).pem()).unwrap();
        let bundle = seal(&statement, &team.ci).unwrap();
        let (good, said) = verifies(&bundle);
        assert!(good, "{said}");
        let payload = tampered(&bundle, |it| {
            let text = String::from_utf8(statement.to_json()).unwrap();
            let other = text.replace("07070707", "08080808").replace("aaaa", "bbbb");
            it["dsseEnvelope"]["payload"] = STANDARD.encode(other).into();
        });
        let kind = tampered(&bundle, |it| {
            it["dsseEnvelope"]["payloadType"] = "text/x".into();
        });
        for bad in [payload, kind] {
            assert_ne!(bad, bundle);
            assert!(!verifies(&bad).0);
        }
        std::fs::write(&key, public(&team.anna).pem()).unwrap();
        assert!(!verifies(&bundle).0, "with another key");
    }
}

#[test]
fn securesystemslib_and_in_toto_attestation_verify_ours_and_refuse_what_was_touched() {
    if python().is_none() {
        return;
    }
    they_take_ours_and_refuse_what_was_touched(|words| {
        let mut command = python().unwrap();
        command.arg("verify").args(words);
        command
    });
}

#[test]
fn sigstore_verify_takes_ours_and_refuses_what_was_touched() {
    if node().is_none() {
        return;
    }
    they_take_ours_and_refuse_what_was_touched(|words| {
        let mut command = node().unwrap();
        command.args(words);
        command
    });
}

#[test]
fn an_envelope_that_they_made_counts_here() {
    let Some(mut python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle.json");
    let output = python
        .arg("make")
        .arg(RELEASE.to_string())
        .arg(&path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let pem = String::from_utf8(output.stdout).unwrap();
    let text = format!(
        "[evidence]\nrequire = [\"test\"]\n[evidence.keys.ci]\nkey = \"\"\"\n{pem}\"\"\"\nstates = [\"test\"]\n"
    );
    let demanded = Environment::parse("p.toml", &text).unwrap().evidence;
    let bundle = std::fs::read(&path).unwrap();
    let judged = judge(&demanded, &RELEASE, &[&bundle], NOW);
    assert!(judged.is_enough(), "{judged:?}");
    let touched = tampered(&bundle, |it| {
        let text = it["dsseEnvelope"]["payload"].as_str().unwrap();
        let payload = String::from_utf8(STANDARD.decode(text).unwrap()).unwrap();
        let other = payload.replace("shop/web 1.4.2", "shop/web 1.4.3");
        it["dsseEnvelope"]["payload"] = STANDARD.encode(other).into();
    });
    assert!(!judge(&demanded, &RELEASE, &[&touched], NOW).is_enough());
}
