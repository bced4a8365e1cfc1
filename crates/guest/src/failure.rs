//! Failures on their way to the host.

use std::io;

use guest_wire::message::{Failure, FailureKind};
use nix::errno::Errno;

/// What requests return.
pub type Result<T> = std::result::Result<T, Failure>;

/// A failure of that kind.
pub fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into() }
}

/// The request makes no sense.
pub fn bad_request(message: impl Into<String>) -> Failure {
    failure(FailureKind::BadRequest, message)
}

/// Names what was being done when the system said no.
pub trait Context<T> {
    /// `what` is a fragment like `mount the workspace`.
    fn context(self, what: impl std::fmt::Display) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, Errno> {
    fn context(self, what: impl std::fmt::Display) -> Result<T> {
        self.map_err(|errno| failure(kind_of(errno), format!("{what}: {}", errno.desc())))
    }
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl std::fmt::Display) -> Result<T> {
        self.map_err(|error| {
            let kind = error
                .raw_os_error()
                .map_or(FailureKind::Internal, |code| kind_of(Errno::from_raw(code)));
            failure(kind, format!("{what}: {error}"))
        })
    }
}

fn kind_of(errno: Errno) -> FailureKind {
    match errno {
        Errno::ENOENT => FailureKind::NotFound,
        Errno::ENOSPC | Errno::EDQUOT => FailureKind::DiskFull,
        // What openat2 says about links and escapes.
        Errno::ELOOP | Errno::EXDEV => FailureKind::UnsafePath,
        _ => FailureKind::Internal,
    }
}
