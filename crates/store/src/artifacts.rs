//! Files that a job leaves behind. Their bytes are blobs; here is what they are.

use crate::db::Store;
use crate::error::Result;
use crate::feed::{self, NewItem};
use crate::queue::Lease;
use crate::retention;
use crate::wake::Topic;

/// A stored file of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Artifact {
    /// Relative to the workspace.
    pub path: String,
    /// Bytes.
    pub size: i64,
    /// SHA-256 of the bytes, lower-case hexadecimal.
    pub sha256: String,
    /// Where the bytes are.
    pub blob_key: String,
    /// When it was stored.
    pub at: i64,
}

impl Store {
    /// Records an artifact whose blob is complete. A second one of the same path replaces the first,
    /// whose blob is then doomed.
    ///
    /// # Errors
    /// [`crate::Error::UnknownJob`] when the lease does not hold; the caller removes the blob.
    pub async fn put_artifact(
        &self,
        lease: &Lease<'_>,
        artifact: &Artifact,
        now: i64,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        let mut reserved = feed::reserve(&mut tx, lease, 1).await?;
        let old: Option<String> = sqlx::query_scalar(
            "SELECT blob_key FROM artifacts WHERE job_id = $1 AND attempt = $2 AND path = $3",
        )
        .bind(lease.job_id)
        .bind(reserved.attempt)
        .bind(&artifact.path)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(old) = old.filter(|old| *old != artifact.blob_key) {
            retention::doom(&mut tx, &old, now).await?;
        }
        sqlx::query(
            "INSERT INTO artifacts (job_id, attempt, path, size, sha256, blob_key, at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (job_id, attempt, path) \
             DO UPDATE SET size = $4, sha256 = $5, blob_key = $6, at = $7",
        )
        .bind(lease.job_id)
        .bind(reserved.attempt)
        .bind(&artifact.path)
        .bind(artifact.size)
        .bind(&artifact.sha256)
        .bind(&artifact.blob_key)
        .bind(artifact.at)
        .execute(&mut *tx)
        .await?;
        let body = Some(artifact.path.clone());
        let item = NewItem { kind: "artifact", body, ..NewItem::default() };
        feed::push(&mut tx, lease.job_id, &mut reserved, item, now).await?;
        tx.commit().await?;
        self.bump(&[Topic::Job(lease.job_id)]);
        Ok(())
    }

    /// Artifacts of an attempt, by path.
    ///
    /// # Errors
    /// Database errors.
    pub async fn artifacts(&self, job_id: i64, attempt: i64) -> Result<Vec<Artifact>> {
        Ok(sqlx::query_as(
            "SELECT path, size, sha256, blob_key, at FROM artifacts \
             WHERE job_id = $1 AND attempt = $2 ORDER BY path",
        )
        .bind(job_id)
        .bind(attempt)
        .fetch_all(self.read())
        .await?)
    }

    /// One artifact.
    ///
    /// # Errors
    /// Database errors.
    pub async fn artifact(
        &self,
        job_id: i64,
        attempt: i64,
        path: &str,
    ) -> Result<Option<Artifact>> {
        Ok(sqlx::query_as(
            "SELECT path, size, sha256, blob_key, at FROM artifacts \
             WHERE job_id = $1 AND attempt = $2 AND path = $3",
        )
        .bind(job_id)
        .bind(attempt)
        .bind(path)
        .fetch_optional(self.read())
        .await?)
    }
}
