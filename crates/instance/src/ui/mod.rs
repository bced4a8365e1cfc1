//! The pages: server-rendered HTML that works without JavaScript except live updates.
//!
//! Job output, names and messages that come from jobs and executors are hostile text here: templates
//! escape everything, job output goes through [`ansi`], and the content security policy ([`headers`])
//! allows only our own files, so nothing inline could run even if it got through.

mod account;
pub mod ansi;
mod answer;
pub mod assets;
pub mod compat;
mod configuration;
mod cookie;
mod editor;
mod error;
mod executors;
mod flash;
mod form;
mod format;
mod gate;
mod headers;
mod images;
mod jobs;
mod list_stream;
mod page;
mod repositories;
mod sse;
mod theme;
mod users;
mod visitor;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::get;

use crate::App;

/// Routes of the pages and their assets, and the answer for addresses that nobody knows.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/assets/{hash}/{name}", get(assets::serve))
        .merge(gate::router())
        .merge(account::router())
        .merge(jobs::router())
        .merge(executors::router())
        .merge(configuration::router())
        .merge(repositories::router())
        .merge(users::router())
        .route("/site-admin/images", get(images::page))
        .fallback(error::not_found)
        .layer(from_fn(error::render))
        .layer(from_fn(headers::secure))
}

#[cfg(test)]
mod gallery;
#[cfg(test)]
mod tests;
