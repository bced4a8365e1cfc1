//! Answers with the exact bodies and headers of the protocol.

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What the original's server guesses for JSON, because its handlers do not say.
const SNIFFED: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A JSON value under the content type of the original.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("answers have string keys and no failing type");
    (status, [(header::CONTENT_TYPE, SNIFFED)], body).into_response()
}

/// 204 without a body.
pub(super) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// The answer of a mark* that matched no row.
pub(super) fn not_found_null() -> Response {
    json(StatusCode::NOT_FOUND, &())
}

/// 500 with the message in the envelope of the original.
pub(super) fn handler_error(message: &str) -> Response {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    json(status, &serde_json::json!({ "error": message }))
}

/// A failure of the store: told under the original's prefix, its cause only logged.
pub(super) fn store_error(operation: &str, error: &store::Error) -> Response {
    tracing::error!(%error, operation, "store");
    handler_error(&format!("dbworkerstore.{operation}: database error"))
}

/// A plain-text error, which in the original always ends with a line feed.
pub(super) fn text(status: StatusCode, message: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, SNIFFED),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (status, headers, format!("{message}\n")).into_response()
}

/// A status and nothing else.
pub(super) fn empty(status: StatusCode) -> Response {
    (status, Body::empty()).into_response()
}

/// Reads a body of at most `limit` bytes. Authority is checked before this: a stranger must not make
/// us hold his megabytes.
pub(super) async fn bytes(body: Body, limit: usize) -> Result<Bytes, Box<Response>> {
    let too_large = || {
        let message = format!("request body is larger than {limit} bytes");
        Box::new(text(StatusCode::PAYLOAD_TOO_LARGE, &message))
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    Limited::new(body, limit).collect().await.map(|all| all.to_bytes()).map_err(|error| {
        if error.is::<LengthLimitError>() {
            return too_large();
        }
        Box::new(text(StatusCode::BAD_REQUEST, &format!("the body ended early: {error}")))
    })
}

/// Reads the JSON object that a body of at most `limit` bytes begins with.
pub(super) async fn read<T: DeserializeOwned>(
    body: Body,
    limit: usize,
) -> Result<T, Box<Response>> {
    parse(&bytes(body, limit).await?)
}

/// Whatever follows the object is ignored, as are unknown fields.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Response>> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter();
    let problem = match values.next() {
        // Our decoder would take a list for the object's fields in order.
        Some(Ok(_)) if body.trim_ascii_start().starts_with(b"[") => "not an object".to_owned(),
        Some(Ok(value)) => return Ok(value),
        Some(Err(error)) => error.to_string(),
        None => "EOF".to_owned(),
    };
    let message = format!("Failed to unmarshal payload: {problem}");
    Err(Box::new(text(StatusCode::BAD_REQUEST, &message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_data_is_ignored_and_no_data_is_not() {
        let value: serde_json::Value = parse(b"{\"a\":1} trailing").unwrap();
        assert_eq!(value["a"], 1);
        for bad in [&b""[..], b"{", b" []"] {
            assert!(parse::<serde_json::Value>(bad).is_err());
        }
    }
}
