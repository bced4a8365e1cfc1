//! Mirrors follow their remotes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use store::{Repository, RepositoryState, Topic};
use tokio::task::JoinSet;

use crate::App;
use crate::git::sync_repository;

/// A mirror is fetched again after this time.
const FRESH_MS: i64 = 5 * 60 * 1000;
/// A first fetch that failed, or whose process died, is begun again after this time.
const RETRY_MS: i64 = 60 * 1000;
/// Fetches at a time.
const MAX_RUNNING: usize = 4;
/// Looked at least this often.
const PERIOD: Duration = Duration::from_secs(15);

/// Looks whenever a repository changes, and every few seconds. Never ends.
pub async fn run(app: Arc<App>) {
    let mut wake = app.store.subscribe([Topic::Repositories]);
    let mut syncs = Syncs::default();
    loop {
        if let Err(error) = syncs.tick(&app, app.clock.now_ms()).await {
            tracing::error!(%error, "repositories");
        }
        tokio::select! {
            () = wake.changed() => {}
            () = tokio::time::sleep(PERIOD) => {}
            () = app.closing.cancelled() => std::future::pending().await,
        }
    }
}

/// The fetches of this process. When each was begun last is only a hint: after a restart everything
/// that is due is begun at once.
#[derive(Debug, Default)]
pub struct Syncs {
    begun: HashMap<i64, i64>,
    running: JoinSet<()>,
}

impl Syncs {
    /// Begins the fetches that are due.
    ///
    /// # Errors
    /// Database errors.
    pub async fn tick(&mut self, app: &Arc<App>, now: i64) -> store::Result<()> {
        while self.running.try_join_next().is_some() {}
        let repositories = app.store.repositories().await?;
        self.begun.retain(|id, _| repositories.iter().any(|r| r.id == *id));
        for repository in repositories {
            if self.running.len() >= MAX_RUNNING {
                break;
            }
            if self.is_due(&repository, now) {
                self.begun.insert(repository.id, now);
                let app = Arc::clone(app);
                self.running.spawn(async move {
                    // The outcome is on the row and in the log.
                    drop(sync_repository(&app, &repository).await);
                });
            }
        }
        Ok(())
    }

    /// Waits for the fetches that were begun.
    pub async fn finished(&mut self) {
        while self.running.join_next().await.is_some() {}
    }

    fn is_due(&self, repository: &Repository, now: i64) -> bool {
        let since_begun = self.begun.get(&repository.id).map_or(i64::MAX, |begun| now - begun);
        match repository.state {
            RepositoryState::Cloning => since_begun >= RETRY_MS,
            RepositoryState::Error => since_begun >= FRESH_MS,
            RepositoryState::Ready => {
                let age = now - repository.last_synced_at.unwrap_or(0);
                age >= FRESH_MS && since_begun >= RETRY_MS
            }
        }
    }
}
