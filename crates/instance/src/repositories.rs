//! Registered repositories: adding, fetching, removing. Pages, API and command line call these.

use std::sync::Arc;

use store::{NewRepository, Repository};

use crate::App;
use crate::accounts::audit;
use crate::git::{Remote, remove_repository, sync_repository};
use crate::http::error::Error;

/// Longest name.
const MAX_NAME: usize = 200;
/// Registers a repository; it is fetched soon. Adding the same again only fetches it again.
///
/// # Errors
/// [`Error::Invalid`] for `name` and `url`; [`Error::Conflict`] when the name is taken by another.
pub async fn add(app: &Arc<App>, actor: &str, name: &str, url: &str) -> Result<Repository, Error> {
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

/// Begins a fetch of this process; the repository's state tells how it went. One that a crash cuts
/// short is begun again by the loop.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn request_sync(app: &Arc<App>, actor: &str, name: &str) -> Result<Repository, Error> {
    let repository = find(app, name).await?;
    app.store.set_upstream(name, &repository.upstream).await?;
    audit(app, actor, "repository.sync", &target(name), "").await?;
    let fetching = Arc::clone(app);
    tokio::spawn(async move { sync_repository(&fetching, &repository).await });
    find(app, name).await
}

/// Removes a repository and its mirror; its jobs stay.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn remove(app: &App, actor: &str, name: &str) -> Result<(), Error> {
    if !remove_repository(app, name).await.map_err(Error::internal)? {
        return Err(Error::NotFound("repository"));
    }
    audit(app, actor, "repository.remove", &target(name), "").await
}

/// A repository by name.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn find(app: &App, name: &str) -> Result<Repository, Error> {
    app.store.repository(name).await?.ok_or(Error::NotFound("repository"))
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
