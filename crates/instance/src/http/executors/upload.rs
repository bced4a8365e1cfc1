//! Code-intelligence indexes come in: in one piece, or in parts.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use store::{JobToken, NewUpload, Upload, UploadPart, UploadState};

use super::answer::{empty, json, no_content, text};
use super::artifacts::{broken, receive};
use super::auth::{self, Refused};
use crate::App;
use crate::blobs::BlobKey;

/// Most parts of one upload.
const MAX_PARTS: i64 = 10_000;
/// Media type of a client that does not say one.
const DEFAULT_TYPE: &str = "application/x-ndjson+lsif";

/// Query of an upload, as text: a wrong number has an answer of its own.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Wanted {
    repository: String,
    commit: String,
    root: String,
    indexer_name: String,
    indexer_version: String,
    associated_index_id: String,
    multi_part: String,
    num_parts: String,
    upload_id: String,
    index: String,
    done: String,
}

/// `HEAD /.executors/scip/upload`: `src` probes whether the server takes SCIP.
pub(super) async fn head(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    match auth::executor_or_job(&app, &headers).await {
        Ok(_) => empty(StatusCode::OK),
        Err(refused) => *refused,
    }
}

/// `POST /.executors/lsif/upload` and `POST /.executors/scip/upload`
pub(super) async fn post(
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
    request: Request,
) -> Response {
    let result = async {
        let job = auth::executor_or_job(&app, request.headers()).await?;
        if wanted.upload_id.is_empty() {
            begin(&app, &wanted, job.as_ref(), request).await
        } else {
            go_on(&app, &wanted, job.as_ref(), request).await
        }
    };
    result.await.unwrap_or_else(|refused: Refused| *refused)
}

/// A new upload: whole in this request, or the announcement of its parts.
async fn begin(
    app: &App,
    wanted: &Wanted,
    job: Option<&JobToken>,
    request: Request,
) -> Result<Response, Refused> {
    let commit_is_sha = wanted.commit.len() == 40
        && wanted.commit.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !commit_is_sha {
        return refuse(StatusCode::BAD_REQUEST, "commit must be a 40-character revhash");
    }
    bound(job, &wanted.repository)?;
    if app.store.repository(&wanted.repository).await.map_err(failed)?.is_none() {
        let message = format!("unknown repository {:?}", wanted.repository);
        return refuse(StatusCode::NOT_FOUND, &message);
    }
    let multi = wanted.multi_part == "true";
    let new = new_upload(wanted, job, request.headers(), multi)?;
    let now = app.clock.now_ms();
    if multi {
        let id = app.store.create_upload(&new, now).await.map_err(failed)?;
        return Ok(accepted(id));
    }
    // An upload that ends here stays `uploading` and goes with the retention.
    let id = app.store.create_upload(&new, now).await.map_err(failed)?;
    let part = store_part(app, request, id, 0).await?;
    record(app, id, &part).await?;
    app.store.finish_upload(id, now).await.map_err(failed)?;
    Ok(accepted(id))
}

/// A part of an announced upload, or its end.
async fn go_on(
    app: &App,
    wanted: &Wanted,
    job: Option<&JobToken>,
    request: Request,
) -> Result<Response, Refused> {
    let upload = find(app, wanted, job).await?;
    if !wanted.index.is_empty() {
        let index = wanted.index.parse().unwrap_or(-1);
        if upload.state != UploadState::Uploading || !(0..upload.new.num_parts).contains(&index) {
            let parts = upload.new.num_parts;
            let message = format!("index {} is not below the {parts} parts", wanted.index);
            return refuse(StatusCode::BAD_REQUEST, &message);
        }
        let part = store_part(app, request, upload.id, index).await?;
        record(app, upload.id, &part).await?;
        return Ok(no_content());
    }
    if wanted.done == "true" {
        let missing =
            app.store.finish_upload(upload.id, app.clock.now_ms()).await.map_err(failed)?;
        if missing > 0 {
            let message = format!("upload is missing {missing} parts");
            return refuse(StatusCode::BAD_REQUEST, &message);
        }
        return Ok(no_content());
    }
    let message =
        "unprocessable request: missing expected query arguments (uploadId, index, or done)";
    refuse(StatusCode::BAD_REQUEST, message)
}

