//! What the instance's own image registry holds. The bytes are blobs; here is what they are.

use crate::db::Store;
use crate::error::{Error, Result};
use crate::retention;

/// Manifest (or index) or anything that a manifest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// Served under `/v2/NAME/manifests/`.
    Manifest,
    /// Served under `/v2/NAME/blobs/`.
    Blob,
}

/// A stored manifest or blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageObject {
    /// `sha256:…`.
    pub digest: String,
    /// Manifest or blob.
    pub kind: ObjectKind,
    /// OCI or Docker media type.
    pub media_type: String,
    /// Bytes.
    pub size: i64,
    /// Where the bytes are.
    pub blob_key: String,
    /// When it was first stored.
    pub created_at: i64,
}

/// A name for a manifest.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ImageTag {
    /// Image name.
    pub name: String,
    /// Tag.
    pub tag: String,
    /// Digest of the manifest.
    pub digest: String,
    /// When the tag was last moved.
    pub updated_at: i64,
}

type ObjectRow = (String, String, String, i64, String, i64);

impl Store {
    /// Records an object whose blob is complete, and the objects that a manifest names, which must be
    /// recorded before. Storing the same object twice changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`] when a child is not recorded.
    pub async fn put_image_object(&self, object: &ImageObject, children: &[String]) -> Result<()> {
        let mut tx = self.begin().await?;
        let kind = match object.kind {
            ObjectKind::Manifest => "manifest",
            ObjectKind::Blob => "blob",
        };
        sqlx::query(
            "INSERT INTO image_objects (digest, kind, media_type, size, blob_key, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (digest) DO NOTHING",
        )
        .bind(&object.digest)
        .bind(kind)
        .bind(&object.media_type)
        .bind(object.size)
        .bind(&object.blob_key)
        .bind(object.created_at)
        .execute(&mut *tx)
        .await?;
        for child in children {
            sqlx::query(
                "INSERT INTO image_links (manifest, child) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            )
            .bind(&object.digest)
            .bind(child)
            .execute(&mut *tx)
            .await
            .map_err(|error| match error.as_database_error() {
                Some(db) if db.is_foreign_key_violation() => {
                    Error::not_found("image object", child)
                }
                _ => Error::from(error),
            })?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// An object by digest.
    ///
    /// # Errors
    /// Database errors.
    pub async fn image_object(&self, digest: &str) -> Result<Option<ImageObject>> {
        let row: Option<ObjectRow> = sqlx::query_as(
            "SELECT digest, kind, media_type, size, blob_key, created_at FROM image_objects \
             WHERE digest = $1",
        )
        .bind(digest)
        .fetch_optional(self.read())
        .await?;
        Ok(row.map(|(digest, kind, media_type, size, blob_key, created_at)| {
            let kind = if kind == "manifest" { ObjectKind::Manifest } else { ObjectKind::Blob };
            ImageObject { digest, kind, media_type, size, blob_key, created_at }
        }))
    }

    /// Points a tag at a manifest.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the manifest is not recorded.
    pub async fn set_image_tag(&self, name: &str, tag: &str, digest: &str, now: i64) -> Result<()> {
        sqlx::query(
            "INSERT INTO image_tags (name, tag, digest, updated_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (name, tag) DO UPDATE SET digest = $3, updated_at = $4",
        )
        .bind(name)
        .bind(tag)
        .bind(digest)
        .bind(now)
        .execute(self.writer())
        .await
        .map_err(|error| match error.as_database_error() {
            Some(db) if db.is_foreign_key_violation() => Error::not_found("manifest", digest),
            _ => Error::from(error),
        })?;
        Ok(())
    }

    /// The digest that a tag points at.
    ///
    /// # Errors
    /// Database errors.
    pub async fn image_tag(&self, name: &str, tag: &str) -> Result<Option<String>> {
        Ok(sqlx::query_scalar("SELECT digest FROM image_tags WHERE name = $1 AND tag = $2")
            .bind(name)
            .bind(tag)
            .fetch_optional(self.read())
            .await?)
    }

    /// All tags by name and tag.
    ///
    /// # Errors
    /// Database errors.
    pub async fn image_tags(&self) -> Result<Vec<ImageTag>> {
        Ok(sqlx::query_as(
            "SELECT name, tag, digest, updated_at FROM image_tags ORDER BY name, tag",
        )
        .fetch_all(self.read())
        .await?)
    }

    /// Removes a tag. Its manifest goes with the next [`Self::sweep_image_objects`].
    ///
    /// # Errors
    /// Database errors.
    pub async fn delete_image_tag(&self, name: &str, tag: &str) -> Result<bool> {
        let done = sqlx::query("DELETE FROM image_tags WHERE name = $1 AND tag = $2")
            .bind(name)
            .bind(tag)
            .execute(self.writer())
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Removes objects stored before `time` that no tag and no manifest names, and dooms their blobs;
    /// returns how many. `time` must be older than the longest import, whose objects nothing names yet.
    ///
    /// # Errors
    /// Database errors.
    pub async fn sweep_image_objects(&self, time: i64, now: i64) -> Result<u64> {
        let mut swept = 0;
        loop {
            let mut tx = self.begin().await?;
            let keys: Vec<String> = sqlx::query_scalar(
                "DELETE FROM image_objects WHERE created_at < $1 \
                 AND NOT EXISTS (SELECT 1 FROM image_tags t WHERE t.digest = image_objects.digest) \
                 AND NOT EXISTS (SELECT 1 FROM image_links l WHERE l.child = image_objects.digest) \
                 RETURNING blob_key",
            )
            .bind(time)
            .fetch_all(&mut *tx)
            .await?;
            for key in &keys {
                retention::doom(&mut tx, key, now).await?;
            }
            tx.commit().await?;
            // Removing a manifest leaves its layers unnamed: once more.
            if keys.is_empty() {
                return Ok(swept);
            }
            swept += keys.len() as u64;
        }
    }
}
