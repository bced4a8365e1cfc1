//! A sync whose outcome is written down, and what else callers do with a registered repository.

use store::Repository;

use super::remote::Remote;
use super::revision::ResolveError;
use super::sync::{SyncError, Synced};
use crate::App;

/// Fetches a repository's mirror and records the outcome on its row. A sync that is already running
/// elsewhere is left to record its own.
///
/// # Errors
/// See [`SyncError`]; the message is on the row as well.
pub async fn sync_repository(app: &App, repository: &Repository) -> Result<Synced, SyncError> {
    let name = repository.name.as_str();
    let outcome = match Remote::parse(&repository.upstream) {
        Ok(remote) => {
            let mut told = 0;
            app.git
                .sync(repository.id, &remote, |line| {
                    // Git rewrites its line many times a second.
                    let now = app.clock.now_ms();
                    if now - told >= 5000 {
                        told = now;
                        tracing::info!(repository = name, line, "fetching");
                    }
                })
                .await
        }
        Err(error) => Err(SyncError::Git(error.to_string())),
    };
    let recorded = match &outcome {
        Ok(synced) => {
            tracing::debug!(repository = name, size = synced.size_bytes, "synced");
            let (branch, size) = (&synced.default_branch, synced.size_bytes);
            app.store.repository_ready(name, branch, size, app.clock.now_ms()).await
        }
        Err(SyncError::Busy) => Ok(()),
        Err(error) => {
            tracing::warn!(repository = name, %error, "sync failed");
            app.store.repository_failed(name, &error.to_string()).await
        }
    };
    match recorded {
        // Removed while it was fetched: the sweep removes the mirror.
        Ok(()) | Err(store::Error::NotFound { .. }) => {}
        Err(error) => tracing::error!(repository = name, %error, "outcome of a sync"),
    }
    outcome
}

/// The commit of a revision; empty = the default branch. What the mirror does not know is looked for
/// at the remote once.
///
/// # Errors
/// See [`ResolveError`].
pub async fn resolve(
    app: &App,
    repository: &Repository,
    revision: &str,
) -> Result<String, ResolveError> {
    match app.git.resolve(repository.id, revision).await {
        Err(ResolveError::NotFound { .. } | ResolveError::NotFetched) => {}
        resolved => return resolved,
    }
    match sync_repository(app, repository).await {
        Ok(_) => app.git.resolve(repository.id, revision).await,
        Err(error) => Err(ResolveError::Git(error.to_string())),
    }
}

/// Removes a repository's row, then its mirror. False when there was no such repository.
///
/// # Errors
/// Database and disk errors. A mirror that is left goes with the next sweep.
pub async fn remove_repository(app: &App, name: &str) -> anyhow::Result<bool> {
    let Some(repository) = app.store.repository(name).await? else { return Ok(false) };
    let removed = app.store.remove_repository(name).await?;
    app.git.remove(repository.id).await?;
    Ok(removed)
}
