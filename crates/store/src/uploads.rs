//! Code-intelligence uploads: an index in one piece or in parts.

use crate::db::Store;
use crate::error::{Error, Result};
use crate::retention;

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadState {
    /// Parts are missing.
    Uploading,
    /// Complete, waits for processing.
    Queued,
}

/// An upload that begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewUpload {
    /// Name of the repository.
    pub repository: String,
    /// Commit, 40 hexadecimal digits.
    pub commit: String,
    /// Directory of the index, relative to the repository's root.
    pub root: String,
    /// Name of the indexer.
    pub indexer: String,
    /// Its version; may be empty.
    pub indexer_version: String,
    /// Media type of the body.
    pub content_type: String,
    /// Bytes after decompression, if the client told.
    pub uncompressed_size: Option<i64>,
    /// Parts to come; 1 for an upload in one piece.
    pub num_parts: i64,
    /// Job that made the index.
    pub job_id: Option<i64>,
}

/// An upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Never used twice.
    pub id: i64,
    /// What it began with.
    pub new: NewUpload,
    /// How far it is.
    pub state: UploadState,
    /// When it began.
    pub created_at: i64,
    /// When it was complete.
    pub finished_at: Option<i64>,
}

/// A stored part.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct UploadPart {
    /// Counted from 0.
    pub part: i64,
    /// Bytes.
    pub size: i64,
    /// Where the bytes are.
    pub blob_key: String,
}

#[derive(sqlx::FromRow)]
struct UploadRow {
    id: i64,
    repository: String,
    commit_id: String,
    root: String,
    indexer: String,
    indexer_version: String,
    content_type: String,
    uncompressed_size: Option<i64>,
    state: String,
    num_parts: i64,
    job_id: Option<i64>,
    created_at: i64,
    finished_at: Option<i64>,
}

impl From<UploadRow> for Upload {
    fn from(row: UploadRow) -> Self {
        Self {
            id: row.id,
            new: NewUpload {
                repository: row.repository,
                commit: row.commit_id,
                root: row.root,
                indexer: row.indexer,
                indexer_version: row.indexer_version,
                content_type: row.content_type,
                uncompressed_size: row.uncompressed_size,
                num_parts: row.num_parts,
                job_id: row.job_id,
            },
            state: if row.state == "uploading" {
                UploadState::Uploading
            } else {
                UploadState::Queued
            },
            created_at: row.created_at,
            finished_at: row.finished_at,
        }
    }
}

impl Store {
    /// Begins an upload.
    ///
    /// # Errors
    /// Database errors.
    pub async fn create_upload(&self, new: &NewUpload, now: i64) -> Result<i64> {
        Ok(sqlx::query_scalar(
            "INSERT INTO uploads (repository, commit_id, root, indexer, indexer_version, \
               content_type, uncompressed_size, state, num_parts, job_id, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 'uploading', $8, $9, $10) RETURNING id",
        )
        .bind(&new.repository)
        .bind(&new.commit)
        .bind(&new.root)
        .bind(&new.indexer)
        .bind(&new.indexer_version)
        .bind(&new.content_type)
        .bind(new.uncompressed_size)
        .bind(new.num_parts)
        .bind(new.job_id)
        .bind(now)
        .fetch_one(self.writer())
        .await?)
    }

    /// An upload by id.
    ///
    /// # Errors
    /// Database errors.
    pub async fn upload(&self, id: i64) -> Result<Option<Upload>> {
        let row: Option<UploadRow> = sqlx::query_as("SELECT * FROM uploads WHERE id = $1")
            .bind(id)
            .fetch_optional(self.read())
            .await?;
        Ok(row.map(Upload::from))
    }

    /// Uploads of a repository, newest first.
    ///
    /// # Errors
    /// Database errors.
    pub async fn uploads(&self, repository: &str, limit: i64) -> Result<Vec<Upload>> {
        let rows: Vec<UploadRow> =
            sqlx::query_as("SELECT * FROM uploads WHERE repository = $1 ORDER BY id DESC LIMIT $2")
                .bind(repository)
                .bind(limit)
                .fetch_all(self.read())
                .await?;
        Ok(rows.into_iter().map(Upload::from).collect())
    }

    /// Records a part whose blob is complete; a repeated part replaces the first, whose blob is then
    /// doomed if it has another key.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown or complete upload; [`Error::Invalid`] for a part out of
    /// range.
    pub async fn put_upload_part(&self, id: i64, part: &UploadPart) -> Result<()> {
        let mut tx = self.begin().await?;
        let lock = self.backend().for_update();
        let sql = format!(
            "SELECT num_parts, created_at FROM uploads WHERE id = $1 AND state = 'uploading'{lock}"
        );
        let upload: Option<(i64, i64)> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(&mut *tx).await?;
        let (parts, created_at) = upload.ok_or_else(|| Error::not_found("upload", id))?;
        if !(0..parts).contains(&part.part) {
            let problem = format!("{} is not below the {parts} parts of the upload", part.part);
            return Err(Error::Invalid { field: "index", problem });
        }
        let old: Option<String> = sqlx::query_scalar(
            "SELECT blob_key FROM upload_parts WHERE upload_id = $1 AND part = $2",
        )
        .bind(id)
        .bind(part.part)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(old) = old.filter(|old| *old != part.blob_key) {
            retention::doom(&mut tx, &old, created_at).await?;
        }
        sqlx::query(
            "INSERT INTO upload_parts (upload_id, part, size, blob_key) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (upload_id, part) DO UPDATE SET size = $3, blob_key = $4",
        )
        .bind(id)
        .bind(part.part)
        .bind(part.size)
        .bind(&part.blob_key)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Parts stored, in order.
    ///
    /// # Errors
    /// Database errors.
    pub async fn upload_parts(&self, id: i64) -> Result<Vec<UploadPart>> {
        Ok(sqlx::query_as(
            "SELECT part, size, blob_key FROM upload_parts WHERE upload_id = $1 ORDER BY part",
        )
        .bind(id)
        .fetch_all(self.read())
        .await?)
    }

    /// Completes an upload and returns how many parts are missing; with any missing nothing changes.
    /// Completing twice changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown upload.
    pub async fn finish_upload(&self, id: i64, now: i64) -> Result<i64> {
        let mut tx = self.begin().await?;
        let missing: Option<i64> = sqlx::query_scalar(
            "SELECT num_parts - (SELECT count(*) FROM upload_parts WHERE upload_id = $1) \
             FROM uploads WHERE id = $1",
        )
        .bind(id)
        .fetch_optional(&mut *tx)
        .await?;
        let missing = missing.ok_or_else(|| Error::not_found("upload", id))?;
        if missing == 0 {
            sqlx::query(
                "UPDATE uploads SET state = 'queued', finished_at = $2 \
                 WHERE id = $1 AND state = 'uploading'",
            )
            .bind(id)
            .bind(now)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
        }
        Ok(missing)
    }
}
