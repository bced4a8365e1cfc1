//! Rules of the queues as pure functions: whose turn, which queue, what an ending means.

use crate::queue::{JobState, Outcome};

/// Queue of server-side batch changes: round robin over users.
pub const BATCHES: &str = "batches";
/// Queue of auto-indexing: manual requests first, then in order of arrival.
pub const CODEINTEL: &str = "codeintel";
/// Queue of free jobs: by priority, then round robin over users.
pub const JOBS: &str = "jobs";
/// All queues.
pub const QUEUES: [&str; 3] = [BATCHES, CODEINTEL, JOBS];

/// Without a heartbeat for longer than this a job's executor is lost.
pub const STALLED_AFTER_MS: i64 = 25_000;
/// A job whose executor is lost runs again this many times.
pub const MAX_NUM_RESETS: i64 = 3;
/// A job that errored and has retries left waits this long.
pub const RETRY_AFTER_MS: i64 = 10_000;
/// Message of a job that was lost too often, as the original words it.
pub const LOST_MESSAGE: &str = "job processor died while handling this message too many times";

/// The lane a job waits in, and its priority there. Lanes of equal priority take turns.
pub(crate) fn lane(queue: &str, creator_id: i64, priority: i64) -> (i64, i64) {
    match queue {
        // Manual requests have a creator; users do not take turns here.
        CODEINTEL => (0, i64::from(creator_id > 0)),
        BATCHES => (creator_id, 0),
        _ => (creator_id, priority),
    }
}

/// The state that a report of the executor leads to.
pub(crate) fn ending(outcome: Outcome, cancel: bool, failures: i64, max_retries: i64) -> JobState {
    match outcome {
        Outcome::Complete => JobState::Completed,
        Outcome::Errored | Outcome::Failed if cancel => JobState::Canceled,
        Outcome::Errored if failures < max_retries => JobState::Errored,
        Outcome::Errored | Outcome::Failed => JobState::Failed,
    }
}

/// The state of a job whose executor is lost.
pub(crate) fn stalled(cancel: bool, resets: i64) -> JobState {
    if cancel {
        JobState::Canceled
    } else if resets >= MAX_NUM_RESETS {
        JobState::Failed
    } else {
        JobState::Queued
    }
}

/// How a multi-queue executor's request is shared between queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueShare {
    /// Queue.
    pub queue: String,
    /// Claims per window above which the queue stands back while another has work.
    pub limit: u64,
    /// Share among the queues under their limit.
    pub weight: u64,
}

impl QueueShare {
    /// The original's numbers; `jobs`, which it does not have, is treated like `batches`.
    pub fn defaults() -> Vec<Self> {
        let share = |queue: &str, limit, weight| Self { queue: queue.to_owned(), limit, weight };
        vec![share(BATCHES, 50, 4), share(CODEINTEL, 250, 1), share(JOBS, 50, 4)]
    }
}

/// Length of the window in which claims are counted.
pub const WINDOW_MS: i64 = 5 * 60 * 1000;

/// The order in which queues with work are tried. `claims` counts each in the window; `roll` is a
/// random number in `0.0..1.0`. Queues under their limit come first, drawn by weight; the rest follow,
/// so that an executor never leaves empty-handed while there is work.
pub(crate) fn order(shares: &[(&QueueShare, u64)], roll: f64) -> Vec<String> {
    let (mut open, mut full): (Vec<&QueueShare>, Vec<&QueueShare>) = (Vec::new(), Vec::new());
    for (share, claims) in shares {
        if *claims < share.limit { open.push(share) } else { full.push(share) }
    }
    let first = if open.is_empty() { &mut full } else { &mut open };
    let total: u64 = first.iter().map(|share| share.weight).sum();
    let mut left = roll * total as f64;
    let drawn = first.iter().position(|share| {
        left -= share.weight as f64;
        left < 0.0
    });
    if let Some(place) = drawn {
        first.swap(0, place);
    }
    open.iter().chain(&full).map(|share| share.queue.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_drawn_by_weight_and_a_full_one_stands_back() {
        let shares = QueueShare::defaults();
        let (batches, codeintel) = (&shares[0], &shares[1]);
        let first =
            |claims: u64, roll| order(&[(batches, claims), (codeintel, 0)], roll)[0].clone();
        assert_eq!(first(0, 0.0), BATCHES);
        assert_eq!(first(0, 0.79), BATCHES);
        assert_eq!(first(0, 0.81), CODEINTEL);
        assert_eq!(first(50, 0.0), CODEINTEL);
        let both_full = order(&[(batches, 50), (codeintel, 250)], 0.81);
        assert_eq!(both_full, [CODEINTEL, BATCHES]);
        assert!(order(&[], 0.5).is_empty());
        let silent = QueueShare { weight: 0, ..batches.clone() };
        assert_eq!(order(&[(&silent, 0)], 0.5), [BATCHES]);
    }

    #[test]
    fn cancel_beats_failure_and_completion_beats_cancel() {
        assert_eq!(ending(Outcome::Complete, true, 0, 0), JobState::Completed);
        assert_eq!(ending(Outcome::Failed, true, 0, 3), JobState::Canceled);
        assert_eq!(ending(Outcome::Errored, false, 0, 0), JobState::Failed);
        assert_eq!(ending(Outcome::Errored, false, 0, 1), JobState::Errored);
        assert_eq!(ending(Outcome::Errored, false, 1, 1), JobState::Failed);
        assert_eq!(stalled(true, 0), JobState::Canceled);
        assert_eq!(stalled(false, 2), JobState::Queued);
        assert_eq!(stalled(false, 3), JobState::Failed);
    }
}
