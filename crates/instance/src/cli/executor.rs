//! `instance executor …`.

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;

use super::output::Output;
use super::remote::Remote;
use crate::http::api::types::{Executor, ExecutorList};

/// Look at executors, and drain them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the executors that were seen.
    #[command(after_help = "Example:
  instance executor list")]
    List {
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        remote: Remote,
    },
    /// Let an executor end its jobs and take no more.
    #[command(after_help = "Example:
  instance executor drain build-7")]
    Drain {
        /// Host name of the executor.
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Let a drained executor take jobs again.
    #[command(after_help = "Example:
  instance executor undrain build-7")]
    Undrain {
        /// Host name of the executor.
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Runs the command.
///
/// # Errors
/// In the instance's words.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List { output, remote } => {
            let list: ExecutorList = remote.client()?.get(&["executors"]).await?;
            let header =
                ["NAME", "STATUS", "QUEUES", "JOBS", "CAPACITY", "RUNTIME", "VERSION", "LAST SEEN"];
            output.list(&list, &header, list.executors.iter().map(row))?;
        }
        Command::Drain { name, remote } => {
            remote.client()?.call(Method::POST, &["executors", &name, "drain"]).await?;
            eprintln!("executor {name}: drains");
        }
        Command::Undrain { name, remote } => {
            remote.client()?.call(Method::POST, &["executors", &name, "undrain"]).await?;
            eprintln!("executor {name}: takes jobs again");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(executor: &Executor) -> Vec<String> {
    let status = match (executor.active, executor.draining) {
        (true, false) => "active",
        (true, true) => "draining",
        (false, _) => "gone",
    };
    let runtime = [executor.runtime.as_str(), executor.acceleration.as_str()];
    let runtime: Vec<&str> = runtime.into_iter().filter(|part| !part.is_empty()).collect();
    vec![
        executor.name.clone(),
        status.to_owned(),
        executor.queues.join(","),
        executor.jobs.len().to_string(),
        executor.capacity.map_or(String::new(), |n| n.to_string()),
        runtime.join("/"),
        executor.version.clone(),
        executor.last_seen_at.clone(),
    ]
}
