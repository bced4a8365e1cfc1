//! Maintenance › Repositories: list, add, sync, remove.

use askama::Template;

use super::format::Html;
use super::page::Page;

/// The page.
#[derive(Template)]
#[template(path = "repositories.html")]
pub struct RepositoriesPage {
    /// The frame.
    pub page: Page,
    /// What was typed and what is wrong with it.
    pub form: RepositoryForm,
    /// All repositories.
    pub rows: Vec<RepositoryRow>,
}

/// Fields of the form.
#[derive(Debug, Default)]
pub struct RepositoryForm {
    /// As typed.
    pub name: String,
    /// As typed.
    pub url: String,
    /// What is wrong with the name.
    pub name_error: Option<String>,
    /// What is wrong with the URL.
    pub url_error: Option<String>,
}

/// One repository.
pub struct RepositoryRow {
    /// Id.
    pub id: i64,
    /// Name.
    pub name: String,
    /// Upstream, without credentials.
    pub url: String,
    /// State in words.
    pub state: &'static str,
    /// CSS colour.
    pub color: &'static str,
    /// Default branch; may be empty.
    pub branch: String,
    /// When it was last fetched.
    pub synced: Html,
    /// Why the last fetch failed.
    pub error: String,
}
