//! Templates of the pages before log-in.

use askama::Template;

use crate::ui::page::Page;

/// First visit: create the site admin.
#[derive(Template)]
#[template(path = "setup.html")]
pub struct SetupPage {
    /// The frame.
    pub page: Page,
    /// What was typed and what is wrong with it.
    pub form: SetupForm,
}

/// Fields of the set-up form. Passwords are never sent back.
#[derive(Debug, Default)]
pub struct SetupForm {
    /// As typed.
    pub username: String,
    /// What a password must be like.
    pub password_help: String,
    /// Wrong with the whole.
    pub error: Option<String>,
    /// Wrong with the user name.
    pub username_error: Option<String>,
    /// Wrong with the password.
    pub password_error: Option<String>,
    /// Wrong with its repetition.
    pub repeat_error: Option<String>,
}

/// Log-in.
#[derive(Template)]
#[template(path = "login.html")]
pub struct LoginPage {
    /// The frame.
    pub page: Page,
    /// What was typed and what is wrong with it.
    pub form: LoginForm,
}

/// Fields of the log-in form.
#[derive(Debug, Default)]
pub struct LoginForm {
    /// As typed.
    pub username: String,
    /// Path to go to afterwards.
    pub next: String,
    /// Why not.
    pub error: Option<String>,
}
