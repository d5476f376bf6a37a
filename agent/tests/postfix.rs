//! The `smtp` check against Debian's Postfix: a private instance with its own configuration, queue
//! and data, on a port of its own. The system's own Postfix is not touched.
//!
//! Needs root and Postfix (`DEBIAN_FRONTEND=noninteractive apt-get install -y postfix`); says so
//! loudly where it cannot run.

#![allow(clippy::unwrap_used, reason = "a test says best where it broke")]

mod common;

use common::{Pki, mail, pki};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tamer_agent::process::User;

const POSTFIX: &str = "/usr/sbin/postfix";

/// A running Postfix of our own.
struct Postfix {
    /// What runs as long as the master does.
    script: Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Postfix {
    async fn start(tls: &Pki) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        // Postfix works as its own user in there.
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        let owner = User::named("postfix")
            .unwrap()
            .expect("the package makes its user");
        for (name, uid) in [("etc", 0), ("queue", 0), ("data", owner.uid)] {
            fs::create_dir(path.join(name)).unwrap();
            chown(path.join(name), Some(uid), None).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        fs::write(path.join("etc/main.cf"), main_cf(path, tls)).unwrap();
        fs::write(path.join("etc/master.cf"), master_cf(port)).unwrap();
        let log = fs::File::create(path.join("start.log")).unwrap();
        let script = Command::new(POSTFIX)
            .arg("-c")
            .arg(path.join("etc"))
            .arg("start-fg")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut this = Self {
            script,
            address: format!("127.0.0.1:{port}"),
            dir,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while tokio::net::TcpStream::connect(&this.address).await.is_err() {
            let ended = this.script.try_wait().unwrap();
            assert!(ended.is_none(), "Postfix ended: {ended:?}\n{}", this.log());
            assert!(
                Instant::now() < deadline,
                "Postfix never listened\n{}",
                this.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        this
    }

    fn log(&self) -> String {
        ["start.log", "mail.log"]
            .map(|name| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default())
            .concat()
    }

    /// Ends the master by its number: it ends its children, and then the script that started it ends.
    fn stop(&mut self) {
        let file = self.dir.path().join("queue/pid/master.pid");
        let master = fs::read_to_string(file).ok();
        if let Some(pid) = master.and_then(|it| it.trim().parse().ok()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        } else {
            let _ = self.script.kill();
        }
        let _ = self.script.wait();
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.stop();
    }
}

fn main_cf(dir: &Path, tls: &Pki) -> String {
    let dir = dir.display();
    format!(
        "compatibility_level = 3.6\n\
         queue_directory = {dir}/queue\n\
         data_directory = {dir}/data\n\
         maillog_file = {dir}/mail.log\n\
         maillog_file_prefixes = {dir}\n\
         myhostname = mail.shop.example\n\
         mydestination = shop.example\n\
         mynetworks =\n\
         inet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\n\
         alias_maps =\n\
         alias_database =\n\
         local_recipient_maps = inline:{{ {{ sink@shop.example = yes }} }}\n\
         local_transport = discard:\n\
         default_transport = discard:\n\
         smtpd_relay_restrictions = reject_unauth_destination\n\
         smtpd_delay_reject = no\n\
         smtpd_helo_restrictions = reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname\n\
         smtpd_sender_restrictions = check_sender_access \
         inline:{{ {{ spam@shop.example = REJECT go away }} }}\n\
         smtpd_tls_security_level = may\n\
         smtpd_tls_cert_file = {}\n\
         smtpd_tls_key_file = {}\n",
        tls.cert.display(),
        tls.key.display()
    )
}

/// Only what takes mail in, without chroots.
fn master_cf(port: u16) -> String {
    format!(
        "127.0.0.1:{port} inet n - n - - smtpd\n\
         cleanup unix n - n - 0 cleanup\n\
         qmgr unix n - n 300 1 qmgr\n\
         tlsmgr unix - - n 1000? 1 tlsmgr\n\
         rewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\n\
         defer unix - - n - 0 bounce\n\
         trace unix - - n - 0 bounce\n\
         verify unix - - n - 1 verify\n\
         proxymap unix - - n - - proxymap\n\
         error unix - - n - - error\n\
         retry unix - - n - - error\n\
         discard unix - - n - - discard\n\
         anvil unix - - n - 1 anvil\n\
         postlog unix-dgram n - n - 1 postlogd\n"
    )
}

#[tokio::test]
async fn postfix_takes_the_message_or_says_why_not() {
    if !Path::new(POSTFIX).exists() || !nix::unistd::geteuid().is_root() {
        eprintln!(
            "\nSKIP: the mail check was NOT tried against a real Postfix: it needs root and \
             {POSTFIX} (DEBIAN_FRONTEND=noninteractive apt-get install -y postfix)\n"
        );
        return;
    }
    let pem = tempfile::tempdir().unwrap();
    let ours = pki(pem.path(), "ours");
    let other = pki(pem.path(), "other");
    let mut postfix = Postfix::start(&ours).await;
    let at = postfix.address.clone();
    let send = |from: &str, to: &str, tls: &str, ca: &Path| {
        format!(
            "from = \"{from}\"\nto = \"{to}\"\ntls = \"{tls}\"\nca_file = \"{}\"",
            ca.display()
        )
    };
    let (probe, sink) = ("probe@shop.example", "sink@shop.example");

    let accepted = mail(&at, &send(probe, sink, "required", &ours.ca)).await;
    assert_eq!(accepted, "", "{}", postfix.log());
    assert_eq!(mail(&at, &send(probe, sink, "never", &ours.ca)).await, "");
    let any = format!("from = \"{probe}\"\nto = \"{sink}\"");
    assert_eq!(mail(&at, &any).await, "", "offered and not judged");

    assert_eq!(
        mail(&at, &send(probe, sink, "required", &other.ca)).await,
        format!(
            "the certificate does not hold for 127.0.0.1: it is signed by nobody who is trusted \
             here ({at})"
        )
    );
    let why = mail(&at, &send("spam@shop.example", sink, "required", &ours.ca)).await;
    let expected = "the server refused the sender spam@shop.example: 554 5.7.1 ";
    assert!(
        why.starts_with(expected) && why.contains("go away"),
        "{why}"
    );
    let why = mail(&at, &send(probe, "a@elsewhere.test", "required", &ours.ca)).await;
    let expected = "the server refused the recipient a@elsewhere.test: 554 5.7.1 ";
    assert!(
        why.starts_with(expected) && why.contains("Relay access denied"),
        "{why}"
    );
    let why = mail(
        &at,
        &send(probe, "nobody@shop.example", "required", &ours.ca),
    )
    .await;
    let expected = "the server refused the recipient nobody@shop.example: 550 5.1.1 ";
    assert!(why.starts_with(expected), "{why}");

    // Encrypted when that was demanded, says the other side too.
    let log = postfix.log();
    assert_eq!(
        log.matches("from=<probe@shop.example>, size=").count(),
        3,
        "{log}"
    );
    postfix.stop();
    let deadline = Instant::now() + Duration::from_secs(10);
    // Its children hold the port a moment longer than the master lives.
    while tokio::net::TcpStream::connect(&at).await.is_ok() {
        assert!(Instant::now() < deadline, "somebody still listens");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(mail(&at, &any).await, format!("connection to {at} refused"));
}
