//! The state machine of a job: every change of state that exists. Everything else is refused.

use std::fmt;

use crate::error::{Error, Result};
use crate::queue::JobState::{self, Canceled, Completed, Errored, Failed, Processing, Queued};

/// A cause of a change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// An executor takes the job.
    Claim,
    /// The executor that was thought lost beats again and nobody took the job meanwhile.
    Readopt,
    /// The executor reports success. Wins over a requested cancel.
    Complete,
    /// The executor reports an error that a retry may cure.
    Error,
    /// The executor reports a failure that a retry does not cure.
    Fail,
    /// A person stops a job that does not run.
    Cancel,
    /// The instance takes the job back from its executor, to run it later.
    Requeue,
    /// No heartbeat for too long.
    Reset,
    /// The waiting time after an error is over.
    Promote,
    /// A person runs a finished job again.
    Retry,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Claim => "claim",
            Self::Readopt => "readopt",
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Fail => "fail",
            Self::Cancel => "cancel",
            Self::Requeue => "requeue",
            Self::Reset => "reset",
            Self::Promote => "promote",
            Self::Retry => "retry",
        })
    }
}

/// Cause, states it may start from, states it may lead to. `Complete`, `Error` and `Fail` start from
/// `Queued` only for the late result of a lost attempt, which `queue/finish.rs` checks.
const TABLE: &[(Change, &[JobState], &[JobState])] = &[
    (Change::Claim, &[Queued], &[Processing]),
    (Change::Readopt, &[Queued], &[Processing]),
    (Change::Complete, &[Processing, Queued], &[Completed]),
    (Change::Error, &[Processing, Queued], &[Errored, Failed, Canceled]),
    (Change::Fail, &[Processing, Queued], &[Failed, Canceled]),
    (Change::Cancel, &[Queued, Errored], &[Canceled]),
    (Change::Requeue, &[Processing], &[Queued]),
    (Change::Reset, &[Processing], &[Queued, Failed, Canceled]),
    (Change::Promote, &[Errored], &[Queued]),
    (Change::Retry, &[Completed, Errored, Failed, Canceled], &[Queued]),
];

/// Whether `change` may take a job from one state to the other.
pub fn allowed(from: JobState, change: Change, to: JobState) -> bool {
    TABLE.iter().any(|(c, sources, targets)| {
        *c == change && sources.contains(&from) && targets.contains(&to)
    })
}

/// Refuses what the table does not list.
pub(crate) fn check(job: i64, from: JobState, change: Change, to: JobState) -> Result<()> {
    if allowed(from, change, to) { Ok(()) } else { Err(Error::Transition { job, from, change }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_a_final_state_but_by_retry() {
        for from in [Completed, Failed, Canceled] {
            for (change, _, targets) in TABLE.iter().filter(|row| row.0 != Change::Retry) {
                assert!(targets.iter().all(|to| !allowed(from, *change, *to)), "{from} {change}");
            }
            assert!(allowed(from, Change::Retry, Queued));
        }
        assert!(!allowed(Queued, Change::Requeue, Queued));
        assert!(!allowed(Processing, Change::Retry, Queued));
    }
}
