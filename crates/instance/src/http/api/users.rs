//! Users of the user API.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use store::Role;

use super::extract::{Json, Path};
use super::types::{Account, AccountList, ErrorBody, NewAccount, UpdateAccount, time};
use crate::App;
use crate::accounts;
use crate::http::auth::{SiteAdmin, User};
use crate::http::error::Error;

/// List the users. Site admins only.
#[utoipa::path(get, path = "/users", tag = "users",
    responses((status = 200, body = AccountList), (status = 403, body = ErrorBody)))]
pub(super) async fn list(
    _admin: SiteAdmin,
    State(app): State<Arc<App>>,
) -> Result<axum::Json<AccountList>, Error> {
    let users = app.store.users().await?;
    Ok(axum::Json(AccountList { users: users.iter().map(view).collect() }))
}

/// Create a user. Site admins only.
#[utoipa::path(post, path = "/users", tag = "users", request_body = NewAccount,
    responses((status = 201, body = Account), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 409, description = "the name is taken", body = ErrorBody)))]
pub(super) async fn create(
    SiteAdmin(admin): SiteAdmin,
    State(app): State<Arc<App>>,
    Json(new): Json<NewAccount>,
) -> Result<(StatusCode, axum::Json<Account>), Error> {
    let role = match new.role.as_deref() {
        None => Role::User,
        Some(name) => parse_role(name)?,
    };
    accounts::create_user(&app, &admin.actor(), &new.name, &new.password, role).await?;
    let user = find(&app, &new.name).await?;
    Ok((StatusCode::CREATED, axum::Json(view(&user))))
}

/// Who the token or session belongs to.
#[utoipa::path(get, path = "/user", tag = "users", responses((status = 200, body = Account)))]
pub(super) async fn me(user: User) -> axum::Json<Account> {
    axum::Json(view(&user.account))
}

/// One user: oneself, or any for site admins.
#[utoipa::path(get, path = "/users/{name}", tag = "users", params(("name" = String, Path)),
    responses((status = 200, body = Account), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn get(
    user: User,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<axum::Json<Account>, Error> {
    let account = self_or_any(&app, &user, &name).await?;
    Ok(axum::Json(view(&account)))
}

/// Change a password (one's own, or any for site admins) or a role (site admins only).
#[utoipa::path(patch, path = "/users/{name}", tag = "users", params(("name" = String, Path)), request_body = UpdateAccount,
    responses((status = 200, body = Account), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn update(
    user: User,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(change): Json<UpdateAccount>,
) -> Result<axum::Json<Account>, Error> {
    let account = self_or_any(&app, &user, &name).await?;
    if let Some(role) = &change.role {
        if !user.is_site_admin() {
            return Err(Error::Forbidden("only site admins change roles".to_owned()));
        }
        accounts::set_role(&app, &user.actor(), &account, parse_role(role)?).await?;
    }
    if let Some(password) = &change.password {
        accounts::change_password(&app, &user.actor(), &account, password).await?;
    }
    Ok(axum::Json(view(&find(&app, &name).await?)))
}

/// Remove a user with sessions and tokens; jobs stay. The last site admin stays. Site admins only.
#[utoipa::path(delete, path = "/users/{name}", tag = "users", params(("name" = String, Path)),
    responses((status = 204), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn remove(
    SiteAdmin(admin): SiteAdmin,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
    let account = find(&app, &name).await?;
    accounts::remove_user(&app, &admin.actor(), &account).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The account `name`, if `user` is that or a site admin. Others do not learn whether it exists.
pub(super) async fn self_or_any(app: &App, user: &User, name: &str) -> Result<store::User, Error> {
    if user.account.name.eq_ignore_ascii_case(name) {
        return Ok(user.account.clone());
    }
    if user.is_site_admin() {
        return find(app, name).await;
    }
    Err(Error::Forbidden("only site admins see other users".to_owned()))
}

async fn find(app: &App, name: &str) -> Result<store::User, Error> {
    app.store.user_by_name(name).await?.ok_or(Error::NotFound("user"))
}

fn parse_role(name: &str) -> Result<Role, Error> {
    Role::parse(name).ok_or_else(|| Error::invalid("role", "must be site_admin or user"))
}

fn view(user: &store::User) -> Account {
    Account {
        name: user.name.clone(),
        role: user.role.as_str().to_owned(),
        created_at: time(user.created_at),
    }
}
