//! Tags of an image name, page by page.

use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::error::{Code, Error};
use crate::App;

/// Tags on one page at most.
const MAX_PAGE: usize = 1000;

/// Query of the list: `n` tags after `last`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Page {
    n: Option<usize>,
    last: Option<String>,
}

/// `GET /v2/{name}/tags/list`
pub(super) async fn list(app: &App, name: &str, page: &Page) -> Result<Response, Error> {
    let all = app.store.image_tags().await?;
    let mut tags: Vec<String> = all.into_iter().filter(|t| t.name == name).map(|t| t.tag).collect();
    if tags.is_empty() {
        return Err(Error::not_found(Code::NameUnknown, format!("no image is called {name}")));
    }
    tags.sort();
    if let Some(last) = &page.last {
        tags.retain(|tag| tag > last);
    }
    let count = page.n.unwrap_or(MAX_PAGE).min(MAX_PAGE);
    let more = tags.len() > count;
    tags.truncate(count);
    let next = tags.last().filter(|_| more).map(|last| {
        [(header::LINK, format!("</v2/{name}/tags/list?n={count}&last={last}>; rel=\"next\""))]
    });
    let body = Json(serde_json::json!({ "name": name, "tags": tags }));
    Ok(match next {
        Some(link) => (link, body).into_response(),
        None => body.into_response(),
    })
}
