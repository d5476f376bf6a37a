//! Everything that is left to chance in a run comes from one seed.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// A source of chance that gives the same again for the same seed.
pub struct Chance(StdRng);

impl Chance {
    /// The source of this seed.
    pub fn of(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0.random_range(least..=most.max(least))
    }

    /// Whether something happens that has this many chances in a thousand.
    pub fn permille(&mut self, chances: u64) -> bool {
        self.between(0, 999) < chances
    }

    /// One of several.
    ///
    /// # Panics
    /// Where there is none to choose.
    pub fn pick<T: Clone>(&mut self, among: &[T]) -> T {
        among[self.between(0, among.len() as u64 - 1) as usize].clone()
    }
}
