//! Counts of failed log-ins, by name and by address, over all replicas.

use crate::db::Store;
use crate::error::Result;

impl Store {
    /// Counts one hit of `subject` (for example `name:alice`, `address:10.0.0.7`) and returns the hits
    /// in its window, this one included. A window begins with its first hit and lasts `window_ms`.
    ///
    /// # Errors
    /// Database errors.
    pub async fn throttle_hit(&self, subject: &str, window_ms: i64, now: i64) -> Result<i64> {
        Ok(sqlx::query_scalar(
            "INSERT INTO throttle (subject, window_start, hits) VALUES ($1, $2, 1) \
             ON CONFLICT (subject) DO UPDATE SET \
               hits = CASE WHEN throttle.window_start > $3 THEN throttle.hits + 1 ELSE 1 END, \
               window_start = CASE WHEN throttle.window_start > $3 \
                 THEN throttle.window_start ELSE $2 END \
             RETURNING hits",
        )
        .bind(subject)
        .bind(now)
        .bind(now - window_ms)
        .fetch_one(self.writer())
        .await?)
    }

    /// Hits of `subject` in its window, without counting one.
    ///
    /// # Errors
    /// Database errors.
    pub async fn throttle_hits(&self, subject: &str, window_ms: i64, now: i64) -> Result<i64> {
        let hits: Option<i64> = sqlx::query_scalar(
            "SELECT hits FROM throttle WHERE subject = $1 AND window_start > $2",
        )
        .bind(subject)
        .bind(now - window_ms)
        .fetch_optional(self.read())
        .await?;
        Ok(hits.unwrap_or(0))
    }

    /// Forgets the hits of `subject`, for example after a log-in.
    ///
    /// # Errors
    /// Database errors.
    pub async fn throttle_clear(&self, subject: &str) -> Result<()> {
        sqlx::query("DELETE FROM throttle WHERE subject = $1")
            .bind(subject)
            .execute(self.writer())
            .await?;
        Ok(())
    }
}
