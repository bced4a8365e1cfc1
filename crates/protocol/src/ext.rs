//! What both of our own sides add to the base protocol. A stock peer never notices: an executor lists
//! what it understands in the request header [`crate::headers::EXTENSIONS`], the instance answers with
//! what it grants, and every added JSON field is optional.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::nullable::or_default;

/// A set of extensions as a header value: `append-logs, phases, results, reasons, long-poll, hold`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Log output is appended at a byte offset instead of re-sent whole.
    pub append_logs: bool,
    /// Phases are reported as they begin.
    pub phases: bool,
    /// Results and artifacts are posted, not parsed out of log text.
    pub results: bool,
    /// mark* carries reason, exit code and usage.
    pub reasons: bool,
    /// Dequeue and heartbeat may be held open by `Prefer: wait`.
    pub long_poll: bool,
    /// The machine of a failed job may be kept, see [`crate::hold`].
    pub hold: bool,
}

impl Extensions {
    /// Everything this version speaks.
    pub const ALL: Self = Self {
        append_logs: true,
        phases: true,
        results: true,
        reasons: true,
        long_poll: true,
        hold: true,
    };

    /// Reads a header value; unknown names are ignored.
    pub fn parse(value: &str) -> Self {
        let has = |name: &str| value.split(',').any(|part| part.trim() == name);
        Self {
            append_logs: has("append-logs"),
            phases: has("phases"),
            results: has("results"),
            reasons: has("reasons"),
            long_poll: has("long-poll"),
            hold: has("hold"),
        }
    }

    /// Nothing was negotiated: the peer is a stock one.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.append_logs, "append-logs"),
            (self.phases, "phases"),
            (self.results, "results"),
            (self.reasons, "reasons"),
            (self.long_poll, "long-poll"),
            (self.hold, "hold"),
        ];
        let mut separator = "";
        for (_, name) in names.iter().filter(|(on, _)| *on) {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// Phases of a job on its executor, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Images and the repository come from caches or are fetched.
    Preparing,
    /// The microVM (or container environment) starts.
    Booting,
    /// Steps run.
    Running,
    /// Results leave the guest.
    Collecting,
    /// Logs are flushed and the outcome is reported.
    Reporting,
}

impl Phase {
    /// All phases in order.
    pub const ALL: [Self; 5] =
        [Self::Preparing, Self::Booting, Self::Running, Self::Collecting, Self::Reporting];

    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Booting => "booting",
            Self::Running => "running",
            Self::Collecting => "collecting",
            Self::Reporting => "reporting",
        }
    }
}

/// Body of `POST …/phases`: a phase begins (and the one before it ends). Idempotent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseReport {
    /// Must equal the row's owner.
    pub executor_name: String,
    /// The phase that begins.
    pub phase: Phase,
    /// Milliseconds since the job was dequeued, by the executor's monotonic clock; the instance adds
    /// them to its own clock, so that clock skew cannot bend the bar.
    pub elapsed_ms: i64,
}

/// Body of `POST …/results`: one structured result of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultReport {
    /// What it is, for example `step-result`, `diff`, `output`.
    pub kind: String,
    /// Unique within the job; a second post with the same kind and name replaces the first.
    pub name: String,
    /// The value.
    pub value: serde_json::Value,
}

/// Answer to an append: bytes the instance has. On 409 the executor continues from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendResponse {
    /// Length of the stored output in bytes.
    pub offset: u64,
}

/// Why a job did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// A step's script ended with a non-zero exit code.
    StepFailed,
    /// The guest kernel killed a process of the job for memory.
    GuestOom,
    /// The job filled its disk.
    DiskFull,
    /// The wall-time limit.
    Timeout,
    /// A person asked.
    Canceled,
    /// The registry does not have the image.
    ImageNotFound,
    /// The registry refused the credentials (or their absence).
    ImageUnauthorized,
    /// The image is malformed, hostile or over the limits.
    ImageInvalid,
    /// The repository or commit could not be fetched.
    CheckoutFailed,
    /// The microVM did not reach a ready guest.
    VmBootFailed,
    /// The guest kernel panicked, powered off, or its agent stopped answering.
    GuestCrashed,
    /// More output than allowed.
    OutputLimit,
    /// More processes than allowed, or another guest limit.
    ResourceLimit,
    /// The job needs the network, and its executor cannot give it one.
    NetworkUnavailable,
    /// The job document cannot be run (unknown field value, bad path, too large).
    InvalidJob,
    /// No heartbeat too many times.
    ExecutorLost,
    /// A fault of the executor or its machine.
    ExecutorError,
}

