//! An executor says which jobs it runs.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;

use super::JobState;
use crate::db::{Store, placeholders};
use crate::error::Result;
use crate::feed;
use crate::wake::Topic;

/// A job that is still the executor's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The job.
    pub job_id: i64,
    /// Its queue.
    pub queue: String,
    /// It must be stopped.
    pub cancel: bool,
    /// What a site admin said about keeping its machine.
    pub hold: Option<HoldChange>,
}

/// A site admin said how long a job's machine shall be kept if it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldChange {
    /// 0 = it shall not be kept.
    pub seconds: u64,
    /// When it was said.
    pub at: i64,
}

#[derive(sqlx::FromRow)]
struct BeatRow {
    id: i64,
    queue: String,
    cancel: i64,
    hold_wish: Option<i64>,
    hold_wish_at: Option<i64>,
}

/// Ids in one statement.
const BATCH: usize = 500;

impl Store {
    /// Notes that the jobs `ids` are alive and returns those of them that are `executor`'s. What is
    /// missing in the answer must be dropped by the executor.
    ///
    /// A job that was given up as lost and that nobody took since is the executor's again.
    ///
    /// # Errors
    /// Database errors.
    pub async fn heartbeat(&self, executor: &str, ids: &[i64], now: i64) -> Result<Vec<Beat>> {
        let unique: BTreeSet<i64> = ids.iter().copied().collect();
        let unique: Vec<i64> = unique.into_iter().collect();
        let mut beats = Vec::with_capacity(unique.len());
        for ids in unique.chunks(BATCH) {
            beats.extend(self.beat(executor, ids, now).await?);
        }
        let missing: Vec<i64> = unique
            .into_iter()
            .filter(|id| beats.iter().all(|beat: &Beat| beat.job_id != *id))
            .collect();
        for ids in missing.chunks(BATCH) {
            beats.extend(self.readopt(executor, ids, now).await?);
        }
        beats.sort_by_key(|beat| beat.job_id);
        Ok(beats)
    }

    async fn beat(&self, executor: &str, ids: &[i64], now: i64) -> Result<Vec<Beat>> {
        let sql = format!(
            "UPDATE jobs SET last_heartbeat_at = $1 WHERE executor = $2 AND state = 'processing' \
             AND id IN ({}) RETURNING id, queue, cancel, hold_wish, hold_wish_at",
            placeholders(3, ids.len())
        );
        let mut query = sqlx::query_as(AssertSqlSafe(sql)).bind(now).bind(executor);
        for id in ids {
            query = query.bind(id);
        }
        let rows: Vec<BeatRow> = query.fetch_all(self.writer()).await?;
        let beat = |row: BeatRow| Beat {
            job_id: row.id,
            queue: row.queue,
            cancel: row.cancel != 0,
            hold: hold_change(row.hold_wish, row.hold_wish_at),
        };
        Ok(rows.into_iter().map(beat).collect())
    }

    async fn readopt(&self, executor: &str, ids: &[i64], now: i64) -> Result<Vec<Beat>> {
        let sql = format!(
            "SELECT id FROM jobs WHERE executor = $1 AND state = 'queued' AND lost = 1 \
             AND id IN ({})",
            placeholders(2, ids.len())
        );
        let mut query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(executor);
        for id in ids {
            query = query.bind(id);
        }
        let lost: Vec<i64> = query.fetch_all(self.read()).await?;
        let mut beats = Vec::with_capacity(lost.len());
        for job_id in lost {
            let mut tx = self.begin().await?;
            let row: Option<(String, i64, Option<i64>, Option<i64>)> = sqlx::query_as(
                "UPDATE jobs SET state = 'processing', lost = 0, last_heartbeat_at = $3 \
                 WHERE id = $1 AND executor = $2 AND state = 'queued' AND lost = 1 \
                 RETURNING queue, attempt, hold_wish, hold_wish_at",
            )
            .bind(job_id)
            .bind(executor)
            .bind(now)
            .fetch_optional(&mut *tx)
            .await?;
            let Some((queue, attempt, seconds, at)) = row else { continue };
            sqlx::query(
                "UPDATE attempts SET outcome = 'processing', finished_at = NULL, reason = NULL, \
                   message = '' WHERE job_id = $1 AND attempt = $2",
            )
            .bind(job_id)
            .bind(attempt)
            .execute(&mut *tx)
            .await?;
            feed::push_state(&mut tx, job_id, attempt, JobState::Processing, now).await?;
            tx.commit().await?;
            self.bump(&[Topic::Job(job_id), Topic::Jobs]);
            let hold = hold_change(seconds, at);
            beats.push(Beat { job_id, queue, cancel: false, hold });
        }
        Ok(beats)
    }
}

fn hold_change(seconds: Option<i64>, at: Option<i64>) -> Option<HoldChange> {
    Some(HoldChange { seconds: u64::try_from(seconds?).ok()?, at: at? })
}
