//! Jobs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer to a submit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobSubmitted {
    /// The job.
    pub id: i64,
    /// False when the `Idempotency-Key` named a job that exists.
    pub created: bool,
    /// Its page.
    pub url: String,
}

/// A job in a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobSummary {
    /// Unique on the instance.
    pub id: i64,
    /// `jobs`, `codeintel` or `batches`.
    pub queue: String,
    /// `queued`, `processing`, `completed`, `errored`, `failed` or `canceled`.
    pub state: String,
    /// As in the job file; may be empty.
    pub name: String,
    /// Repository; may be empty.
    pub repository: String,
    /// Commit; may be empty.
    pub commit: String,
    /// Who submitted it; empty when that user is gone.
    pub creator: String,
    /// Higher first.
    pub priority: i64,
    /// 0 before the first run.
    pub attempt: i64,
    /// Executor of the current or last attempt; may be empty.
    pub executor: String,
    /// Somebody asked to stop it.
    pub cancel_requested: bool,
    /// When it was submitted.
    pub created_at: String,
    /// Start of the current or last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Why it did not complete, for example `step_failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Exit code of the step that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
}

/// Answer of `GET /jobs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// Newest first.
    pub jobs: Vec<JobSummary>,
    /// Give it as `cursor` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One job with everything about it.
///
/// `message`, `entries`, `results` and `artifacts` are what the job itself produced: only its
/// creator and site admins get them, others see them empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// The fields of the list.
    #[serde(flatten)]
    pub summary: JobSummary,
    /// Whether the caller may see output and artifacts, cancel and retry.
    pub yours: bool,
    /// Evidence for `reason`; may be empty.
    pub message: String,
    /// Why it still waits; only while `queued`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_queued: Option<String>,
    /// How often its executor was lost.
    pub resets: i64,
    /// Phases of the current or last attempt, in order.
    pub phases: Vec<Phase>,
    /// Log entries of the current or last attempt, in order.
    pub entries: Vec<LogEntry>,
    /// What the last attempt used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageReport>,
    /// Structured results.
    pub results: Vec<JobResult>,
    /// Kept files.
    pub artifacts: Vec<Artifact>,
    /// What happens to its machine if it fails, and what happened; absent when nothing does or did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<JobHold>,
}

/// What happens to a job's machine if it fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobHold {
    /// Seconds that it is kept, as the job file or a site admin said last; 0 = it is not kept.
    pub seconds: u64,
    /// Machines that are or were kept, one for each attempt that failed on one, oldest first.
    pub machines: Vec<HeldMachine>,
}

/// A machine that is or was kept after its job failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldMachine {
    /// The attempt that failed on it.
    pub attempt: i64,
    /// Who keeps it.
    pub executor: String,
    /// Since when.
    pub held_at: String,
    /// When it goes by itself.
    pub held_until: String,
    /// The site admin who let it go; absent if nobody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_by: Option<String>,
    /// When it went; absent while it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Why it went: `expired`, `released`, `machine_gone`, `executor_stopped` or `executor_lost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}

/// Body of `POST /jobs/{id}/hold`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewHold {
    /// How long its machine is kept if the job fails; 0 = it is not kept.
    pub seconds: u64,
}

/// A phase of a job on its executor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Phase {
    /// `preparing`, `booting`, `running`, `collecting` or `reporting`.
    pub phase: String,
    /// When it began.
    pub started_at: String,
    /// How long it took; absent while it lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
}

/// A log entry: one command the executor ran for the job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogEntry {
    /// From 1, within the attempt.
    pub id: i64,
    /// For example `step.docker.count`.
    pub key: String,
    /// The command; empty when the entry is none.
    pub command: Vec<String>,
    /// When it began.
    pub started_at: String,
    /// Absent while it runs; −1 = killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// Bytes of output so far.
    pub size: i64,
}

/// What a job used; 0 where the executor cannot tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageReport {
    /// CPU time of all steps.
    pub cpu_ms: u64,
    /// Highest memory use.
    pub peak_memory_bytes: u64,
    /// Written to the scratch disk.
    pub disk_bytes: u64,
    /// Output of the steps.
    pub output_bytes: u64,
    /// Received from the network.
    pub network_in_bytes: u64,
    /// Sent to the network.
    pub network_out_bytes: u64,
    /// Connections, look-ups and packets that were refused.
    pub network_blocked: u64,
}

impl From<protocol::Usage> for UsageReport {
    fn from(usage: protocol::Usage) -> Self {
        let protocol::Usage {
            cpu_ms,
            peak_memory_bytes,
            disk_bytes,
            output_bytes,
            network_in_bytes,
            network_out_bytes,
            network_blocked,
        } = usage;
        Self {
            cpu_ms,
            peak_memory_bytes,
            disk_bytes,
            output_bytes,
            network_in_bytes,
            network_out_bytes,
            network_blocked,
        }
    }
}

/// A structured result of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobResult {
    /// For example `output`.
    pub kind: String,
    /// Unique within the kind.
    pub name: String,
    /// Any JSON.
    pub value: serde_json::Value,
}

/// A kept file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// Relative to the workspace.
    pub path: String,
    /// Bytes.
    pub size: i64,
    /// Of the content, in hexadecimal.
    pub sha256: String,
}

/// Answer of `GET /jobs/{id}/artifacts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactList {
    /// By path.
    pub artifacts: Vec<Artifact>,
}
