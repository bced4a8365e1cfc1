//! `instance job list`.

use std::process::ExitCode;

use reqwest::Method;

use crate::cli::output::Output;
use crate::cli::remote::Remote;
use crate::http::api::types::{JobList, JobSummary};

/// List jobs, newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  instance job list --state processing
  instance job list --repository example/app --limit 5 --json")]
pub struct Args {
    /// Only jobs in this state: queued, processing, completed, errored, failed or canceled.
    #[arg(long)]
    state: Option<String>,
    /// Only jobs of this queue.
    #[arg(long)]
    queue: Option<String>,
    /// Only jobs on this repository.
    #[arg(long)]
    repository: Option<String>,
    /// Only jobs of this user.
    #[arg(long)]
    creator: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let filters = [
        ("state", args.state),
        ("queue", args.queue),
        ("repository", args.repository),
        ("creator", args.creator),
        ("limit", Some(args.limit.to_string())),
    ];
    let query: Vec<(&str, String)> =
        filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let list: JobList = client.json(client.request(Method::GET, &["jobs"]).query(&query)).await?;
    let header = ["ID", "STATE", "QUEUE", "NAME", "REPOSITORY", "CREATOR", "CREATED", "REASON"];
    args.output.list(&list, &header, list.jobs.iter().map(row))?;
    Ok(ExitCode::SUCCESS)
}

fn row(job: &JobSummary) -> Vec<String> {
    vec![
        job.id.to_string(),
        job.state.clone(),
        job.queue.clone(),
        job.name.clone(),
        job.repository.clone(),
        job.creator.clone(),
        job.created_at.clone(),
        job.reason.clone().unwrap_or_default(),
    ]
}
