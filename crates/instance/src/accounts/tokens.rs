//! Access tokens for the API. The database holds their SHA-256; the value is shown once.

use store::{NewAccessToken, PlainToken, User};

use super::audit;
use crate::App;
use crate::http::error::Error;

/// Marks our tokens, so that scanners for leaked secrets know them.
const PREFIX: &str = "exec_";
/// Longest note.
const MAX_NOTE: usize = 200;
/// Tokens that one user may have at a time.
const MAX_TOKENS: usize = 100;

/// The value to hand out: `exec_` and 40 hexadecimal digits.
pub fn token_value(token: &PlainToken) -> String {
    format!("{PREFIX}{}", token.expose())
}

/// Who a presented value speaks for; `None` when it is none of ours, unknown or revoked.
///
/// # Errors
/// Of the database.
pub async fn present(app: &App, value: &str) -> Result<Option<User>, Error> {
    let Some(token) = value.strip_prefix(PREFIX) else { return Ok(None) };
    let found = app.store.user_by_access_token(token, app.clock.now_ms()).await?;
    Ok(found.map(|(_, user)| user))
}

/// Makes a token for a user.
///
/// # Errors
/// [`Error::Invalid`] for the field `note`; [`Error::Conflict`] when the user has too many.
pub async fn create_token(
    app: &App,
    actor: &str,
    user: &User,
    note: &str,
) -> Result<NewAccessToken, Error> {
    let note = note.trim();
    if note.is_empty() || note.chars().count() > MAX_NOTE || note.chars().any(char::is_control) {
        return Err(Error::invalid(
            "note",
            format!("must be one line of 1 to {MAX_NOTE} characters"),
        ));
    }
    let tokens = app.store.access_tokens(user.id).await?;
    if tokens.iter().filter(|token| token.revoked_at.is_none()).count() >= MAX_TOKENS {
        return Err(Error::Conflict(format!(
            "{} has {MAX_TOKENS} access tokens: revoke some that are not used",
            user.name
        )));
    }
    let new = app.store.create_access_token(user.id, note, app.clock.now_ms()).await?;
    let target = format!("user:{} token:{}", user.name, new.id);
    audit(app, actor, "token.create", &target, note).await?;
    Ok(new)
}

/// Revokes a token of a user.
///
/// # Errors
/// [`Error::NotFound`] when the user has no such token.
pub async fn revoke_token(app: &App, actor: &str, user: &User, id: i64) -> Result<(), Error> {
    if !app.store.revoke_access_token(user.id, id, app.clock.now_ms()).await? {
        return Err(Error::NotFound("access token"));
    }
    audit(app, actor, "token.revoke", &format!("user:{} token:{id}", user.name), "").await
}
