//! Why a job did not complete, in words, and what to do about it.

use protocol::FailureReason;
use store::{Job, JobState};

use super::Failure;

/// The notice for a job that ended without success; `show_evidence`: the reader may see its output.
pub(super) fn view(job: &Job, show_evidence: bool) -> Option<Failure> {
    let color = match job.state {
        JobState::Failed => "bad",
        JobState::Errored | JobState::Canceled => "warn",
        JobState::Queued | JobState::Processing | JobState::Completed => return None,
    };
    let (title, hint) = match (job.reason, job.state) {
        (Some(reason), _) => words(reason),
        (None, JobState::Canceled) => words(FailureReason::Canceled),
        (None, _) => ("The job failed", ""),
    };
    let title = match (job.reason, job.exit_code) {
        (Some(FailureReason::StepFailed), Some(code)) => {
            format!("A step ended with exit code {code}")
        }
        _ => title.to_owned(),
    };
    let evidence = if show_evidence { job.message.clone() } else { String::new() };
    let reason = job.reason.map_or("", FailureReason::as_str).to_owned();
    Some(Failure { color, reason, title, evidence, hint })
}

fn words(reason: FailureReason) -> (&'static str, &'static str) {
    use FailureReason as R;
    match reason {
        R::StepFailed => ("A step failed", "The last lines of its log usually say why."),
        R::GuestOom => {
            ("The job ran out of memory", "Give it more with resources.memory in the job file.")
        }
        R::DiskFull => (
            "The job filled its disk",
            "Give it more with resources.disk, or delete what later steps do not need.",
        ),
        R::Timeout => {
            ("The job took too long", "Raise timeout in the job file, if the limit was not meant.")
        }
        R::Canceled => ("The job was canceled", ""),
        R::ImageNotFound => (
            "An image does not exist",
            "Check its name and tag; images of this instance are on the page Images.",
        ),
        R::ImageUnauthorized => (
            "A registry refused an image",
            "The executor needs credentials for that registry, or the image is private.",
        ),
        R::ImageInvalid => {
            ("An image cannot be used", "It is malformed or over a limit; build and push it again.")
        }
        R::CheckoutFailed => (
            "The repository could not be checked out",
            "See whether the repository is ready and still has the commit.",
        ),
        R::VmBootFailed => (
            "The virtual machine did not start",
            "Run `executor validate` on that machine; retrying may succeed elsewhere.",
        ),
        R::GuestCrashed => (
            "The virtual machine crashed",
            "Retry; if it happens again, the job brings its kernel down.",
        ),
        R::OutputLimit => (
            "The job wrote more output than allowed",
            "Write less, or into a file that is kept as an artifact.",
        ),
        R::ResourceLimit => {
            ("The job hit a limit", "Raise the limit in resources, for example processes.")
        }
        R::NetworkUnavailable => (
            "Its executor has no network for jobs",
            "Retry elsewhere, or see `executor validate` on that machine; without network: egress the job runs.",
        ),
        R::InvalidJob => ("The job cannot be run", "Correct the job file and submit it again."),
        R::ExecutorLost => (
            "Its executor was lost too often",
            "The job itself may bring executors down; see the executors' last errors.",
        ),
        R::ExecutorError => (
            "The executor had a fault",
            "Retry; the executor's last error is on the page Executors.",
        ),
    }
}
