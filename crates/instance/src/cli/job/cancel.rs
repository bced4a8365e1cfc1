//! `instance job cancel`.

use std::process::ExitCode;

use reqwest::Method;

use crate::cli::remote::Remote;
use crate::http::api::types::Job;

/// Stop a job: one that waits ends at once, one that runs within a moment.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  instance job cancel 12")]
pub struct Args {
    /// Number of the job.
    id: i64,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let id = args.id.to_string();
    let job: Job = client.json(client.request(Method::POST, &["jobs", &id, "cancel"])).await?;
    if job.summary.state == "processing" {
        eprintln!("job {id}: stops");
    } else {
        eprintln!("job {id}: {}", job.summary.state);
    }
    Ok(ExitCode::SUCCESS)
}
