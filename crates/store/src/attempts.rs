//! The runs of a job, one for each claim.

use protocol::{FailureReason, Usage};

use crate::db::Store;
use crate::error::Result;
use crate::queue::{read_reason, read_usage};

/// One run of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Counted from 1.
    pub attempt: i64,
    /// Who ran it.
    pub executor: String,
    /// When it was claimed.
    pub started_at: i64,
    /// When it ended or was given up.
    pub finished_at: Option<i64>,
    /// `processing`, `lost`, `requeued`, or the state the job ended in.
    pub outcome: String,
    /// Why it did not complete.
    pub reason: Option<FailureReason>,
    /// Evidence.
    pub message: String,
    /// Exit code of the step that failed.
    pub exit_code: Option<i64>,
    /// What it used.
    pub usage: Option<Usage>,
}

#[derive(sqlx::FromRow)]
struct AttemptRow {
    attempt: i64,
    executor: String,
    started_at: i64,
    finished_at: Option<i64>,
    outcome: String,
    reason: Option<String>,
    message: String,
    exit_code: Option<i64>,
    usage: Option<String>,
}

impl Store {
    /// All attempts of a job, oldest first.
    ///
    /// # Errors
    /// Database errors.
    pub async fn attempts(&self, job_id: i64) -> Result<Vec<Attempt>> {
        let rows: Vec<AttemptRow> = sqlx::query_as(
            "SELECT attempt, executor, started_at, finished_at, outcome, reason, message, \
               exit_code, usage FROM attempts WHERE job_id = $1 ORDER BY attempt",
        )
        .bind(job_id)
        .fetch_all(self.read())
        .await?;
        rows.into_iter().map(AttemptRow::into_attempt).collect()
    }
}

impl AttemptRow {
    fn into_attempt(self) -> Result<Attempt> {
        Ok(Attempt {
            attempt: self.attempt,
            executor: self.executor,
            started_at: self.started_at,
            finished_at: self.finished_at,
            outcome: self.outcome,
            reason: read_reason(self.reason),
            message: self.message,
            exit_code: self.exit_code,
            usage: read_usage(self.usage.as_deref())?,
        })
    }
}
