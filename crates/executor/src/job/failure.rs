//! Why a job did not complete: a typed reason, words for people, and what to tell the instance.

use microvm::guest_client::FailureKind;
use microvm::images::{ErrorKind, ImageError};
use microvm::{ExitReason, GuestError, VmExit};
use protocol::FailureReason;

use crate::client::MarkKind;
use crate::git::CheckoutError;
use crate::logs::LogError;
use crate::runtime::StartError;

/// Console lines that go into a message.
const CONSOLE_LINES: usize = 12;

/// The end of a job that did not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub reason: FailureReason,
    /// What happened, with its evidence. May quote hostile text.
    pub message: String,
    /// Exit code of the step that failed.
    pub exit_code: Option<i64>,
}

impl Failure {
    /// A failure without exit code.
    pub fn new(reason: FailureReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), exit_code: None }
    }

    /// A fault of this executor or its machine.
    pub fn executor(message: impl std::fmt::Display) -> Self {
        Self::new(FailureReason::ExecutorError, message.to_string())
    }

    /// How the instance is told. What would end the same way again, and what a person asked for, is
    /// final; the rest may be tried again if the queue does that.
    pub fn mark(&self) -> MarkKind {
        match self.reason {
            FailureReason::Canceled
            | FailureReason::InvalidJob
            | FailureReason::ImageNotFound
            | FailureReason::ImageUnauthorized
            | FailureReason::ImageInvalid => MarkKind::Failed,
            FailureReason::StepFailed
            | FailureReason::GuestOom
            | FailureReason::DiskFull
            | FailureReason::Timeout
            | FailureReason::CheckoutFailed
            | FailureReason::VmBootFailed
            | FailureReason::GuestCrashed
            | FailureReason::OutputLimit
            | FailureReason::ResourceLimit
            | FailureReason::NetworkUnavailable
            | FailureReason::ExecutorLost
            | FailureReason::ExecutorError => MarkKind::Errored,
        }
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        let reason = match error.kind() {
            ErrorKind::NotFound => FailureReason::ImageNotFound,
            ErrorKind::Unauthorized => FailureReason::ImageUnauthorized,
            ErrorKind::Invalid => FailureReason::ImageInvalid,
            ErrorKind::Transient | ErrorKind::Local => FailureReason::ExecutorError,
        };
        Self::new(reason, error.to_string())
    }
}

impl From<CheckoutError> for Failure {
    fn from(error: CheckoutError) -> Self {
        let reason = if error.is_about_the_repository() {
            FailureReason::CheckoutFailed
        } else {
            FailureReason::ExecutorError
        };
        Self::new(reason, format!("cannot check out the repository: {error}"))
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Limit => {
                Self::new(FailureReason::OutputLimit, "the job printed more than it may")
            }
            LogError::Spool(error) => {
                Self::executor(format!("cannot write the log spool: {error}"))
            }
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::executor(error)
    }
}

/// What went wrong between us and the guest.
pub(super) fn guest_failure(error: &GuestError) -> Failure {
    match error {
        GuestError::Failed(cause) if cause.kind == FailureKind::DiskFull => {
            Failure::new(FailureReason::DiskFull, format!("the disk is full: {}", cause.message))
        }
        GuestError::Gone(_) => Failure::new(FailureReason::GuestCrashed, error.to_string()),
        _ => Failure::executor(error),
    }
}

/// A machine that did not start.
pub(super) fn start_failure(error: &StartError) -> Failure {
    match error {
        StartError::Host(_)
        | StartError::Network(_)
        | StartError::Engine(_)
        | StartError::Load(_) => Failure::executor(error),
        StartError::Boot(_) | StartError::Prepare(_) | StartError::Agent(_) => {
            let message = format!("failed to start the microVM: {error}");
            Failure::new(FailureReason::VmBootFailed, message)
        }
    }
}

/// A machine that ended under its job.
pub(super) fn exit_failure(exit: &VmExit) -> Failure {
    let out_of_memory = matches!(&exit.reason, ExitReason::Panic(line) if line.contains("memory"));
    let reason = if out_of_memory { FailureReason::GuestOom } else { FailureReason::GuestCrashed };
    let lines: Vec<&str> = exit.console_tail.lines().collect();
    let tail = lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n");
    let message = match tail.is_empty() {
        true => exit.to_string(),
        false => format!("{exit}\nlast lines of the console:\n{tail}"),
    };
    Failure::new(reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_for_memory_is_out_of_memory_and_any_other_a_crash() {
        let exit = |line: &str| VmExit {
            reason: ExitReason::Panic(line.to_owned()),
            console_tail: "a\nb".to_owned(),
        };
        let oom = exit_failure(&exit("Kernel panic - not syncing: Out of memory: system-wide"));
        assert_eq!(oom.reason, FailureReason::GuestOom);
        let crash = exit_failure(&exit("Kernel panic - not syncing: Attempted to kill init"));
        assert_eq!(crash.reason, FailureReason::GuestCrashed);
        assert!(crash.message.contains("a\nb"));
    }
}
