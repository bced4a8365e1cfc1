//! `instance job submit`.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use reqwest::Method;

use super::follow;
use crate::cli::output;
use crate::cli::remote::Remote;
use crate::http::api::types::JobSubmitted;

/// Submit a job file and print the job's number.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  instance job submit build.yaml
  instance job submit build.yaml --follow > build.log
  generate-job | instance job submit -

With --follow the exit code is the job's: 0 when it completed, that of the step that failed, 1 when
it ended otherwise (time-out, out of memory, canceled …), 130 after Ctrl-C, which does not stop the
job.")]
pub struct Args {
    /// YAML or JSON; - reads standard input.
    file: PathBuf,
    /// Wait for the job: print its log to stdout and its progress to stderr.
    #[arg(long, short)]
    follow: bool,
    /// Submitting again with the same key gives the same job.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Run this revision instead of the one in the file.
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let text = read(&args.file)?;
    // A key of our own makes a submit whose answer was lost safe to repeat.
    let key = args.idempotency_key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let revision: Vec<(&str, String)> =
        args.revision.map(|r| ("revision", r)).into_iter().collect();
    let request = client
        .request(Method::POST, &["jobs"])
        .query(&revision)
        .header("content-type", "application/yaml")
        .header("idempotency-key", key)
        .body(text);
    let job: JobSubmitted =
        client.json(request).await.with_context(|| format!("job file {}", args.file.display()))?;
    if !args.follow {
        output::line(job.id)?;
        return Ok(ExitCode::SUCCESS);
    }
    let url = if job.url.starts_with('/') { client.page(&job.url) } else { job.url };
    eprintln!("job {}: submitted, {url}", job.id);
    follow::follow(&client, job.id).await
}

fn read(file: &std::path::Path) -> anyhow::Result<String> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("job file {}", file.display()))
}
