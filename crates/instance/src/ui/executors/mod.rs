//! Maintenance › Executors: what has connected, whether it fits, what it does; drain and undrain.

mod list;
mod view;

use std::sync::Arc;

use askama::Template as _;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::HeaderMap;
use serde::Deserialize;
use store::Topic;

use super::flash::Flash;
use super::list_stream::{self, Fragment, ListSource};
use super::page::Place;
use super::visitor::Admin;
use super::{answer, format, sse};
use crate::App;
use crate::accounts::audit;
use crate::http::auth::{AdminForm, SiteAdmin};
use crate::http::error::Error;

pub use view::*;

/// Routes of the page.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/site-admin/executors", get(page))
        .route("/site-admin/executors/stream", get(stream))
        .route("/site-admin/executors/drain", post(drain))
}

/// Search and filter, as in the address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Filter {
    q: String,
    state: String,
    /// What the page shows, in the address of its live updates.
    have: String,
    /// The same, when a connection is taken up again.
    resume: String,
}

impl Filter {
    fn active_only(&self) -> bool {
        self.state == "active"
    }
}

/// `GET /site-admin/executors`: site admins.
async fn page(
    State(app): State<Arc<App>>,
    Admin(visitor): Admin,
    Query(filter): Query<Filter>,
) -> Result<Response, Error> {
    let list = list::load(&app, visitor.user.csrf(), &filter).await?;
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("q", &filter.q)
        .append_pair("state", &filter.state)
        .append_pair("have", &format::mark(&list.render().map_err(Error::internal)?))
        .finish();
    let page = ExecutorsPage {
        page: visitor.page(&app, "Executors", "/site-admin/executors", Place::Executors),
        configured: app.config.current().executors_configured(),
        active_only: filter.active_only(),
        query: filter.q,
        stream: format!("/site-admin/executors/stream?{query}"),
        list,
    };
    answer::page(&visitor, &page)
}

/// `GET /site-admin/executors/stream`: the list again whenever it changes; site admins.
async fn stream(
    State(app): State<Arc<App>>,
    Admin(visitor): Admin,
    Query(filter): Query<Filter>,
    headers: HeaderMap,
) -> Response {
    let wake = app.store.subscribe([Topic::Executors, Topic::Jobs]);
    let csrf = visitor.user.csrf().to_owned();
    let shown = list_stream::shown(&headers, &filter.resume, &filter.have).to_owned();
    let live = LiveList { app: Arc::clone(&app), csrf, filter };
    sse::respond(app, visitor, ListSource::new(live, wake, &shown))
}

struct LiveList {
    app: Arc<App>,
    csrf: String,
    filter: Filter,
}

impl Fragment for LiveList {
    async fn render(&self) -> store::Result<String> {
        let list = list::load(&self.app, &self.csrf, &self.filter).await?;
        Ok(list.render().unwrap_or_default())
    }
}

#[derive(Deserialize)]
struct Drain {
    name: String,
    drain: bool,
}

/// `POST /site-admin/executors/drain`: asks an executor to take no more jobs, or to take them again; site
/// admins. Asking twice changes nothing.
async fn drain(
    State(app): State<Arc<App>>,
    AdminForm(SiteAdmin(user), Drain { name, drain }): AdminForm<Drain>,
) -> Result<Response, Error> {
    app.store.set_drain(&name, drain).await?;
    let action = if drain { "executor.drain" } else { "executor.undrain" };
    audit(&app, &user.actor(), action, &format!("executor:{name}"), "").await?;
    let flash = if drain { Flash::Draining } else { Flash::Undrained };
    Ok(answer::go(&app, "/site-admin/executors", flash))
}
