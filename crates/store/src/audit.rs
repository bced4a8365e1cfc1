//! Who did what, when, to what.

use crate::db::Store;
use crate::error::Result;

/// Something that was done. Never put a secret into it.
#[derive(Clone, Copy, Debug)]
pub struct AuditRecord<'a> {
    /// Who, for example `user:alice`.
    pub actor: &'a str,
    /// What, for example `executor.drain`.
    pub action: &'a str,
    /// To what, for example `executor:exec-7`.
    pub target: &'a str,
    /// Anything else.
    pub detail: &'a str,
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct AuditEntry {
    /// Ascends; the cursor.
    pub id: i64,
    /// When.
    pub at: i64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub target: String,
    /// Anything else.
    pub detail: String,
}

impl Store {
    /// Appends a line.
    ///
    /// # Errors
    /// Database errors.
    pub async fn audit(&self, record: &AuditRecord<'_>, now: i64) -> Result<()> {
        sqlx::query(
            "INSERT INTO audit_log (at, actor, action, target, detail) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(now)
        .bind(record.actor)
        .bind(record.action)
        .bind(record.target)
        .bind(record.detail)
        .execute(self.writer())
        .await?;
        Ok(())
    }

    /// Lines, newest first, before the id `before`.
    ///
    /// # Errors
    /// Database errors.
    pub async fn audit_log(&self, before: Option<i64>, limit: i64) -> Result<Vec<AuditEntry>> {
        Ok(sqlx::query_as(
            "SELECT id, at, actor, action, target, detail FROM audit_log \
             WHERE id < $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(self.read())
        .await?)
    }
}
