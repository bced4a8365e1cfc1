//! Maintenance › Repositories: list, add, sync, remove. Site admins only: a path on the server may be
//! registered here.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use store::{Repository, RepositoryState, Topic};

use super::flash::Flash;
use super::format::{self, Html};
use super::list_stream::{self, Fragment, ListSource};
use super::page::{Page, Place};
use super::visitor::{Admin, Visitor};
use super::{answer, sse};
use crate::App;
use crate::git::Remote;
use crate::http::auth::{AdminForm, SiteAdmin};
use crate::http::error::Error;
use crate::repositories;

/// The page.
#[derive(Template)]
#[template(path = "repositories.html")]
pub struct RepositoriesPage {
    /// The frame.
    pub page: Page,
    /// What was typed and what is wrong with it.
    pub form: RepositoryForm,
    /// Address of the live updates.
    pub stream: String,
    /// The list.
    pub list: RepositoriesList,
}

/// The list, which also travels alone to open pages.
#[derive(Template)]
#[template(path = "repositories_list.html")]
pub struct RepositoriesList {
    /// Goes into its forms.
    pub csrf: String,
    /// All repositories.
    pub rows: Vec<RepositoryRow>,
}

/// Fields of the form.
#[derive(Debug, Default)]
pub struct RepositoryForm {
    /// As typed.
    pub name: String,
    /// As typed.
    pub url: String,
    /// What is wrong with the name.
    pub name_error: Option<String>,
    /// What is wrong with the URL.
    pub url_error: Option<String>,
}

/// One repository.
pub struct RepositoryRow {
    /// Id.
    pub id: i64,
    /// Name.
    pub name: String,
    /// Upstream, without credentials.
    pub url: String,
    /// State in words.
    pub state: &'static str,
    /// CSS colour.
    pub color: &'static str,
    /// Default branch; may be empty.
    pub branch: String,
    /// Of its mirror.
    pub size: String,
    /// When it was last fetched.
    pub synced: Option<Html>,
    /// Why the last fetch failed.
    pub error: String,
}

/// Routes of the page.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/site-admin/repositories", get(page).post(add))
        .route("/site-admin/repositories/stream", get(stream))
        .route("/site-admin/repositories/sync", post(sync))
        .route("/site-admin/repositories/remove", post(remove))
}

async fn show(
    app: &App,
    visitor: &Visitor,
    form: RepositoryForm,
) -> Result<RepositoriesPage, Error> {
    let list = list(app, visitor.user.csrf()).await?;
    let mark = format::mark(&list.render().map_err(Error::internal)?);
    Ok(RepositoriesPage {
        page: visitor.page(app, "Repositories", "/site-admin/repositories", Place::Repositories),
        form,
        stream: format!("/site-admin/repositories/stream?have={mark}"),
        list,
    })
}

async fn list(app: &App, csrf: &str) -> store::Result<RepositoriesList> {
    let now = app.clock.now_ms();
    let repositories = app.store.repositories().await?;
    let rows = repositories.iter().map(|repository| row(repository, now)).collect();
    Ok(RepositoriesList { csrf: csrf.to_owned(), rows })
}

fn row(repository: &Repository, now: i64) -> RepositoryRow {
    let (state, color) = match repository.state {
        RepositoryState::Cloning if repository.last_synced_at.is_some() => ("Fetching", "blue"),
        RepositoryState::Cloning => ("Cloning", "blue"),
        RepositoryState::Ready => ("Ready", "green"),
        RepositoryState::Error => ("Error", "red"),
    };
    let synced = repository.last_synced_at.map(|at| format::ago(at, now));
    // What cannot be read as a place to fetch from may still hold a password.
    let url = Remote::parse(&repository.upstream)
        .map_or_else(|_| String::new(), |remote| remote.display().to_owned());
    RepositoryRow {
        id: repository.id,
        name: repository.name.clone(),
        url,
        state,
        color,
        branch: repository.default_branch.clone(),
        size: format::bytes(repository.size_bytes.max(0).unsigned_abs()),
        synced,
        error: if repository.state == RepositoryState::Error {
            repository.error.clone()
        } else {
            String::new()
        },
    }
}

/// `GET /site-admin/repositories`
async fn page(State(app): State<Arc<App>>, Admin(visitor): Admin) -> Result<Response, Error> {
    answer::page(&visitor, &show(&app, &visitor, RepositoryForm::default()).await?)
}

/// What the page shows.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Have {
    have: String,
    resume: String,
}

/// `GET /site-admin/repositories/stream`: the list again whenever it changes.
async fn stream(
    State(app): State<Arc<App>>,
    Admin(visitor): Admin,
    Query(have): Query<Have>,
    headers: HeaderMap,
) -> Response {
    let wake = app.store.subscribe([Topic::Repositories]);
    let live = LiveList { app: Arc::clone(&app), csrf: visitor.user.csrf().to_owned() };
    sse::respond(
        app,
        visitor,
        ListSource::new(live, wake, list_stream::shown(&headers, &have.resume, &have.have)),
    )
}

struct LiveList {
    app: Arc<App>,
    csrf: String,
}

impl Fragment for LiveList {
    async fn render(&self) -> store::Result<String> {
        Ok(list(&self.app, &self.csrf).await?.render().unwrap_or_default())
    }
}

#[derive(Deserialize)]
struct Typed {
    name: String,
    url: String,
}

/// `POST /site-admin/repositories`
async fn add(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    AdminForm(SiteAdmin(user), Typed { name, url }): AdminForm<Typed>,
) -> Result<Response, Error> {
    let (name, url) = (name.trim().to_owned(), url.trim().to_owned());
    let added = repositories::add(&app, &user.actor(), &name, &url).await;
    let mut form = RepositoryForm { name, url, ..RepositoryForm::default() };
    let status = match added {
        Ok(_) => return Ok(answer::go(&app, "/site-admin/repositories", Flash::RepositoryAdded)),
        Err(Error::Invalid { field, problem }) if field == "url" => {
            form.url_error = Some(problem);
            StatusCode::BAD_REQUEST
        }
        Err(Error::Invalid { field, problem }) => {
            form.name_error = Some(format!("{field} {problem}"));
            StatusCode::BAD_REQUEST
        }
        Err(Error::Conflict(problem)) => {
            form.name_error = Some(problem);
            StatusCode::CONFLICT
        }
        Err(error) => return Err(error),
    };
    let visitor = Visitor::new(user, &headers);
    answer::html(status, &show(&app, &visitor, form).await?)
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// `POST /site-admin/repositories/sync`
async fn sync(
    State(app): State<Arc<App>>,
    AdminForm(SiteAdmin(user), Named { name }): AdminForm<Named>,
) -> Result<Response, Error> {
    repositories::request_sync(&app, &user.actor(), &name).await?;
    Ok(answer::go(&app, "/site-admin/repositories", Flash::SyncRequested))
}

/// `POST /site-admin/repositories/remove`
async fn remove(
    State(app): State<Arc<App>>,
    AdminForm(SiteAdmin(user), Named { name }): AdminForm<Named>,
) -> Result<Response, Error> {
    repositories::remove(&app, &user.actor(), &name).await?;
    Ok(answer::go(&app, "/site-admin/repositories", Flash::RepositoryRemoved))
}
