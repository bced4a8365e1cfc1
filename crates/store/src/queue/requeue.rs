//! The instance takes a job back from its executor.

use super::JobState;
use super::lanes::{self, Lane};
use super::row::JobRow;
use crate::db::{Store, give_up};
use crate::error::{Error, Result};
use crate::feed;
use crate::transitions::{self, Change};
use crate::wake::Topic;

impl Store {
    /// Puts a running job back into its queue, at its end, to run at `after` or at once. A requested
    /// cancel is forgotten, as in the original.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Transition`] when it is not processing.
    pub async fn requeue(&self, job_id: i64, after: Option<i64>, now: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        let row = JobRow::lock(&mut tx, self.backend(), job_id).await?;
        let row = row.ok_or_else(|| Error::not_found("job", job_id))?;
        if let Err(refused) =
            transitions::check(job_id, row.state()?, Change::Requeue, JobState::Queued)
        {
            return give_up(tx, Err(refused)).await;
        }
        let after = after.filter(|after| *after > now);
        sqlx::query(
            "UPDATE jobs SET state = 'queued', queued_at = $2, process_after = $3, cancel = 0, \
               lost = 0, started_at = NULL WHERE id = $1",
        )
        .bind(job_id)
        .bind(now)
        .bind(after)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "UPDATE attempts SET outcome = 'requeued', finished_at = $3 \
             WHERE job_id = $1 AND attempt = $2",
        )
        .bind(job_id)
        .bind(row.attempt)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        feed::push_state(&mut tx, job_id, row.attempt, JobState::Queued, now).await?;
        if after.is_none() {
            let lane = Lane { priority: row.priority, lane: row.lane };
            lanes::activate(&mut tx, self.backend(), &row.queue, lane).await?;
        }
        tx.commit().await?;
        let executor = Topic::Executor(row.executor);
        self.bump(&[Topic::Queue(row.queue), Topic::Job(job_id), Topic::Jobs, executor]);
        Ok(())
    }
}
