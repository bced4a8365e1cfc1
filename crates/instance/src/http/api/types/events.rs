//! Events of `GET /jobs/{id}/logs` as an event stream, named in their `event:` line.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `log`: output of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogEvent {
    /// Attempt.
    pub attempt: i64,
    /// Log entry.
    pub entry: i64,
    /// Byte at which `text` starts within the entry's output.
    pub offset: i64,
    /// The output; bytes that are no UTF-8 are shown as U+FFFD.
    pub text: String,
}

/// `entry`: a log entry began or ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryEvent {
    /// Attempt.
    pub attempt: i64,
    /// Log entry.
    pub entry: i64,
    /// For example `step.docker.count`.
    pub key: String,
    /// The command; empty when the entry is none.
    pub command: Vec<String>,
    /// Absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
}

/// `phase`: a phase began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhaseEvent {
    /// Attempt.
    pub attempt: i64,
    /// `preparing`, `booting`, `running`, `collecting` or `reporting`.
    pub phase: String,
    /// When it began.
    pub started_at: String,
}

/// `state`: the job changed its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateEvent {
    /// Attempt.
    pub attempt: i64,
    /// The state it is in now.
    pub state: String,
    /// When.
    pub at: String,
}

/// `end`: the job ended and nothing more will come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndEvent {
    /// `completed`, `failed` or `canceled`.
    pub state: String,
    /// Why it did not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Evidence; may be empty.
    pub message: String,
    /// Exit code of the step that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
}
