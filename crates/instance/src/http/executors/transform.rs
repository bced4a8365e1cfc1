//! From a claimed row to the job document.

use protocol::ext::Extensions;
use protocol::{DecodeError, DequeueRequest, Job, JobVersion};
use store::Claim;
use store::policy::CODEINTEL;

use super::resources;
use crate::site_config::SiteConfig;

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
    granted: Extensions,
    config: &SiteConfig,
) -> Result<serde_json::Value, DecodeError> {
    let mut job = Job::decode(claim.payload.as_bytes())?;
    job.id = claim.job.id;
    claim.token.expose().clone_into(&mut job.token);
    job.repository_name = claim.job.repository;
    job.commit = claim.job.commit;
    if claim.job.queue == CODEINTEL {
        resources::add(&mut job, request);
    }
    job.extensions = (!granted.is_empty()).then(|| {
        let mut extensions = job.extensions.take().unwrap_or_default();
        extensions.attempt = claim.job.attempt;
        config.network.apply(&claim.job.queue, &mut extensions);
        // The site may have changed its mind since the job was submitted, and an admin about the job.
        let hold = claim.job.hold_seconds.min(config.max_hold.0);
        extensions.hold_seconds = if granted.hold { hold } else { 0 };
        extensions
    });
    job.queue = if multi { claim.job.queue } else { String::new() };
    Ok(job.encode(version))
}
