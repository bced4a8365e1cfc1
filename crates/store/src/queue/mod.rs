//! The queue of jobs: one table and one state machine for all queues.

mod cancel;
mod claim;
mod counts;
mod enqueue;
mod finish;
mod heartbeat;
mod lanes;
mod list;
mod requeue;
mod retry;
mod row;
mod stalled;
mod state;
mod why;

use protocol::{FailureReason, Usage};

pub use cancel::Cancellation;
pub use claim::{Claim, ClaimRequest};
pub use counts::{QueueCounts, QueueStats};
pub use enqueue::{Enqueued, NewJob};
pub use finish::{Finish, Finished, Outcome};
pub use heartbeat::{Beat, HoldChange};
pub use list::JobFilter;
pub use stalled::Reset;
pub use state::JobState;
pub use why::WhyQueued;

pub(crate) use list::contains;
pub(crate) use row::{JobRow, read_reason, read_usage};

/// A job as it is stored, without its payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Unique over all queues.
    pub id: i64,
    /// Queue.
    pub queue: String,
    /// Where it is in its life.
    pub state: JobState,
    /// For lists; may be empty.
    pub name: String,
    /// Registered name of the repository; empty = none.
    pub repository: String,
    /// Commit; empty = none.
    pub commit: String,
    /// User who asked for it; 0 = nobody.
    pub creator_id: i64,
    /// Name of that user now; empty when there is none any more.
    pub creator_name: String,
    /// Higher is earlier.
    pub priority: i64,
    /// Retries after `markErrored`.
    pub max_retries: i64,
    /// When it was enqueued.
    pub created_at: i64,
    /// Since when it waits, or waited last.
    pub queued_at: i64,
    /// It waits at least until then.
    pub process_after: Option<i64>,
    /// Start of the current or last attempt.
    pub started_at: Option<i64>,
    /// Last heartbeat of the current or last attempt.
    pub last_heartbeat_at: Option<i64>,
    /// When it reached a final state.
    pub finished_at: Option<i64>,
    /// 0 before the first claim, then counted up by each.
    pub attempt: i64,
    /// How often its executor was lost.
    pub num_resets: i64,
    /// How often an executor reported an error or failure.
    pub num_failures: i64,
    /// Executor of the current or last attempt; empty before the first.
    pub executor: String,
    /// Somebody asked to stop it.
    pub cancel_requested: bool,
    /// Why it did not complete.
    pub reason: Option<FailureReason>,
    /// Evidence for `reason`, for people.
    pub message: String,
    /// Exit code of the step that failed.
    pub exit_code: Option<i64>,
    /// What the last attempt used.
    pub usage: Option<Usage>,
    /// Seconds to keep its machine if it fails, as the job file or a site admin said last; 0 = it is
    /// not kept.
    pub hold_seconds: u64,
}

/// Authority over a running job, as a request of its executor proves it.
#[derive(Clone, Copy, Debug)]
pub struct Lease<'a> {
    /// Queue named in the route.
    pub queue: &'a str,
    /// The job.
    pub job_id: i64,
    /// Name of the executor; must own the job.
    pub executor: &'a str,
    /// Attempt that the job token is bound to; `None` when the shared secret was used, which is bound
    /// to nothing.
    pub attempt: Option<i64>,
}
