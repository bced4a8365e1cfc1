//! A read-only OCI registry under `/v2/`, so that a site needs no other one for the images we ship.
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>, category "pull".

mod blob;
mod error;
mod manifest;
mod path;
pub(crate) mod range;
mod tags;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::App;
use crate::accounts;
use crate::http::executors::job_of_token;
use error::{Code, Error};
use path::Wanted;

/// Routes of the registry.
///
/// | who | how |
/// |---|---|
/// | a running job's executor | `Authorization: Bearer <job token>` |
/// | users | access token as bearer token, or as the password of any user name |
pub fn router() -> Router<Arc<App>> {
    Router::new().route("/v2", any(ping)).route("/v2/", any(ping)).route("/v2/{*path}", any(serve))
}

/// `GET /v2/`: whether the registry speaks this protocol, and whether the caller may pull.
async fn ping(State(app): State<Arc<App>>, method: Method, headers: HeaderMap) -> Response {
    let answer = async {
        authorize(&app, &headers).await?;
        read_only(&method)?;
        Ok(axum::Json(serde_json::json!({})).into_response())
    };
    finish(answer.await)
}

/// `/v2/{name…}/manifests/{reference}`, `/v2/{name…}/blobs/{digest}`, `/v2/{name…}/tags/list`.
async fn serve(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    Query(query): Query<tags::Page>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        authorize(&app, &headers).await?;
        read_only(&method)?;
        match path::parse(&path)? {
            Wanted::Manifest { name, reference } => manifest::get(&app, name, reference).await,
            Wanted::Blob { name, digest } => blob::get(&app, name, digest, &headers).await,
            Wanted::Tags { name } => tags::list(&app, name, &query).await,
        }
    };
    finish(answer.await)
}

fn finish(answer: Result<Response, Error>) -> Response {
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    let version = header::HeaderValue::from_static("registry/2.0");
    response.headers_mut().insert("docker-distribution-api-version", version);
    response
}

fn read_only(method: &Method) -> Result<(), Error> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let message = "this registry is read-only: images come in by `instance image import`";
    Err(Error::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, message))
}

/// A running job, or a user's access token.
async fn authorize(app: &App, headers: &HeaderMap) -> Result<(), Error> {
    let header = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let (scheme, value) = header.and_then(|h| h.split_once(' ')).ok_or_else(Error::unauthorized)?;
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        value.to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = BASE64.decode(value).ok().and_then(|b| String::from_utf8(b).ok());
        let decoded = decoded.ok_or_else(Error::unauthorized)?;
        decoded.split_once(':').ok_or_else(Error::unauthorized)?.1.to_owned()
    } else {
        return Err(Error::unauthorized());
    };
    let job = job_of_token(app, &token).await?;
    if job.is_some_and(|job| job.state == store::TokenState::Live) {
        return Ok(());
    }
    let user = accounts::present(app, &token).await.map_err(|e| Error::internal(&e))?;
    if user.is_some() { Ok(()) } else { Err(Error::unauthorized()) }
}
