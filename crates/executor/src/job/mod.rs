//! One task owns one job, from its document to its acknowledged end.
//!
//! ```text
//! Plan::of_job ─► Preparing (images, repository) ─► Booting ─► Running (files, steps)
//!              ─► Collecting (artifacts) ─► Reporting (log, mark*)
//! ```
//!
//! Whatever happens in between, the machine is destroyed, the log is delivered before the end is
//! reported, and the end is reported until the instance acknowledges it or takes the job away.

mod collect;
mod control;
mod failure;
mod files;
mod hold;
mod images;
mod mark;
mod phases;
mod pipeline;
mod plan;
mod runner;
pub mod script;
mod skip;
mod steps;
mod tools;
mod trial;

pub use control::{Interrupt, JobControl};
pub use failure::Failure;
pub use hold::Held;
pub use plan::{Plan, Resources, Step};
pub use runner::JobRunner;
pub use tools::Tools;
pub use trial::{Trial, trial};
