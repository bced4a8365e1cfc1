//! States of a job.

use std::fmt;

/// Where a job is in its life. See [`crate::transitions`] for how it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Waits for an executor.
    Queued,
    /// An executor has it.
    Processing,
    /// Done, successfully.
    Completed,
    /// Ended with an error; runs again by itself.
    Errored,
    /// Ended with a failure, finally.
    Failed,
    /// Stopped by a person.
    Canceled,
}

pub use JobState::{Canceled, Completed, Errored, Failed, Processing, Queued};

impl JobState {
    /// All states.
    pub const ALL: [Self; 6] = [Queued, Processing, Completed, Errored, Failed, Canceled];

    /// The name in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Queued => "queued",
            Processing => "processing",
            Completed => "completed",
            Errored => "errored",
            Failed => "failed",
            Canceled => "canceled",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Nothing more happens by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Completed | Failed | Canceled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
