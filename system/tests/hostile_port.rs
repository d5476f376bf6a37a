//! Everything that a stranger, or a host in the wrong hands, can throw at the controller's port, while a rollout goes
//! through it: the rollout ends as if nothing were there, and the controller's memory stays bounded.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use tamer_system::wire::{self, Line, frame, greeting, message, request};
use tamer_system::{App, Fleet, HostOptions, LIMIT, files, until};

/// What the controller may take more than before, in KiB, whatever is thrown at it: 512 handshakes, some dozens of
/// connections with full windows, a rollout.
const MORE_KIB: u64 = 96 << 10;

/// Reports in one piece of a flood.
const REPORTS: usize = 100;

/// Things that go on until the test ends.
struct Storm {
    over: Arc<AtomicBool>,
    attacks: Vec<(&'static str, Arc<Attack>)>,
}

/// How often something was tried, and whether it went as nothing should.
#[derive(Default)]
struct Attack {
    tried: AtomicU64,
    failed: AtomicBool,
}

impl Storm {
    fn new() -> Self {
        Self {
            over: Arc::new(AtomicBool::new(false)),
            attacks: Vec::new(),
        }
    }

    /// Does it again and again. Whoever waits for the controller meanwhile is not waited for at the end.
    fn add(&mut self, name: &'static str, attack: impl Fn(&AtomicBool) + Send + 'static) {
        let (over, about) = (Arc::clone(&self.over), Arc::new(Attack::default()));
        self.attacks.push((name, Arc::clone(&about)));
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                about.tried.fetch_add(1, Ordering::Relaxed);
                let tried = catch_unwind(AssertUnwindSafe(|| attack(&over)));
                about.failed.fetch_or(tried.is_err(), Ordering::Relaxed);
            }
        });
    }

    /// Waits until all have begun.
    fn is_at_its_height(&self) {
        for (name, about) in &self.attacks {
            until(name, || {
                (about.tried.load(Ordering::Relaxed) > 0).then_some(())
            });
        }
    }

    /// How often each was tried.
    fn end(self) -> Vec<(&'static str, u64)> {
        self.over.store(true, Ordering::Relaxed);
        let end = |(name, about): &(&'static str, Arc<Attack>)| {
            assert!(
                !about.failed.load(Ordering::Relaxed),
                "{name} was not refused"
            );
            (*name, about.tried.load(Ordering::Relaxed))
        };
        self.attacks.iter().map(end).collect()
    }
}

/// The most memory that a process ever had, in KiB.
fn most_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
    let amount = line.unwrap().split_whitespace().next().unwrap();
    amount.parse().unwrap()
}

/// A host that has joined and whose agent does not run: its identity, in the hands of somebody else.
fn stolen(fleet: &Fleet, name: &str) -> PathBuf {
    let host = fleet.stranger(name, &HostOptions::default());
    let said = fleet
        .tamer(&["host", "invite", "--environment", "production"])
        .ends(0);
    let token = said.out.trim().rsplit(' ').next().unwrap();
    host.enroll(token).ends(0);
    host.dir().join("state/identity/identity.pem")
}

/// Whether the line was closed, or something came back, before everything was written.
fn throws(line: &mut Line, pieces: impl IntoIterator<Item = Vec<u8>>, over: &AtomicBool) -> bool {
    for piece in pieces {
        if over.load(Ordering::Relaxed) || !line.sends(&piece) {
            return true;
        }
    }
    false
}

