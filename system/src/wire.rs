//! As much of TLS, HTTP/2 (RFC 9113), HPACK (RFC 7541), gRPC and protobuf as it takes to misuse them: by hand, since no
//! library sends what is forbidden. TLS is OpenSSL's.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Between two looks at whether it is over.
const LOOK: Duration = Duration::from_millis(20);

/// How much of what comes back on the first stream is kept.
const KEPT: usize = 1 << 20;

/// A TLS connection on which anything may be sent.
#[derive(Debug)]
pub struct Line {
    child: Child,
    credit: Arc<Credit>,
    heard: Arc<Mutex<Vec<u8>>>,
}

/// What may be sent on the first stream (RFC 9113, 5.2): who keeps to that is refused for something else.
#[derive(Debug, Default)]
struct Credit {
    left: Mutex<Left>,
    more: Condvar,
}

#[derive(Debug)]
struct Left {
    connection: i64,
    stream: i64,
    /// What the other side's settings add to the stream's; they hold once they are acknowledged.
    settings: Option<i64>,
    closed: bool,
}

impl Default for Left {
    fn default() -> Self {
        Self {
            connection: 65_535,
            stream: 65_535,
            settings: None,
            closed: false,
        }
    }
}

impl Credit {
    /// Takes a frame of the other side into account.
    fn heard(&self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let number = |at: &[u8]| i64::from(u32::from_be_bytes(at.try_into().unwrap()));
        let mut left = self.left.lock().unwrap();
        match (kind, stream) {
            (8, 0) => left.connection += number(payload),
            (8, 1) => left.stream += number(payload),
            (4, _) if flags & 1 == 0 => {
                let window = payload.chunks(6).find(|it| it.starts_with(&[0, 4]));
                left.settings = Some(window.map_or(0, |it| number(&it[2..]) - 65_535));
            }
            // The stream's end, or the connection's.
            (3, 1) | (7, _) => left.closed = true,
            (0 | 1, 1) if flags & 1 != 0 => left.closed = true,
            _ => {}
        }
        drop(left);
        self.more.notify_all();
    }

    fn close(&self) {
        self.left.lock().unwrap().closed = true;
        self.more.notify_all();
    }
}

impl Line {
    /// Opens one, with this identity or as a stranger, and begins HTTP/2. What comes back is read.
    pub fn open(address: SocketAddr, identity: Option<&Path>) -> Self {
        let mut line = Self::begin(address, identity);
        let mut back = line.child.stdout.take().unwrap();
        let (credit, heard) = (Arc::clone(&line.credit), Arc::clone(&line.heard));
        thread::spawn(move || {
            let mut head = [0; 9];
            while back.read_exact(&mut head).is_ok() {
                let [a, b, c, kind, flags, d, e, f, g] = head;
                let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
                if back.read_exact(&mut payload).is_err() {
                    break;
                }
                let stream = u32::from_be_bytes([d, e, f, g]);
                if (kind, stream) == (0, 1) {
                    let mut heard = heard.lock().unwrap();
                    let room = KEPT.saturating_sub(heard.len()).min(payload.len());
                    heard.extend(&payload[..room]);
                }
                credit.heard(kind, flags, stream, &payload);
            }
            credit.close();
        });
        line.sends(&preface(65_535));
        line
    }

    /// Sends data on the first stream, as soon as it may; `false` if the other side has ended that stream.
    pub fn sends_data(&mut self, payload: &[u8], over: &AtomicBool) -> bool {
        let length = i64::try_from(payload.len()).unwrap();
        let credit = Arc::clone(&self.credit);
        let mut left = credit.left.lock().unwrap();
        loop {
            if left.closed || over.load(Ordering::Relaxed) {
                return false;
            }
            if let Some(more) = left.settings.take() {
                left.stream += more;
                drop(left);
                if !self.sends(&frame(4, 1, 0, &[])) {
                    return false;
                }
                left = credit.left.lock().unwrap();
                continue;
            }
            if left.connection.min(left.stream) >= length {
                break;
            }
            let waited = credit.more.wait_timeout(left, LOOK);
            left = waited.unwrap().0;
        }
        left.connection -= length;
        left.stream -= length;
        drop(left);
        self.sends(&frame(0, 0, 1, payload))
    }

    /// Says that nothing more comes on the first stream.
    pub fn ends_data(&mut self) {
        self.sends(&frame(0, 1, 1, &[]));
    }

