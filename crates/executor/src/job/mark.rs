//! Reports the end of a job, until the instance acknowledges it or says that the job is not ours.

use std::time::Duration;

use protocol::MarkRequest;
use tokio::time::Instant;

use crate::client::{Backoff, ClientError, JobClient, MarkKind};

/// Refused credentials are believed after this time; see the same constant of the log sender.
const REFUSED_FOR_GOOD: Duration = Duration::from_secs(15);

/// What became of a report.
#[derive(Debug)]
pub enum Marked {
    /// The instance has it.
    Acknowledged,
    /// The instance does not count the job as ours (any more).
    NotOurs(ClientError),
    /// The instance will not take it.
    Refused(ClientError),
}

/// Reports; tries again for as long as that can help.
pub async fn mark(client: &JobClient, kind: MarkKind, body: &MarkRequest) -> Marked {
    let mut backoff = Backoff::patient();
    let mut refused_since = None;
    loop {
        let Err(error) = client.mark(kind, body).await else { return Marked::Acknowledged };
        if error.is_unknown_job() {
            return Marked::NotOurs(error);
        }
        if error.is_refused() {
            let since: Instant = *refused_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= REFUSED_FOR_GOOD {
                return Marked::NotOurs(error);
            }
        } else if !error.is_transient() {
            return Marked::Refused(error);
        }
        let delay = backoff.next_delay();
        tracing::debug!(job = client.id(), %error, ?kind, "the end of a job is reported again later");
        tokio::time::sleep(delay).await;
    }
}
