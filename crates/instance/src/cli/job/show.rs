//! `instance job show`.

use std::process::ExitCode;

use crate::cli::output::{self, Output, bytes, duration};
use crate::cli::remote::Remote;
use crate::cli::terminal::one_line;
use crate::http::api::types::Job;

/// Show one job: state, phases, log entries, usage and artifacts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  instance job show 12
  instance job show 12 --json")]
pub struct Args {
    /// Number of the job.
    id: i64,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let job: Job = client.get(&["jobs", &args.id.to_string()]).await?;
    if args.output.json {
        output::json(&job)?;
    } else {
        for line in describe(&job) {
            output::line(line)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(job: &Job) -> Vec<String> {
    let summary = &job.summary;
    let mut lines = Vec::new();
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!("{:<12}{}", format!("{name}:"), one_line(value)));
        }
    };
    field("job", &summary.id.to_string());
    field("name", &summary.name);
    field("state", &summary.state);
    field("waits", job.why_queued.as_deref().unwrap_or_default());
    field("reason", summary.reason.as_deref().unwrap_or_default());
    field("exit code", &summary.exit_code.map_or(String::new(), |code| code.to_string()));
    field("message", &job.message);
    field("queue", &summary.queue);
    field("repository", &summary.repository);
    field("commit", &summary.commit);
    field("creator", &summary.creator);
    field("executor", &summary.executor);
    field("attempt", &summary.attempt.to_string());
    field("created", &summary.created_at);
    field("started", summary.started_at.as_deref().unwrap_or_default());
    field("finished", summary.finished_at.as_deref().unwrap_or_default());
    for machine in job.hold.iter().flat_map(|hold| &hold.machines) {
        let end = match (&machine.end, &machine.released_by) {
            (Some(end), _) => format!("went: {end}"),
            (None, Some(by)) => format!("released by {by}"),
            (None, None) => format!("kept until {}", machine.held_until),
        };
        field("machine", &format!("attempt {} on {}, {end}", machine.attempt, machine.executor));
    }
    if let Some(usage) = &job.usage {
        field("CPU", &duration(i64::try_from(usage.cpu_ms).unwrap_or(i64::MAX)));
        field("memory", &bytes(usage.peak_memory_bytes));
        field("disk", &bytes(usage.disk_bytes));
    }
    for phase in &job.phases {
        field(&phase.phase, &phase.duration_ms.map_or("…".to_owned(), duration));
    }
    for entry in &job.entries {
        let exit = entry.exit_code.map_or("runs".to_owned(), |code| format!("exit {code}"));
        let size = bytes(u64::try_from(entry.size).unwrap_or(0));
        field(&format!("entry {}", entry.id), &format!("{} ({exit}, {size})", entry.key));
    }
    for artifact in &job.artifacts {
        let size = bytes(u64::try_from(artifact.size).unwrap_or(0));
        field("artifact", &format!("{} ({size})", artifact.path));
    }
    lines
}
