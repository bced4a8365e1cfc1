//! The own account: password and access tokens.

mod view;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use store::AccessToken;

use super::flash::Flash;
use super::page::Place;
use super::visitor::Visitor;
use super::{answer, format};
use crate::App;
use crate::accounts::{self, token_value};
use crate::http::auth::{self, UserForm, origin};
use crate::http::error::Error;

pub use view::*;

/// Routes of the account.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/account", get(page))
        .route("/account/password", post(change_password))
        .route("/account/tokens", post(create_token))
        .route("/account/tokens/{id}/revoke", post(revoke_token))
}

/// The page as it is without mistakes.
async fn blank(app: &App, visitor: &Visitor) -> Result<AccountPage, Error> {
    let mut page = visitor.page(app, "Your account", "/account", Place::Account);
    page.narrow = true;
    let now = app.clock.now_ms();
    let tokens = app.store.access_tokens(visitor.user.id()).await?;
    let role = if visitor.user.is_site_admin() { "Site admin" } else { "User" };
    Ok(AccountPage {
        page,
        username: visitor.user.account.name.clone(),
        role,
        created: None,
        token_form: TokenForm::default(),
        password_form: PasswordForm::default(),
        tokens: token_views(&tokens, now),
    })
}

/// Tokens that are not revoked.
pub(super) fn token_views(tokens: &[AccessToken], now: i64) -> Vec<TokenView> {
    let view = |token: &AccessToken| TokenView {
        id: token.id,
        name: token.note.clone(),
        created: format::ago(token.created_at, now),
        used: token.last_used_at.map(|at| format::ago(at, now)),
    };
    tokens.iter().filter(|token| token.revoked_at.is_none()).map(view).collect()
}

/// `GET /account`: everybody who is logged in.
async fn page(State(app): State<Arc<App>>, visitor: Visitor) -> Result<Response, Error> {
    answer::page(&visitor, &blank(&app, &visitor).await?)
}

#[derive(Deserialize)]
struct NewToken {
    name: String,
}

/// `POST /account/tokens`: makes a token and shows it this once.
async fn create_token(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    UserForm(user, NewToken { name }): UserForm<NewToken>,
) -> Result<Response, Error> {
    let visitor = Visitor::new(user, &headers);
    let user = &visitor.user;
    match accounts::create_token(&app, &user.actor(), &user.account, &name).await {
        Ok(new) => {
            let mut page = blank(&app, &visitor).await?;
            page.created = Some(CreatedToken { name, secret: token_value(&new.token) });
            answer::html(StatusCode::OK, &page)
        }
        Err(error @ (Error::Invalid { .. } | Error::Conflict(_))) => {
            let mut page = blank(&app, &visitor).await?;
            page.token_form = TokenForm { name, error: Some(error.to_string()) };
            answer::html(error.status(), &page)
        }
        Err(error) => Err(error),
    }
}

#[derive(Deserialize)]
struct Nothing {}

/// `POST /account/tokens/{id}/revoke`: an own token.
async fn revoke_token(
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
    UserForm(user, Nothing {}): UserForm<Nothing>,
) -> Result<Response, Error> {
    accounts::revoke_token(&app, &user.actor(), &user.account, id).await?;
    Ok(answer::go(&app, "/account", Flash::TokenRevoked))
}

#[derive(Deserialize)]
struct NewPassword {
    current: String,
    new: String,
    repeat: String,
}

/// `POST /account/password`: whoever knows the current one. Wrong tries are limited as at log-in.
async fn change_password(
    State(app): State<Arc<App>>,
    parts: Parts,
    UserForm(user, typed): UserForm<NewPassword>,
) -> Result<Response, Error> {
    let visitor = Visitor::new(user, &parts.headers);
    let account = &visitor.user.account;
    let address = origin::address(&parts, &app.config.current());
    let mut wrong = PasswordForm::default();
    if typed.new != typed.repeat {
        wrong.repeat_error = Some("the two passwords differ".to_owned());
    } else if let Err(error) = accounts::password::check_new(&typed.new, &account.name) {
        wrong.new_error = Some(format!("new password {error}"));
    } else {
        match accounts::log_in(&app, &account.name, &typed.current, address).await {
            Ok(_) => {
                let actor = visitor.user.actor();
                accounts::change_password(&app, &actor, account, &typed.new).await?;
                // All sessions have ended with the old password; this browser gets a new one.
                let session = accounts::log_in(&app, &account.name, &typed.new, address).await?;
                let mut response = answer::go(&app, "/account", Flash::PasswordChanged);
                let secure = app.config.current().is_https();
                let cookie = auth::cookie::set(session.token.expose(), secure);
                response.headers_mut().append(header::SET_COOKIE, cookie);
                return Ok(response);
            }
            Err(Error::Unauthorized(_)) => {
                wrong.current_error = Some("the current password is wrong".to_owned());
            }
            Err(error @ Error::TooManyRequests { .. }) => {
                wrong.current_error = Some(error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    let mut page = blank(&app, &visitor).await?;
    page.password_form = wrong;
    answer::html(StatusCode::BAD_REQUEST, &page)
}
