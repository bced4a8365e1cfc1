//! Errors of the user API and the pages' JSON: `{"error":{"code":"not_found","message":"…"}}`.
//!
//! Executor routes do not use this: their error bodies are fixed by the protocol (see
//! [`crate::http::executors::answer`]), and so are those of the registry.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// What a handler of the user API answers when it cannot do what was asked. The message is a lowercase
/// fragment that names the field and the fix.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 400: the request cannot be read or is wrong in itself.
    #[error("{0}")]
    BadRequest(String),
    /// 400: one field of the request is wrong.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong with it and what is expected.
        problem: String,
    },
    /// 401: nobody is logged in, or the token is wrong.
    #[error("{0}")]
    Unauthorized(String),
    /// 403: known, but not allowed.
    #[error("{0}")]
    Forbidden(String),
    /// 404: there is no such thing (or the caller may not know of it).
    #[error("{0} not found")]
    NotFound(&'static str),
    /// 409: the state forbids it.
    #[error("{0}")]
    Conflict(String),
    /// 413: the body is over the limit.
    #[error("request body is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// 429: try again later.
    #[error("too many requests, try again in {retry_after_seconds} s")]
    TooManyRequests {
        /// Value of `Retry-After`.
        retry_after_seconds: u64,
    },
    /// 503: a dependency is away or the process is going down.
    #[error("{0}")]
    Unavailable(String),
    /// 500: our fault. The cause is logged, not told.
    #[error("internal error")]
    Internal(#[source] anyhow::Error),
}

impl Error {
    /// Wraps a cause that the caller cannot do anything about.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        Self::Internal(cause.into())
    }

    /// [`Error::Invalid`].
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), problem: problem.into() }
    }

    /// Status code.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Stable machine-readable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::Invalid { .. } => "invalid",
            Self::Unauthorized(_) => "unauthorized",
            Self::Forbidden(_) => "forbidden",
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::TooLarge { .. } => "too_large",
            Self::TooManyRequests { .. } => "too_many_requests",
            Self::Unavailable(_) => "unavailable",
            Self::Internal(_) => "internal",
        }
    }
}

/// What the store refuses is the caller's to know; what fails in it is not.
impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        use store::Error as E;
        match error {
            E::NotFound { what, .. } => Self::NotFound(what),
            E::Exists { .. } | E::Transition { .. } => Self::Conflict(error.to_string()),
            E::Invalid { field, problem } => Self::invalid(field, problem),
            error => Self::internal(error),
        }
    }
}

impl From<crate::accounts::password::WeakPassword> for Error {
    fn from(error: crate::accounts::password::WeakPassword) -> Self {
        Self::invalid("password", error.to_string())
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Self::Internal(cause) = &self {
            tracing::error!(error = format!("{cause:#}"), "request failed");
        }
        let mut body = serde_json::json!({
            "error": { "code": self.code(), "message": self.to_string() }
        });
        if let Self::Invalid { field, .. } = &self {
            body["error"]["field"] = serde_json::json!(field);
        }
        let mut response = (self.status(), Json(body)).into_response();
        if let Self::TooManyRequests { retry_after_seconds } = self {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cause_is_not_told_to_the_client() {
        let error = Error::internal(anyhow::anyhow!("password is hunter2"));
        let response = error.into_response();
        assert_eq!(response.status(), 500);
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(body, r#"{"error":{"code":"internal","message":"internal error"}}"#);
    }

    #[test]
    fn retry_after_is_sent() {
        let response = Error::TooManyRequests { retry_after_seconds: 7 }.into_response();
        assert_eq!(response.headers()["retry-after"], "7");
    }
}
