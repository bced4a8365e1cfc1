//! Maintenance › Site configuration.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::answer;
use super::editor::{self, Editor, ProblemView};
use super::flash::Flash;
use super::page::{Page, Place};
use super::visitor::{Admin, Visitor};
use crate::App;
use crate::accounts::audit;
use crate::http::auth::{AdminForm, SiteAdmin};
use crate::http::error::Error;
use crate::site_config::SaveError;
use crate::site_config::file::ReplaceError;

const PATH: &str = "/site-admin/configuration";

/// The page.
#[derive(Template)]
#[template(path = "config.html")]
pub struct ConfigurationPage {
    /// The frame.
    pub page: Page,
    /// Names the text that the edit started from.
    pub version: String,
    /// It was changed meanwhile.
    pub conflict: bool,
    /// Wrong with the whole.
    pub error: Option<String>,
    /// Mistakes in the text.
    pub problems: Vec<ProblemView>,
    /// The text.
    pub editor: Editor,
}

/// Routes of the page. Site admins only.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route(PATH, get(page).post(save))
}

fn show(app: &App, visitor: &Visitor, text: String, version: String) -> ConfigurationPage {
    ConfigurationPage {
        page: visitor.page(app, "Site configuration", PATH, Place::Configuration),
        version,
        conflict: false,
        error: None,
        problems: Vec::new(),
        editor: Editor::new("text", text, &[]),
    }
}

/// `GET /site-admin/configuration`
async fn page(State(app): State<Arc<App>>, Admin(visitor): Admin) -> Result<Response, Error> {
    let document = blocking(&app, |app| app.config.document()).await?.map_err(Error::internal)?;
    let mut page = show(&app, &visitor, document.text.clone(), document.etag);
    if let Some(problems) = &document.problems {
        page.error = Some(
            "The file on disk has mistakes; the last valid configuration is in use.".to_owned(),
        );
        page.problems = editor::problems(problems);
        page.editor = Editor::new("text", document.text, &page.problems);
    }
    answer::page(&visitor, &page)
}

#[derive(Deserialize)]
struct Typed {
    text: String,
    version: String,
}

/// `POST /site-admin/configuration`: all or nothing. Sent twice, the second finds nothing to change or a
/// newer version.
async fn save(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    AdminForm(SiteAdmin(user), Typed { text, version }): AdminForm<Typed>,
) -> Result<Response, Error> {
    // Browsers send line ends as CR LF.
    let text = text.replace("\r\n", "\n");
    let edited = text.clone();
    let expected = version.clone();
    let saved = blocking(&app, move |app| app.config.save(&edited, &expected)).await?;
    let visitor = Visitor::new(user, &headers);
    let mut page = show(&app, &visitor, text.clone(), version);
    let status = match saved {
        Ok(_) => {
            let actor = visitor.user.actor();
            audit(&app, &actor, "config.edit", "site-config", "").await?;
            return Ok(answer::go(&app, PATH, Flash::ConfigurationSaved));
        }
        Err(SaveError::Invalid(problems)) => {
            page.problems = editor::problems(&problems);
            page.editor = Editor::new("text", text, &page.problems);
            StatusCode::BAD_REQUEST
        }
        Err(SaveError::Replace(ReplaceError::Changed)) => {
            page.conflict = true;
            let now = blocking(&app, |app| app.config.document()).await?;
            page.version = now.map_err(Error::internal)?.etag;
            StatusCode::CONFLICT
        }
        Err(SaveError::Replace(error)) => return Err(Error::internal(error)),
    };
    answer::html(status, &page)
}

/// Reads and writes files off the threads that serve.
async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App) -> T + Send + 'static,
) -> Result<T, Error> {
    let app = Arc::clone(app);
    tokio::task::spawn_blocking(move || work(&app)).await.map_err(Error::internal)
}
