//! Error pages. Handlers return the errors that the API returns too; a layer around the pages turns their
//! JSON into a page that a person can read.

use askama::Template;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{Html, IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};

use super::page::Page;
use super::theme::Theme;
use crate::http::error::Error;

/// An error page.
#[derive(Template)]
#[template(path = "error.html")]
pub struct ErrorPage {
    /// The frame; its title says what happened.
    pub page: Page,
    /// HTTP status.
    pub status: u16,
    /// What to do.
    pub message: String,
}

/// Renders errors.
pub(super) async fn render(request: Request, next: Next) -> Response {
    let theme = Theme::of(request.headers());
    let response = next.run(request).await;
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    let failed = response.status().is_client_error() || response.status().is_server_error();
    if !(failed && is_json) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, 64 * 1024).await.unwrap_or_default();
    let error: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let detail = error["error"]["message"].as_str().unwrap_or_default();
    let page = Page::outside(title(parts.status), String::new(), theme);
    let message = message(parts.status, detail);
    let page = ErrorPage { page, status: parts.status.as_u16(), message };
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    let html = page.render().unwrap_or_else(|_| title(parts.status).to_owned());
    (parts.status, parts.headers, Html(html)).into_response()
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "That could not be read",
        StatusCode::UNAUTHORIZED => "Log in first",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::NOT_FOUND => "Page not found",
        StatusCode::METHOD_NOT_ALLOWED => "That does not work here",
        StatusCode::CONFLICT => "That is not possible now",
        StatusCode::PAYLOAD_TOO_LARGE => "That is too large",
        StatusCode::TOO_MANY_REQUESTS => "Too many tries",
        StatusCode::SERVICE_UNAVAILABLE => "Not available",
        _ => "Something went wrong",
    }
}

fn message(status: StatusCode, detail: &str) -> String {
    match status {
        StatusCode::NOT_FOUND => "There is nothing at this address, or it was removed.".to_owned(),
        status if status.is_server_error() => {
            "The cause is in the log of the instance. Trying again may help.".to_owned()
        }
        _ => sentence(detail),
    }
}

/// A lowercase fragment as a sentence.
pub(super) fn sentence(fragment: &str) -> String {
    let mut chars = fragment.chars();
    match chars.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), chars.as_str().trim_end_matches('.')),
        None => String::new(),
    }
}

/// Any address that no route knows. Programs get a bare status.
pub(super) async fn not_found(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/html")) {
        return Error::NotFound("page").into_response();
    }
    StatusCode::NOT_FOUND.into_response()
}
