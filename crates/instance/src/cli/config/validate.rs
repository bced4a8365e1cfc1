//! `instance config validate`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::site_config::{file, parse};

/// Check a file; exit code 1 when it has mistakes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  instance config validate --data-dir /var/lib/instance
  instance config validate new-config.jsonc")]
pub struct Args {
    /// Check this file instead of the one in the data folder.
    file: Option<PathBuf>,
    /// Data folder of the instance.
    #[arg(long, env = "INSTANCE_DATA_DIR", value_name = "DIR", required_unless_present = "file")]
    data_dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = match (&args.file, &args.data_dir) {
        (Some(file), _) => file.clone(),
        (None, Some(dir)) => file::path(dir),
        (None, None) => anyhow::bail!("give a file or --data-dir"),
    };
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    match parse::parse(&text) {
        Ok(_) => {
            eprintln!("{}: ok", path.display());
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            for problem in &problems.0 {
                eprintln!("{}: {problem}", path.display());
            }
            Ok(ExitCode::FAILURE)
        }
    }
}
