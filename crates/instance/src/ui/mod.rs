//! The pages: server-rendered HTML that works without JavaScript except live updates.
//!
//! Job output, names and messages that come from jobs and executors are hostile text here: templates
//! escape everything, job output goes through [`ansi`], and the content security policy ([`headers`])
//! allows only our own files, so nothing inline could run even if it got through.

mod account;
pub mod ansi;
pub mod assets;
pub mod compat;
mod configuration;
mod cookie;
mod editor;
mod error;
mod executors;
mod flash;
mod format;
mod gate;
mod headers;
mod images;
mod jobs;
mod page;
mod repositories;
mod theme;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::App;

/// Routes of the pages and their assets.
pub fn router() -> Router<Arc<App>> {
    Router::new().route("/assets/{hash}/{name}", get(assets::serve))
}

#[cfg(test)]
mod gallery;
