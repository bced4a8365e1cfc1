//! Log entries: one for each command an executor runs for a job. Output is kept as pieces on the
//! job's feed, written once.

mod add;
mod append;
mod read;
mod replace;

use crate::db::{Store, Tx};
use crate::error::{Error, Result};

pub use append::Append;
pub use replace::ReplaceLog;

/// A log entry without its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Attempt it belongs to.
    pub attempt: i64,
    /// Place in the attempt, counted from 1.
    pub entry_id: i64,
    /// Log key, for example `step.docker.count`.
    pub key: String,
    /// The command; `None` for entries that are none.
    pub command: Option<Vec<String>>,
    /// RFC 3339, as the executor sent it.
    pub start_time: String,
    /// Absent until it ended; -1 = killed.
    pub exit_code: Option<i64>,
    /// Absent until it ended. Milliseconds.
    pub duration_ms: Option<i64>,
    /// Bytes of output stored.
    pub stored: u64,
    /// When it was added, by the instance's clock.
    pub created_at: i64,
}

/// A log entry as an executor sends it, stock or ours.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewLogEntry<'a> {
    /// Log key.
    pub key: &'a str,
    /// The command; `None` for entries that are none.
    pub command: Option<&'a [String]>,
    /// RFC 3339.
    pub start_time: &'a str,
    /// Absent until known.
    pub exit_code: Option<i64>,
    /// Absent until known. Milliseconds.
    pub duration_ms: Option<i64>,
    /// Output so far; empty with our executors, which append.
    pub out: &'a [u8],
}

const COLUMNS: &str = "attempt, entry_id, key, command, start_time, exit_code, duration_ms, \
    stored, created_at";

#[derive(sqlx::FromRow)]
struct EntryRow {
    attempt: i64,
    entry_id: i64,
    key: String,
    command: Option<String>,
    start_time: String,
    exit_code: Option<i64>,
    duration_ms: Option<i64>,
    stored: i64,
    created_at: i64,
}

impl EntryRow {
    fn into_entry(self) -> Result<LogEntry> {
        let command = self.command.as_deref().map(serde_json::from_str).transpose();
        Ok(LogEntry {
            command: command.map_err(|_| Error::Corrupt {
                what: "log_entries.command",
                value: self.command.clone().unwrap_or_default(),
            })?,
            attempt: self.attempt,
            entry_id: self.entry_id,
            key: self.key,
            start_time: self.start_time,
            exit_code: self.exit_code,
            duration_ms: self.duration_ms,
            stored: u64::try_from(self.stored).unwrap_or(0),
            created_at: self.created_at,
        })
    }
}

fn write_command(command: Option<&[String]>) -> Option<String> {
    command.map(|command| serde_json::to_string(command).expect("a list of strings"))
}

/// One entry as it is now.
pub(crate) async fn entry(
    store: &Store,
    job_id: i64,
    attempt: i64,
    entry_id: i64,
) -> Result<Option<LogEntry>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM log_entries WHERE job_id = $1 AND attempt = $2 AND entry_id = $3"
    );
    let row: Option<EntryRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(job_id)
        .bind(attempt)
        .bind(entry_id)
        .fetch_optional(store.read())
        .await?;
    row.map(EntryRow::into_entry).transpose()
}

/// Bytes stored of an entry. The caller holds the job's row, so they stay true.
async fn stored(tx: &mut Tx, job_id: i64, attempt: i64, entry_id: i64) -> Result<i64> {
    let stored: Option<i64> = sqlx::query_scalar(
        "SELECT stored FROM log_entries WHERE job_id = $1 AND attempt = $2 AND entry_id = $3",
    )
    .bind(job_id)
    .bind(attempt)
    .bind(entry_id)
    .fetch_optional(&mut **tx)
    .await?;
    stored.ok_or_else(|| Error::not_found("log entry", entry_id))
}
