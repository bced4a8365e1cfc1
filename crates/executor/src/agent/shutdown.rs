//! Shutting down is an argument: the program wires it to signals, a test holds it in its hand.

use tokio_util::sync::CancellationToken;

/// Two stages. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    stop: CancellationToken,
}

impl Shutdown {
    /// Take no more jobs, let the running ones end.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Stop at once.
    pub fn stop(&self) {
        self.drain.cancel();
        self.stop.cancel();
    }

    /// One step further: first drain, then stop. What a signal does.
    pub fn escalate(&self) {
        if self.drain.is_cancelled() {
            self.stop();
        } else {
            self.drain();
        }
    }

    /// Canceled with the first stage.
    pub fn drain_token(&self) -> &CancellationToken {
        &self.drain
    }

    /// Waits for the first stage.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Waits for the second stage.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// The first stage has come.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// The second stage has come.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }
}
