//! How the dispatcher ends a job before its time.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

/// Why a job must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// A person asked, by way of the instance.
    Canceled,
    /// The instance does not count the job among ours any more: someone else may run it.
    LeaseLost,
    /// The executor stops at once; the instance gives the job to another one.
    Stopped,
}

/// One end tells, the other is told; the first reason holds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JobControl {
    reason: Arc<watch::Sender<Option<Interrupt>>>,
    hold: Arc<Mutex<Option<u64>>>,
}

impl Default for JobControl {
    fn default() -> Self {
        Self { reason: Arc::new(watch::Sender::new(None)), hold: Arc::default() }
    }
}

impl JobControl {
    /// Stops the job; `false` if it was already stopping.
    pub fn interrupt(&self, reason: Interrupt) -> bool {
        self.reason.send_if_modified(|known| match known {
            Some(_) => false,
            None => {
                *known = Some(reason);
                true
            }
        })
    }

    /// A site admin wants the machine held that many seconds if the job fails; 0 = not any longer. `false`
    /// if that was known.
    pub fn wish_hold(&self, seconds: u64) -> bool {
        let wish = Some(seconds);
        std::mem::replace(&mut *self.hold.lock().expect("no panic while held"), wish) != wish
    }

    /// What a site admin wished last; `None` = nothing, the job decides.
    pub fn hold_wish(&self) -> Option<u64> {
        *self.hold.lock().expect("no panic while held")
    }

    /// The reason, if there is one.
    pub fn reason(&self) -> Option<Interrupt> {
        *self.reason.borrow()
    }

    /// Waits for a reason.
    pub async fn interrupted(&self) -> Interrupt {
        let mut receiver = self.reason.subscribe();
        let reason = receiver.wait_for(Option::is_some).await;
        (*reason.expect("the sender lives as long as self")).expect("waited for a reason")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_holds() {
        let control = JobControl::default();
        assert_eq!(control.reason(), None);
        assert!(control.interrupt(Interrupt::Canceled));
        assert!(!control.interrupt(Interrupt::LeaseLost));
        assert_eq!(control.interrupted().await, Interrupt::Canceled);
    }
}
