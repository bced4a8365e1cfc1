//! Error pages.

use askama::Template;

use super::page::Page;

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
