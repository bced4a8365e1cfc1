//! `POST /jobs`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::App;
use crate::http::api::extract::Query;
use crate::http::api::types::{ErrorBody, JobSubmitted};
use crate::http::auth::User;
use crate::http::error::Error;
use crate::job_file::submit::{self, Options};

/// Query of a submit.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http::api) struct Params {
    /// Run this revision instead of the one in the file.
    revision: Option<String>,
}

/// Submit a job file.
///
/// The body is a job file (docs/job-file.md), YAML or JSON. With the header `Idempotency-Key` a
/// repeated submit answers the first one's job.
#[utoipa::path(post, path = "/jobs", tag = "jobs", params(Params,
        ("Idempotency-Key" = Option<String>, Header, description = "Unique for this submit, up to 200 bytes")),
    request_body(content = String, content_type = "application/yaml"),
    responses((status = 201, body = JobSubmitted), (status = 200, description = "the key named a job that exists", body = JobSubmitted),
        (status = 400, body = ErrorBody), (status = 409, description = "too many of your jobs wait", body = ErrorBody),
        (status = 413, body = ErrorBody)))]
pub(in crate::http::api) async fn submit(
    user: User,
    State(app): State<Arc<App>>,
    Query(params): Query<Params>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, Error> {
    let limit = app.config.current().max_job_file.0;
    let bytes = axum::body::to_bytes(body, usize::try_from(limit).unwrap_or(usize::MAX))
        .await
        .map_err(|_| Error::TooLarge { limit })?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| Error::invalid("job file", format!("is not UTF-8: {error}")))?;
    let idempotency_key = match headers.get("idempotency-key").map(|value| value.to_str()) {
        None => None,
        Some(Ok(key)) => Some(key),
        Some(Err(_)) => return Err(Error::invalid("Idempotency-Key", "must be ASCII")),
    };
    let options = Options { revision: params.revision.as_deref(), idempotency_key };
    let job = submit::submit(&app, &user, text, options).await?;
    let url = format!("{}/jobs/{}", app.config.current().external_url, job.id);
    let status = if job.created { StatusCode::CREATED } else { StatusCode::OK };
    let location = format!("{}/jobs/{}", crate::http::api::PREFIX, job.id);
    let body = JobSubmitted { id: job.id, created: job.created, url };
    Ok((status, [(LOCATION, location)], Json(body)))
}
