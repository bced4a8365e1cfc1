//! Blobs by digest, whole or in part.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use store::{ImageObject, ObjectKind};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::error::{Code, Error};
use super::range::{Part, part};
use crate::App;
use crate::blobs::BlobKey;

/// `GET` and `HEAD` of a blob. The framework drops the body of an answer to HEAD.
pub(super) async fn get(
    app: &App,
    name: &str,
    digest: &str,
    headers: &HeaderMap,
) -> Result<Response, Error> {
    let unknown = || Error::not_found(Code::BlobUnknown, format!("{name} has no blob {digest}"));
    let object = app.store.image_object(digest).await?.filter(|o| o.kind == ObjectKind::Blob);
    let object = object.ok_or_else(unknown)?;
    let (mut file, size) = open(app, &object).await?.ok_or_else(unknown)?;
    let common = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, format!("\"{digest}\"")),
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable".to_owned()),
        (header::HeaderName::from_static("docker-content-digest"), digest.to_owned()),
    ];
    let range = headers.get(header::RANGE).and_then(|v| v.to_str().ok());
    match part(range, size) {
        Part::Whole => {
            let length = [(header::CONTENT_LENGTH, size.to_string())];
            let body = Body::from_stream(ReaderStream::with_capacity(file, 64 << 10));
            Ok((common, length, body).into_response())
        }
        Part::Some(first, count) => {
            file.seek(std::io::SeekFrom::Start(first)).await?;
            let last = first + count - 1;
            let length = [
                (header::CONTENT_LENGTH, count.to_string()),
                (header::CONTENT_RANGE, format!("bytes {first}-{last}/{size}")),
            ];
            let body = ReaderStream::with_capacity(file.take(count), 64 << 10);
            let status = StatusCode::PARTIAL_CONTENT;
            Ok((status, common, length, Body::from_stream(body)).into_response())
        }
        Part::Unsatisfiable => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            Ok((StatusCode::RANGE_NOT_SATISFIABLE, range).into_response())
        }
    }
}

/// The bytes of an object.
pub(super) async fn open(
    app: &App,
    object: &ImageObject,
) -> Result<Option<(tokio::fs::File, u64)>, Error> {
    let key = BlobKey::parse(&object.blob_key)
        .ok_or_else(|| Error::internal(&format!("unreadable blob key {:?}", object.blob_key)))?;
    Ok(app.blobs.read(&key).await?)
}
