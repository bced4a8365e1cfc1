//! A log entry begins.

use super::{NewLogEntry, write_command};
use crate::db::{Store, tame};
use crate::error::{Error, Result};
use crate::feed::{self, CHUNK};
use crate::queue::Lease;
use crate::wake::Topic;

impl Store {
    /// Adds an entry and returns its id, its place in the attempt counted from 1.
    ///
    /// With `expected` the call is idempotent: if that entry exists and has the same key, the first
    /// answer was lost and the same id is returned. Stock executors expect nothing.
    ///
    /// # Errors
    /// [`Error::UnknownJob`] when the lease does not hold; [`Error::EntryOrder`] when `expected` is
    /// neither the next id nor that of the same entry.
    pub async fn add_log_entry(
        &self,
        lease: &Lease<'_>,
        entry: &NewLogEntry<'_>,
        expected: Option<i64>,
        now: i64,
    ) -> Result<i64> {
        let mut tx = self.begin().await?;
        let mut reserved =
            feed::reserve(&mut tx, lease, 1 + entry.out.len().div_ceil(CHUNK)).await?;
        let attempt = reserved.attempt;
        let stored: i64 = sqlx::query_scalar(
            "SELECT COALESCE(MAX(entry_id), 0) FROM log_entries WHERE job_id = $1 AND attempt = $2",
        )
        .bind(lease.job_id)
        .bind(attempt)
        .fetch_one(&mut *tx)
        .await?;
        let entry_id = stored + 1;
        if let Some(expected) = expected.filter(|expected| *expected != entry_id) {
            let key: Option<String> = sqlx::query_scalar(
                "SELECT key FROM log_entries WHERE job_id = $1 AND attempt = $2 AND entry_id = $3",
            )
            .bind(lease.job_id)
            .bind(attempt)
            .bind(expected)
            .fetch_optional(&mut *tx)
            .await?;
            let same = key.is_some_and(|key| key == tame(entry.key));
            return if same { Ok(expected) } else { Err(Error::EntryOrder { expected, stored }) };
        }
        sqlx::query(
            "INSERT INTO log_entries (job_id, attempt, entry_id, key, command, start_time, \
               exit_code, duration_ms, stored, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(lease.job_id)
        .bind(attempt)
        .bind(entry_id)
        .bind(&*tame(entry.key))
        .bind(write_command(entry.command))
        .bind(&*tame(entry.start_time))
        .bind(entry.exit_code)
        .bind(entry.duration_ms)
        .bind(entry.out.len() as i64)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        let mut items = vec![feed::entry_changed(entry_id)];
        items.extend(feed::output(entry_id, 0, entry.out));
        feed::push_all(&mut tx, lease.job_id, &mut reserved, &items, now).await?;
        tx.commit().await?;
        self.bump(&[Topic::Job(lease.job_id)]);
        Ok(entry_id)
    }
}
