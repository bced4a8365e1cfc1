//! Cancel and retry: the job's creator and site admins. Both may be sent twice without harm.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Deserialize;
use store::{Cancellation, Job};

use super::{ONLY_OWNERS, find};
use crate::App;
use crate::accounts::audit;
use crate::http::auth::{User, UserForm};
use crate::http::error::Error;
use crate::ui::answer;
use crate::ui::flash::Flash;

#[derive(Deserialize)]
pub(super) struct Nothing {}

async fn find_own(app: &App, user: &User, id: i64) -> Result<Job, Error> {
    let job = find(app, id).await?;
    if user.owns(&job) { Ok(job) } else { Err(Error::Forbidden(ONLY_OWNERS.to_owned())) }
}

/// `POST /jobs/{id}/cancel`
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
    UserForm(user, Nothing {}): UserForm<Nothing>,
) -> Result<Response, Error> {
    let job = find_own(&app, &user, id).await?;
    let message = format!("canceled by {}", user.account.name);
    let done = app.store.cancel(job.id, &message, app.clock.now_ms()).await?;
    let flash = match done {
        Cancellation::Canceled | Cancellation::Requested => {
            audit(&app, &user.actor(), "job.cancel", &format!("job:{id}"), "").await?;
            Flash::Canceled
        }
        _ => Flash::TooLateToCancel,
    };
    Ok(answer::go(&app, &format!("/jobs/{id}"), flash))
}

/// `POST /jobs/{id}/retry`
pub(super) async fn retry(
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
    UserForm(user, Nothing {}): UserForm<Nothing>,
) -> Result<Response, Error> {
    let job = find_own(&app, &user, id).await?;
    let flash = match app.store.retry(job.id, app.clock.now_ms()).await {
        Ok(()) => {
            audit(&app, &user.actor(), "job.retry", &format!("job:{id}"), "").await?;
            Flash::Retried
        }
        Err(store::Error::Transition { .. }) => Flash::NotRetried,
        Err(error) => return Err(error.into()),
    };
    Ok(answer::go(&app, &format!("/jobs/{id}"), flash))
}