#[test]
fn a_rollout_goes_through_whatever_is_thrown_at_the_port() {
    let mut fleet = Fleet::that_runs(3);
    let (one, two) = (stolen(&fleet, "spare-1"), stolen(&fleet, "spare-2"));
    let address = fleet.controller.address();
    let pid = fleet.controller.daemon.pid().unwrap();
    let held = "[ -e \"$TAMER_SHARED/run/go\" ] || exit 75";
    let bulk: Vec<u8> = (0..8_u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    fleet.publish(&App::version("1.1.0").and_then(held).file("bulk", bulk));
    let largest = files(&fleet.controller.data("artifacts"))
        .into_iter()
        .max_by_key(|file| file.metadata().unwrap().len())
        .unwrap();
    let largest = largest.file_name().unwrap().to_str().unwrap().to_owned();
    let mut rollout = fleet.begins(&["deploy", "production", "1.1.0"]);
    fleet.component_says(1, "/state", "working: start");
    let before = most_memory(pid);
    let quiet = fleet.controller.counted("tamer_controller_reports_total");

    let mut storm = Storm::new();
    storm.add("thousands of half-open connections", move |over| {
        let mut open: Vec<TcpStream> = Vec::new();
        for n in 0..3_000_u32 {
            if over.load(Ordering::Relaxed) {
                return;
            }
            let Ok(mut line) = TcpStream::connect(address) else {
                continue;
            };
            // Each third begins a handshake that it never goes on with.
            if n % 3 == 0 {
                let _ = line.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]);
            }
            open.push(line);
        }
    });
    storm.add("garbage", move |_| {
        let mut line = TcpStream::connect(address).unwrap();
        let garbage: Vec<u8> = (0..=255_u8).cycle().take(64 << 10).collect();
        let _ = line.write_all(&garbage);
        let _ = line.set_read_timeout(Some(LIMIT));
        let mut answer = Vec::new();
        let _ = line.read_to_end(&mut answer);
        assert!(answer.len() < 64, "{} bytes for garbage", answer.len());
    });
    storm.add("plain HTTP", move |_| {
        let mut line = TcpStream::connect(address).unwrap();
        let _ = line.write_all(b"GET / HTTP/1.1\r\nhost: controller\r\n\r\n");
        let _ = line.set_read_timeout(Some(LIMIT));
        let mut answer = Vec::new();
        let _ = line.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP"), "plain HTTP was answered");
    });
    storm.add("old TLS", move |_| {
        for version in ["-tls1", "-tls1_1", "-tls1_2"] {
            assert!(!wire::shakes_hands(address, version), "{version} was taken");
        }
    });
    // A message that says that it is 1 GiB, by a host and by a stranger, and then comes.
    for (name, identity, path) in [
        (
            "1 GiB of a host",
            Some(one.clone()),
            "/tamer.v1.Agents/Connect",
        ),
        ("1 GiB of a stranger", None, "/tamer.v1.Enrolment/Join"),
    ] {
        storm.add(name, move |over| {
            let mut line = Line::open(address, identity.as_deref());
            line.sends(&request(1, path));
            let begin = [&[0_u8][..], &(1_u32 << 30).to_be_bytes()].concat();
            let piece = vec![b'x'; 16 << 10];
            let mut taken = line.sends_data(&begin, over);
            for _ in 0..(1 << 30) / piece.len() {
                taken = taken && line.sends_data(&piece, over);
            }
            assert!(!taken, "1 GiB was taken");
        });
    }
    storm.add("a header without end", {
        let identity = one.clone();
        move |over| {
            let mut line = Line::open(address, Some(&identity));
            line.sends(&frame(1, 0, 1, &wire::field("x", &"y".repeat(8_000))));
            let more = frame(9, 0, 1, &wire::field("x", &"y".repeat(16_000)));
            let all = std::iter::repeat_n(more, 1 << 16);
            assert!(throws(&mut line, all, over), "1 GiB of headers was taken");
        }
    });
    storm.add("a bomb of compressed headers", {
        let identity = one.clone();
        move |over| {
            let mut line = Line::open(address, Some(&identity));
            // An entry of 4,000 bytes in the table, named 16,000 times by one byte each.
            let mut block = vec![0x40];
            block.extend(&wire::field("x", &"y".repeat(4_000))[1..]);
            block.extend(std::iter::repeat_n(0xbe, 12_000));
            let all = (0..2_000).map(|n| frame(1, 4 | 1, 2 * n + 1, &block));
            throws(&mut line, all, over);
        }
    });
    storm.add("too many streams", {
        let identity = one.clone();
        move |over| {
            let mut line = Line::open(address, Some(&identity));
            let all = (0..20_000).map(|n| request(2 * n + 1, "/tamer.v1.Agents/Connect"));
            throws(&mut line, all, over);
        }
    });
    storm.add("streams that are taken back at once", {
        let identity = one.clone();
        move |over| {
            let mut line = Line::open(address, Some(&identity));
            let all = (0..50_000).map(|n| {
                let reset = frame(3, 0, 2 * n + 1, &8_u32.to_be_bytes());
                [request(2 * n + 1, "/tamer.v1.Agents/Connect"), reset].concat()
            });
            throws(&mut line, all, over);
        }
    });
    storm.add("a client that never reads", move |over| {
        let mut line = Line::open_and_never_read(address, &one);
        for n in 0..60 {
            line.sends(&wire::get(2 * n + 1, &format!("/blobs/{largest}")));
        }
        // As long as the controller lets it: the next one takes its place.
        line.waits(over);
    });
    let reports = Arc::new(AtomicU64::new(0));
    storm.add("a flood of reports", {
        let reports = Arc::clone(&reports);
        move |over| {
            let mut line = Line::open(address, Some(&two));
            line.sends(&request(1, "/tamer.v1.Agents/Connect"));
            line.sends_data(&message(&greeting("production")), over);
            // As many as it may send, of components that it does not have.
            let burst = message(&wire::report()).repeat(REPORTS);
            while line.sends_data(&burst, over) {
                reports.fetch_add(REPORTS as u64, Ordering::Relaxed);
            }
        }
    });

    storm.is_at_its_height();
    until("half-open connections", || {
        (descriptors(pid) > 400).then_some(())
    });
    until("the flood to come in", || {
        let taken = fleet.controller.counted("tamer_controller_reports_total");
        (taken > quiet + 100).then_some(())
    });
    // One host's agent is started anew in the middle of it, and has to come in.
    fleet.host_mut(2).daemon.kill();
    fleet.host_mut(2).start();
    fleet.host_is(2, "connected");
    for host in 1..=3 {
        fleet.host(host).share("go");
    }
    until("the rollout to end", || {
        (!rollout.is_running()).then_some(())
    });
    rollout.end().ends(0);
    fleet.all_run("1.1.0");
    let after = most_memory(pid);
    let sent = reports.load(Ordering::Relaxed);
    let taken = fleet.controller.counted("tamer_controller_reports_total") - quiet;
    let tried = storm.end();
    eprintln!("{before} KiB before, {after} KiB after; {sent} reports, {taken} taken; {tried:?}");
    assert!(
        after < before + MORE_KIB,
        "the controller took {} KiB more than {before} KiB",
        after - before
    );
    // It is the process that it was, and as useful.
    assert_eq!(fleet.controller.daemon.pid(), Some(pid));
    fleet.deploy("1.0.0").ends(0);
    fleet.all_run("1.0.0");
}

/// How many descriptors the controller has open.
fn descriptors(pid: u32) -> usize {
    let open = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"));
    open.unwrap().count()
}
