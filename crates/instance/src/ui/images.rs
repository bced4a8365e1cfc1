//! Maintenance › Images: what the instance's own registry holds.

use askama::Template;

use super::format::Html;
use super::page::Page;

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
    /// Of all layers.
    pub size: String,
    /// When.
    pub imported: Html,
}
