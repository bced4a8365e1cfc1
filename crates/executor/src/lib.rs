//! The executor: takes jobs from an instance and runs each in its own microVM.
//!
//! One dispatcher ([`agent`]) talks to the queue; one task ([`job`]) owns each job and its VM; the
//! rest are tools of that task: [`git`] (repositories), [`runtime`] (microVMs), [`logs`] (output),
//! [`gateway`] (the instance, as seen from inside a job).
//!
//! Architecture invariants: secrets are in headers only, never in arguments, files or texts; nothing
//! a job made is opened by the host's kernel; nothing is built as a shell string on the host.

pub mod agent;
pub mod client;
pub mod clock;
pub mod config;
pub mod gateway;
pub mod git;
pub mod job;
pub mod logs;
pub mod metrics;
pub mod runtime;
pub mod state;
pub mod status;
pub mod telemetry;
