//! The subcommands of `instance`.

pub mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The server of executors.
#[derive(Debug, Parser)]
#[command(name = "instance", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the instance.
    Serve(serve::Args),
}

/// Reads the command line and runs.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Serve(args) => serve::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instance: {error:#}");
            ExitCode::FAILURE
        }
    }
}
