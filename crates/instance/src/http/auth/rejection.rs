//! What somebody gets who may not.

use axum::extract::OriginalUri;
use axum::http::request::Parts;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Redirect, Response};

use crate::http::error::Error;

/// An error, or the way to the log-in page for a browser that only wanted to look.
#[derive(Debug)]
pub enum Rejection {
    /// Log in first, then come back.
    LogIn {
        /// Path with query to come back to.
        next: String,
    },
    /// Not allowed, or the check itself failed.
    Error(Error),
}

impl Rejection {
    /// The check ended with `error`.
    pub(super) fn new(error: Error, parts: &Parts) -> Self {
        match error {
            Error::Unauthorized(_) if is_page(parts) => Self::log_in(whole_uri(parts)),
            error => Self::Error(error),
        }
    }

    /// Nobody is logged in.
    pub(super) fn nobody(parts: &Parts) -> Self {
        if is_page(parts) {
            return Self::log_in(whole_uri(parts));
        }
        let text = "log in, or send an access token: Authorization: token exec_…";
        Self::Error(Error::Unauthorized(text.to_owned()))
    }

    fn log_in(uri: &Uri) -> Self {
        let next = uri.path_and_query().map_or("/", |path| path.as_str());
        Self::LogIn { next: next.to_owned() }
    }
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        match self {
            Self::LogIn { next } => {
                let next =
                    url::form_urlencoded::byte_serialize(next.as_bytes()).collect::<String>();
                Redirect::to(&format!("/login?next={next}")).into_response()
            }
            Self::Error(error) => error.into_response(),
        }
    }
}

/// Something a person looks at, not a program.
fn is_page(parts: &Parts) -> bool {
    let looks = matches!(parts.method, Method::GET | Method::HEAD);
    looks && !whole_uri(parts).path().starts_with("/api/")
}

/// Within a nested router a request's URI has lost its prefix.
fn whole_uri(parts: &Parts) -> &Uri {
    parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0)
}
