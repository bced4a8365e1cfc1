//! Who is asking: users with a session cookie or an access token.
//!
//! A handler names its authority as an argument, and cannot run without it:
//!
//! | argument | lets in |
//! |---|---|
//! | [`MaybeUser`] | everybody |
//! | [`User`] | everybody who is logged in |
//! | [`SiteAdmin`] | site admins |
//! | [`UserForm`], [`AdminForm`] | the same, for a form that a browser posts |
//!
//! A cookie is sent by the browser whoever wrote the page, so a change (any method but GET, HEAD and
//! OPTIONS) with a cookie must prove that it comes from a page of ours: the browser says so
//! ([`origin::is_same_site`]), *and* the session's CSRF token is in the header `X-CSRF-Token` or, for
//! a form, in the field `csrf`. Access tokens need neither.

pub mod cookie;
mod form;
pub mod origin;
mod rejection;

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use store::Role;
use subtle::ConstantTimeEq as _;

use crate::App;
use crate::accounts;
use crate::http::error::Error;
pub use form::{AdminForm, CSRF_FIELD, UserForm};
pub use rejection::Rejection;

/// Header with the session's CSRF token.
pub const CSRF_HEADER: &str = "x-csrf-token";
/// A session is extended when this part of its life is over; not on every request.
const EXTEND_AFTER: i64 = 20;

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub struct User {
    /// The account.
    pub account: store::User,
    /// How we know.
    pub via: Via,
}

/// How we know who it is.
#[derive(Clone, Debug)]
pub enum Via {
    /// A session cookie.
    Session {
        /// To be put into forms and sent back with changes.
        csrf: String,
    },
    /// An access token.
    Token,
}

/// A site admin.
#[derive(Clone, Debug)]
pub struct SiteAdmin(pub User);

/// Anybody, logged in or not. A wrong or revoked access token is still refused.
#[derive(Clone, Debug)]
pub struct MaybeUser(pub Option<User>);

impl User {
    /// The account's id.
    pub fn id(&self) -> i64 {
        self.account.id
    }

    /// May do everything.
    pub fn is_site_admin(&self) -> bool {
        self.account.role == Role::SiteAdmin
    }

    /// Goes into forms; empty with an access token, which needs none.
    pub fn csrf(&self) -> &str {
        match &self.via {
            Via::Session { csrf } => csrf,
            Via::Token => "",
        }
    }

    /// The name in the audit log.
    pub fn actor(&self) -> String {
        format!("user:{}", self.account.name)
    }

    /// May see what a job produced, cancel and retry it: its creator and site admins.
    pub fn owns(&self, job: &store::Job) -> bool {
        self.is_site_admin() || job.creator_id == self.account.id
    }
}

/// Looks at the access token, then at the cookie. Does not check for forged requests.
async fn identify(app: &App, headers: &HeaderMap) -> Result<Option<User>, Error> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let value = value.to_str().ok().and_then(presented);
        let account = match value {
            Some(token) => accounts::present(app, token).await?,
            None => None,
        };
        let wrong = || {
            let text = "access token is wrong or revoked; send Authorization: token exec_…";
            Error::Unauthorized(text.to_owned())
        };
        return Ok(Some(User { account: account.ok_or_else(wrong)?, via: Via::Token }));
    }
    let Some(token) = cookie::read(headers) else { return Ok(None) };
    let now = app.clock.now_ms();
    let Some(session) = app.store.session(token, now).await? else { return Ok(None) };
    let ttl = accounts::log_in::session_ttl_ms(app);
    if session.expires_at - now < ttl - ttl / EXTEND_AFTER {
        app.store.extend_session(token, now + ttl).await?;
    }
    let via = Via::Session { csrf: session.csrf_secret };
    Ok(Some(User { account: session.user, via }))
}

/// The token of `token <value>` or `Bearer <value>`; the scheme in any case (RFC 9110 §11.1).
fn presented(header: &str) -> Option<&str> {
    let (scheme, value) = header.split_once(' ')?;
    let known = scheme.eq_ignore_ascii_case("token") || scheme.eq_ignore_ascii_case("bearer");
    known.then_some(value.trim())
}

/// Refuses a change that a foreign page may have made the browser send.
fn check_forgery(app: &App, user: &User, headers: &HeaderMap, csrf: &str) -> Result<(), Error> {
    let Via::Session { csrf: expected } = &user.via else { return Ok(()) };
    let same_site = origin::is_same_site(headers, &app.config.current());
    let right: bool = expected.as_bytes().ct_eq(csrf.as_bytes()).into();
    if same_site && right {
        return Ok(());
    }
    let text =
        "this request does not come from a page of this session; reload the page and try again";
    Err(Error::Forbidden(text.to_owned()))
}

/// Who asks, and that a change is no forgery.
async fn authenticate(app: &App, parts: &Parts) -> Result<Option<User>, Error> {
    let user = identify(app, &parts.headers).await?;
    let changes = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if let Some(user) = user.as_ref().filter(|_| changes) {
        let header = parts.headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok());
        check_forgery(app, user, &parts.headers, header.unwrap_or_default())?;
    }
    Ok(user)
}

fn require_admin(user: User) -> Result<SiteAdmin, Error> {
    if user.is_site_admin() {
        return Ok(SiteAdmin(user));
    }
    Err(Error::Forbidden("only site admins may do this".to_owned()))
}

impl FromRequestParts<Arc<App>> for MaybeUser {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Rejection> {
        let user = authenticate(app, parts).await;
        Ok(Self(user.map_err(|error| Rejection::new(error, parts))?))
    }
}

impl FromRequestParts<Arc<App>> for User {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Rejection> {
        let MaybeUser(user) = MaybeUser::from_request_parts(parts, app).await?;
        user.ok_or_else(|| Rejection::nobody(parts))
    }
}

impl FromRequestParts<Arc<App>> for SiteAdmin {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Rejection> {
        let user = User::from_request_parts(parts, app).await?;
        require_admin(user).map_err(|error| Rejection::new(error, parts))
    }
}

/// The session of a request as it is, for log-out and the like; no authority.
pub fn session_token(headers: &HeaderMap) -> Option<&str> {
    cookie::read(headers)
}

#[cfg(test)]
mod tests {
    use super::presented;

    #[test]
    fn both_schemes_in_any_case() {
        assert_eq!(presented("token exec_1"), Some("exec_1"));
        assert_eq!(presented("Bearer exec_1"), Some("exec_1"));
        assert_eq!(presented("TOKEN  exec_1 "), Some("exec_1"));
        assert_eq!(presented("Basic exec_1"), None);
        assert_eq!(presented("exec_1"), None);
    }
}
