//! Bodies of the user API. The server writes and the command line reads the same types.
//!
//! Times are RFC 3339 in UTC, durations milliseconds, sizes bytes. Fields without a value are absent.
//! A field that is added later is optional; readers ignore what they do not know.

mod accounts;
mod events;
mod executors;
mod jobs;
mod repositories;

pub use accounts::{
    Account, AccountList, NewAccount, NewToken, Token, TokenCreated, TokenList, UpdateAccount,
};
pub use events::{EndEvent, EntryEvent, LogEvent, PhaseEvent, StateEvent};
pub use executors::{Executor, ExecutorList};
pub use jobs::{
    Artifact, ArtifactList, HeldMachine, Job, JobHold, JobList, JobResult, JobSubmitted,
    JobSummary, LogEntry, NewHold, Phase, UsageReport,
};
pub use repositories::{Image, ImageList, NewRepository, Repository, RepositoryList};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every error of the API: `{"error":{"code":"not_found","message":"job not found"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// Stable, for programs, for example `not_found`.
    pub code: String,
    /// For people.
    pub message: String,
    /// The field of the request that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// Answer of `GET /version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Version of the instance.
    pub version: String,
}

/// Milliseconds since the epoch as RFC 3339.
pub(crate) fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map(|t| t.to_string()).unwrap_or_default()
}
