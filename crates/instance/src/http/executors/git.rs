//! Smart HTTP of a job's repository: fetch only, and only that repository.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _};
use serde::Deserialize;

use super::answer::{empty, text};
use super::{auth, not_found, slash};
use crate::App;
use crate::git::upload_pack::{Output, UploadPackError, clean_protocol};

/// Query of `info/refs`.
#[derive(Debug, Deserialize)]
pub(super) struct InfoRefs {
    service: Option<String>,
}

/// `/.executors/git/{repository…}/info/refs` and `/.executors/git/{repository…}/git-upload-pack`, any
/// method, as in the original. A repository's name may hold slashes.
pub(super) async fn serve(
    State(app): State<Arc<App>>,
    Path(rest): Path<String>,
    query: Result<Query<InfoRefs>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Response {
    if let Some(plain) = rest.strip_suffix('/') {
        let known = plain.ends_with("/info/refs") || plain.ends_with("/git-upload-pack");
        return if known { slash::handler(request).await } else { not_found().await };
    }
    let (name, advertise) = if let Some(name) = rest.strip_suffix("/info/refs") {
        (name, true)
    } else if let Some(name) = rest.strip_suffix("/git-upload-pack") {
        (name, false)
    } else {
        return not_found().await;
    };
    let headers = request.headers();
    let allowed = async {
        let caller = auth::job(&app, headers).await?;
        auth::running(&caller)?;
        auth::bound_to_repository(&caller, name)
    };
    if let Err(refused) = allowed.await {
        return *refused;
    }
    if name.is_empty() {
        return text(StatusCode::BAD_REQUEST, "no repo specified");
    }
    let service = query.ok().and_then(|Query(q)| q.service).unwrap_or_default();
    if advertise && !matches!(service.as_str(), "" | "git-upload-pack") {
        return text(StatusCode::BAD_REQUEST, "only support service git-upload-pack");
    }
    let repository = match app.store.repository(name).await {
        Ok(Some(repository)) => repository.id,
        Ok(None) => return text(StatusCode::NOT_FOUND, "repository not found"),
        Err(error) => {
            tracing::error!(%error, "repository");
            return empty(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    let protocol = header_text(headers, "git-protocol").and_then(clean_protocol);
    let output = if advertise {
        app.git.advertise(repository, protocol).await.map_err(refuse)
    } else {
        let protocol = protocol.map(str::to_owned);
        upload_pack(&app, repository, protocol.as_deref(), request).await
    };
    let kind = if advertise { "advertisement" } else { "result" };
    match output {
        Ok(output) => stream(&app, output, kind),
        Err(refused) => *refused,
    }
}

async fn upload_pack(
    app: &App,
    repository: i64,
    protocol: Option<&str>,
    request: Request,
) -> Result<Output, auth::Refused> {
    let gzip = match header_text(request.headers(), "content-encoding").unwrap_or_default() {
        "" | "identity" => false,
        "gzip" | "x-gzip" => true,
        other => {
            let message = format!("content encoding {other:?} is not supported");
            return Err(Box::new(text(StatusCode::UNSUPPORTED_MEDIA_TYPE, &message)));
        }
    };
    let mut body = request.into_body().into_data_stream();
    // Looked at before git starts, so that it can still be answered.
    let mut first = Vec::new();
    while gzip && first.len() < 2 {
        match body.next().await {
            Some(Ok(bytes)) => first.extend_from_slice(&bytes),
            _ => break,
        }
    }
    if gzip && !first.starts_with(&[0x1f, 0x8b]) {
        let message = "malformed payload: gzip: invalid header";
        return Err(Box::new(text(StatusCode::BAD_REQUEST, message)));
    }
    let head = futures_util::stream::iter((!first.is_empty()).then(|| Ok(first.into())));
    let body = head.chain(body);
    app.git.upload_pack(repository, protocol, gzip, Box::pin(body)).await.map_err(refuse)
}

fn refuse(error: UploadPackError) -> auth::Refused {
    Box::new(match error {
        UploadPackError::NotCloned => text(StatusCode::NOT_FOUND, "repository not found"),
        UploadPackError::Busy => {
            let retry = [(header::RETRY_AFTER, HeaderValue::from_static("5"))];
            (retry, text(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())).into_response()
        }
        UploadPackError::Io(error) => {
            tracing::error!(%error, "upload-pack");
            text(StatusCode::INTERNAL_SERVER_ERROR, "git could not be started")
        }
    })
}

fn stream(app: &Arc<App>, output: Output, kind: &str) -> Response {
    let kind = format!("application/x-git-upload-pack-{kind}");
    let kind = HeaderValue::from_str(&kind).expect("a media type is a header value");
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(counted(app, output))).into_response()
}

/// Counts an upload-pack for as long as its output lives.
fn counted(
    app: &Arc<App>,
    output: Output,
) -> impl Stream<Item = std::io::Result<axum::body::Bytes>> + use<> {
    struct Running(Arc<App>);
    impl Drop for Running {
        fn drop(&mut self) {
            self.0.metrics.upload_packs.dec();
        }
    }
    app.metrics.upload_packs.inc();
    let running = Running(Arc::clone(app));
    output.inspect(move |_| {
        let _alive = &running;
    })
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(HeaderName::try_from(name).ok()?)?.to_str().ok()
}
