//! Access tokens of the user API: one's own, or anybody's for site admins.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use super::extract::{Json, Path};
use super::types::{ErrorBody, NewToken, Token, TokenCreated, TokenList, time};
use super::users::self_or_any;
use crate::App;
use crate::accounts;
use crate::http::auth::User;
use crate::http::error::Error;

/// List a user's tokens; revoked ones are left out.
#[utoipa::path(get, path = "/users/{name}/tokens", tag = "users", params(("name" = String, Path)),
    responses((status = 200, body = TokenList), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn list(
    user: User,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<axum::Json<TokenList>, Error> {
    let account = self_or_any(&app, &user, &name).await?;
    let tokens = app.store.access_tokens(account.id).await?;
    let tokens = tokens.iter().filter(|token| token.revoked_at.is_none());
    Ok(axum::Json(TokenList { tokens: tokens.map(|token| view(token, &account)).collect() }))
}

/// Create a token; the answer shows its value this once.
#[utoipa::path(post, path = "/users/{name}/tokens", tag = "users", params(("name" = String, Path)), request_body = NewToken,
    responses((status = 201, body = TokenCreated), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn create(
    user: User,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, axum::Json<TokenCreated>), Error> {
    let account = self_or_any(&app, &user, &name).await?;
    let made = accounts::create_token(&app, &user.actor(), &account, &new.note).await?;
    let token = Token {
        id: made.id,
        user: account.name,
        note: new.note.trim().to_owned(),
        created_at: time(app.clock.now_ms()),
        last_used_at: None,
    };
    let value = accounts::token_value(&made.token);
    Ok((StatusCode::CREATED, axum::Json(TokenCreated { token, value })))
}

/// Revoke a token; it is refused from now on.
#[utoipa::path(delete, path = "/users/{name}/tokens/{id}", tag = "users", params(("name" = String, Path), ("id" = i64, Path)),
    responses((status = 204), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn revoke(
    user: User,
    State(app): State<Arc<App>>,
    Path((name, id)): Path<(String, i64)>,
) -> Result<StatusCode, Error> {
    let account = self_or_any(&app, &user, &name).await?;
    accounts::revoke_token(&app, &user.actor(), &account, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(token: &store::AccessToken, account: &store::User) -> Token {
    Token {
        id: token.id,
        user: account.name.clone(),
        note: token.note.clone(),
        created_at: time(token.created_at),
        last_used_at: token.last_used_at.map(time),
    }
}
