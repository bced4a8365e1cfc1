//! Jobs of the user API.

pub(super) mod artifacts;
pub(super) mod cancel;
mod events;
pub(super) mod get;
pub(super) mod hold;
pub(super) mod list;
pub(super) mod logs;
pub(super) mod retry;
pub(super) mod submit;
pub(crate) mod utf8;
mod view;
pub mod why;

use crate::App;
use crate::http::auth::User;
use crate::http::error::Error;

/// A job by id; everybody who is logged in may know of it.
async fn find(app: &App, id: i64) -> Result<store::Job, Error> {
    app.store.job(id).await?.ok_or(Error::NotFound("job"))
}

/// A job whose output the caller may see, and which the caller may cancel and retry.
async fn find_own(app: &App, user: &User, id: i64) -> Result<store::Job, Error> {
    let job = find(app, id).await?;
    if user.owns(&job) {
        return Ok(job);
    }
    Err(Error::Forbidden("only the job's creator and site admins may do this".to_owned()))
}
