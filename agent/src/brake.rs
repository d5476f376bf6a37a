//! How a switch ends a repair that is under way: a thread that puts files back cannot be ended from outside.

use crate::allowed::failure;
use std::ops::ControlFlow;
use tamer_core::desired::{Failure, FailureKind};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Ends a repair at the next moment at which that does no harm, and tells when the release is touched no more:
/// whoever begins a switch waits for that, and for nothing else of the repair.
#[derive(Debug, Default)]
pub struct Brake {
    pulled: CancellationToken,
    touching: Mutex<()>,
}

impl Brake {
    /// Asks for the end.
    pub fn pull(&self) {
        self.pulled.cancel();
    }

    /// Cancelled when that was asked for.
    pub(crate) fn pulled(&self) -> CancellationToken {
        self.pulled.clone()
    }

    /// Waits until the release is touched no more, once [`Self::pull`] was called.
    pub async fn at_rest(&self) {
        drop(self.touching.lock().await);
    }

    /// Does what touches the release, unless the brake was pulled. Blocks; not to be called where futures run.
    ///
    /// # Errors
    /// [`FailureKind::Interrupted`]; or what `touch` says.
    pub(crate) fn while_going(
        &self,
        touch: impl FnOnce(&mut dyn FnMut() -> ControlFlow<()>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        let _touching = self.touching.blocking_lock();
        let mut go_on = || match self.pulled.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        match touch(&mut go_on)? {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(interrupted()),
        }
    }
}

/// What a repair says that was ended.
pub(crate) fn interrupted() -> Failure {
    failure(
        FailureKind::Interrupted,
        "a switch began: what is left is put back afterwards, if it is still to be",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::blocking;
    use futures_util::FutureExt;
    use std::sync::{Arc, mpsc};

    #[tokio::test]
    async fn whoever_pulls_the_brake_waits_for_the_file_in_hand_and_no_longer() {
        let brake: Arc<Brake> = Arc::default();
        let (in_hand, begun) = mpsc::channel();
        let (release, wait) = mpsc::channel::<()>();
        let whose = Arc::clone(&brake);
        let repair = std::thread::spawn(move || {
            let mut files = 0;
            let ended = whose.while_going(|go_on| {
                while go_on().is_continue() {
                    files += 1;
                    in_hand.send(()).unwrap();
                    wait.recv().unwrap();
                }
                Ok(ControlFlow::Break(()))
            });
            (files, ended)
        });
        begun.recv().unwrap();
        brake.pull();
        assert_eq!(brake.at_rest().now_or_never(), None, "a file is in hand");
        release.send(()).unwrap();
        brake.at_rest().await;
        let (files, ended) = repair.join().unwrap();
        assert_eq!(files, 1);
        assert_eq!(ended.unwrap_err().kind, FailureKind::Interrupted);
        // One that was not begun touches nothing.
        let late = brake.clone();
        let ended = blocking(move || late.while_going(|go_on| Ok(go_on()))).await;
        assert_eq!(ended.unwrap_err().kind, FailureKind::Interrupted);
    }
}
