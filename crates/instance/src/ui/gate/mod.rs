//! The pages before log-in: set-up, log-in; and log-out, theme, and the way from `/` to the right page.

mod log_in;
mod set_up;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use http::{HeaderMap, header};
use serde::Deserialize;

use super::flash::Flash;
use super::form::OutsideForm;
use super::page::Page;
use super::theme::{self, Theme};
use super::{answer, cookie, format};
use crate::App;
use crate::accounts;
use crate::http::auth::{self, UserForm};
use crate::http::error::Error;

pub use view::*;

/// Routes of these pages.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(home))
        .route("/setup", get(set_up::page).post(set_up::submit))
        .route("/login", get(log_in::page).post(log_in::submit))
        .route("/logout", post(log_out))
        .route("/theme", post(choose_theme))
}

/// `GET /`: anyone.
async fn home(State(app): State<Arc<App>>) -> Result<Response, Error> {
    let to = if app.store.has_users().await? { "/jobs" } else { "/setup" };
    Ok(Redirect::to(to).into_response())
}

#[derive(Deserialize)]
struct Nothing {}

/// `POST /logout`: everybody who is logged in.
async fn log_out(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    UserForm(_, Nothing {}): UserForm<Nothing>,
) -> Result<Response, Error> {
    if let Some(token) = auth::session_token(&headers) {
        accounts::log_out(&app, token).await?;
    }
    let mut response = answer::go(&app, "/login", Flash::LoggedOut);
    let cleared = auth::cookie::clear(app.config.current().is_https());
    response.headers_mut().append(header::SET_COOKIE, cleared);
    Ok(response)
}

#[derive(Deserialize)]
struct ThemeForm {
    theme: String,
    #[serde(default)]
    back: String,
}

/// `POST /theme`: anyone, for their own browser.
async fn choose_theme(
    State(app): State<Arc<App>>,
    form: OutsideForm<ThemeForm>,
) -> Result<Response, Error> {
    const YEAR: u32 = 365 * 86_400;
    let ThemeForm { theme, back } = form.form;
    let mut response = Redirect::to(answer::own_path(&back)).into_response();
    let secure = app.config.current().is_https();
    let cookie = cookie::set(theme::COOKIE, Theme::parse(&theme).name(), YEAR, secure);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Where to go after log-in.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Next {
    next: String,
}

type NextQuery = Query<Next>;

fn frame(app: &App, title: &str, headers: &HeaderMap) -> Page {
    let mut page = Page::outside(title, format::iso(app.clock.now_ms()), Theme::of(headers));
    page.flash = Flash::of(headers);
    page
}

/// A session begins: the cookie, and the way to `path`.
fn enter(app: &App, token: &store::PlainToken, path: &str) -> Response {
    let mut response = Redirect::to(path).into_response();
    let cookie = auth::cookie::set(token.expose(), app.config.current().is_https());
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}
