//! The commands. Data goes to standard output, everything else to standard error.

mod console;
mod install;
mod logging;
mod run;
mod signals;
mod test_vm;
mod validate;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use executor::config::{Config, ConfigError, ProcessEnvironment, environment_help};

/// Mistakes in the configuration or on the command line (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// Takes jobs from an instance and runs each in its own microVM.
#[derive(Parser)]
#[command(version, after_long_help = environment_help())]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Take jobs and run them (the default).
    #[command(after_long_help = environment_help())]
    Run(run::RunArgs),
    /// Check everything that `run` needs, and say how to fix what is missing.
    #[command(after_long_help = environment_help())]
    Validate,
    /// Prepare what jobs need on this machine.
    Install(InstallArgs),
    /// Start a microVM as for a job, with a shell in it.
    TestVm(test_vm::TestVmArgs),
}

#[derive(Args)]
struct InstallArgs {
    #[command(subcommand)]
    what: install::What,
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("error: another TLS provider is installed");
        return ExitCode::FAILURE;
    }
    let result = match cli.command.unwrap_or(Command::Run(run::RunArgs::default())) {
        Command::Run(args) => run::run(&args),
        Command::Validate => validate::run(),
        Command::Install(args) => install::run(args.what),
        Command::TestVm(args) => test_vm::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) if error.is::<ConfigError>() => {
            eprintln!("error: {error}\n\nhint: `executor run --help` explains every variable");
            ExitCode::from(EXIT_USAGE)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The settings of this process.
fn load_config() -> Result<Config, ConfigError> {
    Config::load(&ProcessEnvironment)
}

/// The runtime that asynchronous commands run on.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn help_documents_every_variable() {
        use clap::CommandFactory as _;
        let mut command = Cli::command();
        let help = command.find_subcommand_mut("run").unwrap().render_long_help().to_string();
        for var in executor::config::vars::ALL {
            assert!(help.contains(var.name), "{} is missing", var.name);
        }
    }
}
