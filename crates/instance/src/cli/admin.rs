//! `instance admin …`: accounts of the site's owner, on the server's data folder.

use std::process::ExitCode;

use clap::Subcommand;
use store::Role;

use super::local::Local;
use super::output;
use super::password;
use super::place::ACTOR;
use crate::App;
use crate::accounts;

/// Make site admins on the server's machine.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a site admin: the first account, or a further one.
    #[command(after_help = "Examples:
  instance admin create ada --password-stdin < password.txt
  instance admin create ada --password-file password.txt --token > token.txt")]
    Create {
        /// Name of the user.
        #[arg(required_unless_present = "name", conflicts_with = "name")]
        user: Option<String>,
        /// The same, as an option.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        password: password::Source,
        /// Make an access token as well and print it.
        #[arg(long)]
        token: bool,
        #[command(flatten)]
        local: Local,
    },
    /// Give a user a new password; ends the user's sessions.
    #[command(after_help = "Example:
  instance admin set-password ada --password-stdin < password.txt")]
    SetPassword {
        /// Name of the user.
        user: String,
        #[command(flatten)]
        password: password::Source,
        #[command(flatten)]
        local: Local,
    },
}

/// Runs the command.
///
/// # Errors
/// When the name is taken or name or password break a rule.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create { user, name, password, token, local } => {
            let name = user.or(name).unwrap_or_default();
            let password = password.read()?;
            let app = local.open().await?;
            accounts::create_user(&app, ACTOR, &name, &password, Role::SiteAdmin).await?;
            eprintln!("site admin {name}: created");
            if token {
                let user = find(&app, &name).await?;
                let made = accounts::create_token(&app, ACTOR, &user, "command line").await?;
                output::line(accounts::token_value(&made.token))?;
            }
        }
        Command::SetPassword { user, password, local } => {
            let password = password.read()?;
            let app = local.open().await?;
            let account = find(&app, &user).await?;
            accounts::change_password(&app, ACTOR, &account, &password).await?;
            eprintln!("user {user}: password changed");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A user by name.
pub(super) async fn find(app: &App, name: &str) -> anyhow::Result<store::User> {
    let user = app.store.user_by_name(name).await?;
    user.ok_or_else(|| anyhow::anyhow!("user {name} not found"))
}
