//! Calls of a job whose machine is held (extension `hold`).

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use protocol::hold::{HoldRequest, HoldResponse, InputRequest, InputResponse, MAX_WAIT_SECONDS};
use protocol::{headers, routes};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::http_call::{self, Attempts, read_limited};
use super::job::{Appended, append_offset};
use super::{ANSWER_TIMEOUT, ClientError, JobClient};

/// Largest answer: a chunk of input in base64 and a few fields.
const ANSWER_LIMIT: usize = 256 << 10;

impl JobClient {
    /// Asks what is wanted of the hold; held open until that is something else than `request` knows.
    ///
    /// # Errors
    /// Any failure; [`is_over`] tells the end of the hold.
    pub async fn hold(&self, request: &HoldRequest) -> Result<HoldResponse, ClientError> {
        self.ask("hold", &routes::hold(self.queue(), self.id()), request).await
    }

    /// Asks what was typed; held open until there is something else than `request` knows.
    ///
    /// # Errors
    /// Any failure; [`is_over`] tells the end of the hold.
    pub async fn terminal_input(
        &self,
        terminal: i64,
        request: &InputRequest,
    ) -> Result<InputResponse, ClientError> {
        let route = routes::terminal_input(self.queue(), self.id(), terminal);
        self.ask("terminal input", &route, request).await
    }

    /// Appends what a terminal printed, and how its program ended; safe to repeat.
    ///
    /// # Errors
    /// Any failure but a gap; [`is_over`] tells the end of the terminal.
    pub async fn terminal_output(
        &self,
        terminal: i64,
        offset: u64,
        output: Bytes,
        exit_code: Option<i64>,
    ) -> Result<Appended, ClientError> {
        let route = routes::terminal_output(self.queue(), self.id(), terminal);
        let mut query = vec![("offset", offset.to_string())];
        query.extend(exit_code.map(|code| ("exitCode", code.to_string())));
        let build = || {
            self.post(&route)
                .query(&query)
                .header(http::header::CONTENT_TYPE, "application/octet-stream")
                .body(output.clone())
        };
        let endpoint = "terminal output";
        match http_call::send(endpoint, Attempts::One, build).await {
            Ok(response) => {
                let body = read_limited(endpoint, response, 4096).await?;
                Ok(Appended::Stored(append_offset(&body)?))
            }
            Err(ClientError::Status { status: StatusCode::CONFLICT, body, .. }) => {
                Ok(Appended::Gap(append_offset(body.as_bytes())?))
            }
            Err(error) => Err(error),
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        route: &str,
        request: &impl Serialize,
    ) -> Result<T, ClientError> {
        let build = || {
            self.post(route)
                .header(headers::PREFER, format!("wait={MAX_WAIT_SECONDS}"))
                .timeout(Duration::from_secs(MAX_WAIT_SECONDS) + ANSWER_TIMEOUT)
                .json(request)
        };
        let response = http_call::send(endpoint, Attempts::One, build).await?;
        let body = read_limited(endpoint, response, ANSWER_LIMIT).await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::Answer {
            endpoint: endpoint.to_owned(),
            reason: error.to_string(),
        })
    }
}

/// The instance says that this hold or terminal is over, or never was.
pub fn is_over(error: &ClientError) -> bool {
    error.is_refused() || matches!(error.status(), Some(StatusCode::GONE | StatusCode::NOT_FOUND))
}
