//! Which frames of an archive are still on their way: whoever fills a tree waits for those that it needs next, while
//! somebody else fetches them.

use super::UnpackError;
use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The frames of an archive that are not in its file yet. By default all of them are.
#[derive(Debug, Default)]
pub struct Arrivals {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lacking: BTreeSet<usize>,
    /// Nobody fetches any more.
    cut: bool,
}

impl Arrivals {
    /// These frames are on their way; all others that are needed are there.
    pub fn of(frames: &[usize]) -> Self {
        let lacking = frames.iter().copied().collect();
        Self {
            state: Mutex::new(State {
                lacking,
                cut: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// These frames are in the file now, and were verified.
    pub fn came<'a>(&self, frames: impl IntoIterator<Item = &'a usize>) {
        let mut state = self.state();
        for frame in frames {
            state.lacking.remove(frame);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Nothing comes any more: who waits for what is lacking ends with [`UnpackError::Cut`].
    pub fn cut(&self) {
        self.state().cut = true;
        self.changed.notify_all();
    }

    /// Waits until a frame is there.
    pub(super) fn wait(&self, frame: usize) -> Result<(), UnpackError> {
        let mut state = self.state();
        while state.lacking.contains(&frame) {
            if state.cut {
                return Err(UnpackError::Cut(state.lacking.len()));
            }
            let changed = self.changed.wait(state);
            state = changed.unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn who_needs_a_frame_waits_until_it_came_or_nothing_comes() {
        let arrivals = Arrivals::of(&[1, 2, 3]);
        arrivals.wait(0).unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(|| arrivals.wait(2));
            let in_vain = scope.spawn(|| arrivals.wait(3));
            arrivals.came(&[1, 2]);
            waits.join().unwrap().unwrap();
            arrivals.cut();
            let cut = in_vain.join().unwrap();
            assert!(matches!(cut, Err(UnpackError::Cut(1))), "{cut:?}");
        });
        arrivals.wait(1).unwrap();
        Arrivals::default().wait(7).unwrap();
    }
}
