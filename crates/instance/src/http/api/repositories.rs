//! Repositories of the user API.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use super::extract::{Json, Path};
use super::types::{ErrorBody, NewRepository, Repository, RepositoryList, time};
use crate::App;
use crate::git::Remote;
use crate::http::auth::{SiteAdmin, User};
use crate::http::error::Error;
use crate::repositories;

/// List the registered repositories.
#[utoipa::path(get, path = "/repositories", tag = "repositories", responses((status = 200, body = RepositoryList)))]
pub(super) async fn list(
    _user: User,
    State(app): State<Arc<App>>,
) -> Result<axum::Json<RepositoryList>, Error> {
    let repositories = app.store.repositories().await?;
    let repositories = repositories.into_iter().map(view).collect();
    Ok(axum::Json(RepositoryList { repositories }))
}

/// Register a repository; it is fetched soon, see its `state`. The same again only fetches it again.
/// Site admins only: a path names a folder of the server.
#[utoipa::path(post, path = "/repositories", tag = "repositories", request_body = NewRepository,
    responses((status = 201, body = Repository), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 409, description = "the name is taken", body = ErrorBody)))]
pub(super) async fn add(
    SiteAdmin(admin): SiteAdmin,
    State(app): State<Arc<App>>,
    Json(new): Json<NewRepository>,
) -> Result<(StatusCode, axum::Json<Repository>), Error> {
    let added = repositories::add(&app, &admin.actor(), &new.name, &new.url).await?;
    Ok((StatusCode::CREATED, axum::Json(view(added))))
}

/// One repository. Slashes of the name are `%2F`.
#[utoipa::path(get, path = "/repositories/{name}", tag = "repositories", params(("name" = String, Path)),
    responses((status = 200, body = Repository), (status = 404, body = ErrorBody)))]
pub(super) async fn get(
    _user: User,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<axum::Json<Repository>, Error> {
    Ok(axum::Json(view(repositories::find(&app, &name).await?)))
}

/// Remove a repository and its mirror; its jobs stay. Site admins only.
#[utoipa::path(delete, path = "/repositories/{name}", tag = "repositories", params(("name" = String, Path)),
    responses((status = 204), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn remove(
    SiteAdmin(admin): SiteAdmin,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
    repositories::remove(&app, &admin.actor(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Fetch a repository again; it begins soon, see its `state`. Site admins only.
#[utoipa::path(post, path = "/repositories/{name}/sync", tag = "repositories", params(("name" = String, Path)),
    responses((status = 202, body = Repository), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn sync(
    SiteAdmin(admin): SiteAdmin,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<(StatusCode, axum::Json<Repository>), Error> {
    let repository = repositories::request_sync(&app, &admin.actor(), &name).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(view(repository))))
}

/// A stored repository as the API shows it: credentials of the URL left out.
pub(crate) fn view(repository: store::Repository) -> Repository {
    let remote = Remote::parse(&repository.upstream);
    Repository {
        name: repository.name,
        url: remote.map_or(String::new(), |remote| remote.display().to_owned()),
        state: repository.state.as_str().to_owned(),
        error: repository.error,
        default_branch: repository.default_branch,
        size_bytes: repository.size_bytes,
        last_synced_at: repository.last_synced_at.map(time),
    }
}
