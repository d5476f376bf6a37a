//! `http`, `tcp`, `command` and `disk` checks against real servers, processes and file systems.

#![allow(clippy::unwrap_used, reason = "a test says best where it broke")]

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::Redirect;
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tamer_agent::checks::{Surroundings, run, run_all};
use tamer_agent::process::User;
use tamer_core::check::{Check, CheckResult, Checks};
use tokio::net::TcpListener;

fn check(text: &str) -> Check {
    let text = format!("[it]\n{text}");
    let read: Checks = tamer_core::text::parse("checks", &text).unwrap();
    read.into_values().next().unwrap()
}

/// The sentence of a failure; empty if the check held.
async fn said(text: &str, around: &Surroundings) -> String {
    match run(&check(text), around).await {
        CheckResult::Passed => String::new(),
        CheckResult::Failed(why) => why,
    }
}

fn here(variables: &[(&str, String)]) -> Surroundings {
    let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), v.clone()));
    Surroundings {
        host: "web-01".to_owned(),
        variables: variables.collect(),
        ..Surroundings::default()
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A port that was free a moment ago.
async fn nobody() -> SocketAddr {
    listener().await.1
}

/// A web server with an answer for every case. Returns the host whose variable `at` is its address.
async fn web() -> Surroundings {
    let text = [(header::CONTENT_TYPE, "text/plain")];
    let pages = Router::new()
        .route("/ok", get(|| async { "all is well" }))
        .route(
            "/bad",
            get(move || async move {
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    text,
                    "KeyError:\n  'PAYMENT_URL'",
                )
            }),
        )
        .route(
            "/page",
            get(|| async {
                (
                    StatusCode::NOT_FOUND,
                    [(header::CONTENT_TYPE, "text/html")],
                    "<html>",
                )
            }),
        )
        .route("/moved", get(|| async { Redirect::temporary("/ok") }))
        .route("/long", get(|| async { "x".repeat(64 << 10) + "needle" }))
        .route("/slow", get(std::future::pending::<()>));
    let (listener, address) = listener().await;
    tokio::spawn(async move { axum::serve(listener, pages).await });
    here(&[("at", address.to_string())])
}

fn http(rest: &str) -> String {
    format!("type = \"http\"\nurl = \"http://{{at}}{rest}")
}

#[tokio::test]
async fn http_demands_the_status_and_names_the_one_that_came() {
    let web = web().await;
    let at = &web.variables["at"];
    assert_eq!(said(&http("/ok\""), &web).await, "");
    assert_eq!(
        said(&http("/bad\""), &web).await,
        format!("500 from http://{at}/bad (expected 200): KeyError: 'PAYMENT_URL'")
    );
    assert_eq!(
        said(&http("/page\""), &web).await,
        format!("404 from http://{at}/page (expected 200)"),
        "a page of HTML is not quoted"
    );
    assert_eq!(said(&http("/bad\"\nstatus = 500"), &web).await, "");
    assert_eq!(
        said(&http("/moved\""), &web).await,
        format!("307 from http://{at}/moved (expected 200)"),
        "a redirect is an answer of its own"
    );
    assert_eq!(said(&http("/moved\"\nstatus = 307"), &web).await, "");
}

#[tokio::test]
async fn http_looks_for_text_in_the_first_64_kib_only() {
    let web = web().await;
    let at = &web.variables["at"];
    assert_eq!(said(&http("/ok\"\ncontains = \"is well\""), &web).await, "");
    assert_eq!(
        said(&http("/ok\"\ncontains = \"is sick\""), &web).await,
        format!("200 from http://{at}/ok, but without \"is sick\" in its first 64 KiB")
    );
    assert_ne!(
        said(&http("/long\"\ncontains = \"needle\""), &web).await,
        ""
    );
}

