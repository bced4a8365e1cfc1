//! Commands that work on the server's own data folder, beside a running instance or without one.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::App;
use crate::app::Options;
use crate::clock::Clock;

/// Which data folder.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct Local {
    /// Data folder of the instance on this machine.
    #[arg(long, env = "INSTANCE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Its database, if that is not in the data folder.
    #[arg(long, env = "INSTANCE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
}

impl Local {
    /// The data folder.
    ///
    /// # Errors
    /// When none was given.
    pub fn dir(&self) -> anyhow::Result<&PathBuf> {
        self.data_dir.as_ref().context("no data folder given: use --data-dir or INSTANCE_DATA_DIR")
    }

    /// Opens the database and everything else a running instance has, but serves nothing.
    ///
    /// # Errors
    /// As [`App::open`].
    pub async fn open(&self) -> anyhow::Result<App> {
        App::open(Options {
            data_dir: self.dir()?.clone(),
            database_url: self.database_url.clone(),
            clock: Clock::system(),
        })
        .await
    }
}