async fn find(app: &App, wanted: &Wanted, job: Option<&JobToken>) -> Result<Upload, Refused> {
    let upload = match wanted.upload_id.parse() {
        Ok(id) => app.store.upload(id).await.map_err(failed)?,
        Err(_) => None,
    };
    let Some(upload) = upload else {
        return refuse(StatusCode::NOT_FOUND, "upload not found");
    };
    bound(job, &upload.new.repository)?;
    Ok(upload)
}

fn new_upload(
    wanted: &Wanted,
    job: Option<&JobToken>,
    headers: &HeaderMap,
    multi: bool,
) -> Result<NewUpload, Refused> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let uncompressed = match text("x-uncompressed-size") {
        "" => None,
        size => match size.parse::<i64>() {
            Ok(size) if size >= 0 => Some(size),
            _ => {
                let message = "X-Uncompressed-Size must be a whole number";
                return refuse(StatusCode::UNPROCESSABLE_ENTITY, message);
            }
        },
    };
    let num_parts = if multi { wanted.num_parts.parse().unwrap_or(0) } else { 1 };
    if !(1..=MAX_PARTS).contains(&num_parts) {
        let message = format!("numParts must be 1 to {MAX_PARTS}");
        return refuse(StatusCode::BAD_REQUEST, &message);
    }
    let given = text(header::CONTENT_TYPE.as_str());
    let index = wanted.associated_index_id.parse().ok();
    Ok(NewUpload {
        repository: wanted.repository.clone(),
        commit: wanted.commit.clone(),
        root: wanted.root.clone(),
        indexer: wanted.indexer_name.clone(),
        indexer_version: wanted.indexer_version.clone(),
        content_type: if given.is_empty() { DEFAULT_TYPE } else { given }.to_owned(),
        uncompressed_size: uncompressed,
        num_parts,
        // What the token proves counts more than what the query says.
        job_id: job.map(|job| job.job_id).or(index),
    })
}

async fn store_part(
    app: &App,
    request: Request,
    upload: i64,
    part: i64,
) -> Result<UploadPart, Refused> {
    let limit = app.config.current().max_upload.0;
    let writer = receive(&app.blobs, request.into_body(), limit).await?;
    let key = BlobKey::unique("uploads", &upload.to_string());
    let written = writer.publish(&key).await.map_err(|e| broken(&e))?;
    let size = i64::try_from(written.size).unwrap_or(i64::MAX);
    Ok(UploadPart { part, size, blob_key: key.as_str().to_owned() })
}

/// Names a stored part in the database, or removes its blob.
async fn record(app: &App, id: i64, part: &UploadPart) -> Result<(), Refused> {
    let recorded = app.store.put_upload_part(id, part).await;
    if recorded.is_err()
        && let Some(key) = BlobKey::parse(&part.blob_key)
    {
        drop(app.blobs.remove(&key).await);
    }
    recorded.map_err(|error| match error {
        store::Error::NotFound { .. } => prefixed(StatusCode::NOT_FOUND, "upload not found"),
        error => failed(error),
    })
}

fn accepted(id: i64) -> Response {
    json(StatusCode::ACCEPTED, &serde_json::json!({ "id": id.to_string() }))
}

/// A job's token uploads indexes of its own repository only.
fn bound(job: Option<&JobToken>, repository: &str) -> Result<(), Refused> {
    match job {
        Some(job) if job.repository != repository => auth::invalid_token(),
        _ => Ok(()),
    }
}

fn prefixed(status: StatusCode, message: &str) -> Refused {
    Box::new(text(status, &format!("failed to enqueue payload: {message}")))
}

fn refuse<T>(status: StatusCode, message: &str) -> Result<T, Refused> {
    Err(prefixed(status, message))
}

fn failed(error: store::Error) -> Refused {
    tracing::error!(%error, "upload");
    prefixed(StatusCode::INTERNAL_SERVER_ERROR, "database error")
}
