//! `GET /jobs/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::{find, view};
use crate::App;
use crate::http::api::extract::Path;
use crate::http::api::types::{ErrorBody, Job};
use crate::http::auth::User;
use crate::http::error::Error;

/// One job: state, phases, log entries, usage, reason, results, artifacts, and why it waits.
#[utoipa::path(get, path = "/jobs/{id}", tag = "jobs", params(("id" = i64, Path)),
    responses((status = 200, body = Job), (status = 404, body = ErrorBody)))]
pub(in crate::http::api) async fn get(
    user: User,
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
) -> Result<Json<Job>, Error> {
    let job = find(&app, id).await?;
    Ok(Json(view::full(&app, &user, &job).await?))
}
