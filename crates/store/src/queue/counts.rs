//! How full the queues are.

use super::JobState;
use crate::db::Store;
use crate::error::Result;
use crate::policy;

/// Jobs of a queue by state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Queue.
    pub queue: String,
    /// Waiting, delayed ones too.
    pub queued: i64,
    /// Running.
    pub processing: i64,
    /// Succeeded and not yet swept.
    pub completed: i64,
    /// Waiting to be run again after an error.
    pub errored: i64,
    /// Failed and not yet swept.
    pub failed: i64,
    /// Canceled and not yet swept.
    pub canceled: i64,
}

/// Load of a queue, for metrics. Cheap even with many finished jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Queue.
    pub queue: String,
    /// Waiting and ready to be claimed.
    pub queued: i64,
    /// Waiting for their time.
    pub delayed: i64,
    /// Running.
    pub processing: i64,
    /// How long the oldest ready job waits, in milliseconds; 0 when none does.
    pub oldest_ms: i64,
}

impl Store {
    /// Counts by state, one row for each queue. Walks an index over all jobs: for pages, not for loops.
    ///
    /// # Errors
    /// Database errors.
    pub async fn counts(&self) -> Result<Vec<QueueCounts>> {
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT queue, state, count(*) FROM jobs GROUP BY queue, state")
                .fetch_all(self.read())
                .await?;
        let count = |queue: &str, state: JobState| {
            let row = rows.iter().find(|(q, s, _)| q == queue && s == state.as_str());
            row.map_or(0, |(_, _, n)| *n)
        };
        let counts = policy::QUEUES.map(|queue| QueueCounts {
            queue: queue.to_owned(),
            queued: count(queue, JobState::Queued),
            processing: count(queue, JobState::Processing),
            completed: count(queue, JobState::Completed),
            errored: count(queue, JobState::Errored),
            failed: count(queue, JobState::Failed),
            canceled: count(queue, JobState::Canceled),
        });
        Ok(counts.to_vec())
    }

    /// Load of each queue.
    ///
    /// # Errors
    /// Database errors.
    pub async fn queue_stats(&self, now: i64) -> Result<Vec<QueueStats>> {
        let ready: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT queue, count(*), MIN(queued_at) FROM jobs \
             WHERE state = 'queued' AND process_after IS NULL GROUP BY queue",
        )
        .fetch_all(self.read())
        .await?;
        let delayed: Vec<(String, i64)> = sqlx::query_as(
            "SELECT queue, count(*) FROM jobs WHERE process_after IS NOT NULL GROUP BY queue",
        )
        .fetch_all(self.read())
        .await?;
        let processing: Vec<(String, i64)> = sqlx::query_as(
            "SELECT queue, count(*) FROM jobs WHERE state = 'processing' GROUP BY queue",
        )
        .fetch_all(self.read())
        .await?;
        let of = |rows: &[(String, i64)], queue: &str| {
            rows.iter().find(|(name, _)| name == queue).map_or(0, |(_, n)| *n)
        };
        let stats = policy::QUEUES.map(|queue| {
            let ready = ready.iter().find(|(name, ..)| name == queue);
            QueueStats {
                queue: queue.to_owned(),
                queued: ready.map_or(0, |(_, n, _)| *n),
                delayed: of(&delayed, queue),
                processing: of(&processing, queue),
                oldest_ms: ready.map_or(0, |(_, _, oldest)| (now - oldest).max(0)),
            }
        });
        Ok(stats.to_vec())
    }
}
