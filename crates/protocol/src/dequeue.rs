//! Asking for a job.

use serde::{Deserialize, Serialize};

use crate::nullable::or_default;

/// Body of `POST …/dequeue`. `queues` is set on the multi-queue route only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DequeueRequest {
    /// Queues to choose from (multi-queue route).
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub queues: Vec<String>,
    /// The executor's unique name. Required.
    #[serde(deserialize_with = "or_default")]
    pub executor_name: String,
    /// The executor's version; decides between job format v1 and v2.
    #[serde(deserialize_with = "or_default")]
    pub version: String,
    /// vCPUs a job gets; 0 when unknown.
    #[serde(rename = "numCPUs", skip_serializing_if = "is_zero", deserialize_with = "or_default")]
    pub num_cpus: i64,
    /// Memory a job gets, as the operator wrote it, for example `12G`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub memory: String,
    /// Disk a job gets, as the operator wrote it, for example `20G`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub disk_space: String,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}
