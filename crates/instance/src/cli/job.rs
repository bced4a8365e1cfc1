//! `instance job …`: submit and watch jobs over the API.

mod cancel;
pub(crate) mod follow;
mod hold;
mod list;
mod logs;
mod retry;
mod show;
mod submit;

use std::process::ExitCode;

use clap::Subcommand;

/// Submit jobs and look at them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Submit a job file.
    Submit(submit::Args),
    /// List jobs, newest first.
    List(list::Args),
    /// Show one job.
    Show(show::Args),
    /// Print the log of a job.
    Logs(logs::Args),
    /// Stop a job.
    Cancel(cancel::Args),
    /// Queue an ended job again.
    Retry(retry::Args),
    /// Keep a job's machine if the job fails.
    Hold(hold::Args),
    /// Let a job's machine go.
    Release(hold::ReleaseArgs),
}

/// Runs the command.
///
/// # Errors
/// In the instance's words.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Submit(args) => submit::run(args).await,
        Command::List(args) => list::run(args).await,
        Command::Show(args) => show::run(args).await,
        Command::Logs(args) => logs::run(args).await,
        Command::Cancel(args) => cancel::run(args).await,
        Command::Retry(args) => retry::run(args).await,
        Command::Hold(args) => hold::run(args).await,
        Command::Release(args) => hold::release(args).await,
    }
}
