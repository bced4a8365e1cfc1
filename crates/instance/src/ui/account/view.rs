//! Template of the own account.

use askama::Template;

use crate::ui::format::Html;
use crate::ui::page::Page;

/// The page.
#[derive(Template)]
#[template(path = "account.html")]
pub struct AccountPage {
    /// The frame.
    pub page: Page,
    /// User name.
    pub username: String,
    /// Role in words.
    pub role: &'static str,
    /// A token just made; shown this once.
    pub created: Option<CreatedToken>,
    /// The form for a token.
    pub token_form: TokenForm,
    /// The form for a password.
    pub password_form: PasswordForm,
    /// Tokens that are not revoked.
    pub tokens: Vec<TokenView>,
}

/// A token with its secret.
pub struct CreatedToken {
    /// What it is for.
    pub name: String,
    /// The secret.
    pub secret: String,
}

/// A token without its secret.
pub struct TokenView {
    /// Id.
    pub id: i64,
    /// What it is for.
    pub name: String,
    /// When.
    pub created: Html,
    /// When it was last used.
    pub used: Option<Html>,
}

/// What was typed for a token.
#[derive(Debug, Default)]
pub struct TokenForm {
    /// As typed.
    pub name: String,
    /// What is wrong.
    pub error: Option<String>,
}

/// What was wrong with a password.
#[derive(Debug, Default)]
pub struct PasswordForm {
    /// With the current one.
    pub current_error: Option<String>,
    /// With the new one.
    pub new_error: Option<String>,
    /// With its repetition.
    pub repeat_error: Option<String>,
}