#[tokio::test]
async fn http_without_an_answer_says_what_it_waited_for() {
    let web = web().await;
    let at = &web.variables["at"];
    let began = Instant::now();
    assert_eq!(
        said(&http("/slow\"\ntimeout = \"200ms\""), &web).await,
        format!("no answer within 200 ms while asking http://{at}/slow")
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    let nobody = nobody().await;
    let gone = here(&[("at", nobody.to_string())]);
    assert_eq!(
        said(&http("/\""), &gone).await,
        format!("connection to http://{nobody}/ refused")
    );
    let text = "type = \"http\"\nurl = \"ftp://x/\"";
    assert_eq!(
        said(text, &gone).await,
        "`ftp://x/` must begin with http:// or https://"
    );
}

#[tokio::test]
async fn https_demands_a_certificate_that_somebody_here_trusts() {
    use rustls::pki_types::pem::PemObject;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    let config = rustls::ServerConfig::builder_with_provider(tamer_kit::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    let url = format!("https://localhost:{}/", address.port());
    let text = format!("type = \"http\"\nurl = \"{url}\"");
    let why = said(&text, &here(&[])).await;
    let expected = [
        format!("cannot ask {url}: the certificate does not hold for localhost: "),
        // A host without any roots at all says so.
        format!("cannot ask {url}: this host trusts no certificate authority"),
    ];
    assert!(expected.iter().any(|it| why.starts_with(it)), "{why}");
}

#[tokio::test]
async fn every_try_makes_a_connection_of_its_own() {
    let (listener, address) = listener().await;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let pages = Router::new().route("/ok", get(|| async { "" }));
    let listener = axum::serve::ListenerExt::tap_io(listener, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    tokio::spawn(async move { axum::serve(listener, pages).await });
    let around = here(&[("at", address.to_string())]);
    for _ in 0..3 {
        assert_eq!(said(&http("/ok\""), &around).await, "");
    }
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn tcp_is_connected_refused_or_nonsense() {
    let (_listener, address) = listener().await;
    let text = "type = \"tcp\"\naddress = \"{at}\"";
    assert_eq!(said(text, &here(&[("at", address.to_string())])).await, "");
    let nobody = nobody().await;
    assert_eq!(
        said(text, &here(&[("at", nobody.to_string())])).await,
        format!("connection to {nobody} refused")
    );
    assert_eq!(
        said(text, &here(&[("at", "nowhere".to_owned())])).await,
        "`nowhere` is not an address: write it like host:port"
    );
    assert!(said(text, &here(&[])).await.contains("no variable `at`"));
}

fn command(run: &[&str], rest: &str) -> String {
    format!("type = \"command\"\nrun = {run:?}\n{rest}")
}

#[tokio::test]
async fn command_demands_exit_code_0_and_quotes_the_last_line() {
    let mut around = here(&[("word", "two words".to_owned())]);
    around
        .env
        .insert("TAMER_HOST".to_owned(), "web-01".to_owned());
    let script = "test \"$TAMER_HOST\" = web-01 && test \"$1\" = 'two words'";
    let run = ["sh", "-c", script, "sh", "{word}"];
    assert_eq!(said(&command(&run, ""), &around).await, "");
    assert_eq!(
        said(
            &command(&["sh", "-c", "echo no; echo luck >&2; exit 3"], ""),
            &around
        )
        .await,
        "`sh -c echo no; echo luck >&2; exit 3` ended with exit code 3 (expected 0): luck"
    );
    assert_eq!(
        said(&command(&["no-such-program"], ""), &around).await,
        "cannot run `no-such-program`: there is no program no-such-program"
    );
    assert_eq!(
        said(&command(&["sh", "-c", "kill -9 $$"], ""), &around).await,
        "`sh -c kill -9 $$` was ended by signal 9 (expected exit code 0)"
    );
    assert_eq!(
        said(&command(&[], ""), &around).await,
        "`run` names no program"
    );
}

#[tokio::test]
async fn command_runs_the_releases_own_program() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("bin/look");
    std::fs::create_dir(dir.path().join("bin")).unwrap();
    std::fs::write(&program, "#!/bin/sh\ntest -e bin/look\n").unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let mut around = here(&[]);
    around.dir = dir.path().to_owned();
    assert_eq!(said(&command(&["bin/look"], ""), &around).await, "");
}

#[tokio::test]
async fn a_command_that_hangs_or_leaves_a_child_behind_holds_nothing_up() {
    let around = here(&[]);
    let began = Instant::now();
    let why = said(&command(&["sleep", "300"], "timeout = \"1s\""), &around).await;
    assert_eq!(why, "`sleep 300` did not end within 500 ms");
    assert_eq!(
        said(&command(&["sh", "-c", "sleep 300 &"], ""), &around).await,
        ""
    );
    assert!(began.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn a_release_cannot_make_root_run_or_read_anything() {
    let nobody = User::named("nobody").unwrap().unwrap();
    let mut around = here(&[]);
    around.users = Some(["nobody".to_owned()].into());
    let why = said(&command(&["true"], "user = \"root\""), &around).await;
    assert!(why.starts_with("the check may not run as root"), "{why}");
    if !nix::unistd::geteuid().is_root() {
        let why = said(&command(&["true"], "user = \"nobody\""), &around).await;
        assert_eq!(why, "only root can run a command as nobody");
        return;
    }
    around.user = Some(nobody);
    let who = command(
        &["sh", "-c", "test \"$(id -un) $USER\" = 'nobody nobody'"],
        "",
    );
    assert_eq!(said(&who, &around).await, "");
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    let text = format!(
        "type = \"smtp\"\nserver = \"127.0.0.1:1\"\nfrom = \"a@b.example\"\nto = \"c@d.example\"\n\
         username = \"u\"\npassword_file = \"{}\"",
        secret.display()
    );
    let why = said(&text, &around).await;
    assert!(
        why.contains("as nobody: ") && why.contains("Permission denied"),
        "{why}"
    );
}

#[tokio::test]
async fn disk_has_room_or_says_how_little() {
    let around = here(&[]);
    let disk =
        |path: &str, free: &str| format!("type = \"disk\"\npath = \"{path}\"\nfree = \"{free}\"");
    assert_eq!(said(&disk("/", "0%"), &around).await, "");
    let why = said(&disk("/", "9000TiB"), &around).await;
    assert!(why.ends_with("(expected at least 8.8 PiB)"), "{why}");
    assert_eq!(
        said(&disk("/no/such/place", "1%"), &around).await,
        "cannot ask for the free space of /no/such/place: No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn all_checks_are_tried_a_few_at_a_time_and_named() {
    let text: String = (0..10)
        .map(|n| format!("[slow-{n}]\ntype = \"command\"\nrun = [\"sleep\", \"0.2\"]\n"))
        .collect::<String>()
        + "[bad]\ntype = \"command\"\nrun = [\"false\"]\n";
    let checks: Checks = tamer_core::text::parse("checks", &text).unwrap();
    let began = Instant::now();
    // Spawned, because the agent spawns it: the future must be `Send`.
    let results = tokio::spawn(async move { run_all(&checks, &here(&[])).await });
    let results = results.await.unwrap();
    assert_eq!(results.len(), 11);
    let failed: Vec<_> = results.iter().filter(|(_, it)| !it.passed()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].0.as_str(), "bad");
    assert!(
        began.elapsed() < Duration::from_millis(1900),
        "one after the other"
    );
}
