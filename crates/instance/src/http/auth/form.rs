//! Forms that a browser posts: the CSRF token is a field.

use std::sync::Arc;

use axum::Form;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use serde::de::DeserializeOwned;

use super::{Rejection, SiteAdmin, User, check_forgery, identify, require_admin};
use crate::App;
use crate::http::error::Error;

/// Name of the field.
pub const CSRF_FIELD: &str = "csrf";
/// Largest form; the site configuration is the largest text in one.
const MAX_BYTES: usize = 2 << 20;

/// A form posted by somebody who is logged in, proven not to be forged. Fields that `T` does not
/// have are ignored (the CSRF token is one).
#[derive(Clone, Debug)]
pub struct UserForm<T>(pub User, pub T);

/// The same, by a site admin.
#[derive(Clone, Debug)]
pub struct AdminForm<T>(pub SiteAdmin, pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for UserForm<T> {
    type Rejection = Rejection;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Rejection> {
        let (parts, body) = request.into_parts();
        let user = identify(app, &parts.headers).await?;
        let user = user.ok_or_else(|| Rejection::nobody(&parts))?;
        let too_large = |_| Error::TooLarge { limit: MAX_BYTES as u64 };
        let bytes = axum::body::to_bytes(body, MAX_BYTES).await.map_err(too_large)?;
        check_forgery(app, &user, &parts.headers, &csrf_field(&bytes, &parts.headers))?;
        let request = Request::from_parts(parts, Body::from(bytes));
        let Form(form) = Form::<T>::from_request(request, &())
            .await
            .map_err(|error| Error::BadRequest(format!("form: {}", error.body_text())))?;
        Ok(Self(user, form))
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for AdminForm<T> {
    type Rejection = Rejection;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Rejection> {
        let UserForm(user, form) = UserForm::from_request(request, app).await?;
        Ok(Self(require_admin(user)?, form))
    }
}

/// The field, or the header that scripts send instead.
fn csrf_field(body: &Bytes, headers: &HeaderMap) -> String {
    let mut fields = url::form_urlencoded::parse(body);
    let field = fields.find(|(name, _)| name == CSRF_FIELD).map(|(_, value)| value.into_owned());
    let header = || headers.get(super::CSRF_HEADER)?.to_str().ok().map(str::to_owned);
    field.or_else(header).unwrap_or_default()
}
