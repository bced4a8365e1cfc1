//! `instance repo …`: over the API when INSTANCE_URL is set, else on this machine's data folder.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use reqwest::Method;

use super::local::Local;
use super::output::{Output, bytes};
use super::place::Place;
use super::remote::{Client, Remote};
use crate::App;
use crate::git::sync_repository;
use crate::http::api::repositories::view;
use crate::http::api::types::{NewRepository, Repository, RepositoryList};
use crate::repositories;

/// The state of a repository that is being fetched is looked at so often.
const LOOK: Duration = Duration::from_millis(200);

/// Register repositories and keep them current.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register a repository and fetch it. The same again only fetches it again.
    #[command(after_help = "Examples:
  instance repo add example/app https://git.example.com/app.git
  instance repo add example/app /srv/git/app.git

With INSTANCE_URL set, a path is one on the instance's machine.")]
    Add {
        /// Name that job files use.
        name: String,
        /// URL, or path of a folder.
        #[arg(value_name = "URL-OR-PATH")]
        source: String,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// List the registered repositories.
    #[command(after_help = "Example:
  instance repo list")]
    List {
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Fetch a repository now.
    #[command(after_help = "Example:
  instance repo sync example/app")]
    Sync {
        /// Name of the repository.
        name: String,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Remove a repository and its mirror; its jobs stay.
    #[command(after_help = "Example:
  instance repo remove example/app")]
    Remove {
        /// Name of the repository.
        name: String,
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// Where the command works.
#[derive(Clone, Debug, clap::Args)]
pub struct PlaceArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    local: Local,
}

/// Runs the command.
///
/// # Errors
/// In the instance's words.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Add { name, source, place } => {
            let url = absolute(source)?;
            match place.open().await? {
                Place::Remote(client) => {
                    let new = NewRepository { name: name.clone(), url };
                    client.post::<_, Repository>(&["repositories"], &new).await?;
                    wait(&client, &name).await?;
                }
                Place::Local(app) => {
                    let app: Arc<App> = Arc::from(app);
                    repositories::add(&app, super::place::ACTOR, &name, &url).await?;
                    fetch(&app, &name).await?;
                }
            }
            eprintln!("repository {name}: ready");
        }
        Command::List { output, place } => {
            let list = match place.open().await? {
                Place::Remote(client) => client.get(&["repositories"]).await?,
                Place::Local(app) => {
                    let all = app.store.repositories().await?.into_iter().map(view).collect();
                    RepositoryList { repositories: all }
                }
            };
            let header = ["NAME", "STATE", "BRANCH", "SIZE", "LAST SYNC", "URL", "ERROR"];
            output.list(&list, &header, list.repositories.iter().map(row))?;
        }
        Command::Sync { name, place } => {
            match place.open().await? {
                Place::Remote(client) => {
                    client.call(Method::POST, &["repositories", &name, "sync"]).await?;
                    wait(&client, &name).await?;
                }
                Place::Local(app) => fetch(&app, &name).await?,
            }
            eprintln!("repository {name}: ready");
        }
        Command::Remove { name, place } => {
            match place.open().await? {
                Place::Remote(client) => {
                    client.call(Method::DELETE, &["repositories", &name]).await?;
                }
                Place::Local(app) => {
                    repositories::remove(&app, super::place::ACTOR, &name).await?;
                }
            }
            eprintln!("repository {name}: removed");
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl PlaceArgs {
    async fn open(&self) -> anyhow::Result<Place> {
        Place::open(&self.remote, &self.local).await
    }
}

/// A path is made absolute here, where the user typed it.
fn absolute(url: String) -> anyhow::Result<String> {
    if !std::path::Path::new(&url).is_dir() {
        return Ok(url);
    }
    let path = std::fs::canonicalize(&url).with_context(|| url.clone())?;
    path.into_os_string().into_string().map_err(|path| anyhow::anyhow!("{path:?} is not UTF-8"))
}

/// Waits until the instance has fetched it.
async fn wait(client: &Client, name: &str) -> anyhow::Result<()> {
    loop {
        let repository: Repository = client.get(&["repositories", name]).await?;
        match repository.state.as_str() {
            "cloning" => tokio::time::sleep(LOOK).await,
            "ready" => return Ok(()),
            _ => bail!("repository {name}: {}", repository.error),
        }
    }
}

async fn fetch(app: &App, name: &str) -> anyhow::Result<()> {
    let repository = repositories::find(app, name).await?;
    sync_repository(app, &repository).await.with_context(|| format!("repository {name}"))?;
    Ok(())
}

fn row(repository: &Repository) -> Vec<String> {
    vec![
        repository.name.clone(),
        repository.state.clone(),
        repository.default_branch.clone(),
        bytes(u64::try_from(repository.size_bytes).unwrap_or(0)),
        repository.last_synced_at.clone().unwrap_or_default(),
        repository.url.clone(),
        repository.error.clone(),
    ]
}
