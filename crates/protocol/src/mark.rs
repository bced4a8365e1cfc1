//! The end of a job, as the executor reports it.

use serde::{Deserialize, Serialize};

use crate::ext::{FailureReason, Usage};
use crate::nullable::or_default;

/// Body of `markComplete`, `markErrored` and `markFailed`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MarkRequest {
    /// Must equal the row's owner.
    #[serde(deserialize_with = "or_default")]
    pub executor_name: String,
    /// The job.
    pub job_id: i64,
    /// `markErrored` and `markFailed`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub error_message: String,
    /// Ours: why the job did not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<FailureReason>,
    /// Ours: exit code of the step that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Ours: what the job used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Ours: the executor keeps the job's machine this many seconds, see [`crate::hold`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_seconds: Option<u64>,
}
