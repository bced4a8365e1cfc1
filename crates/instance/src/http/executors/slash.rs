//! The original's router answers 301 to a path that differs from a route by a trailing slash only.

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::answer::empty;

/// 301 to the path without its trailing slash, with the query.
fn redirect(uri: &Uri) -> Response {
    let path = uri.path().trim_end_matches('/');
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    // A path that begins with two slashes would name another host.
    match HeaderValue::from_str(&target) {
        Ok(target) if !path.starts_with("//") => {
            (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, target)]).into_response()
        }
        _ => empty(StatusCode::BAD_REQUEST),
    }
}

/// Handler of the routes with a slash too many.
pub(super) async fn handler(request: Request) -> Response {
    let original = request.extensions().get::<axum::extract::OriginalUri>().cloned();
    redirect(original.as_ref().map_or(request.uri(), |o| &o.0))
}
