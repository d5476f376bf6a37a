//! Joining and renewing.

use crate::world::{Ca, PATIENCE, Port};
use axum::Router;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tamer_agent::identity::enrol::{Join, enrol};
use tamer_agent::identity::renew::{Early, keep, renew};
use tamer_agent::identity::{Enrolled, Home, IdentityError, Keys};
use tamer_core::digest::Digest;
use tamer_core::moment::Moment;
use tamer_kit::tls;
use tamer_kit::token::{JoinToken, TokenKind};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

async fn join(home: &Home, token: &JoinToken) -> Result<(Enrolled, Keys), IdentityError> {
    join_again(home, token, false).await
}

async fn join_again(
    home: &Home,
    token: &JoinToken,
    force: bool,
) -> Result<(Enrolled, Keys), IdentityError> {
    let name = "web-1".parse().unwrap();
    let join = Join {
        token,
        controller: None,
        name: &name,
        force,
    };
    enrol(home, &join).await
}

fn certificate(keys: &Keys) -> Vec<u8> {
    tls::first_certificate(&keys.identity).unwrap().to_vec()
}

#[tokio::test]
async fn a_token_makes_an_identity_that_stays() {
    let port = Port::open(Router::new()).await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path());
    assert!(matches!(
        home.load(),
        Err(IdentityError::NotEnrolled { .. })
    ));
    // The first answer is lost: the same key asks again.
    port.answers.lose.store(true, Ordering::SeqCst);
    assert!(join(&home, &port.token()).await.is_err());
    assert_eq!(home.enrolled().unwrap(), None);
    let (enrolled, keys) = join(&home, &port.token()).await.unwrap();
    let asked = port.answers.requests.lock().unwrap().clone();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0], asked[1]);
    assert_eq!(enrolled.environment.as_str(), "staging");
    assert_eq!(enrolled.name.as_str(), "web-1");
    assert_eq!(Some(enrolled.trust_root), port.token().trust_root);
    let (read, stored) = home.load().unwrap();
    assert_eq!((&read, &stored), (&enrolled, &keys));
    let file = dir.path().join("identity/identity.pem");
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!dir.path().join("identity/next.pem").exists());
    // Once more only where that is meant.
    let again = join(&home, &port.token()).await.unwrap_err();
    assert!(again.to_string().contains("--force"), "{again}");
    assert_eq!(port.answers.requests.lock().unwrap().len(), 2);
    let (_, newer) = join_again(&home, &port.token(), true).await.unwrap();
    assert_ne!(certificate(&newer), certificate(&keys));
}

#[tokio::test]
async fn another_controller_than_the_pinned_one_hears_no_secret() {
    let port = Port::open(Router::new()).await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path());
    let mut token = port.token();
    token.ca = Ca::new().fingerprint();
    let error = join(&home, &token).await.unwrap_err();
    assert!(matches!(error, IdentityError::OtherCa { .. }), "{error:?}");
    assert!(error.to_string().contains("tamer host invite"), "{error}");
    // The right server, that names another CA for later.
    *port.answers.other_ca.lock().unwrap() = Some(Ca::new().pem.clone());
    let error = join(&home, &port.token()).await.unwrap_err();
    assert!(error.to_string().contains("another CA"), "{error}");
    assert_eq!(port.answers.requests.lock().unwrap().len(), 1);
    assert_eq!(home.enrolled().unwrap(), None);
}

#[tokio::test]
async fn another_team_root_than_the_pinned_one_is_refused() {
    let port = Port::open(Router::new()).await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path());
    for other in [b"another root".to_vec(), Vec::new()] {
        *port.answers.trust_root.lock().unwrap() = other;
        let error = join(&home, &port.token()).await.unwrap_err();
        assert!(error.to_string().contains("another team root"), "{error}");
        assert_eq!(home.enrolled().unwrap(), None);
    }
}

