//! Maintenance › Users and tokens.

use askama::Template;

use super::account::TokenView;
use super::format::Html;
use super::page::Page;

/// The page.
#[derive(Template)]
#[template(path = "users.html")]
pub struct UsersPage {
    /// The frame.
    pub page: Page,
    /// What was typed and what is wrong with it.
    pub form: UserForm,
    /// All users.
    pub rows: Vec<UserRow>,
}

/// Fields of the form.
#[derive(Debug, Default)]
pub struct UserForm {
    /// As typed.
    pub username: String,
    /// As chosen.
    pub site_admin: bool,
    /// What is wrong with the name.
    pub username_error: Option<String>,
    /// What is wrong with the password.
    pub password_error: Option<String>,
}

/// One user.
pub struct UserRow {
    /// Id.
    pub id: i64,
    /// Name.
    pub username: String,
    /// Role.
    pub site_admin: bool,
    /// The reader.
    pub me: bool,
    /// When.
    pub created: Html,
    /// Tokens that are not revoked.
    pub tokens: Vec<TokenView>,
}
