//! Files that a job leaves behind, streamed into blobs.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt as _;
use store::Artifact;

use super::answer::{handler_error, json, store_error, text};
use super::{QueueName, auth, lease};
use crate::App;
use crate::blobs::{BlobKey, BlobWriter, Blobs, WriteError};

/// Longest path of an artifact.
const MAX_PATH: usize = 1000;

/// `PUT …/jobs/{job}/artifacts/{path}`: 201. A second one of the same path replaces the first.
pub(super) async fn put(
    State(app): State<Arc<App>>,
    Extension(QueueName(queue)): Extension<QueueName>,
    Path((job, path)): Path<(i64, String)>,
    request: Request,
) -> Response {
    let result = async {
        let headers = request.headers();
        let caller = auth::job(&app, headers).await?;
        auth::bound_to_queue(&caller, queue)?;
        auth::running(&caller)?;
        let executor = lease::executor_of(&caller, headers);
        let Some(lease) = lease::of(&caller, queue, job, &executor) else {
            return Ok(handler_error("unknown job"));
        };
        if !is_plain(&path) {
            let message = format!(
                "artifact path must be relative, without empty, `.` and `..` parts and control \
                 characters, and at most {MAX_PATH} bytes"
            );
            return Ok(text(StatusCode::BAD_REQUEST, &message));
        }
        room(&app, &caller, &path).await?;
        let limit = app.config.current().max_artifact.0;
        let writer = receive(&app.blobs, request.into_body(), limit).await?;
        let owner = match &caller {
            auth::JobCaller::Job(token) => format!("{job}-{}", token.attempt),
            auth::JobCaller::Shared => format!("{job}-any"),
        };
        let (key, now) = (BlobKey::unique("artifacts", &owner), app.clock.now_ms());
        let written = writer.publish(&key).await.map_err(|e| broken(&e))?;
        let artifact = Artifact {
            path,
            size: i64::try_from(written.size).unwrap_or(i64::MAX),
            sha256: hex::encode(written.sha256),
            blob_key: key.as_str().to_owned(),
            at: now,
        };
        if let Err(error) = app.store.put_artifact(&lease, &artifact, now).await {
            drop(app.blobs.remove(&key).await);
            return Ok(match error {
                store::Error::UnknownJob => handler_error("unknown job"),
                error => store_error("PutArtifact", &error),
            });
        }
        let (sha256, size) = (&artifact.sha256, artifact.size);
        let body = serde_json::json!({ "size": size, "sha256": sha256 });
        Ok(json(StatusCode::CREATED, &body))
    };
    result.await.unwrap_or_else(|refused: auth::Refused| *refused)
}

/// Streams a body into a new blob that is not published yet.
pub(super) async fn receive(
    blobs: &Blobs,
    body: Body,
    limit: u64,
) -> Result<BlobWriter, auth::Refused> {
    let mut writer = blobs.create(limit).await.map_err(|e| broken(&e))?;
    let mut body = body.into_data_stream();
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|e| {
            let message = format!("the body ended early: {e}");
            Box::new(text(StatusCode::BAD_REQUEST, &message))
        })?;
        writer.write(&bytes).await.map_err(|error| match error {
            WriteError::Io(error) => broken(&error),
            error => Box::new(text(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string())),
        })?;
    }
    Ok(writer)
}

/// The disk failed: told as such, with the cause in the log only.
pub(super) fn broken(error: &std::io::Error) -> auth::Refused {
    tracing::error!(%error, "blob");
    Box::new(text(StatusCode::INTERNAL_SERVER_ERROR, "the blob store failed"))
}

/// Refuses more artifacts than `limits.artifactsPerJob`.
async fn room(app: &App, caller: &auth::JobCaller, path: &str) -> Result<(), auth::Refused> {
    let auth::JobCaller::Job(token) = caller else { return Ok(()) };
    let artifacts = app
        .store
        .artifacts(token.job_id, token.attempt)
        .await
        .map_err(|error| Box::new(store_error("Artifacts", &error)))?;
    let limit = app.config.current().max_artifacts_per_job as usize;
    if artifacts.len() >= limit && artifacts.iter().all(|a| a.path != path) {
        let message = format!("a job has at most {limit} artifacts (limits.artifactsPerJob)");
        return Err(Box::new(text(StatusCode::PAYLOAD_TOO_LARGE, &message)));
    }
    Ok(())
}

/// A relative path that means the same on every system and page.
fn is_plain(path: &str) -> bool {
    path.len() <= MAX_PATH
        && !path.contains(['\\', '\0'])
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn a_path_cannot_climb() {
        for good in ["a", "out/report.txt", "a b/ü", "..a/b.."] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["", "/etc/passwd", "a/../b", "./a", "a//b", "a\\b", "a\nb", "a/"] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
