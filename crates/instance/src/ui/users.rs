//! Maintenance › Users and tokens.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use store::Role;

use super::account::{TokenView, token_views};
use super::answer;
use super::flash::Flash;
use super::format::{self, Html};
use super::page::{Page, Place};
use super::visitor::{Admin, Visitor};
use crate::App;
use crate::accounts;
use crate::http::auth::{AdminForm, SiteAdmin};
use crate::http::error::Error;

const PATH: &str = "/site-admin/users";

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

/// Routes of the page. Site admins only.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route(PATH, get(page).post(add))
        .route("/site-admin/users/{id}/role", post(set_role))
        .route("/site-admin/users/{id}/remove", post(remove))
        .route("/site-admin/users/{id}/tokens/{token}/revoke", post(revoke_token))
}

async fn show(app: &App, visitor: &Visitor, form: UserForm) -> Result<UsersPage, Error> {
    let now = app.clock.now_ms();
    let mut rows = Vec::new();
    for user in app.store.users().await? {
        let tokens = app.store.access_tokens(user.id).await?;
        rows.push(UserRow {
            id: user.id,
            site_admin: user.role == Role::SiteAdmin,
            me: user.id == visitor.user.id(),
            created: format::ago(user.created_at, now),
            tokens: token_views(&tokens, now),
            username: user.name,
        });
    }
    Ok(UsersPage { page: visitor.page(app, "Users and tokens", PATH, Place::Users), form, rows })
}

/// `GET /site-admin/users`
async fn page(State(app): State<Arc<App>>, Admin(visitor): Admin) -> Result<Response, Error> {
    answer::page(&visitor, &show(&app, &visitor, UserForm::default()).await?)
}

#[derive(Deserialize)]
struct Typed {
    username: String,
    password: String,
    role: String,
}

/// `POST /site-admin/users`
async fn add(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    AdminForm(SiteAdmin(user), typed): AdminForm<Typed>,
) -> Result<Response, Error> {
    let Typed { username, password, role } = typed;
    let username = username.trim().to_owned();
    let role = Role::parse(&role).unwrap_or(Role::User);
    let added = accounts::create_user(&app, &user.actor(), &username, &password, role).await;
    let site_admin = role == Role::SiteAdmin;
    let mut form = UserForm { username, site_admin, ..UserForm::default() };
    let status = match added {
        Ok(_) => return Ok(answer::go(&app, PATH, Flash::UserAdded)),
        Err(Error::Invalid { field, problem }) if field == "password" => {
            form.password_error = Some(format!("password {problem}"));
            StatusCode::BAD_REQUEST
        }
        Err(Error::Invalid { problem, .. }) => {
            form.username_error = Some(format!("user name {problem}"));
            StatusCode::BAD_REQUEST
        }
        Err(Error::Conflict(problem)) => {
            form.username_error = Some(problem);
            StatusCode::CONFLICT
        }
        Err(error) => return Err(error),
    };
    let visitor = Visitor::new(user, &headers);
    answer::html(status, &show(&app, &visitor, form).await?)
}

async fn find(app: &App, id: i64) -> Result<store::User, Error> {
    app.store.user(id).await?.ok_or(Error::NotFound("user"))
}

/// What a refused change says: only the last site admin is refused.
fn changed(app: &App, result: Result<(), Error>, done: Flash) -> Result<Response, Error> {
    match result {
        Ok(()) => Ok(answer::go(app, PATH, done)),
        Err(Error::Invalid { .. }) => Ok(answer::go(app, PATH, Flash::LastSiteAdmin)),
        Err(error) => Err(error),
    }
}

#[derive(Deserialize)]
struct NewRole {
    role: String,
}

/// `POST /site-admin/users/{id}/role`
async fn set_role(
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
    AdminForm(SiteAdmin(user), NewRole { role }): AdminForm<NewRole>,
) -> Result<Response, Error> {
    let role = Role::parse(&role).ok_or_else(|| Error::BadRequest("no such role".to_owned()))?;
    let done = accounts::set_role(&app, &user.actor(), &find(&app, id).await?, role).await;
    changed(&app, done, Flash::RoleChanged)
}

#[derive(Deserialize)]
struct Nothing {}

/// `POST /site-admin/users/{id}/remove`
async fn remove(
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
    AdminForm(SiteAdmin(user), Nothing {}): AdminForm<Nothing>,
) -> Result<Response, Error> {
    let done = accounts::remove_user(&app, &user.actor(), &find(&app, id).await?).await;
    changed(&app, done, Flash::UserRemoved)
}

/// `POST /site-admin/users/{id}/tokens/{token}/revoke`
async fn revoke_token(
    State(app): State<Arc<App>>,
    Path((id, token)): Path<(i64, i64)>,
    AdminForm(SiteAdmin(user), Nothing {}): AdminForm<Nothing>,
) -> Result<Response, Error> {
    accounts::revoke_token(&app, &user.actor(), &find(&app, id).await?, token).await?;
    Ok(answer::go(&app, PATH, Flash::TokenRevoked))
}
