//! Log-in.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{LoginForm, LoginPage, NextQuery, answer, enter, frame};
use crate::App;
use crate::accounts;
use crate::http::auth::{origin, session_token};
use crate::http::error::Error;
use crate::ui::error::sentence;
use crate::ui::form::OutsideForm;

/// `GET /login`: anyone.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Query(next): NextQuery,
    headers: HeaderMap,
) -> Result<Response, Error> {
    if !app.store.has_users().await? {
        return Ok(Redirect::to("/setup").into_response());
    }
    let next = answer::own_path(&next.next).to_owned();
    // Only a session counts here: with a wrong access token this page would lead to itself for ever.
    let session = match session_token(&headers) {
        Some(token) => app.store.session(token, app.clock.now_ms()).await?,
        None => None,
    };
    if session.is_some() {
        return Ok(Redirect::to(&next).into_response());
    }
    let form = LoginForm { next, ..LoginForm::default() };
    answer::html(StatusCode::OK, &LoginPage { page: frame(&app, "Log in", &headers), form })
}

#[derive(Deserialize)]
pub(super) struct Typed {
    username: String,
    password: String,
    #[serde(default)]
    next: String,
}

/// `POST /login`: anyone; failures are counted and limited by [`accounts::log_in`].
pub(super) async fn submit(
    State(app): State<Arc<App>>,
    typed: OutsideForm<Typed>,
) -> Result<Response, Error> {
    let OutsideForm { parts, form: Typed { username, password, next } } = typed;
    let address = origin::address(&parts, &app.config.current());
    let username = username.trim().to_owned();
    let next = answer::own_path(&next).to_owned();
    let (status, error) = match accounts::log_in(&app, &username, &password, address).await {
        Ok(session) => return Ok(enter(&app, &session.token, &next)),
        Err(error @ (Error::Unauthorized(_) | Error::TooManyRequests { .. })) => {
            (error.status(), sentence(&error.to_string()))
        }
        Err(error) => return Err(error),
    };
    let form = LoginForm { username, next, error: Some(error) };
    answer::html(status, &LoginPage { page: frame(&app, "Log in", &parts.headers), form })
}
