//! First visit: the site admin's account.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{SetupForm, SetupPage, answer, enter, frame};
use crate::App;
use crate::accounts::{self, password::MIN_LENGTH};
use crate::http::auth::origin;
use crate::http::error::Error;
use crate::ui::error::sentence;
use crate::ui::form::OutsideForm;

fn blank() -> SetupForm {
    let password_help = format!("At least {MIN_LENGTH} characters.");
    SetupForm { password_help, ..SetupForm::default() }
}

/// `GET /setup`: anyone, as long as there is no account.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    if app.store.has_users().await? {
        return Ok(Redirect::to("/login").into_response());
    }
    let page = SetupPage { page: frame(&app, "Create the site admin", &headers), form: blank() };
    answer::html(StatusCode::OK, &page)
}

#[derive(Deserialize)]
pub(super) struct Typed {
    username: String,
    password: String,
    repeat: String,
}

/// `POST /setup`: anyone, as long as there is no account; of two at the same time one succeeds.
pub(super) async fn submit(
    State(app): State<Arc<App>>,
    typed: OutsideForm<Typed>,
) -> Result<Response, Error> {
    let OutsideForm { parts, form: Typed { username, password, repeat } } = typed;
    let mut form = SetupForm { username: username.trim().to_owned(), ..blank() };
    if password == repeat {
        match accounts::set_up(&app, &form.username, &password).await {
            Ok(_) => {
                let address = origin::address(&parts, &app.config.current());
                let session = accounts::log_in(&app, &form.username, &password, address).await?;
                return Ok(enter(&app, &session.token, "/site-admin/executors"));
            }
            Err(Error::Invalid { field, problem }) if field == "name" => {
                form.username_error = Some(format!("user name {problem}"));
            }
            Err(Error::Invalid { problem, .. }) => {
                form.password_error = Some(format!("password {problem}"));
            }
            Err(error @ Error::Conflict(_)) => form.error = Some(sentence(&error.to_string())),
            Err(error) => return Err(error),
        }
    } else {
        form.repeat_error = Some("the two passwords differ".to_owned());
    }
    let page = frame(&app, "Create the site admin", &parts.headers);
    answer::html(StatusCode::BAD_REQUEST, &SetupPage { page, form })
}
