//! All SQL of the instance: the queue's state machine, logs, accounts, repositories, registry.
//!
//! One SQL text runs on SQLite and PostgreSQL through sqlx's `Any` driver. Writes go through
//! transactions that take SQLite's write lock at once, or row locks on PostgreSQL. Time comes in as an
//! argument (`now`, milliseconds since the Unix epoch, UTC) and is never read here, so that tests step
//! it by hand.
//!
//! Architecture invariants: no SQL outside this crate; no HTTP and no HTML in it. Plain tokens never
//! reach the database. Every change of a job's state is in [`transitions`].

mod access_tokens;
mod artifacts;
mod attempts;
mod audit;
mod db;
mod error;
mod executors;
mod feed;
mod holds;
mod images;
mod job_tokens;
mod logs;
mod migrate;
mod phases;
pub mod policy;
mod queue;
mod repositories;
mod results;
mod retention;
mod secret;
mod sessions;
mod settings;
mod throttle;
pub mod transitions;
mod uploads;
mod users;
mod wake;
mod workspace_files;

pub use access_tokens::{AccessToken, NewAccessToken};
pub use artifacts::Artifact;
pub use attempts::Attempt;
pub use audit::{AuditEntry, AuditRecord};
pub use db::{Backend, Store};
pub use error::{Error, Result};
pub use executors::{Executor, ExecutorFilter, ExecutorList};
pub use feed::{FeedChange, FeedItem};
pub use holds::{
    Appended, Hold, HoldToken, NewTerminal, Opened, Release, Stream, Terminal, TerminalAppend,
    TerminalEnd, TerminalEvent, Wish,
};
pub use images::{ImageObject, ImageTag, ObjectKind};
pub use job_tokens::{JobToken, TokenState};
pub use logs::{Append, LogEntry, NewLogEntry, ReplaceLog};
pub use migrate::SCHEMA_VERSION;
pub use phases::PhaseStart;
pub use queue::{
    Beat, Cancellation, Claim, ClaimRequest, Enqueued, Finish, Finished, HoldChange, Job,
    JobFilter, JobState, Lease, NewJob, Outcome, QueueCounts, QueueStats, Reset, WhyQueued,
};
pub use repositories::{NewRepository, Repository, RepositoryState};
pub use results::JobResult;
pub use retention::{Retention, Swept};
pub use secret::PlainToken;
pub use sessions::{NewSession, Session};
pub use uploads::{NewUpload, Upload, UploadPart, UploadState};
pub use users::{Role, User};
pub use wake::{Subscription, Topic};
pub use workspace_files::WorkspaceFile;