impl FailureReason {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StepFailed => "step_failed",
            Self::GuestOom => "guest_oom",
            Self::DiskFull => "disk_full",
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
            Self::ImageNotFound => "image_not_found",
            Self::ImageUnauthorized => "image_unauthorized",
            Self::ImageInvalid => "image_invalid",
            Self::CheckoutFailed => "checkout_failed",
            Self::VmBootFailed => "vm_boot_failed",
            Self::GuestCrashed => "guest_crashed",
            Self::OutputLimit => "output_limit",
            Self::ResourceLimit => "resource_limit",
            Self::NetworkUnavailable => "network_unavailable",
            Self::InvalidJob => "invalid_job",
            Self::ExecutorLost => "executor_lost",
            Self::ExecutorError => "executor_error",
        }
    }

    /// Reads a wire name.
    pub fn parse(name: &str) -> Option<Self> {
        serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
    }
}

/// What a job used. Zero where the runtime cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// CPU time of all steps, in milliseconds.
    pub cpu_ms: u64,
    /// Highest memory use of the steps, in bytes.
    pub peak_memory_bytes: u64,
    /// Bytes written to the scratch disk.
    pub disk_bytes: u64,
    /// Bytes of step output.
    pub output_bytes: u64,
    /// Bytes received from the network.
    pub network_in_bytes: u64,
    /// Bytes sent to the network.
    pub network_out_bytes: u64,
    /// Connections, look-ups and packets of the job that were refused.
    pub network_blocked: u64,
}

/// Ours, on the heartbeat: state of the agent that the stock protocol has no field for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentStatus {
    /// Job slots.
    pub capacity: i64,
    /// `qemu`, `firecracker` or `docker`.
    #[serde(deserialize_with = "or_default")]
    pub runtime: String,
    /// `kvm`, `tcg` (software emulation) or empty.
    #[serde(deserialize_with = "or_default")]
    pub acceleration: String,
    /// No more jobs are taken; the running ones end.
    pub draining: bool,
    /// The last error that was not a job's own, empty if none.
    #[serde(deserialize_with = "or_default")]
    pub last_error: String,
}

/// Ours, on the job document under the key `extensions`; sent only to executors that negotiated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobExtensions {
    /// 1 for the first run, then one more for each reset or retry.
    pub attempt: i64,
    /// vCPUs; 0 = the executor's default.
    pub vcpus: u32,
    /// Memory in MiB; 0 = the executor's default.
    pub memory_mib: u64,
    /// Scratch disk in MiB; 0 = the executor's default.
    pub disk_mib: u64,
    /// Processes; 0 = the executor's default.
    pub max_processes: u32,
    /// Wall time in seconds; 0 = the executor's default. Never above the executor's own maximum.
    pub timeout_seconds: u64,
    /// Output bytes over all steps; 0 = the executor's default.
    pub max_output_bytes: u64,
    /// Globs of artifacts, relative to the workspace.
    #[serde(deserialize_with = "or_default")]
    pub artifacts: Vec<String>,
    /// `none` or `egress`; empty = the executor's default for the queue.
    #[serde(deserialize_with = "or_default")]
    pub network: String,
    /// `egress` is the queue's default, not the job's wish: it runs without where there is none.
    pub network_optional: bool,
    /// Networks opened although they are private: `10.1.2.0/24`, `10.1.2.3:5000`, `[fd00::1]:443`.
    #[serde(deserialize_with = "or_default")]
    pub network_addresses: Vec<String>,
    /// Where given, these domains and nothing else: `example.com`, `*.example.com`, `example.com:22`.
    pub network_domains: Option<Vec<String>>,
    /// If the job fails, its machine is kept this many seconds, see [`crate::hold`]; 0 = it is not.
    /// Never above the executor's own maximum.
    pub hold_seconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_survive_a_header_and_ignore_the_unknown() {
        let text = Extensions::ALL.to_string();
        assert_eq!(Extensions::parse(&text), Extensions::ALL);
        assert!(Extensions::parse("teleport").is_empty());
    }

    #[test]
    fn reasons_and_phases_have_one_name_each() {
        assert_eq!(FailureReason::parse("guest_oom"), Some(FailureReason::GuestOom));
        assert_eq!(FailureReason::parse("nope"), None);
        for phase in Phase::ALL {
            let json = serde_json::to_value(phase).unwrap();
            assert_eq!(json, phase.as_str());
        }
    }
}
