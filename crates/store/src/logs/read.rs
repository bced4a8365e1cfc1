//! Logs for pages, the API and downloads.

use sqlx::AssertSqlSafe;

use super::{COLUMNS, EntryRow, LogEntry};
use crate::db::Store;
use crate::error::Result;

impl Store {
    /// Entries of an attempt in order, without output.
    ///
    /// # Errors
    /// Database errors.
    pub async fn log_entries(&self, job_id: i64, attempt: i64) -> Result<Vec<LogEntry>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM log_entries WHERE job_id = $1 AND attempt = $2 ORDER BY entry_id"
        );
        let rows: Vec<EntryRow> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(job_id)
            .bind(attempt)
            .fetch_all(self.read())
            .await?;
        rows.into_iter().map(EntryRow::into_entry).collect()
    }

    /// How many entries an attempt has, and how many bytes are stored of all but `without`.
    ///
    /// # Errors
    /// Database errors.
    pub async fn log_size(
        &self,
        job_id: i64,
        attempt: i64,
        without: Option<i64>,
    ) -> Result<(u64, u64)> {
        let (entries, bytes): (i64, i64) = sqlx::query_as(
            "SELECT count(*), CAST(COALESCE(SUM(CASE WHEN entry_id = $3 THEN 0 ELSE stored END), 0) \
               AS BIGINT) FROM log_entries WHERE job_id = $1 AND attempt = $2",
        )
        .bind(job_id)
        .bind(attempt)
        .bind(without.unwrap_or(0))
        .fetch_one(self.read())
        .await?;
        Ok((u64::try_from(entries).unwrap_or(0), u64::try_from(bytes).unwrap_or(0)))
    }

    /// Output of an entry from byte `from` on, at most `max` bytes. Empty at the end, and for an entry
    /// that does not exist.
    ///
    /// # Errors
    /// Database errors.
    pub async fn read_log(
        &self,
        job_id: i64,
        attempt: i64,
        entry_id: i64,
        from: u64,
        max: usize,
    ) -> Result<Vec<u8>> {
        use futures_util::TryStreamExt as _;
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        // The piece that `from` lies in begins at most one chunk before it.
        let mut pieces = sqlx::query_as::<_, (i64, Vec<u8>)>(
            "SELECT start, data FROM job_feed WHERE job_id = $1 AND attempt = $2 AND entry_id = $3 \
             AND kind = 'output' AND start > $4 AND start + size > $5 ORDER BY start",
        )
        .bind(job_id)
        .bind(attempt)
        .bind(entry_id)
        .bind(from - crate::feed::CHUNK as i64)
        .bind(from)
        .fetch(self.read());
        let mut out = Vec::new();
        while let Some((start, data)) = pieces.try_next().await? {
            let skip = usize::try_from(from - start).unwrap_or(0);
            let room = max - out.len();
            let wanted = data.get(skip..).unwrap_or_default();
            out.extend_from_slice(&wanted[..wanted.len().min(room)]);
            if out.len() >= max {
                break;
            }
        }
        Ok(out)
    }
}
