//! From a claimed row to the job document.

use protocol::ext::JobExtensions;
use protocol::{DecodeError, DequeueRequest, Job, JobVersion};
use store::Claim;
use store::policy::CODEINTEL;

use super::resources;

/// The document that the executor gets. `queue` is named on the multi-queue route only; `extensions`
/// are for executors that negotiated them. `request` is what the executor said of itself.
///
/// # Errors
/// When the stored payload is not a job document.
pub(super) fn document(
    claim: Claim,
    request: &DequeueRequest,
    multi: bool,
    version: JobVersion,
    negotiated: bool,
) -> Result<serde_json::Value, DecodeError> {
    let mut job = Job::decode(claim.payload.as_bytes())?;
    job.id = claim.job.id;
    claim.token.expose().clone_into(&mut job.token);
    job.repository_name = claim.job.repository;
    job.commit = claim.job.commit;
    if claim.job.queue == CODEINTEL {
        resources::add(&mut job, request);
    }
    job.queue = if multi { claim.job.queue } else { String::new() };
    job.extensions = negotiated.then(|| JobExtensions {
        attempt: claim.job.attempt,
        ..job.extensions.take().unwrap_or_default()
    });
    Ok(job.encode(version))
}
