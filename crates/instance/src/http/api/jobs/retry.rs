//! `POST /jobs/{id}/retry`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::{find, find_own, view};
use crate::App;
use crate::accounts::audit;
use crate::http::api::extract::Path;
use crate::http::api::types::{ErrorBody, Job};
use crate::http::auth::User;
use crate::http::error::Error;

/// Queue an ended job again: the same job, the same commit, a new attempt.
#[utoipa::path(post, path = "/jobs/{id}/retry", tag = "jobs", params(("id" = i64, Path)),
    responses((status = 200, body = Job), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, description = "the job has not ended", body = ErrorBody)))]
pub(in crate::http::api) async fn retry(
    user: User,
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
) -> Result<Json<Job>, Error> {
    find_own(&app, &user, id).await?;
    app.store.retry(id, app.clock.now_ms()).await?;
    audit(&app, &user.actor(), "job.retry", &format!("job:{id}"), "").await?;
    let job = find(&app, id).await?;
    Ok(Json(view::full(&app, &user, &job).await?))
}
