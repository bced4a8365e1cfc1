//! Maintenance › Images: what the instance's own registry holds.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::answer;
use super::format::{self, Html};
use super::page::{Page, Place};
use super::visitor::Admin;
use crate::App;
use crate::http::error::Error;

/// The page.
#[derive(Template)]
#[template(path = "images.html")]
pub struct ImagesPage {
    /// The frame.
    pub page: Page,
    /// The tags.
    pub rows: Vec<ImageRow>,
}

/// One tag.
pub struct ImageRow {
    /// `name:tag`.
    pub reference: String,
    /// Of the manifest.
    pub digest: String,
    /// Its beginning.
    pub digest_short: String,
    /// What it is.
    pub kind: String,
    /// When.
    pub imported: Html,
}

/// `GET /site-admin/images`: site admins.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Admin(visitor): Admin,
) -> Result<Response, Error> {
    let now = app.clock.now_ms();
    let mut rows = Vec::new();
    for tag in app.store.image_tags().await? {
        let object = app.store.image_object(&tag.digest).await?;
        rows.push(ImageRow {
            reference: format!("{}:{}", tag.name, tag.tag),
            digest_short: tag.digest.chars().take(19).collect(),
            digest: tag.digest,
            kind: object.map_or_else(String::new, |object| kind(&object.media_type).to_owned()),
            imported: format::ago(tag.updated_at, now),
        });
    }
    let page = visitor.page(&app, "Images", "/site-admin/images", Place::Images);
    answer::page(&visitor, &ImagesPage { page, rows })
}

fn kind(media_type: &str) -> &str {
    match media_type {
        t if t.contains("index") || t.contains("manifest.list") => "several platforms",
        t if t.starts_with("application/vnd.oci.") => "OCI image",
        t if t.starts_with("application/vnd.docker.") => "Docker image",
        other => other,
    }
}
