//! What the executor says about itself on each heartbeat.

use protocol::ext::AgentStatus;
use tokio::sync::watch;

/// Shared state; the heartbeat goes out early when it changes.
#[derive(Debug)]
pub struct Status {
    state: watch::Sender<AgentStatus>,
}

impl Status {
    /// The parts that do not change.
    pub fn new(capacity: usize, runtime: &str, acceleration: &str) -> Self {
        let state = AgentStatus {
            capacity: i64::try_from(capacity).unwrap_or(i64::MAX),
            runtime: runtime.to_owned(),
            acceleration: acceleration.to_owned(),
            ..AgentStatus::default()
        };
        Self { state: watch::Sender::new(state) }
    }

    /// The last error that was not a job's own.
    pub fn note_error(&self, error: &dyn std::fmt::Display) {
        let text: String = error.to_string().chars().take(1000).collect();
        // Not worth an early heartbeat.
        self.state.send_if_modified(|state| {
            state.last_error = text;
            false
        });
    }

    /// No more jobs are taken, or again.
    pub fn set_draining(&self, draining: bool) {
        self.state
            .send_if_modified(|state| std::mem::replace(&mut state.draining, draining) != draining);
    }

    /// As it is sent.
    pub fn snapshot(&self) -> AgentStatus {
        self.state.borrow().clone()
    }

    /// Tells when something changed that the instance should know at once.
    pub fn subscribe(&self) -> watch::Receiver<AgentStatus> {
        self.state.subscribe()
    }
}
