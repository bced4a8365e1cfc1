//! What a request asks for beyond the base protocol, and what it is granted.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use protocol::ext::Extensions;
use protocol::headers::{self, prefer_wait_seconds};

use super::answer::handler_error;
use super::auth::Refused;

/// Longest name of an executor: a host name, a dash and a UUID.
const MAX_NAME: usize = 300;

/// The extensions that the peer understands and we grant. Empty = a stock peer.
pub(super) fn requested(headers: &HeaderMap) -> Extensions {
    let header = headers.get(headers::EXTENSIONS).and_then(|v| v.to_str().ok());
    header.map(Extensions::parse).unwrap_or_default()
}

/// Says what was granted, to a peer that asked.
pub(super) fn grant(response: &mut Response, extensions: Extensions) {
    if extensions.is_empty() {
        return;
    }
    let value = HeaderValue::from_str(&extensions.to_string()).expect("extension names are ASCII");
    response.headers_mut().insert(HeaderName::from_static("x-executor-extensions"), value);
}

/// Says that the peer's preference to wait was honoured (RFC 7240 §3).
pub(super) fn applied(response: &mut Response, wait: Option<Duration>) {
    if let Some(wait) = wait {
        let value = HeaderValue::from_str(&format!("wait={}", wait.as_secs()))
            .expect("digits are a header value");
        response.headers_mut().insert(HeaderName::from_static("preference-applied"), value);
    }
}

/// How long the peer is ready to wait for the answer.
pub(super) fn wait(headers: &HeaderMap, granted: Extensions, max: Duration) -> Option<Duration> {
    let prefer = headers.get(headers::PREFER).and_then(|v| v.to_str().ok())?;
    let seconds = prefer_wait_seconds(prefer).filter(|_| granted.long_poll)?;
    Some(Duration::from_secs(seconds).min(max)).filter(|wait| !wait.is_zero())
}

/// An executor must say its name.
pub(super) fn check_name(name: &str) -> Result<(), Refused> {
    if name.is_empty() {
        return Err(Box::new(handler_error("worker hostname cannot be empty")));
    }
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let message = format!("worker hostname must be printable and at most {MAX_NAME} bytes");
        return Err(Box::new(handler_error(&message)));
    }
    Ok(())
}
