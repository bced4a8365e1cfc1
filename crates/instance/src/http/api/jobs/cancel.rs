//! `POST /jobs/{id}/cancel`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use store::Cancellation;

use super::{find, find_own, view};
use crate::App;
use crate::accounts::audit;
use crate::http::api::extract::Path;
use crate::http::api::types::{ErrorBody, Job};
use crate::http::auth::User;
use crate::http::error::Error;

/// Stop a job. One that waits is canceled at once; one that runs is told within 100 ms and reports
/// its end. Canceling twice does nothing more.
#[utoipa::path(post, path = "/jobs/{id}/cancel", tag = "jobs", params(("id" = i64, Path)),
    responses((status = 200, body = Job), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, description = "the job has ended otherwise", body = ErrorBody)))]
pub(in crate::http::api) async fn cancel(
    user: User,
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
) -> Result<Json<Job>, Error> {
    find_own(&app, &user, id).await?;
    let message = format!("canceled by {}", user.account.name);
    match app.store.cancel(id, &message, app.clock.now_ms()).await? {
        Cancellation::Canceled | Cancellation::Requested => {
            audit(&app, &user.actor(), "job.cancel", &format!("job:{id}"), "").await?;
        }
        Cancellation::AlreadyFinished(store::JobState::Canceled) => {}
        Cancellation::AlreadyFinished(state) => {
            return Err(Error::Conflict(format!("job {id} is {state} already")));
        }
    }
    let job = find(&app, id).await?;
    Ok(Json(view::full(&app, &user, &job).await?))
}
