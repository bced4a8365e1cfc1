//! What jobs share.

use std::path::PathBuf;
use std::sync::Arc;

use microvm::images::ImageStore;

use crate::client::JobClient;
use crate::config::Config;
use crate::git::Repositories;
use crate::runtime::Runtime;

/// What jobs share.
pub struct Tools {
    /// Settings.
    pub config: Arc<Config>,
    /// Makes machines.
    pub runtime: Runtime,
    /// Container images.
    pub images: ImageStore,
    /// Mirrors and checkouts.
    pub repositories: Repositories,
    /// Folders of running jobs; emptied at start.
    pub jobs_dir: PathBuf,
}

/// A name for the machine of a job; names have at most 64 bytes, and the end makes it unique.
pub(super) fn machine_name(config: &Config, client: &JobClient) -> String {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let prefix = &config.qemu.vm_prefix;
    let name = format!("{prefix}-{}-{}-{}", client.queue(), client.id(), &unique[..8]);
    name[name.len().saturating_sub(64)..].to_owned()
}
