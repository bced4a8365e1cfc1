//! `instance user …`: over the API, for site admins.

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;

use super::output::Output;
use super::password;
use super::remote::Remote;
use crate::http::api::types::{Account, AccountList, NewAccount};

/// Create and list users.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a user.
    #[command(after_help = "Example:
  instance user create grace --password-stdin < password.txt")]
    Create {
        /// Name of the user.
        name: String,
        #[command(flatten)]
        password: password::Source,
        /// Make the user a site admin.
        #[arg(long)]
        site_admin: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// List the users.
    #[command(after_help = "Example:
  instance user list")]
    List {
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        remote: Remote,
    },
    /// Remove a user with sessions and tokens; jobs stay.
    #[command(after_help = "Example:
  instance user remove grace")]
    Remove {
        /// Name of the user.
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
        Command::Create { name, password, site_admin, remote } => {
            let role = if site_admin { "site_admin" } else { "user" };
            let new = NewAccount { name, password: password.read()?, role: Some(role.to_owned()) };
            let made: Account = remote.client()?.post(&["users"], &new).await?;
            eprintln!("user {}: created ({})", made.name, made.role);
        }
        Command::List { output, remote } => {
            let list: AccountList = remote.client()?.get(&["users"]).await?;
            let row = |user: &Account| {
                vec![user.name.clone(), user.role.clone(), user.created_at.clone()]
            };
            output.list(&list, &["NAME", "ROLE", "CREATED"], list.users.iter().map(row))?;
        }
        Command::Remove { name, remote } => {
            remote.client()?.call(Method::DELETE, &["users", &name]).await?;
            eprintln!("user {name}: removed");
        }
    }
    Ok(ExitCode::SUCCESS)
}
