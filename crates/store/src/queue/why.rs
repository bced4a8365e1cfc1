//! "Why is this job still queued?" as facts; the page makes sentences of them.

use std::collections::HashMap;

use sqlx::AssertSqlSafe;

use super::JobState;
use super::row::{COLUMNS, JobRow};
use crate::db::Store;
use crate::error::Result;
use crate::executors::ExecutorFilter;

/// Facts about a job that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhyQueued {
    /// It is not to start before this time.
    pub process_after: Option<i64>,
    /// Jobs that will be claimed before it, if nothing else is enqueued; 0 = it is next.
    pub ahead: i64,
    /// Of these, jobs of higher priority.
    pub ahead_by_priority: i64,
    /// Of these, earlier jobs of the same user.
    pub ahead_by_same_user: i64,
    /// Executors that serve this queue and were seen in the last 15 s.
    pub executors: i64,
    /// Of these, the ones that take no more jobs.
    pub draining: i64,
    /// Job slots of the executors that still take jobs, as far as they tell.
    pub slots: i64,
    /// Of these slots, the ones in use.
    pub slots_in_use: i64,
    /// Executors that do not tell their number of slots (stock ones).
    pub executors_of_unknown_capacity: i64,
    /// When an executor that serves this queue was last seen, if ever.
    pub last_executor_seen_at: Option<i64>,
    /// How often the job was taken from a lost executor.
    pub num_resets: i64,
}

/// An executor is active when seen no longer ago than this, as on the executors page.
pub(crate) const ACTIVE_MS: i64 = 15_000;

impl Store {
    /// Facts about a queued job; `None` when it does not exist or is not queued.
    ///
    /// # Errors
    /// Database errors.
    pub async fn why_queued(&self, job_id: i64, now: i64) -> Result<Option<WhyQueued>> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = $1");
        let row: Option<JobRow> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(job_id).fetch_optional(self.read()).await?;
        let Some(row) = row else { return Ok(None) };
        if !matches!(row.state()?, JobState::Queued | JobState::Errored) {
            return Ok(None);
        }
        let mut why = WhyQueued {
            process_after: row.process_after().filter(|after| *after > now),
            num_resets: row.num_resets,
            ..WhyQueued::default()
        };
        self.count_ahead(&row, &mut why).await?;
        self.count_executors(&row.queue, now, &mut why).await?;
        Ok(Some(why))
    }

    async fn count_ahead(&self, row: &JobRow, why: &mut WhyQueued) -> Result<()> {
        why.ahead_by_priority = sqlx::query_scalar(
            "SELECT count(*) FROM jobs WHERE queue = $1 AND state = 'queued' \
             AND process_after IS NULL AND priority > $2",
        )
        .bind(&row.queue)
        .bind(row.priority)
        .fetch_one(self.read())
        .await?;
        why.ahead_by_same_user = sqlx::query_scalar(
            "SELECT count(*) FROM jobs WHERE queue = $1 AND state = 'queued' \
             AND process_after IS NULL AND priority = $2 AND lane = $3 \
             AND (queued_at < $4 OR (queued_at = $4 AND id < $5))",
        )
        .bind(&row.queue)
        .bind(row.priority)
        .bind(row.lane)
        .bind(row.queued_at)
        .bind(row.id)
        .fetch_one(self.read())
        .await?;
        // In each round every other user has one turn; in the last round only those whose turn is
        // longer ago.
        let others: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT j.lane, count(*), MIN(COALESCE(l.last_turn, 0)) FROM jobs j \
             LEFT JOIN queue_lanes l ON l.queue = j.queue AND l.priority = j.priority \
               AND l.lane = j.lane \
             WHERE j.queue = $1 AND j.state = 'queued' AND j.process_after IS NULL \
               AND j.priority = $2 GROUP BY j.lane",
        )
        .bind(&row.queue)
        .bind(row.priority)
        .fetch_all(self.read())
        .await?;
        let mine = others.iter().find(|(lane, ..)| *lane == row.lane).map_or(0, |other| other.2);
        let rounds = why.ahead_by_same_user;
        let by_others: i64 = others
            .iter()
            .filter(|(lane, ..)| *lane != row.lane)
            .map(|(lane, waiting, turn)| {
                let earlier = (*turn, *lane) < (mine, row.lane);
                (rounds + i64::from(earlier)).min(*waiting)
            })
            .sum();
        why.ahead = why.ahead_by_priority + why.ahead_by_same_user + by_others;
        Ok(())
    }

    async fn count_executors(&self, queue: &str, now: i64, why: &mut WhyQueued) -> Result<()> {
        let busy: Vec<(String, i64)> = sqlx::query_as(
            "SELECT executor, count(*) FROM jobs WHERE state = 'processing' GROUP BY executor",
        )
        .fetch_all(self.read())
        .await?;
        let busy: HashMap<String, i64> = busy.into_iter().collect();
        let filter = ExecutorFilter { limit: i64::MAX, ..ExecutorFilter::default() };
        for executor in self.executors(&filter).await?.executors {
            if !executor.queues.iter().any(|served| served == queue) {
                continue;
            }
            why.last_executor_seen_at = why.last_executor_seen_at.max(Some(executor.last_seen_at));
            if now - executor.last_seen_at > ACTIVE_MS {
                continue;
            }
            why.executors += 1;
            if executor.draining || executor.drain_requested {
                why.draining += 1;
            } else if let Some(capacity) = executor.capacity {
                let used = busy.get(&executor.name).copied().unwrap_or(0);
                why.slots += capacity;
                why.slots_in_use += used.min(capacity);
            } else {
                why.executors_of_unknown_capacity += 1;
            }
        }
        Ok(())
    }
}
