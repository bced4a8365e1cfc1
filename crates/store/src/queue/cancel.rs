//! A person stops a job.

use super::JobState;
use super::finish::{End, conclude};
use super::row::JobRow;
use crate::db::{Store, give_up};
use crate::error::{Error, Result};
use crate::transitions::Change;
use crate::wake::Topic;

/// What a cancel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// The job did not run and is canceled.
    Canceled,
    /// The job runs; its executor is told at once and reports the end.
    Requested,
    /// The job was over already, in this state.
    AlreadyFinished(JobState),
}

impl Store {
    /// Cancels a job. Canceling twice does nothing more. `message` says who and why.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn cancel(&self, job_id: i64, message: &str, now: i64) -> Result<Cancellation> {
        let mut tx = self.begin().await?;
        let row = JobRow::lock(&mut tx, self.backend(), job_id).await?;
        let row = row.ok_or_else(|| Error::not_found("job", job_id))?;
        match row.state()? {
            JobState::Processing => {
                sqlx::query("UPDATE jobs SET cancel = 1 WHERE id = $1")
                    .bind(job_id)
                    .execute(&mut *tx)
                    .await?;
                tx.commit().await?;
                self.bump(&[Topic::Executor(row.executor), Topic::Job(job_id), Topic::Jobs]);
                Ok(Cancellation::Requested)
            }
            JobState::Queued | JobState::Errored => {
                let end = End {
                    state: JobState::Canceled,
                    change: Change::Cancel,
                    failure: false,
                    reason: None,
                    message,
                    exit_code: None,
                    usage: None,
                };
                conclude(&mut tx, &row, end, now).await?;
                tx.commit().await?;
                self.bump(&[Topic::Job(job_id), Topic::Jobs, Topic::Executor(row.executor)]);
                Ok(Cancellation::Canceled)
            }
            state => give_up(tx, Ok(Cancellation::AlreadyFinished(state))).await,
        }
    }
}
