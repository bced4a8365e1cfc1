//! `POST` and `DELETE /jobs/{id}/hold`.

use std::sync::Arc;

use axum::extract::State;

use super::{find, view};
use crate::App;
use crate::holds;
use crate::http::api::extract::{Json, Path};
use crate::http::api::types::{ErrorBody, Job, NewHold};
use crate::http::auth::SiteAdmin;
use crate::http::error::Error;

/// Keep a job's machine if the job fails, to look into it. Counts instead of what the job file says, while
/// the job is queued or runs. Site admins only.
#[utoipa::path(post, path = "/jobs/{id}/hold", tag = "jobs", params(("id" = i64, Path)), request_body = NewHold,
    responses((status = 200, body = Job), (status = 400, description = "above `executors.maximumHold`", body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, description = "the job has ended already", body = ErrorBody)))]
pub(in crate::http::api) async fn hold(
    admin: SiteAdmin,
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
    Json(new): Json<NewHold>,
) -> Result<axum::Json<Job>, Error> {
    holds::wish(&app, &admin, id, new.seconds).await?;
    let job = find(&app, id).await?;
    Ok(axum::Json(view::full(&app, &admin.0, &job).await?))
}

/// Do not keep a job's machine, and let go what is kept. It goes within a second or two; doing it twice
/// does nothing more. Site admins only.
#[utoipa::path(delete, path = "/jobs/{id}/hold", tag = "jobs", params(("id" = i64, Path)),
    responses((status = 200, body = Job), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(in crate::http::api) async fn release(
    admin: SiteAdmin,
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
) -> Result<axum::Json<Job>, Error> {
    let job = find(&app, id).await?;
    if !job.state.is_final() && job.hold_seconds > 0 {
        match holds::wish(&app, &admin, id, 0).await {
            // It ended in this moment; what is kept of it is let go below.
            Ok(()) | Err(Error::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    holds::release(&app, &admin, id, None).await?;
    let job = find(&app, id).await?;
    Ok(axum::Json(view::full(&app, &admin.0, &job).await?))
}
