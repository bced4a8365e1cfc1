//! The first account.

use super::{audit, check_name, password};
use crate::App;
use crate::http::error::Error;

/// Makes the site admin of an instance that has no account yet; returns the user's id. Of two who
/// try at the same time one succeeds.
///
/// # Errors
/// [`Error::Conflict`] when there is an account already; [`Error::Invalid`] for the fields `name`
/// and `password`.
pub async fn set_up(app: &App, name: &str, password: &str) -> Result<i64, Error> {
    // Before the costly hash, so that a set-up instance cannot be kept busy with it.
    if app.store.has_users().await? {
        return Err(done());
    }
    check_name(name)?;
    password::check_new(password, name).map_err(Error::from)?;
    let hash = password::hash(password.to_owned()).await;
    let now = app.clock.now_ms();
    let id = app.store.create_first_admin(name, &hash, now).await?.ok_or_else(done)?;
    audit(app, &format!("user:{name}"), "user.create", &format!("user:{name}"), "first site admin")
        .await?;
    Ok(id)
}

fn done() -> Error {
    Error::Conflict("this instance is set up already; log in instead".to_owned())
}