    /// The data that came back on the first stream so far.
    ///
    /// # Panics
    /// Whoever reads has failed.
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }

    /// Whether the other side has ended the first stream, or the connection.
    ///
    /// # Panics
    /// Whoever reads has failed.
    pub fn is_over(&self) -> bool {
        self.credit.left.lock().unwrap().closed
    }

    /// The same, but takes any amount of data, and reads nothing of it.
    pub fn open_and_never_read(address: SocketAddr, identity: &Path) -> Self {
        let mut line = Self::begin(address, Some(identity));
        line.sends(&preface(i32::MAX as u32));
        line
    }

    fn begin(address: SocketAddr, identity: Option<&Path>) -> Self {
        let mut command = openssl(address);
        command.args(["-quiet", "-alpn", "h2"]);
        if let Some(file) = identity {
            command.arg("-cert").arg(file).arg("-key").arg(file);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self {
            child: command.spawn().unwrap(),
            credit: Arc::default(),
            heard: Arc::default(),
        }
    }

    /// Sends these bytes; `false` if the other side has closed the connection.
    pub fn sends(&mut self, bytes: &[u8]) -> bool {
        let pipe = self.child.stdin.as_mut().unwrap();
        pipe.write_all(bytes).is_ok()
    }

    /// Waits for the other side to close the connection, or for the end.
    pub fn waits(&mut self, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) && self.child.try_wait().is_ok_and(|it| it.is_none()) {
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn openssl(address: SocketAddr) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "openssl", "s_client"]);
    command.arg("-connect").arg(address.to_string());
    command.stderr(Stdio::null());
    command
}

/// Whether a handshake of this version of TLS comes to its end.
pub fn shakes_hands(address: SocketAddr, version: &str) -> bool {
    let mut command = openssl(address);
    // Without this, OpenSSL does not speak the old ones itself.
    command.args([version, "-cipher", "DEFAULT@SECLEVEL=0"]);
    let ended = command.stdin(Stdio::null()).output().unwrap();
    ended.status.success()
}

fn preface(window: u32) -> Vec<u8> {
    let mut settings = vec![0, 4];
    settings.extend(window.to_be_bytes());
    let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    all.extend(frame(4, 0, 0, &settings));
    // And as much on the whole connection.
    all.extend(frame(8, 0, 0, &(window - 65_535).max(1).to_be_bytes()));
    all
}

/// A frame: its length, type, flags and stream.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut all = length[1..].to_vec();
    all.extend([kind, flags]);
    all.extend(stream.to_be_bytes());
    all.extend(payload);
    all
}

/// A header field, literal and not indexed.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut all = vec![0];
    for text in [name, value] {
        // An integer with a prefix of 7 bits (RFC 7541, 5.1).
        match text.len() {
            short @ 0..=126 => all.push(short as u8),
            long => {
                all.push(127);
                let mut rest = long - 127;
                while rest >= 128 {
                    all.push((rest % 128) as u8 | 128);
                    rest /= 128;
                }
                all.push(rest as u8);
            }
        }
        all.extend(text.as_bytes());
    }
    all
}

fn fields(all: &[(&str, &str)]) -> Vec<u8> {
    all.iter()
        .flat_map(|(name, value)| field(name, value))
        .collect()
}

/// The beginning of a call.
pub fn request(stream: u32, path: &str) -> Vec<u8> {
    let block = fields(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "controller"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]);
    frame(1, 4, stream, &block)
}

/// A whole request for a page.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    let block = fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "controller"),
    ]);
    frame(1, 4 | 1, stream, &block)
}

/// A message as gRPC has it.
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0][..], &length, bytes].concat()
}

/// A number as protobuf writes it.
fn varint(mut number: u64) -> Vec<u8> {
    let mut all = Vec::new();
    while number >= 128 {
        all.push((number % 128) as u8 | 128);
        number /= 128;
    }
    all.push(number as u8);
    all
}

/// A field of a protobuf message: bytes, text or a message; `number` is below 16.
pub fn within(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = varint(bytes.len() as u64);
    [&[number << 3 | 2][..], &length, bytes].concat()
}

/// A field of a protobuf message that is a number; `number` is below 16.
pub fn count(number: u8, value: u64) -> Vec<u8> {
    [&[number << 3][..], &varint(value)].concat()
}

/// A generation.
pub fn generation(epoch: u64, counter: u64) -> Vec<u8> {
    [count(1, epoch), count(2, counter)].concat()
}

/// An agent's greeting.
pub fn greeting(environment: &str) -> Vec<u8> {
    greeting_with(environment, "a-run-of-its-own", &within(1, &[]))
}

/// The same, of this start of the agent and with this report.
pub fn greeting_with(environment: &str, run_id: &str, report: &[u8]) -> Vec<u8> {
    let mut all = vec![1 << 3, 1, 2 << 3, 100];
    all.extend(within(3, b"0.1.0"));
    all.extend(within(4, environment.as_bytes()));
    all.extend(within(7, run_id.as_bytes()));
    all.extend(within(8, report));
    within(1, &all)
}

/// A component's slot.
pub fn slot(application: &str, component: &str) -> Vec<u8> {
    let names = [application, component, "main"];
    let fields = (1..).zip(names).map(|(n, name)| within(n, name.as_bytes()));
    fields.flatten().collect()
}

/// A report about a component that the host does not have, and about one that nobody has.
pub fn report() -> Vec<u8> {
    let component = |application: &str| within(2, &within(1, &slot(application, "web")));
    let all = [within(1, &[]), component("shop"), component("bank")];
    within(2, &all.concat())
}
