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

/// Looks at these states, one after the other, and at a sample of `usual` of all beside them, or of as many as
/// `TAMER_TEST_STATES` says: a number, or `all`. `look` gets what is on disk, and when that was; says how many
/// there were, for people, and when it was if `look` panics.
pub fn look_at(
    name: &str,
    states: &States<'_>,
    always: &[&State],
    usual: usize,
    mut look: impl FnMut(&Disk, &str),
) {
    let sample: Vec<_> = states.sample(how_many(usual)).collect();
    eprintln!(
        "{name}: {} moments, {} states; tried: {} of kills, {} of power cuts",
        states.moments(),
        states.all.len(),
        always.len(),
        sample.len()
    );
    for state in always.iter().copied().chain(sample) {
        let what = states.what(state);
        let _at = At(&what);
        look(&states.disk(state), &what);
    }
}

fn how_many(usual: usize) -> usize {
    match std::env::var("TAMER_TEST_STATES").as_deref() {
        Ok("all") => usize::MAX,
        Ok(number) => number.parse().unwrap(),
        Err(_) => usual,
    }
}

/// Says when the power was lost, if the test fails while this lives.
struct At<'a>(&'a str);

impl Drop for At<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the power was lost {}", self.0);
        }
    }
}
