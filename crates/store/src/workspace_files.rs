//! Files that a batch spec mounts into its steps. The bytes are blobs.

use crate::db::Store;
use crate::error::Result;

/// A file of a batch spec.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct WorkspaceFile {
    /// Random id; names the file in the route.
    pub file_id: String,
    /// Batch spec it belongs to.
    pub spec_id: String,
    /// Directory relative to the spec; empty = beside it.
    pub path: String,
    /// File name.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Where the bytes are.
    pub blob_key: String,
    /// Modification time as the client gave it.
    pub modified_at: i64,
}

const COLUMNS: &str = "file_id, spec_id, path, name, size, blob_key, modified_at";

impl Store {
    /// Records a file whose blob is complete. The same id again replaces it.
    ///
    /// # Errors
    /// Database errors.
    pub async fn put_workspace_file(&self, file: &WorkspaceFile) -> Result<()> {
        sqlx::query(
            "INSERT INTO workspace_files \
               (file_id, spec_id, path, name, size, blob_key, modified_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (file_id) DO UPDATE SET \
               spec_id = $2, path = $3, name = $4, size = $5, blob_key = $6, modified_at = $7",
        )
        .bind(&file.file_id)
        .bind(&file.spec_id)
        .bind(&file.path)
        .bind(&file.name)
        .bind(file.size)
        .bind(&file.blob_key)
        .bind(file.modified_at)
        .execute(self.writer())
        .await?;
        Ok(())
    }

    /// A file by its id.
    ///
    /// # Errors
    /// Database errors.
    pub async fn workspace_file(&self, file_id: &str) -> Result<Option<WorkspaceFile>> {
        let sql = format!("SELECT {COLUMNS} FROM workspace_files WHERE file_id = $1");
        Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(file_id)
            .fetch_optional(self.read())
            .await?)
    }

    /// Files of a batch spec by path and name.
    ///
    /// # Errors
    /// Database errors.
    pub async fn workspace_files(&self, spec_id: &str) -> Result<Vec<WorkspaceFile>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM workspace_files WHERE spec_id = $1 ORDER BY path, name, file_id"
        );
        Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(spec_id).fetch_all(self.read()).await?)
    }
}
