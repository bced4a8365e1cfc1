//! Manifests by tag or digest.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use store::ObjectKind;
use tokio::io::AsyncReadExt as _;

use super::blob;
use super::error::{Code, Error};
use super::path::Reference;
use crate::App;

/// `GET` and `HEAD` of a manifest. The framework drops the body of an answer to HEAD.
pub(super) async fn get(
    app: &App,
    name: &str,
    reference: Reference<'_>,
) -> Result<Response, Error> {
    let unknown = || Error::not_found(Code::ManifestUnknown, format!("no such image of {name}"));
    let digest = match reference {
        Reference::Digest(digest) => digest.to_owned(),
        Reference::Tag(tag) => app.store.image_tag(name, tag).await?.ok_or_else(unknown)?,
    };
    let object = app.store.image_object(&digest).await?;
    let object = object.filter(|o| o.kind == ObjectKind::Manifest).ok_or_else(unknown)?;
    let (mut file, size) = blob::open(app, &object).await?.ok_or_else(unknown)?;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).min(16 << 20));
    file.read_to_end(&mut bytes).await?;
    let headers = [
        (header::CONTENT_TYPE, object.media_type),
        (header::ETAG, format!("\"{digest}\"")),
        (header::HeaderName::from_static("docker-content-digest"), digest),
    ];
    Ok((headers, bytes).into_response())
}
