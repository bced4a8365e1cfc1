//! Files of the data folder that no row names, because the process died between the two.

use std::collections::BTreeSet;

use super::retention::time;
use crate::App;
use crate::blobs::BlobKey;

/// Younger files may still be about to get their row.
const MIN_AGE_MS: i64 = 24 * 3600 * 1000;

/// One pass.
///
/// # Errors
/// Database and disk errors; the next pass goes on.
pub async fn tick(app: &App, now: i64) -> anyhow::Result<()> {
    let mut removed = 0;
    for folder in ["artifacts", "uploads", "sha256"] {
        for owner in app.blobs.owners(folder).await? {
            let keys = app.blobs.written_before(folder, &owner, time(now - MIN_AGE_MS)).await?;
            if keys.is_empty() {
                continue;
            }
            let named = named(app, folder, &owner, &keys).await?;
            for key in keys.iter().filter(|key| !named.contains(key.as_str())) {
                app.blobs.remove(key).await?;
                removed += 1;
            }
        }
    }
    let ids: Vec<i64> = app.store.repositories().await?.iter().map(|r| r.id).collect();
    let mirrors = app.git.sweep(&ids).await?;
    if removed + mirrors > 0 {
        tracing::info!(blobs = removed, mirrors, "removed what no row names");
    }
    Ok(())
}

/// Keys that rows name, of those an owner has.
async fn named(
    app: &App,
    folder: &str,
    owner: &str,
    keys: &[BlobKey],
) -> anyhow::Result<BTreeSet<String>> {
    Ok(match folder {
        "artifacts" => match owner.split_once('-').map(|(j, a)| (j.parse(), a.parse())) {
            Some((Ok(job), Ok(attempt))) => {
                let artifacts = app.store.artifacts(job, attempt).await?;
                artifacts.into_iter().map(|a| a.blob_key).collect()
            }
            // By an old executor with the shared token: its job's latest attempt.
            Some((Ok(job), Err(_))) => {
                let attempt = app.store.job(job).await?.map_or(0, |job| job.attempt);
                let artifacts = app.store.artifacts(job, attempt).await?;
                artifacts.into_iter().map(|a| a.blob_key).collect()
            }
            _ => BTreeSet::new(),
        },
        "uploads" => {
            let parts = app.store.upload_parts(owner.parse().unwrap_or(0)).await?;
            parts.into_iter().map(|p| p.blob_key).collect()
        }
        _ => {
            let mut named = BTreeSet::new();
            for key in keys {
                let hex = key.as_str().rsplit('/').next().unwrap_or_default();
                if app.store.image_object(&format!("sha256:{hex}")).await?.is_some() {
                    named.insert(key.as_str().to_owned());
                }
            }
            named
        }
    })
}
