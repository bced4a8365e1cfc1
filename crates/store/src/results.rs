//! Structured results of a job.

use crate::db::Store;
use crate::error::Result;
use crate::feed::{self, NewItem};
use crate::queue::Lease;
use crate::wake::Topic;

/// One result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct JobResult {
    /// What it is, for example `step-result`.
    pub kind: String,
    /// Unique within attempt and kind.
    pub name: String,
    /// JSON text.
    pub value: String,
    /// When it was posted last.
    pub at: i64,
}

impl Store {
    /// Stores a result; a second one of the same kind and name replaces the first.
    ///
    /// # Errors
    /// [`crate::Error::UnknownJob`] when the lease does not hold.
    pub async fn put_result(
        &self,
        lease: &Lease<'_>,
        kind: &str,
        name: &str,
        value: &serde_json::Value,
        now: i64,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        let mut reserved = feed::reserve(&mut tx, lease, 1).await?;
        sqlx::query(
            "INSERT INTO results (job_id, attempt, kind, name, value, at) \
             VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (job_id, attempt, kind, name) DO UPDATE SET value = $5, at = $6",
        )
        .bind(lease.job_id)
        .bind(reserved.attempt)
        .bind(kind)
        .bind(name)
        .bind(value.to_string())
        .bind(now)
        .execute(&mut *tx)
        .await?;
        let body = Some(format!("{}\n{name}", kind.replace('\n', " ")));
        let item = NewItem { kind: "result", body, ..NewItem::default() };
        feed::push(&mut tx, lease.job_id, &mut reserved, item, now).await?;
        tx.commit().await?;
        self.bump(&[Topic::Job(lease.job_id)]);
        Ok(())
    }

    /// Results of an attempt, by kind and name.
    ///
    /// # Errors
    /// Database errors.
    pub async fn results(&self, job_id: i64, attempt: i64) -> Result<Vec<JobResult>> {
        Ok(sqlx::query_as(
            "SELECT kind, name, value, at FROM results WHERE job_id = $1 AND attempt = $2 \
             ORDER BY kind, name",
        )
        .bind(job_id)
        .bind(attempt)
        .fetch_all(self.read())
        .await?)
    }
}
