//! The first contact: it registers the executor's name, without which no job route works.

use std::time::Duration;

use tokio::time::Instant;

use super::{AgentError, Shared};
use crate::client::ClientError;

/// What to do when the instance refuses the shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedToken {
    /// Say so now and then, and go on: the token may be about to be configured.
    KeepTrying,
    /// End with an error (`--verify`).
    Fail,
}

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause between two messages about the same trouble.
const SAY_AGAIN: Duration = Duration::from_secs(15);
/// An instance that starts at the same time is not worth a message yet.
const QUIET: Duration = Duration::from_secs(5);

impl Shared {
    /// `false` when the executor is to end before there was contact.
    pub(super) async fn ping_until_success(&self) -> Result<bool, AgentError> {
        let started = Instant::now();
        let mut said: Option<Instant> = None;
        loop {
            let ping = self.agent.client.ping(&self.agent.config.queues);
            let error = tokio::select! {
                () = self.shutdown.draining() => return Ok(false),
                result = ping => match result {
                    Ok(()) => break,
                    Err(error) => error,
                },
            };
            self.agent.metrics.call("Heartbeat", false);
            self.agent.status.note_error(&error);
            if error.is_refused() && self.agent.refused_token == RefusedToken::Fail {
                return Err(AgentError::Refused(error));
            }
            let quiet = error.status().is_none() && started.elapsed() < QUIET;
            if !quiet && said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
                said = Some(Instant::now());
                say(&error, self.agent.client.base());
            }
            tokio::select! {
                () = self.shutdown.draining() => return Ok(false),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        tracing::info!(
            instance = %self.agent.client.base(),
            executor = self.agent.client.executor_name(),
            extensions = %self.agent.client.granted(),
            "connected to the instance"
        );
        Ok(true)
    }
}

fn say(error: &ClientError, base: &url::Url) {
    if error.is_refused() {
        tracing::error!(
            %error, instance = %base,
            "the instance refuses the access token: EXECUTOR_FRONTEND_PASSWORD must be equal to executors.accessToken in its site configuration; trying again"
        );
    } else if error.status().is_some_and(|status| status == http::StatusCode::NOT_FOUND) {
        tracing::error!(
            %error, instance = %base,
            "there is no executor API at EXECUTOR_FRONTEND_URL: check the URL and its path; trying again"
        );
    } else {
        tracing::warn!(%error, instance = %base, "the instance does not answer, trying again");
    }
}
