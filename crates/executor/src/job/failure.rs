//! Why a job did not complete: a typed reason, words for people, and what to tell the instance.

use microvm::images::{ErrorKind, ImageError};
use protocol::FailureReason;

use crate::client::MarkKind;
use crate::git::CheckoutError;
use crate::logs::LogError;

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
