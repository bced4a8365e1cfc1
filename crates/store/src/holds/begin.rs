//! A hold is wished for, and begins.

use crate::db::{Store, Tx, give_up};
use crate::error::{Error, Result};
use crate::queue::{JobRow, JobState};
use crate::wake::Topic;

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It stands, and its executor is told at once when the job runs.
    Noted,
    /// The job is over, in this state.
    AlreadyFinished(JobState),
}

impl Store {
    /// Notes how many seconds a job's machine shall be kept if the job fails; 0 = not at all. It
    /// counts instead of what the job file says, until a person runs the job again.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn wish_hold(&self, job_id: i64, seconds: u64, now: i64) -> Result<Wish> {
        let mut tx = self.begin().await?;
        let row = JobRow::lock(&mut tx, self.backend(), job_id).await?;
        let row = row.ok_or_else(|| Error::not_found("job", job_id))?;
        let state = row.state()?;
        if state.is_final() {
            return give_up(tx, Ok(Wish::AlreadyFinished(state))).await;
        }
        sqlx::query("UPDATE jobs SET hold_wish = $2, hold_wish_at = $3 WHERE id = $1")
            .bind(job_id)
            .bind(i64::try_from(seconds).unwrap_or(i64::MAX))
            .bind(now)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        self.bump(&[Topic::Executor(row.executor), Topic::Job(job_id)]);
        Ok(Wish::Noted)
    }
}

/// The executor keeps the machine of this attempt, in the transaction that ends the attempt.
pub(crate) async fn begin(tx: &mut Tx, row: &JobRow, hold_ms: i64, now: i64) -> Result<()> {
    sqlx::query(
        "INSERT INTO holds (job_id, attempt, queue, executor, held_at, held_until, seen_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $5) ON CONFLICT DO NOTHING",
    )
    .bind(row.id)
    .bind(row.attempt)
    .bind(&row.queue)
    .bind(&row.executor)
    .bind(now)
    .bind(now.saturating_add(hold_ms))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
