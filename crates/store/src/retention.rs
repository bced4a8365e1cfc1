//! What is old goes. Blobs are doomed in the same transaction that removes the last row naming them,
//! and removed afterwards, so that a kill in between loses no blob and leaves none behind.

use crate::db::{Store, Tx, placeholders};
use crate::error::Result;

/// What to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Jobs that finished before this time go, with logs, results and artifacts.
    pub jobs_before: i64,
    /// Uploads begun before this time and never completed go.
    pub uploads_before: i64,
    /// Audit lines before this time go.
    pub audit_before: i64,
}

/// What went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Jobs.
    pub jobs: u64,
    /// Uploads.
    pub uploads: u64,
    /// Sessions that had ended by themselves.
    pub sessions: u64,
    /// Audit lines.
    pub audit_lines: u64,
}

/// Jobs removed in one transaction: others write in between.
const BATCH: i64 = 100;
/// A user's turn and a throttled subject are forgotten after this time.
const FORGET_MS: i64 = 24 * 60 * 60 * 1000;

impl Store {
    /// Removes what is old. Call it every few minutes; any number of replicas may.
    ///
    /// # Errors
    /// Database errors; what was removed before stays removed.
    pub async fn retain(&self, keep: &Retention, now: i64) -> Result<Swept> {
        let mut swept = Swept::default();
        loop {
            let jobs = self.sweep_jobs(keep.jobs_before, now).await?;
            swept.jobs += jobs;
            if jobs == 0 {
                break;
            }
        }
        swept.uploads = self.sweep_uploads(keep.uploads_before, now).await?;
        let delete = async |sql: &'static str, time: i64| -> Result<u64> {
            Ok(sqlx::query(sql).bind(time).execute(self.writer()).await?.rows_affected())
        };
        swept.sessions = delete("DELETE FROM sessions WHERE expires_at <= $1", now).await?;
        swept.audit_lines =
            delete("DELETE FROM audit_log WHERE at < $1", keep.audit_before).await?;
        delete("DELETE FROM throttle WHERE window_start < $1", now - FORGET_MS).await?;
        delete("DELETE FROM queue_lanes WHERE active = 0 AND last_claim_at < $1", now - FORGET_MS)
            .await?;
        Ok(swept)
    }

    async fn sweep_jobs(&self, before: i64, now: i64) -> Result<u64> {
        let lock = self.backend().for_update_skip_locked();
        let mut tx = self.begin().await?;
        let old = format!(
            "SELECT id FROM jobs WHERE finished_at < $1 \
             AND state IN ('completed', 'failed', 'canceled') LIMIT {BATCH}{lock}"
        );
        let ids: Vec<i64> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(old)).bind(before).fetch_all(&mut *tx).await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let list = placeholders(1, ids.len());
        let keys = format!("SELECT blob_key FROM artifacts WHERE job_id IN ({list})");
        let mut keys = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(keys));
        let delete = format!("DELETE FROM jobs WHERE id IN ({list})");
        let mut delete = sqlx::query(sqlx::AssertSqlSafe(delete));
        for id in &ids {
            keys = keys.bind(id);
            delete = delete.bind(id);
        }
        for key in keys.fetch_all(&mut *tx).await? {
            doom(&mut tx, &key, now).await?;
        }
        let done = delete.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }

    async fn sweep_uploads(&self, before: i64, now: i64) -> Result<u64> {
        let mut tx = self.begin().await?;
        let keys: Vec<String> = sqlx::query_scalar(
            "SELECT p.blob_key FROM upload_parts p JOIN uploads u ON u.id = p.upload_id \
             WHERE u.state = 'uploading' AND u.created_at < $1",
        )
        .bind(before)
        .fetch_all(&mut *tx)
        .await?;
        for key in keys {
            doom(&mut tx, &key, now).await?;
        }
        let done = sqlx::query("DELETE FROM uploads WHERE state = 'uploading' AND created_at < $1")
            .bind(before)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }

    /// Blobs to be removed from the blob store, oldest first.
    ///
    /// # Errors
    /// Database errors.
    pub async fn doomed_blobs(&self, limit: i64) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar("SELECT blob_key FROM doomed_blobs ORDER BY at, blob_key LIMIT $1")
            .bind(limit)
            .fetch_all(self.read())
            .await?)
    }

    /// The blob store has removed this blob.
    ///
    /// # Errors
    /// Database errors.
    pub async fn forget_doomed(&self, blob_key: &str) -> Result<()> {
        sqlx::query("DELETE FROM doomed_blobs WHERE blob_key = $1")
            .bind(blob_key)
            .execute(self.writer())
            .await?;
        Ok(())
    }
}

/// Marks a blob for removal, in the transaction that removes the row naming it.
pub(crate) async fn doom(tx: &mut Tx, blob_key: &str, now: i64) -> Result<()> {
    sqlx::query("INSERT INTO doomed_blobs (blob_key, at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(blob_key)
        .bind(now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
