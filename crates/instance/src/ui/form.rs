//! Forms of people who need not be logged in: set-up, log-in, theme. The others are
//! [`crate::http::auth::UserForm`] and [`crate::http::auth::AdminForm`].

use std::sync::Arc;

use axum::Form;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::App;
use crate::http::auth::origin::is_same_site;
use crate::http::error::Error;

/// Largest such form, in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// A form that a page of ours sent, by whomever. There is no session yet whose token could prove it, so
/// the browser's word for its origin does.
pub(super) struct OutsideForm<T> {
    /// The request without its body.
    pub parts: Parts,
    /// What was typed.
    pub form: T,
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for OutsideForm<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Error> {
        let (parts, body) = request.into_parts();
        if !is_same_site(&parts.headers, &app.config.current()) {
            let text = "this form does not come from a page of this instance";
            return Err(Error::Forbidden(text.to_owned()));
        }
        let bytes = axum::body::to_bytes(body, MAX_BYTES).await;
        let bytes = bytes.map_err(|_| Error::TooLarge { limit: MAX_BYTES as u64 })?;
        let request = Request::from_parts(parts.clone(), Body::from(bytes));
        let form = Form::<T>::from_request(request, &()).await;
        let Form(form) = form.map_err(|e| Error::BadRequest(format!("form: {}", e.body_text())))?;
        Ok(Self { parts, form })
    }
}
