//! Files that a batch spec mounts into its workspaces.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use store::policy::BATCHES;
use tokio_util::io::ReaderStream;

use super::answer::text;
use super::auth;
use crate::App;
use crate::blobs::BlobKey;

/// `GET` and `HEAD /.executors/files/batch-changes/{spec}/{file}`
///
/// The original compares only the file's id; we want the spec's as well, which every honest executor
/// has from its job.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path((spec, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let allowed = async {
        let caller = auth::job(&app, &headers).await?;
        auth::running(&caller)?;
        auth::bound_to_queue(&caller, BATCHES)
    };
    if let Err(refused) = allowed.await {
        return *refused;
    }
    match read(&app, &spec, &file).await {
        Ok(Some((file, size))) => {
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_LENGTH, size.to_string()),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            ];
            (headers, Body::from_stream(ReaderStream::new(file))).into_response()
        }
        Ok(None) => text(StatusCode::NOT_FOUND, "workspace file does not exist"),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "workspace file");
            text(StatusCode::INTERNAL_SERVER_ERROR, "retrieving file: the store failed")
        }
    }
}

async fn read(app: &App, spec: &str, file: &str) -> anyhow::Result<Option<(tokio::fs::File, u64)>> {
    let Some(row) = app.store.workspace_file(file).await? else { return Ok(None) };
    if row.spec_id != spec {
        return Ok(None);
    }
    let key = BlobKey::parse(&row.blob_key)
        .ok_or_else(|| anyhow::anyhow!("blob key {:?} is unreadable", row.blob_key))?;
    Ok(app.blobs.read(&key).await?)
}
