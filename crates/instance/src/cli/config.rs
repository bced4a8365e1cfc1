//! `instance config …`: the site configuration in the data folder.

mod edit;
mod generate_token;
mod get;
mod validate;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::output;
use crate::site_config::schema;

/// View, edit and check the site configuration.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the file, or the value of one key; secrets are shown as REDACTED.
    Get(get::Args),
    /// Edit the file in $EDITOR; it is checked before it is saved.
    Edit(edit::Args),
    /// Check a file and print every problem with line and column.
    Validate(validate::Args),
    /// Print a new secret for executors.accessToken, or put it into the file.
    GenerateToken(generate_token::Args),
    /// Print the JSON schema of the file.
    Schema,
}

/// The data folder, for commands that touch nothing but the file.
#[derive(Clone, Debug, clap::Args)]
pub struct Folder {
    /// Data folder of the instance.
    #[arg(long, env = "INSTANCE_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When the file cannot be read, written, or has mistakes.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Get(args) => get::run(&args),
        Command::Edit(args) => edit::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::GenerateToken(args) => generate_token::run(&args),
        Command::Schema => {
            output::json(&schema::json_schema())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
