//! `instance config generate-token`.

use std::process::ExitCode;
use std::time::Duration;

use std::path::PathBuf;

use jiff::Timestamp;

use crate::cli::output;
use crate::clock::Clock;
use crate::site_config::{file, rotate, token};

/// How long the former secret stays valid.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);

/// Print a new secret for executors.accessToken.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  instance config generate-token
  instance config generate-token --save --data-dir /var/lib/instance

With --save the secret goes into the file and the former one stays valid for 24 hours.")]
pub struct Args {
    /// Put it into the site configuration as well.
    #[arg(long, requires = "data_dir")]
    save: bool,
    /// Data folder of the instance.
    #[arg(long, env = "INSTANCE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let new = token::generate();
    if let (true, Some(dir)) = (args.save, &args.data_dir) {
        std::fs::create_dir_all(dir)?;
        let text = file::read_or_create(dir)?;
        let now = Timestamp::from_millisecond(Clock::system().now_ms())?;
        let rotated = rotate(&text, &new, now + OVERLAP)?;
        file::replace(dir, &rotated, &file::etag(&text))?;
        eprintln!("saved in {}", file::path(dir).display());
    }
    output::line(new)?;
    Ok(ExitCode::SUCCESS)
}
