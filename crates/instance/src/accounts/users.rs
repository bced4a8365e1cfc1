//! Accounts after the first.

use store::{Role, User};

use super::{audit, check_name, password};
use crate::App;
use crate::http::error::Error;

/// Makes an account; returns its id. For site admins.
///
/// # Errors
/// [`Error::Conflict`] when the name is taken; [`Error::Invalid`] for `name` and `password`.
pub async fn create_user(
    app: &App,
    actor: &str,
    name: &str,
    password: &str,
    role: Role,
) -> Result<i64, Error> {
    check_name(name)?;
    password::check_new(password, name).map_err(Error::from)?;
    let hash = password::hash(password.to_owned()).await;
    let id = app.store.create_user(name, &hash, role, app.clock.now_ms()).await?;
    audit(app, actor, "user.create", &format!("user:{name}"), role.as_str()).await?;
    Ok(id)
}

/// Sets a new password and ends the user's sessions. For the user and site admins.
///
/// # Errors
/// [`Error::Invalid`] for the field `password`.
pub async fn change_password(
    app: &App,
    actor: &str,
    user: &User,
    password: &str,
) -> Result<(), Error> {
    password::check_new(password, &user.name).map_err(Error::from)?;
    let hash = password::hash(password.to_owned()).await;
    app.store.set_password(user.id, &hash).await?;
    audit(app, actor, "user.password", &format!("user:{}", user.name), "").await
}

/// Changes a role; the last site admin stays one. For site admins.
///
/// # Errors
/// [`Error::Invalid`] for the last site admin.
pub async fn set_role(app: &App, actor: &str, user: &User, role: Role) -> Result<(), Error> {
    app.store.set_role(user.id, role).await?;
    audit(app, actor, "user.role", &format!("user:{}", user.name), role.as_str()).await
}

/// Removes an account with its sessions and tokens; its jobs stay. For site admins.
///
/// # Errors
/// [`Error::Invalid`] for the last site admin.
pub async fn remove_user(app: &App, actor: &str, user: &User) -> Result<(), Error> {
    app.store.delete_user(user.id).await?;
    audit(app, actor, "user.remove", &format!("user:{}", user.name), "").await
}
