//! What every handler and loop is given.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::git::Mirrors;
use crate::metrics::Metrics;
use crate::site_config::SiteConfigHandle;

/// Where the instance keeps what it knows.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data folder; made when missing.
    pub data_dir: PathBuf,
    /// `sqlite:` or `postgres:` URL; `None` = `instance.db` in the data folder.
    pub database_url: Option<String>,
    /// The time.
    pub clock: Clock,
}

/// One process of the instance. Lasting state is in `store` and `data_dir` only; the rest can be lost.
pub struct App {
    /// The database.
    pub store: store::Store,
    /// The site configuration, always current.
    pub config: SiteConfigHandle,
    /// The data folder.
    pub data_dir: PathBuf,
    /// Large files.
    pub blobs: Blobs,
    /// Counters of this process.
    pub metrics: Metrics,
    /// The time.
    pub clock: Clock,
    /// Bare mirrors of the repositories.
    pub git: Mirrors,
    /// Cancelled when the process stops: whatever is held open (long polls, event streams) ends now.
    pub closing: CancellationToken,
}

impl App {
    /// Opens the data folder and the database (running migrations).
    ///
    /// # Errors
    /// When the folder, the site configuration or the database cannot be used; the message says what
    /// to do.
    pub async fn open(options: Options) -> anyhow::Result<Self> {
        let data_dir = options.data_dir;
        make_private(&data_dir).with_context(|| format!("data folder {}", data_dir.display()))?;
        let url = options
            .database_url
            .unwrap_or_else(|| format!("sqlite:{}", data_dir.join("instance.db").display()));
        let store = store::Store::open(&url).await.context("database")?;
        let config = SiteConfigHandle::open(&data_dir)?;
        let blobs = Blobs::open(data_dir.join("blobs")).context("blob folder")?;
        let git = Mirrors::open(data_dir.join("repos")).context("repository folder")?;
        Ok(Self {
            store,
            config,
            blobs,
            metrics: Metrics::new(),
            clock: options.clock,
            git,
            closing: CancellationToken::new(),
            data_dir,
        })
    }
}

/// The folder holds secrets, so it is the owner's alone.
fn make_private(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
