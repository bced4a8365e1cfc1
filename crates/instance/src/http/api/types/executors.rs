//! Executors.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An executor that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Executor {
    /// Host name; unique.
    pub name: String,
    /// Queues it serves.
    pub queues: Vec<String>,
    /// Seen within the last 15 seconds.
    pub active: bool,
    /// It takes no more jobs, or was asked to.
    pub draining: bool,
    /// Its version.
    pub version: String,
    /// Operating system.
    pub os: String,
    /// Architecture.
    pub architecture: String,
    /// `qemu`, `firecracker` or `docker`; empty from stock executors.
    pub runtime: String,
    /// `kvm`, `tcg` or empty.
    pub acceleration: String,
    /// Job slots; absent from stock executors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<i64>,
    /// Jobs it runs now.
    pub jobs: Vec<i64>,
    /// Failed jobs whose machines it keeps; each occupies a slot.
    pub held: Vec<i64>,
    /// Its last error that was not a job's own; may be empty.
    pub last_error: String,
    /// First heartbeat.
    pub first_seen_at: String,
    /// Last heartbeat.
    pub last_seen_at: String,
}

/// Answer of `GET /executors`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecutorList {
    /// By name.
    pub executors: Vec<Executor>,
}
