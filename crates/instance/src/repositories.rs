//! Registered repositories: adding, fetching, removing. Pages, API and command line call these.
//!
//! A repository in the state `cloning` is to be fetched. Whoever wants a fetch sets the state; the
//! loop [`run`] does the fetching, so that a fetch that a crash cut short starts again by itself. The
//! lock of the mirror keeps two replicas from fetching the same one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use store::{NewRepository, Repository, RepositoryState, Topic};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::App;
use crate::accounts::audit;
use crate::git::{Remote, SyncError};
use crate::http::error::Error;

/// Longest name.
const MAX_NAME: usize = 200;
/// Fetches at a time in one process.
const MAX_FETCHES: usize = 4;
/// Without a wake-up the table is looked at so often.
const LOOK: Duration = Duration::from_secs(15);

/// Registers a repository; it is fetched soon. Adding the same again only fetches it again.
///
/// # Errors
/// [`Error::Invalid`] for `name` and `url`; [`Error::Conflict`] when the name is taken by another.
pub async fn add(app: &App, actor: &str, name: &str, url: &str) -> Result<Repository, Error> {
    check_name(name)?;
    let remote = Remote::parse(url).map_err(|error| Error::invalid("url", error.to_string()))?;
    if let Some(known) = app.store.repository(name).await? {
        if known.upstream != url {
            let text = format!(
                "repository {name:?} exists already: remove it first, or choose another name"
            );
            return Err(Error::Conflict(text));
        }
        return request_sync(app, actor, name).await;
    }
    let new = NewRepository {
        name: name.to_owned(),
        upstream: url.to_owned(),
        default_branch: String::new(),
    };
    app.store.add_repository(&new, app.clock.now_ms()).await?;
    audit(app, actor, "repository.add", &target(name), remote.display()).await?;
    find(app, name).await
}

/// Asks for a fetch; it begins soon.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn request_sync(app: &App, actor: &str, name: &str) -> Result<Repository, Error> {
    let repository = find(app, name).await?;
    app.store.set_upstream(name, &repository.upstream).await?;
    audit(app, actor, "repository.sync", &target(name), "").await?;
    find(app, name).await
}

/// Removes a repository and its mirror; its jobs stay.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn remove(app: &App, actor: &str, name: &str) -> Result<(), Error> {
    let repository = find(app, name).await?;
    if !app.store.remove_repository(name).await? {
        return Err(Error::NotFound("repository"));
    }
    audit(app, actor, "repository.remove", &target(name), "").await?;
    app.git.remove(repository.id).await.map_err(Error::internal)
}

/// A repository by name.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn find(app: &App, name: &str) -> Result<Repository, Error> {
    app.store.repository(name).await?.ok_or(Error::NotFound("repository"))
}

/// Fetches a repository now and records how it went.
///
/// # Errors
/// Why it was not fetched; [`SyncError::Busy`] when somebody else is at it.
pub async fn sync(app: &App, repository: &Repository) -> Result<(), SyncError> {
    let name = &repository.name;
    let outcome = match Remote::parse(&repository.upstream) {
        Ok(remote) => app.git.sync(repository.id, &remote, |_| {}).await,
        Err(error) => Err(SyncError::Git(error.to_string())),
    };
    let recorded = match &outcome {
        Ok(synced) => {
            let now = app.clock.now_ms();
            app.store.repository_ready(name, &synced.default_branch, synced.size_bytes, now).await
        }
        Err(SyncError::Busy) => Ok(()),
        Err(error) => app.store.repository_failed(name, &error.to_string()).await,
    };
    match recorded {
        // Removed while it was fetched: what the fetch left goes too.
        Err(store::Error::NotFound { .. }) => {
            if let Err(error) = app.git.remove(repository.id).await {
                tracing::warn!(repository = name, %error, "mirror of a removed repository stays");
            }
        }
        Err(error) => tracing::error!(repository = name, %error, "outcome of a fetch is lost"),
        Ok(()) => {}
    }
    outcome.map(|_| ())
}

/// Starts a fetch of every repository that waits for one and is not being fetched by this process;
/// `running` holds those.
///
/// # Errors
/// Of the database.
pub async fn tick(
    app: &Arc<App>,
    running: &Arc<Mutex<HashSet<i64>>>,
    fetches: &mut JoinSet<()>,
    slots: &Arc<Semaphore>,
) -> store::Result<()> {
    for repository in app.store.repositories().await? {
        let waits = repository.state == RepositoryState::Cloning;
        if !waits || !lock(running).insert(repository.id) {
            continue;
        }
        let (app, running, slots) = (Arc::clone(app), Arc::clone(running), Arc::clone(slots));
        fetches.spawn(async move {
            let _slot = slots.acquire().await.expect("the semaphore is never closed");
            if let Err(error) = sync(&app, &repository).await {
                tracing::warn!(repository = repository.name, %error, "fetch failed");
            }
            lock(&running).remove(&repository.id);
        });
    }
    Ok(())
}

/// The loop: looks when something changed, and every 15 seconds.
pub async fn run(app: Arc<App>) {
    let running = Arc::default();
    let slots = Arc::new(Semaphore::new(MAX_FETCHES));
    let mut fetches = JoinSet::new();
    loop {
        // Subscribed before looking, so that no change falls between.
        let mut changes = app.store.subscribe([Topic::Repositories]);
        if let Err(error) = tick(&app, &running, &mut fetches, &slots).await {
            tracing::error!(%error, "cannot look for repositories to fetch");
        }
        while fetches.try_join_next().is_some() {}
        drop(tokio::time::timeout(LOOK, changes.changed()).await);
    }
}

fn lock(running: &Mutex<HashSet<i64>>) -> std::sync::MutexGuard<'_, HashSet<i64>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

fn target(name: &str) -> String {
    format!("repository:{name}")
}

fn check_name(name: &str) -> Result<(), Error> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let segment = |part: &str| {
        part.bytes().all(good) && part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
    };
    if name.len() <= MAX_NAME && name.split('/').all(segment) {
        return Ok(());
    }
    let rule = "must be letters, digits, \".\", \"_\" and \"-\" between slashes, each part beginning \
                with a letter or digit, for example \"example/app\"";
    Err(Error::invalid("name", rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["app", "example/app", "git.example.com/a/b_c-d.e"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/.git", "-a", "a b", "ä", &"x".repeat(201)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
