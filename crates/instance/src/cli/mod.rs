//! The subcommands of `instance`. Data goes to stdout, everything else to stderr.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done; with `--follow`: the job completed |
//! | 1 | failed; the reason is on stderr |
//! | 2 | the command line is wrong |
//! | 130 | Ctrl-C while following a job; the job goes on |
//! | other | with `--follow`: exit code of the step that failed |

mod admin;
mod config;
mod event_stream;
mod executor;
mod image;
mod job;
mod local;
mod output;
mod password;
mod place;
mod remote;
mod repo;
pub mod serve;
mod terminal;
mod token;
mod user;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The server of executors, and the commands to work with it.
#[derive(Debug, Parser)]
#[command(
    name = "instance",
    version,
    about,
    arg_required_else_help = true,
    after_help = "Commands that talk to an instance read its address from INSTANCE_URL and an \
                  access token from INSTANCE_TOKEN; commands for the server read its data folder \
                  from INSTANCE_DATA_DIR."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the instance.
    Serve(serve::Args),
    /// View, edit and check the site configuration.
    #[command(subcommand)]
    Config(config::Command),
    /// Submit jobs and look at them.
    #[command(subcommand)]
    Job(job::Command),
    /// Look at executors, and drain them.
    #[command(subcommand)]
    Executor(executor::Command),
    /// Register repositories and keep them current.
    #[command(subcommand)]
    Repo(repo::Command),
    /// Import images that jobs use as executors.internal/NAME:TAG.
    #[command(subcommand)]
    Image(image::Command),
    /// Create, list and revoke access tokens.
    #[command(subcommand)]
    Token(token::Command),
    /// Create and list users.
    #[command(subcommand)]
    User(user::Command),
    /// Make site admins on the server's machine.
    #[command(subcommand)]
    Admin(admin::Command),
}

/// Reads the command line and runs.
pub fn main() -> ExitCode {
    // Only a second installation fails, and then one is there.
    drop(rustls::crypto::ring::default_provider().install_default());
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::run(args).map(|()| ExitCode::SUCCESS),
        Command::Config(command) => config::run(command),
        Command::Job(command) => wait(job::run(command)),
        Command::Executor(command) => wait(executor::run(command)),
        Command::Repo(command) => wait(repo::run(command)),
        Command::Image(command) => wait(image::run(command)),
        Command::Token(command) => wait(token::run(command)),
        Command::User(command) => wait(user::run(command)),
        Command::Admin(command) => wait(admin::run(command)),
    }
}

/// Runs a command that talks to the network or the database.
fn wait(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// The reader of our output went away (`| head`); it has what it wanted.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Every command that does something shows how.
    #[test]
    fn every_command_has_an_example() {
        fn walk(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                command.get_subcommands().for_each(|sub| walk(sub, &path));
            } else if !path.ends_with(" schema") && !path.ends_with(" serve") {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example"), "{path} has no example");
            }
        }
        walk(&Cli::command(), "");
    }
}
