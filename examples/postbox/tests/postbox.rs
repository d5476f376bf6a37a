//! The real binary, spoken to line by line.

#![allow(clippy::unwrap_used, reason = "a test says best where it broke")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &std::path::Path) -> (Running, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_postbox"))
        .args(["--listen", "127.0.0.1:0", "--mail-dir"])
        .arg(dir.join("mail"))
        .arg("--port-file")
        .arg(dir.join("port"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line.strip_prefix("listening on ").expect(&line).trim();
    (Running(child), address.to_owned())
}

/// Sends each line and returns the response codes, the greeting's first.
fn converse(address: &str, lines: &[&str]) -> Vec<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut codes = Vec::new();
    for line in [&[""], lines].concat() {
        if !line.is_empty() {
            write!(stream, "{line}\r\n").unwrap();
        }
        let mut response = String::new();
        while response.is_empty() || response.as_bytes().get(3) == Some(&b'-') {
            response.clear();
            assert_ne!(
                reader.read_line(&mut response).unwrap(),
                0,
                "after {line:?}"
            );
        }
        codes.push(response[..3].to_owned());
    }
    codes
}

#[test]
fn keeps_what_is_for_it_refuses_the_rest_and_stops_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (mut running, address) = start(dir.path());
    let port = fs::read_to_string(dir.path().join("port")).unwrap();
    assert!(address.ends_with(&format!(":{}", port.trim())));
    let codes = converse(
        &address,
        &[
            "EHLO test.example",
            "MAIL FROM:<a@shop.example>",
            "RCPT TO:<b@elsewhere.test>",
            "RCPT TO:<b@shop.example>",
            "DATA",
            "Subject: hello\r\n\r\n..dotted\r\n.",
            "QUIT",
        ],
    );
    assert_eq!(
        codes,
        ["220", "250", "250", "550", "250", "354", "250", "221"]
    );
    let kept = fs::read_to_string(dir.path().join("mail/000001.eml")).unwrap();
    assert!(
        kept.ends_with("Subject: hello\r\n\r\n.dotted\r\n"),
        "{kept}"
    );

    let pid = nix::unistd::Pid::from_raw(running.0.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(running.0.wait().unwrap().success());
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn a_line_without_end_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (_running, address) = start(dir.path());
    let mut stream = TcpStream::connect(&address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    // The server may close, and reset, before all of this is written.
    let _ = stream.write_all(&[b'x'; 64 << 10]);
    let mut said = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut said);
    assert!(String::from_utf8_lossy(&said).starts_with("220 "));
    assert_eq!(converse(&address, &["QUIT"]), ["220", "221"]);
}