#[tokio::test]
async fn tokens_that_are_of_no_use_are_not_used_up() {
    let port = Port::open(Router::new()).await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path());
    let mut token = port.token();
    token.trust_root = None;
    let error = join(&home, &token).await.unwrap_err();
    assert!(error.to_string().contains("tamer trust init"), "{error}");
    let mut token = port.token();
    token.kind = TokenKind::Operator;
    let error = join(&home, &token).await.unwrap_err();
    assert!(error.to_string().contains("tamer login"), "{error}");
    join(&home, &port.token()).await.unwrap();
    let mut token = port.token();
    token.trust_root = Some(Digest::new([1; 32]));
    let error = join_again(&home, &token, true).await.unwrap_err();
    assert!(error.to_string().contains("another team's root"), "{error}");
    assert_eq!(port.answers.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_renewal_brings_a_new_key_under_the_old_certificate() {
    let port = Port::open(Router::new()).await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path());
    let (_, old) = join(&home, &port.token()).await.unwrap();
    port.answers.lose.store(true, Ordering::SeqCst);
    renew(&home, &port.address, &old).await.unwrap_err();
    assert_eq!(home.load().unwrap().1, old);
    let new = renew(&home, &port.address, &old).await.unwrap();
    let shown = port.peers.lock().unwrap().clone();
    assert_eq!(
        shown,
        [None, Some(certificate(&old)), Some(certificate(&old))]
    );
    let asked = port.answers.requests.lock().unwrap().clone();
    assert_eq!(asked[1], asked[2], "a lost answer is asked for again");
    assert_ne!(asked[0], asked[1], "the key is a new one");
    assert_eq!(home.load().unwrap().1, new);
    // A controller that wants another CA to be trusted is not followed.
    *port.answers.other_ca.lock().unwrap() = Some(Ca::new().pem.clone());
    let error = renew(&home, &port.address, &new).await.unwrap_err();
    assert!(error.to_string().contains("another CA"), "{error}");
    assert_eq!(home.load().unwrap().1, new);
}

#[tokio::test]
async fn what_is_due_is_renewed_by_itself_and_shown_to_everybody() {
    let port = Port::open(Router::new()).await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path());
    let (_, old) = join(&home, &port.token()).await.unwrap();
    let (shown, mut seen) = watch::channel(old.shown().unwrap());
    let (_tells, told) = watch::channel(None);
    let stop = CancellationToken::new();
    let (_, to) = old.validity().unwrap();
    let late = Moment(to.0 - 1000);
    let address = port.address.clone();
    let kept = keep(
        home.clone(),
        address,
        old.clone(),
        shown,
        Early {
            told,
            refused: Arc::default(),
        },
        move || late,
        stop.clone(),
    );
    let kept = tokio::spawn(kept);
    tokio::time::timeout(PATIENCE, seen.changed())
        .await
        .expect("renewed in time")
        .unwrap();
    assert_ne!(home.load().unwrap().1, old);
    stop.cancel();
    kept.await.unwrap();
    // By this clock the new one is due, too; that must not make a storm.
    assert_eq!(port.answers.requests.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn what_the_controller_does_not_take_for_its_time_is_renewed_at_once() {
    let port = Port::open(Router::new()).await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path());
    let (_, old) = join(&home, &port.token()).await.unwrap();
    let (shown, mut seen) = watch::channel(old.shown().unwrap());
    let (stop, refused) = (CancellationToken::new(), Arc::new(Notify::new()));
    // By this clock it is not due.
    let (from, _) = old.validity().unwrap();
    let kept = keep(
        home.clone(),
        port.address.clone(),
        old.clone(),
        shown,
        Early {
            told: watch::channel(None).1,
            refused: Arc::clone(&refused),
        },
        move || from,
        stop.clone(),
    );
    let kept = tokio::spawn(kept);
    refused.notify_one();
    tokio::time::timeout(PATIENCE, seen.changed())
        .await
        .expect("renewed in time")
        .unwrap();
    assert_ne!(home.load().unwrap().1, old);
    assert_eq!(port.answers.requests.lock().unwrap().len(), 2);
    stop.cancel();
    kept.await.unwrap();
}
