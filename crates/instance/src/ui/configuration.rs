//! Maintenance › Site configuration.

use askama::Template;

use super::editor::{Editor, ProblemView};
use super::page::Page;

/// The page.
#[derive(Template)]
#[template(path = "config.html")]
pub struct ConfigurationPage {
    /// The frame.
    pub page: Page,
    /// Names the text that the edit started from.
    pub version: String,
    /// It was changed meanwhile.
    pub conflict: bool,
    /// Wrong with the whole.
    pub error: Option<String>,
    /// Mistakes in the text.
    pub problems: Vec<ProblemView>,
    /// The text.
    pub editor: Editor,
}
