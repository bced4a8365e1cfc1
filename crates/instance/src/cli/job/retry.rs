//! `instance job retry`.

use std::process::ExitCode;

use reqwest::Method;

use super::follow;
use crate::cli::output;
use crate::cli::remote::Remote;
use crate::http::api::types::Job;

/// Queue an ended job again (same job, new attempt) and print its number.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  instance job retry 12
  instance job retry 12 --follow")]
pub struct Args {
    /// Number of the job.
    id: i64,
    /// Wait for it, as `instance job submit --follow` does.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let segments = ["jobs", &args.id.to_string(), "retry"];
    let job: Job = client.json(client.request(Method::POST, &segments)).await?;
    if args.follow {
        return follow::follow(&client, job.summary.id).await;
    }
    output::line(job.summary.id)?;
    Ok(ExitCode::SUCCESS)
}
