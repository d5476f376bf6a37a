//! A cable that can be cut: whoever speaks over it then is answered by nobody, and not told so either.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// A way to a server, over an address of its own.
#[derive(Debug)]
pub struct Cable {
    address: SocketAddr,
    state: Arc<State>,
}

/// How often it was cut and mended: it is whole while that is even. A line that was there at a cut is dead for ever.
#[derive(Debug, Default)]
struct State(AtomicU64);

// === impl Cable ===

impl Cable {
    /// A whole one to this address.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((server.ip(), 0)).unwrap();
        let cable = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
        };
        let state = Arc::clone(&cable.state);
        // It ends with the process, as what it carries does.
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let born = state.now();
                // Nobody hears who knocks at a cable that is cut: the line is kept and not answered.
                let far = TcpStream::connect(server).unwrap();
                let ways = [(&near, &far), (&far, &near)];
                for (from, to) in ways {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let state = Arc::clone(&state);
                    thread::spawn(move || carry(from, to, &state, born));
                }
            }
        });
        cable
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts it.
    pub fn cut(&self) {
        self.turn(1);
    }

    /// Mends it, for lines that come then.
    pub fn mend(&self) {
        self.turn(0);
    }

    fn turn(&self, parity: u64) {
        let before = self.state.0.fetch_add(1, Ordering::SeqCst);
        assert_eq!((before + 1) % 2, parity, "cut, then mended, then cut");
    }
}

// === impl State ===

impl State {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Whether a line of then carries anything now.
    fn carries(&self, born: u64) -> bool {
        born.is_multiple_of(2) && self.now() == born
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: &State, born: u64) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(read) = from.read(&mut bytes) {
        if !state.carries(born) {
            if read == 0 {
                return;
            }
            continue;
        }
        if read == 0 || to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    if state.carries(born) {
        // It may be closed already.
        let _ = to.shutdown(Shutdown::Write);
    }
}
