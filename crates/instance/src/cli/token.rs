//! `instance token …`: access tokens, over the API; the first one is made on the server's machine.

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;

use super::admin;
use super::local::Local;
use super::output::{self, Output};
use super::place::{ACTOR, Place};
use super::remote::{Client, Remote};
use crate::accounts;
use crate::http::api::types::{Account, NewToken, Token, TokenCreated, TokenList};

/// Create, list and revoke access tokens.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create an access token and print it; it is shown this once.
    #[command(after_help = "Examples:
  instance token create --note ci
  instance token create --note laptop --user ada --data-dir /var/lib/instance")]
    Create {
        /// What it is for.
        #[arg(long)]
        note: String,
        /// Whose; your own when absent. Needed on the server's data folder.
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        local: Local,
    },
    /// List access tokens.
    #[command(after_help = "Example:
  instance token list")]
    List {
        /// Whose; your own when absent.
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        remote: Remote,
    },
    /// Revoke an access token; it is refused from now on.
    #[command(after_help = "Example:
  instance token revoke 3")]
    Revoke {
        /// Number of the token, from the list.
        id: i64,
        /// Whose; your own when absent.
        #[arg(long)]
        user: Option<String>,
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
        Command::Create { note, user, remote, local } => {
            let value = match Place::open(&remote, &local).await? {
                Place::Remote(client) => {
                    let name = whose(&client, user).await?;
                    let new = NewToken { note };
                    let made: TokenCreated = client.post(&["users", &name, "tokens"], &new).await?;
                    made.value
                }
                Place::Local(app) => {
                    let name = user.ok_or_else(|| anyhow::anyhow!("whose token? Use --user"))?;
                    let user = admin::find(&app, &name).await?;
                    let made = accounts::create_token(&app, ACTOR, &user, &note).await?;
                    accounts::token_value(&made.token)
                }
            };
            output::line(value)?;
        }
        Command::List { user, output, remote } => {
            let client = remote.client()?;
            let name = whose(&client, user).await?;
            let list: TokenList = client.get(&["users", &name, "tokens"]).await?;
            output.list(
                &list,
                &["ID", "NOTE", "CREATED", "LAST USED"],
                list.tokens.iter().map(row),
            )?;
        }
        Command::Revoke { id, user, remote } => {
            let client = remote.client()?;
            let name = whose(&client, user).await?;
            client.call(Method::DELETE, &["users", &name, "tokens", &id.to_string()]).await?;
            eprintln!("token {id}: revoked");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn whose(client: &Client, user: Option<String>) -> anyhow::Result<String> {
    match user {
        Some(name) => Ok(name),
        None => Ok(client.get::<Account>(&["user"]).await?.name),
    }
}

fn row(token: &Token) -> Vec<String> {
    vec![
        token.id.to_string(),
        token.note.clone(),
        token.created_at.clone(),
        token.last_used_at.clone().unwrap_or_default(),
    ]
}
