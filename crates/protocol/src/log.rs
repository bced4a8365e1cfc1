//! Log entries: one per command the executor runs for a job.

use serde::{Deserialize, Serialize};

use crate::nullable::or_default;

/// Body of `addExecutionLogEntry` and `updateExecutionLogEntry`.
///
/// Output lines carry the prefix `stdout: ` or `stderr: `, which is load-bearing for batch changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogEntryRequest {
    /// Must equal the row's owner.
    #[serde(deserialize_with = "or_default")]
    pub executor_name: String,
    /// The job.
    pub job_id: i64,
    /// On update: the entry's 1-based id. On add, ours only: the id we expect, which makes a repeated
    /// add (lost answer) return the same id instead of making a second entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry_id: Option<i64>,
    /// Log key, for example `setup.git.init` or `step.docker.indexer`.
    #[serde(deserialize_with = "or_default")]
    pub key: String,
    /// The command recorded; `null` for entries that are not a command.
    pub command: Option<Vec<String>>,
    /// RFC 3339 with up to nanoseconds and any offset.
    #[serde(deserialize_with = "or_default")]
    pub start_time: String,
    /// Absent until known; 0 is sent; -1 = killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The whole output so far.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub out: String,
    /// Milliseconds, absent until known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
}
