//! Machines of failed jobs that are kept for a while, and terminals to them.
//!
//! A hold is no state of a job: the job has ended. It belongs to one attempt, whose job token opens
//! the routes of the hold until it ends, and nothing else. Rows are locked in the order job, hold,
//! terminal; a terminal is open only while its hold is.

mod begin;
mod end;
mod recording;
mod streams;
mod terminals;

use protocol::hold::HoldEnd;
use sqlx::AssertSqlSafe;

use crate::db::{Store, Tx};
use crate::error::Result;
use crate::secret;

pub use begin::Wish;
pub(crate) use begin::begin;
pub use end::Release;
pub use recording::TerminalEvent;
pub use streams::{Appended, Stream, TerminalAppend};
pub use terminals::{NewTerminal, Opened, Terminal, TerminalEnd};

/// A machine that is or was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The job.
    pub job_id: i64,
    /// The attempt that failed on the machine.
    pub attempt: i64,
    /// Queue of the job.
    pub queue: String,
    /// Who keeps it.
    pub executor: String,
    /// Since when.
    pub held_at: i64,
    /// When it ends by itself.
    pub held_until: i64,
    /// When its executor was heard of last.
    pub seen_at: i64,
    /// The site admin who released it; empty = nobody.
    pub released_by: String,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// Why it ended; `None` while it is open.
    pub end: Option<HoldEnd>,
}

impl Hold {
    /// The machine is still there, as far as is known.
    pub fn is_open(&self) -> bool {
        self.ended_at.is_none()
    }

    /// Milliseconds until it ends by itself.
    pub fn remaining_ms(&self, now: i64) -> u64 {
        u64::try_from(self.held_until - now).unwrap_or(0)
    }
}

/// The attempt that a job token was made for, as the routes of a hold look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldToken {
    /// The job.
    pub job_id: i64,
    /// Its queue.
    pub queue: String,
    /// Executor that claimed the attempt.
    pub executor: String,
    /// `None`: its machine was never kept.
    pub hold: Option<Hold>,
}

const COLUMNS: &str = "job_id, attempt, queue, executor, held_at, held_until, seen_at, \
    released_by, ended_at, end_reason";

#[derive(sqlx::FromRow)]
struct HoldRow {
    job_id: i64,
    attempt: i64,
    queue: String,
    executor: String,
    held_at: i64,
    held_until: i64,
    seen_at: i64,
    released_by: String,
    ended_at: Option<i64>,
    end_reason: String,
}

impl From<HoldRow> for Hold {
    fn from(row: HoldRow) -> Self {
        Self {
            job_id: row.job_id,
            attempt: row.attempt,
            queue: row.queue,
            executor: row.executor,
            held_at: row.held_at,
            held_until: row.held_until,
            seen_at: row.seen_at,
            released_by: row.released_by,
            ended_at: row.ended_at,
            end: HoldEnd::parse(&row.end_reason),
        }
    }
}

/// Reads a hold and keeps it until the transaction ends.
async fn lock(store: &Store, tx: &mut Tx, job_id: i64, attempt: i64) -> Result<Option<Hold>> {
    let lock = store.backend().for_update();
    let sql = format!("SELECT {COLUMNS} FROM holds WHERE job_id = $1 AND attempt = $2{lock}");
    let row: Option<HoldRow> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(job_id)
        .bind(attempt)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(Hold::from))
}

impl Store {
    /// Looks a job token up, whether its job runs, has ended or is somebody else's by now; `None` when
    /// it was never handed out.
    ///
    /// # Errors
    /// Database errors.
    pub async fn hold_of_token(&self, token: &str) -> Result<Option<HoldToken>> {
        let row: Option<(i64, i64, String, String)> = sqlx::query_as(
            "SELECT job_id, attempt, queue, executor FROM attempts WHERE token_hash = $1",
        )
        .bind(secret::hash(token))
        .fetch_optional(self.read())
        .await?;
        let Some((job_id, attempt, queue, executor)) = row else { return Ok(None) };
        let hold = self.hold(job_id, attempt).await?;
        Ok(Some(HoldToken { job_id, queue, executor, hold }))
    }

    /// The hold of an attempt, open or ended.
    ///
    /// # Errors
    /// Database errors.
    pub async fn hold(&self, job_id: i64, attempt: i64) -> Result<Option<Hold>> {
        let holds = self.holds(job_id).await?;
        Ok(holds.into_iter().find(|hold| hold.attempt == attempt))
    }

    /// All holds of a job, oldest first. A job that ran again may have several open ones.
    ///
    /// # Errors
    /// Database errors.
    pub async fn holds(&self, job_id: i64) -> Result<Vec<Hold>> {
        let sql = format!("SELECT {COLUMNS} FROM holds WHERE job_id = $1 ORDER BY attempt");
        let rows: Vec<HoldRow> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(job_id).fetch_all(self.read()).await?;
        Ok(rows.into_iter().map(Hold::from).collect())
    }

    /// All open holds, by executor and job.
    ///
    /// # Errors
    /// Database errors.
    pub async fn open_holds(&self) -> Result<Vec<Hold>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM holds WHERE ended_at IS NULL ORDER BY executor, job_id, attempt"
        );
        let rows: Vec<HoldRow> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(self.read()).await?;
        Ok(rows.into_iter().map(Hold::from).collect())
    }

    /// Notes that the executor of a hold was heard of.
    ///
    /// # Errors
    /// Database errors.
    pub async fn hold_seen(&self, job_id: i64, attempt: i64, now: i64) -> Result<()> {
        sqlx::query(
            "UPDATE holds SET seen_at = $3 \
             WHERE job_id = $1 AND attempt = $2 AND ended_at IS NULL",
        )
        .bind(job_id)
        .bind(attempt)
        .bind(now)
        .execute(self.writer())
        .await?;
        Ok(())
    }
}
