//! Every type that crosses HTTP between an instance and an executor.
//!
//! The base is the wire protocol of Sourcegraph executors (up to 5.3): odd names, nulls and casing
//! are kept, because a stock executor and a stock instance must work unchanged. What both of our own
//! sides add on top lives in [`ext`] and is always negotiated.
//!
//! Architecture invariant: serde only. No runtime, no file, no socket.

pub mod dequeue;
pub mod ext;
pub mod headers;
pub mod heartbeat;
pub mod hold;
pub mod job;
pub mod log;
pub mod mark;
mod nullable;
pub mod routes;

pub use dequeue::DequeueRequest;
pub use ext::{FailureReason, Phase, PhaseReport, Usage};
pub use heartbeat::{HeartbeatRequest, HeartbeatResponse, JobIdsByQueue, WireId};
pub use job::{CliStep, DecodeError, DockerAuthConfig, DockerStep, Job, JobVersion, VirtualFile};
pub use log::LogEntryRequest;
pub use mark::MarkRequest;
