//! `GET /jobs/{id}/artifacts` and the files themselves.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap,
    RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::{find_own, view};
use crate::App;
use crate::blobs::BlobKey;
use crate::http::api::extract::Path;
use crate::http::api::types::{ArtifactList, ErrorBody};
use crate::http::auth::User;
use crate::http::error::Error;
use crate::http::registry::range::{self, Part};

/// Files that the job kept, by path.
#[utoipa::path(get, path = "/jobs/{id}/artifacts", tag = "jobs", params(("id" = i64, Path)),
    responses((status = 200, body = ArtifactList), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(in crate::http::api) async fn list(
    user: User,
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
) -> Result<Json<ArtifactList>, Error> {
    let job = find_own(&app, &user, id).await?;
    Ok(Json(ArtifactList { artifacts: view::artifacts(&app, &job).await? }))
}

/// One kept file; `Range: bytes=…` gives a part. Browsers save it and never show it.
#[utoipa::path(get, path = "/jobs/{id}/artifacts/{*path}", tag = "jobs",
    params(("id" = i64, Path), ("path" = String, Path, description = "with its slashes"), ("Range" = Option<String>, Header)),
    responses((status = 200, description = "the file", content_type = "application/octet-stream"),
        (status = 206, description = "the part asked for"), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 416, description = "the range is past the end")))]
pub(in crate::http::api) async fn download(
    user: User,
    State(app): State<Arc<App>>,
    Path((id, path)): Path<(i64, String)>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let job = find_own(&app, &user, id).await?;
    let missing = || Error::NotFound("artifact");
    let artifact = app.store.artifact(id, job.attempt, &path).await?.ok_or_else(missing)?;
    let key = BlobKey::parse(&artifact.blob_key).ok_or_else(missing)?;
    let (mut file, size) =
        app.blobs.read(&key).await.map_err(Error::internal)?.ok_or_else(missing)?;
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let (status, from, length) = match range::part(range, size) {
        Part::Whole => (StatusCode::OK, 0, size),
        Part::Some(from, length) => (StatusCode::PARTIAL_CONTENT, from, length),
        Part::Unsatisfiable => {
            let range = [(CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, range).into_response());
        }
    };
    file.seek(std::io::SeekFrom::Start(from)).await.map_err(Error::internal)?;
    let mut response = Response::new(Body::from_stream(ReaderStream::new(file.take(length))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert("content-security-policy", HeaderValue::from_static("sandbox"));
    headers.insert(CONTENT_DISPOSITION, attachment(&path));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {from}-{}/{size}", from + length - 1);
        headers.insert(CONTENT_RANGE, HeaderValue::try_from(range).expect("digits only"));
    }
    Ok(response)
}

/// `attachment` with the file's name (RFC 6266); the name is the job's choice, so every byte that is
/// not plainly harmless is percent-encoded (RFC 8187).
fn attachment(path: &str) -> HeaderValue {
    let name = path.rsplit('/').next().unwrap_or_default();
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    let name: String = name.bytes().map(encode).collect();
    HeaderValue::try_from(format!("attachment; filename*=UTF-8''{name}")).expect("ASCII only")
}

#[cfg(test)]
mod tests {
    use super::attachment;

    #[test]
    fn names_cannot_break_out_of_the_header() {
        assert_eq!(attachment("out/a.txt"), "attachment; filename*=UTF-8''a.txt");
        assert_eq!(attachment("x\"\r\nä b"), "attachment; filename*=UTF-8''x%22%0D%0A%C3%A4%20b");
    }
}
