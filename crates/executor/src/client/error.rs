//! What can go wrong between the executor and its instance.

use http::StatusCode;

/// A call that did not succeed. None of the texts contains a secret: tokens travel in headers only.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer: connection refused, cut, timed out.
    #[error("{endpoint}: no answer: {}", causes(source))]
    Transport {
        /// The call.
        endpoint: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// An answer with a status that is not success.
    #[error("{endpoint}: unexpected status code {}{}", status.as_u16(), excerpt(body))]
    Status {
        /// The call.
        endpoint: String,
        /// The status.
        status: StatusCode,
        /// Beginning of the body.
        body: String,
    },
    /// An answer that is not what the protocol says.
    #[error("{endpoint}: cannot read the answer: {reason}")]
    Answer {
        /// The call.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
}

impl ClientError {
    /// The same call may succeed later: no answer, 429, or a server error that is not about this call.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Status { status, .. } => {
                !self.is_unknown_job()
                    && (*status == StatusCode::TOO_MANY_REQUESTS
                        || *status == StatusCode::REQUEST_TIMEOUT
                        || (status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED))
            }
            Self::Answer { .. } => false,
        }
    }

    /// The credentials were refused.
    pub fn is_refused(&self) -> bool {
        matches!(self.status(), Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
    }

    /// The instance says that the job is not (or no longer) this executor's.
    pub fn is_unknown_job(&self) -> bool {
        match self {
            Self::Status { status, body, .. } => {
                *status == StatusCode::NOT_FOUND
                    || (*status == StatusCode::INTERNAL_SERVER_ERROR
                        && body.contains("unknown job"))
            }
            _ => false,
        }
    }

    /// The status, if there was an answer.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// `source` and what caused it, without the URL (the endpoint names it already).
fn causes(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if !parts.last().is_some_and(|last| last.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    match parts.is_empty() {
        true => "the connection was cut".to_owned(),
        false => parts.join(": "),
    }
}

fn excerpt(body: &str) -> String {
    let line = body.trim().lines().next().unwrap_or("");
    if line.is_empty() {
        String::new()
    } else {
        format!(": {}", line.chars().take(300).collect::<String>())
    }
}
