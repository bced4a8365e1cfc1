//! What is old goes.

use std::time::{Duration, SystemTime};

use store::Retention;

use crate::App;
use crate::blobs::BlobKey;

const DAY_MS: i64 = 24 * 3600 * 1000;
/// Uploads and image imports that take longer than this are given up.
const UNFINISHED_MS: i64 = DAY_MS;
/// Who did what is kept this long.
const AUDIT_MS: i64 = 365 * DAY_MS;
/// An executor that was not seen for this long leaves the list, as in the original.
const EXECUTOR_MS: i64 = 7 * DAY_MS;
/// Doomed blobs in one batch.
const BATCH: i64 = 500;

/// One pass.
///
/// # Errors
/// Database and disk errors; the next pass goes on.
pub async fn tick(app: &App, now: i64) -> anyhow::Result<()> {
    let days = i64::from(app.config.current().jobs_retention_days);
    let keep = Retention {
        jobs_before: now - days * DAY_MS,
        uploads_before: now - UNFINISHED_MS,
        audit_before: now - AUDIT_MS,
    };
    let swept = app.store.retain(&keep, now).await?;
    let images = app.store.sweep_image_objects(now - UNFINISHED_MS, now).await?;
    let executors = app.store.delete_executors_before(now - EXECUTOR_MS).await?;
    let blobs = remove_doomed(app).await?;
    app.blobs.sweep_tmp(time(now), Duration::from_millis(UNFINISHED_MS as u64)).await?;
    if swept.jobs + swept.uploads + images + executors > 0 {
        let (jobs, uploads) = (swept.jobs, swept.uploads);
        tracing::info!(jobs, uploads, images, executors, blobs, "removed what is old");
    }
    Ok(())
}

async fn remove_doomed(app: &App) -> anyhow::Result<usize> {
    let mut removed = 0;
    loop {
        let doomed = app.store.doomed_blobs(BATCH).await?;
        for text in &doomed {
            if let Some(key) = BlobKey::parse(text)
                && !is_image(app, text).await?
            {
                app.blobs.remove(&key).await?;
                removed += 1;
            }
            app.store.forget_doomed(text).await?;
        }
        if doomed.len() < BATCH as usize {
            return Ok(removed);
        }
    }
}

/// Content of an image may have come back under the same digest since it was doomed.
async fn is_image(app: &App, key: &str) -> store::Result<bool> {
    let Some(hex) = key.strip_prefix("sha256/").and_then(|k| k.rsplit('/').next()) else {
        return Ok(false);
    };
    Ok(app.store.image_object(&format!("sha256:{hex}")).await?.is_some())
}

/// A time of the clock as the file system counts.
pub(super) fn time(now: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(now).unwrap_or(0))
}
