//! The job file: what a user writes, as YAML or JSON, to have steps run.
//!
//! Reading happens in two passes: [`read`] gives the types with the place of every value, [`check`]
//! holds each value against the rules and the site configuration and reports everything at once.

mod check;
pub mod image;
mod payload;
mod read;
pub mod submit;

use std::collections::BTreeMap;

use crate::problems::Problems;
use crate::site_config::{NetworkAccess, SiteConfig};
use crate::units::{Size, Span};

/// A valid job file.
#[derive(Clone, Debug, PartialEq)]
pub struct JobFile {
    /// Shown in lists; empty = none.
    pub name: String,
    /// Name of a repository on the instance; empty = none.
    pub repository: String,
    /// Branch, tag or commit; empty = the default branch.
    pub revision: String,
    /// At least one.
    pub steps: Vec<Step>,
    /// Content by path, relative to the workspace.
    pub files: BTreeMap<String, String>,
    /// Globs, relative to the workspace.
    pub artifacts: Vec<String>,
    /// What the job may use.
    pub resources: Resources,
    /// Wall time; `None` = the executor's default.
    pub timeout: Option<Span>,
    /// Higher first.
    pub priority: i64,
    /// `jobs`, `codeintel` or `batches`.
    pub queue: String,
    /// `None` = the queue's default.
    pub network: Option<NetworkAccess>,
    /// How long its machine is kept if it fails; `None` = not at all.
    pub hold: Option<Span>,
}

/// One step: a script in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Unique within the job; names its log entry.
    pub key: String,
    /// Image reference.
    pub image: String,
    /// Shell script.
    pub run: String,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Working directory, relative to the workspace; empty = its root.
    pub dir: String,
}

/// What a job may use; `None` = the executor's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// vCPUs.
    pub cpus: Option<u32>,
    /// Memory of the virtual machine.
    pub memory: Option<Size>,
    /// Scratch disk.
    pub disk: Option<Size>,
    /// Processes and threads.
    pub processes: Option<u32>,
}

/// Who submits; decides what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitter {
    /// Only the queue `jobs`, and no priority above 0.
    User,
    /// Every queue and priority.
    SiteAdmin,
}

impl JobFile {
    /// Reads and checks a job file (YAML; JSON is a part of it).
    ///
    /// # Errors
    /// Every problem with its field, line and column; mistakes of syntax and type come alone.
    pub fn parse(text: &str, config: &SiteConfig, by: Submitter) -> Result<Self, Problems> {
        check::check(read::read(text)?, config, by)
    }
}
