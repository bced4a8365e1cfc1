//! Forms of a hold: keep the machine or not, let it go, open and close a terminal. Site admins only; each
//! may be sent twice without harm.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

use super::terminal::find_terminal;
use crate::App;
use crate::holds;
use crate::http::auth::AdminForm;
use crate::http::error::Error;
use crate::ui::answer;
use crate::ui::flash::Flash;

#[derive(Deserialize)]
pub(super) struct Wish {
    minutes: u64,
}

/// `POST /jobs/{id}/hold`: minutes to keep the machine if the job fails; 0 = not at all.
pub(super) async fn wish(
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
    AdminForm(admin, Wish { minutes }): AdminForm<Wish>,
) -> Result<Response, Error> {
    let flash = match holds::wish(&app, &admin, id, minutes.saturating_mul(60)).await {
        Ok(()) if minutes == 0 => Flash::HoldTakenBack,
        Ok(()) => Flash::HoldWished,
        Err(Error::Conflict(_)) => Flash::TooLateToHold,
        Err(Error::Invalid { problem, .. }) => return Err(Error::invalid("minutes", problem)),
        Err(error) => return Err(error),
    };
    Ok(answer::go(&app, &format!("/jobs/{id}"), flash))
}

#[derive(Deserialize)]
pub(super) struct Attempt {
    attempt: i64,
}

/// `POST /jobs/{id}/release`
pub(super) async fn release(
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
    AdminForm(admin, Attempt { attempt }): AdminForm<Attempt>,
) -> Result<Response, Error> {
    let released = holds::release(&app, &admin, id, Some(attempt)).await?;
    let flash = if released > 0 { Flash::Released } else { Flash::NotHeld };
    Ok(answer::go(&app, &format!("/jobs/{id}"), flash))
}

/// `POST /jobs/{id}/terminal`: opens one and leads to its page.
pub(super) async fn open(
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
    AdminForm(admin, Attempt { attempt }): AdminForm<Attempt>,
) -> Result<Response, Error> {
    let terminal = holds::open(&app, &admin, id, attempt).await?;
    Ok(Redirect::to(&format!("/jobs/{id}/terminal/{}", terminal.id)).into_response())
}

#[derive(Deserialize)]
pub(super) struct Nothing {}

/// `POST /jobs/{id}/terminal/{terminal}/close`
pub(super) async fn close(
    State(app): State<Arc<App>>,
    Path((id, terminal)): Path<(i64, i64)>,
    AdminForm(admin, Nothing {}): AdminForm<Nothing>,
) -> Result<Response, Error> {
    let terminal = find_terminal(&app, id, terminal).await?;
    holds::close(&app, &admin, &terminal).await?;
    Ok(answer::go(&app, &format!("/jobs/{id}"), Flash::TerminalClosed))
}
