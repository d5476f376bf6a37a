//! What a power cut may leave on disk: the file operations of a real program are recorded, and every state
//! is made that a file system may legally show after the lights went out in the middle of them.
//!
//! ```text
//! record  strace watches the program: nothing that it does to a file goes unseen
//! disk    a directory tree in memory, with inodes; operations change it
//! states  for each moment, which operations a sync has made durable, and which may be lost
//! ```
//!
//! The rules are those of POSIX and no file system's in particular, after "All File Systems Are Not Created
//! Equal" (Pillai and others, OSDI 2014): `fsync` of a file makes its content durable and not its name,
//! `fsync` of a directory the names in it, `syncfs` everything. What is not durable may be there or not,
//! in any combination and without regard to the order; a write may be there in part. One rename is one
//! change: there is never half of it.

mod disk;
mod record;
mod states;
mod strace;

pub use disk::Disk;
pub use record::{Recording, can_record, record};
pub use states::{State, States};

/// How many states a test tries: `usual`, or what `TAMER_TEST_STATES` says, a number or `all`.
pub fn how_many(usual: usize) -> usize {
    match std::env::var("TAMER_TEST_STATES").as_deref() {
        Ok("all") => usize::MAX,
        Ok(number) => number.parse().unwrap(),
        Err(_) => usual,
    }
}

/// Says when the power was lost, if the test fails while this lives.
#[derive(Debug)]
pub struct At<'a>(pub &'a str);

impl Drop for At<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the power was lost {}", self.0);
        }
    }
}
