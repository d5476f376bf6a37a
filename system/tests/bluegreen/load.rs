//! Visitors: some with a connection for each request, some that keep theirs. Every request is counted, and every one
//! that is not answered as it should be is told.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a visitor looks at a page.
const LOOK: Duration = Duration::from_millis(2);

/// What became of all requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// Requests that were sent.
    pub(crate) sent: u64,
    /// Answers, by the version that gave them.
    pub(crate) met: BTreeMap<String, u64>,
    /// Why requests failed.
    pub(crate) failed: Vec<String>,
    /// Kept connections that the router closed between two requests: the request was sent on a new one, as RFC 9112,
    /// 9.3.1 has it.
    pub(crate) reopened: u64,
}

impl Told {
    /// Whether each request has one end.
    pub(crate) fn is_whole(&self) -> bool {
        self.sent == self.met.values().sum::<u64>() + self.failed.len() as u64
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests, {} failed, {} connections reopened;",
            self.sent,
            self.failed.len(),
            self.reopened
        )?;
        for (version, count) in &self.met {
            write!(f, " {version}: {count}")?;
        }
        Ok(())
    }
}

/// Visitors that come as long as this lives.
pub(crate) struct Load {
    told: Arc<Mutex<Told>>,
    over: Arc<AtomicBool>,
    visitors: Vec<JoinHandle<()>>,
}

impl Load {
    /// One visitor of each kind at each of these addresses.
    pub(crate) fn on(addresses: impl Iterator<Item = SocketAddr>) -> Self {
        let (told, over) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let visitors = addresses.flat_map(|address| [true, false].map(|keep| (address, keep)));
        let visitors = visitors.map(|(address, keep)| {
            let (told, over) = (Arc::clone(&told), Arc::clone(&over));
            std::thread::spawn(move || {
                let mut line = None;
                while !over.load(Ordering::Relaxed) {
                    visit(address, keep, &mut line, &told);
                    std::thread::park_timeout(LOOK);
                }
            })
        });
        Self {
            visitors: visitors.collect(),
            told,
            over,
        }
    }

    /// How many requests this version has answered.
    pub(crate) fn count(&self, version: &str) -> u64 {
        let told = self.told.lock().unwrap();
        told.met.get(version).copied().unwrap_or_default()
    }

    /// The last visitors leave; what became of all of them.
    pub(crate) fn end(mut self) -> Told {
        self.over.store(true, Ordering::Relaxed);
        for visitor in self.visitors.drain(..) {
            visitor.join().unwrap();
        }
        self.told.lock().unwrap().clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

type Line = BufReader<TcpStream>;

fn visit(address: SocketAddr, keep: bool, line: &mut Option<Line>, told: &Mutex<Told>) {
    told.lock().unwrap().sent += 1;
    let kept = line.is_some();
    let mut answer = ask(address, keep, line);
    if kept && answer.as_ref().is_err_and(closed_before_an_answer) {
        told.lock().unwrap().reopened += 1;
        answer = ask(address, keep, line);
    }
    let mut told = told.lock().unwrap();
    match answer {
        Ok((200, version)) => *told.met.entry(version).or_default() += 1,
        Ok((status, body)) => told.failed.push(format!("{address}: {status}: {body}")),
        Err(error) => told.failed.push(format!("{address}: {error}")),
    }
}

/// What a client may send again: nothing of an answer has come.
fn closed_before_an_answer(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted)
}

fn ask(address: SocketAddr, keep: bool, line: &mut Option<Line>) -> Result<(u16, String), Error> {
    let mut open = match line.take() {
        Some(open) => open,
        None => {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            BufReader::new(stream)
        }
    };
    let connection = if keep { "keep-alive" } else { "close" };
    let request =
        format!("GET /version HTTP/1.1\r\nHost: shop.example\r\nConnection: {connection}\r\n\r\n");
    let gone = |_| Error::new(ErrorKind::ConnectionAborted, "closed before an answer");
    open.get_mut().write_all(request.as_bytes()).map_err(gone)?;
    let mut first = String::new();
    match open.read_line(&mut first) {
        Ok(0) => return Err(gone(Error::other("end"))),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(gone(error)),
        read => read?,
    };
    let status = first.split(' ').nth(1).and_then(|it| it.parse().ok());
    let status = status.ok_or_else(|| Error::other(format!("no status: {first:?}")))?;
    let (mut length, mut stays) = (None, keep);
    loop {
        let mut header = String::new();
        open.read_line(&mut header)?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(given) = header.strip_prefix("content-length:") {
            length = given.trim().parse().ok();
        }
        stays &= header != "connection: close";
    }
    let length: usize = length.ok_or_else(|| Error::other(format!("no length: {first:?}")))?;
    let mut body = vec![0; length];
    open.read_exact(&mut body)?;
    *line = stays.then_some(open);
    Ok((status, String::from_utf8_lossy(&body).trim().to_owned()))
}
