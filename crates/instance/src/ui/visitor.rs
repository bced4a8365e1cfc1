//! Who looks at a page, and how they like it.

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use std::sync::Arc;

use super::flash::Flash;
use super::format;
use super::page::{Page, Person, Place};
use super::theme::Theme;
use crate::App;
use crate::http::auth::{Rejection, SiteAdmin, User, session_token};

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    /// Who.
    pub user: User,
    /// The session's token, to see later whether it still holds.
    session: Option<String>,
    /// Colours.
    theme: Theme,
    /// What the request before this one did.
    pub flash: Option<Flash>,
}

/// A site admin, for the Maintenance pages.
#[derive(Clone, Debug)]
pub(super) struct Admin(pub Visitor);

impl Visitor {
    /// A visitor whose identity is proven.
    pub fn new(user: User, headers: &HeaderMap) -> Self {
        Self {
            user,
            session: session_token(headers).map(str::to_owned),
            theme: Theme::of(headers),
            flash: Flash::of(headers),
        }
    }

    /// The frame of a page of theirs.
    pub fn page(&self, app: &App, title: &str, path: &str, place: Place) -> Page {
        Page {
            title: title.to_owned(),
            path: path.to_owned(),
            now: format::iso(app.clock.now_ms()),
            place,
            narrow: false,
            user: Some(Person {
                name: self.user.account.name.clone(),
                site_admin: self.user.is_site_admin(),
            }),
            csrf: self.user.csrf().to_owned(),
            theme: self.theme,
            flash: self.flash,
        }
    }

    /// Still logged in, in the same role. Without a session (an access token was used) a page lives as
    /// long as its stream.
    pub async fn is_still_valid(&self, app: &App) -> bool {
        let Some(token) = &self.session else { return true };
        match app.store.session(token, app.clock.now_ms()).await {
            Ok(session) => session.is_some_and(|s| s.user.role == self.user.account.role),
            // The database is away for a moment; the source will say so.
            Err(_) => true,
        }
    }
}

impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Rejection> {
        let user = User::from_request_parts(parts, app).await?;
        Ok(Self::new(user, &parts.headers))
    }
}

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Rejection> {
        let SiteAdmin(user) = SiteAdmin::from_request_parts(parts, app).await?;
        Ok(Self(Visitor::new(user, &parts.headers)))
    }
}
