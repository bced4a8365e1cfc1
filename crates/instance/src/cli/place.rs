//! Commands that work over the API or directly on the server's data folder.

use anyhow::bail;

use super::local::Local;
use super::remote::{Client, Remote};
use crate::App;

/// Who works on the data folder directly, in the audit log.
pub const ACTOR: &str = "command line";

/// Where a command works.
pub enum Place {
    /// An instance, as the user of the token.
    Remote(Client),
    /// The data folder of this machine, as its owner.
    Local(Box<App>),
}

impl Place {
    /// The instance when an address is given (`--url`, INSTANCE_URL), else the data folder.
    ///
    /// # Errors
    /// When neither is given, or what is given cannot be used.
    pub async fn open(remote: &Remote, local: &Local) -> anyhow::Result<Self> {
        if remote.address().is_some() {
            return Ok(Self::Remote(remote.client()?));
        }
        if local.data_dir.is_some() {
            return Ok(Self::Local(Box::new(local.open().await?)));
        }
        bail!(
            "where? Set INSTANCE_URL and INSTANCE_TOKEN for an instance, or --data-dir on its machine"
        )
    }
}
