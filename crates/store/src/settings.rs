//! Small values that all replicas share.

use crate::db::Store;
use crate::error::Result;

impl Store {
    /// A value.
    ///
    /// # Errors
    /// Database errors.
    pub async fn setting(&self, key: &str) -> Result<Option<String>> {
        Ok(sqlx::query_scalar("SELECT value FROM settings WHERE key = $1")
            .bind(key)
            .fetch_optional(self.read())
            .await?)
    }

    /// Sets a value.
    ///
    /// # Errors
    /// Database errors.
    pub async fn set_setting(&self, key: &str, value: &str, now: i64) -> Result<()> {
        sqlx::query(
            "INSERT INTO settings (key, value, updated_at) VALUES ($1, $2, $3) \
             ON CONFLICT (key) DO UPDATE SET value = $2, updated_at = $3",
        )
        .bind(key)
        .bind(value)
        .bind(now)
        .execute(self.writer())
        .await?;
        Ok(())
    }

    /// Sets a value unless there is one, and returns the one that holds: replicas that start together
    /// agree on it.
    ///
    /// # Errors
    /// Database errors.
    pub async fn setting_or_insert(&self, key: &str, value: &str, now: i64) -> Result<String> {
        Ok(sqlx::query_scalar(
            "INSERT INTO settings (key, value, updated_at) VALUES ($1, $2, $3) \
             ON CONFLICT (key) DO UPDATE SET value = settings.value RETURNING value",
        )
        .bind(key)
        .bind(value)
        .bind(now)
        .fetch_one(self.writer())
        .await?)
    }
}
