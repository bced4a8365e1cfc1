//! Log entries of a job: redacted, cut into lines, spooled to disk, sent by a task of their own.
//!
//! What a step prints is on the executor's disk before anyone sends it, so that a broken connection
//! loses nothing; and it is sent by offset, so that nothing is repeated. Nothing here waits for the
//! instance but [`JobLog::flush`].

mod entry;
mod escapes;
mod lines;
mod redact;
mod sender;
mod spool;
mod variants;

pub use entry::{LogError, LogWriter};
pub use lines::Stream;
pub use redact::{RedactedStream, Redactor};
pub use sender::{SendError, SendMode};
pub use spool::JobLog;
