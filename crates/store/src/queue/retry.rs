//! A person runs a finished job again.

use super::JobState;
use super::lanes::{self, Lane};
use super::row::JobRow;
use crate::db::{Store, give_up};
use crate::error::{Error, Result};
use crate::feed;
use crate::transitions::{self, Change};
use crate::wake::Topic;

impl Store {
    /// Queues a finished job again. Logs, results and artifacts of earlier attempts stay; what a
    /// site admin said about keeping its machine does not.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Transition`] when it is queued or processing.
    pub async fn retry(&self, job_id: i64, now: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        let row = JobRow::lock(&mut tx, self.backend(), job_id).await?;
        let row = row.ok_or_else(|| Error::not_found("job", job_id))?;
        if let Err(refused) =
            transitions::check(job_id, row.state()?, Change::Retry, JobState::Queued)
        {
            return give_up(tx, Err(refused)).await;
        }
        sqlx::query(
            "UPDATE jobs SET state = 'queued', queued_at = $2, process_after = NULL, cancel = 0, \
               lost = 0, num_resets = 0, num_failures = 0, started_at = NULL, finished_at = NULL, \
               reason = NULL, message = '', exit_code = NULL, usage = NULL, \
               hold_wish = NULL, hold_wish_at = NULL WHERE id = $1",
        )
        .bind(job_id)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        feed::push_state(&mut tx, job_id, row.attempt, JobState::Queued, now).await?;
        let lane = Lane { priority: row.priority, lane: row.lane };
        lanes::activate(&mut tx, self.backend(), &row.queue, lane).await?;
        tx.commit().await?;
        self.bump(&[Topic::Queue(row.queue), Topic::Job(job_id), Topic::Jobs]);
        Ok(())
    }
}
