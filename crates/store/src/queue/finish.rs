//! An executor reports the end of a job.

use protocol::{FailureReason, Usage};

use super::row::{JobRow, write_usage};
use super::{JobState, Lease};
use crate::db::{Store, Tx, give_up, tame};
use crate::error::{Error, Result};
use crate::feed;
use crate::holds;
use crate::policy;
use crate::transitions::{self, Change};
use crate::wake::Topic;

/// Which of the three reports it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `markComplete`.
    Complete,
    /// `markErrored`.
    Errored,
    /// `markFailed`.
    Failed,
}

/// The end of a job as its executor reports it.
#[derive(Clone, Debug)]
pub struct Finish<'a> {
    /// Proof that the job is the executor's.
    pub lease: Lease<'a>,
    /// Which report.
    pub outcome: Outcome,
    /// Why it did not complete.
    pub reason: Option<FailureReason>,
    /// Evidence for people.
    pub message: String,
    /// Exit code of the step that failed.
    pub exit_code: Option<i64>,
    /// What the job used.
    pub usage: Option<Usage>,
    /// The executor keeps the job's machine this many milliseconds. It counts for a job that did not
    /// complete and was not canceled, and only with its job token ([`Lease::attempt`]).
    pub hold_ms: Option<i64>,
}

/// The job after the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The job.
    pub job_id: i64,
    /// Its state now: `canceled` when a cancel was requested and the job did not complete.
    pub state: JobState,
}

impl Store {
    /// Ends a job. `None` when the lease does not hold (404 `null` on the wire): not this executor's,
    /// not this attempt, not running.
    ///
    /// The late result of an attempt that was thought lost is accepted as long as nobody claimed the
    /// job since, and only with its job token ([`Lease::attempt`]).
    ///
    /// # Errors
    /// Database errors.
    pub async fn finish(&self, finish: &Finish<'_>, now: i64) -> Result<Option<Finished>> {
        let lease = &finish.lease;
        let mut tx = self.begin().await?;
        let Some(row) = JobRow::lock(&mut tx, self.backend(), lease.job_id).await? else {
            return Ok(None);
        };
        if !is_theirs(&row, lease)? {
            return give_up(tx, Ok(None)).await;
        }
        let cancel = row.cancel != 0;
        let state = policy::ending(finish.outcome, cancel, row.num_failures, row.max_retries);
        let change = match finish.outcome {
            Outcome::Complete => Change::Complete,
            Outcome::Errored => Change::Error,
            Outcome::Failed => Change::Fail,
        };
        let end = End {
            state,
            change,
            failure: finish.outcome != Outcome::Complete && !cancel,
            reason: finish.reason.filter(|_| finish.outcome != Outcome::Complete),
            message: &finish.message,
            exit_code: finish.exit_code,
            usage: finish.usage,
        };
        conclude(&mut tx, &row, end, now).await?;
        let failed = matches!(state, JobState::Errored | JobState::Failed);
        let hold_ms = finish.hold_ms.filter(|ms| failed && *ms > 0 && lease.attempt.is_some());
        if let Some(hold_ms) = hold_ms {
            holds::begin(&mut tx, &row, hold_ms, now).await?;
        }
        tx.commit().await?;
        self.bump(&[Topic::Job(row.id), Topic::Jobs]);
        Ok(Some(Finished { job_id: row.id, state }))
    }

    /// Fails a running job from the instance's side, for example when its document cannot be built.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Transition`] when it is not processing.
    pub async fn fail_claimed(
        &self,
        job_id: i64,
        reason: FailureReason,
        message: &str,
        now: i64,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        let row = JobRow::lock(&mut tx, self.backend(), job_id).await?;
        let row = row.ok_or_else(|| Error::not_found("job", job_id))?;
        let (from, change) = (row.state()?, Change::Fail);
        if from != JobState::Processing {
            return give_up(tx, Err(Error::Transition { job: job_id, from, change })).await;
        }
        let end = End {
            state: JobState::Failed,
            change,
            failure: true,
            reason: Some(reason),
            message,
            exit_code: None,
            usage: None,
        };
        conclude(&mut tx, &row, end, now).await?;
        tx.commit().await?;
        self.bump(&[Topic::Job(job_id), Topic::Jobs, Topic::Executor(row.executor)]);
        Ok(())
    }
}

fn is_theirs(row: &JobRow, lease: &Lease<'_>) -> Result<bool> {
    let same = row.queue == lease.queue && row.executor == lease.executor;
    Ok(match (row.state()?, lease.attempt) {
        (JobState::Processing, None) => same,
        (JobState::Processing, Some(attempt)) => same && attempt == row.attempt,
        (JobState::Queued, Some(attempt)) => same && attempt == row.attempt && row.lost != 0,
        _ => false,
    })
}

/// How a job's attempt ends.
pub(super) struct End<'a> {
    pub state: JobState,
    pub change: Change,
    pub failure: bool,
    pub reason: Option<FailureReason>,
    pub message: &'a str,
    pub exit_code: Option<i64>,
    pub usage: Option<Usage>,
}

/// Writes the end on the job, its attempt and its feed. The caller holds the row.
pub(super) async fn conclude(tx: &mut Tx, row: &JobRow, end: End<'_>, now: i64) -> Result<()> {
    transitions::check(row.id, row.state()?, end.change, end.state)?;
    let canceled = end.state == JobState::Canceled;
    let reason = if canceled { Some(FailureReason::Canceled) } else { end.reason };
    let (usage, message) = (write_usage(end.usage), tame(end.message));
    let again = (end.state == JobState::Errored).then_some(now + policy::RETRY_AFTER_MS);
    let feed: i64 = sqlx::query_scalar(
        "UPDATE jobs SET state = $2, finished_at = $3, process_after = $4, lost = 0, \
           feed = feed + 1, num_failures = num_failures + $5, reason = $6, message = $7, \
           exit_code = $8, usage = $9 WHERE id = $1 RETURNING feed",
    )
    .bind(row.id)
    .bind(end.state.as_str())
    .bind(now)
    .bind(again)
    .bind(i64::from(end.failure))
    .bind(reason.map(FailureReason::as_str))
    .bind(&*message)
    .bind(end.exit_code)
    .bind(&usage)
    .fetch_one(&mut **tx)
    .await?;
    sqlx::query(
        "UPDATE attempts SET outcome = $3, finished_at = $4, reason = $5, message = $6, \
           exit_code = $7, usage = $8 WHERE job_id = $1 AND attempt = $2",
    )
    .bind(row.id)
    .bind(row.attempt)
    .bind(end.state.as_str())
    .bind(now)
    .bind(reason.map(FailureReason::as_str))
    .bind(&*message)
    .bind(end.exit_code)
    .bind(usage)
    .execute(&mut **tx)
    .await?;
    feed::push_state_at(tx, (row.id, row.attempt, feed), end.state, now).await
}
