//! The job's row as the database gives it.

use protocol::{FailureReason, Usage};
use sqlx::AssertSqlSafe;

use super::{Job, JobState};
use crate::db::{Backend, Tx};
use crate::error::{Error, Result};

/// Columns of [`JobRow`], for `SELECT` and `RETURNING`.
pub(crate) const COLUMNS: &str = "id, queue, state, name, repository, commit_id, creator_id, \
    COALESCE((SELECT users.name FROM users WHERE users.id = jobs.creator_id), '') AS creator_name, \
    lane, priority, max_retries, created_at, queued_at, process_after, started_at, \
    last_heartbeat_at, finished_at, attempt, lost, num_resets, num_failures, executor, cancel, \
    reason, message, exit_code, usage, \
    COALESCE(hold_wish, hold_seconds) AS hold_seconds";

#[derive(sqlx::FromRow)]
pub(crate) struct JobRow {
    pub id: i64,
    pub queue: String,
    pub state: String,
    name: String,
    repository: String,
    commit_id: String,
    creator_id: i64,
    creator_name: String,
    pub lane: i64,
    pub priority: i64,
    pub max_retries: i64,
    created_at: i64,
    pub queued_at: i64,
    process_after: Option<i64>,
    started_at: Option<i64>,
    last_heartbeat_at: Option<i64>,
    finished_at: Option<i64>,
    pub attempt: i64,
    /// The executor of the current attempt was lost and nobody took the job since.
    pub lost: i64,
    pub num_resets: i64,
    pub num_failures: i64,
    pub executor: String,
    pub cancel: i64,
    reason: Option<String>,
    message: String,
    exit_code: Option<i64>,
    usage: Option<String>,
    hold_seconds: i64,
}

impl JobRow {
    /// Reads a row and holds it until the transaction ends.
    pub(crate) async fn lock(tx: &mut Tx, backend: Backend, id: i64) -> Result<Option<Self>> {
        let lock = backend.for_update();
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = $1{lock}");
        Ok(sqlx::query_as(AssertSqlSafe(sql)).bind(id).fetch_optional(&mut **tx).await?)
    }

    pub(crate) fn state(&self) -> Result<JobState> {
        JobState::parse(&self.state)
            .ok_or_else(|| Error::Corrupt { what: "jobs.state", value: self.state.clone() })
    }

    pub(crate) fn process_after(&self) -> Option<i64> {
        self.process_after
    }

    pub(crate) fn silent_since(&self, time: i64) -> bool {
        self.last_heartbeat_at.is_none_or(|beat| beat < time)
    }

    pub(crate) fn into_job(self) -> Result<Job> {
        Ok(Job {
            state: self.state()?,
            id: self.id,
            queue: self.queue,
            name: self.name,
            repository: self.repository,
            commit: self.commit_id,
            creator_id: self.creator_id,
            creator_name: self.creator_name,
            priority: self.priority,
            max_retries: self.max_retries,
            created_at: self.created_at,
            queued_at: self.queued_at,
            process_after: self.process_after,
            started_at: self.started_at,
            last_heartbeat_at: self.last_heartbeat_at,
            finished_at: self.finished_at,
            attempt: self.attempt,
            num_resets: self.num_resets,
            num_failures: self.num_failures,
            executor: self.executor,
            cancel_requested: self.cancel != 0,
            reason: read_reason(self.reason),
            message: self.message,
            exit_code: self.exit_code,
            usage: read_usage(self.usage.as_deref())?,
            hold_seconds: u64::try_from(self.hold_seconds).unwrap_or(0),
        })
    }
}

/// A reason that this version does not know reads as none; the message still tells.
pub(crate) fn read_reason(name: Option<String>) -> Option<FailureReason> {
    name.and_then(|name| FailureReason::parse(&name))
}

pub(crate) fn read_usage(text: Option<&str>) -> Result<Option<Usage>> {
    let Some(text) = text else { return Ok(None) };
    serde_json::from_str(text)
        .map(Some)
        .map_err(|_| Error::Corrupt { what: "usage", value: text.to_owned() })
}

pub(crate) fn write_usage(usage: Option<Usage>) -> Option<String> {
    usage.map(|usage| serde_json::to_string(&usage).expect("usage is a struct of integers"))
}
