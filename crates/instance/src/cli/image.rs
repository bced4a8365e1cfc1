//! `instance image …`: the instance's own registry, on the server's data folder.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use super::local::Local;
use super::output::{self, Output, bytes};
use super::place::{ACTOR, Place};
use super::remote::Remote;
use crate::accounts::audit;
use crate::http::api::images::view;
use crate::http::api::types::ImageList;
use crate::registry::{self, HOST, ImageName};

/// Import images that jobs use as executors.internal/NAME:TAG.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Import an image: an OCI layout (folder or tar), an archive of `docker save`, or the tar of a
    /// root file system. What was called so before is replaced.
    #[command(after_help = "Examples:
  instance image import base.tar base:1 --data-dir /var/lib/instance
  instance image import ./oci-layout tools/indexer:2.1")]
    Import {
        /// Folder or tar (also .tar.gz).
        source: PathBuf,
        /// NAME:TAG; the tag is `latest` when left out.
        name: ImageName,
        #[command(flatten)]
        local: Local,
    },
    /// List the images.
    #[command(after_help = "Example:
  instance image list")]
    List {
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        local: Local,
    },
    /// Remove an image; its content goes when nothing else uses it.
    #[command(after_help = "Example:
  instance image remove base:1")]
    Remove {
        /// NAME:TAG.
        name: ImageName,
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        local: Local,
    },
}

/// Runs the command.
///
/// # Errors
/// When the image cannot be read, or in the instance's words.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Import { source, name, local } => import(source, name, &local).await?,
        Command::List { output, remote, local } => {
            let list = match Place::open(&remote, &local).await? {
                Place::Remote(client) => client.get(&["images"]).await?,
                Place::Local(app) => {
                    let images = app.store.image_tags().await?.into_iter().map(view).collect();
                    ImageList { images }
                }
            };
            let row = |image: &crate::http::api::types::Image| {
                vec![image.reference.clone(), image.digest.clone(), image.updated_at.clone()]
            };
            output.list(&list, &["IMAGE", "DIGEST", "UPDATED"], list.images.iter().map(row))?;
        }
        Command::Remove { name, remote, local } => {
            match Place::open(&remote, &local).await? {
                Place::Remote(client) => {
                    let name = name.to_string();
                    client.call(reqwest::Method::DELETE, &["images", &name]).await?;
                }
                Place::Local(app) => {
                    if !app.store.delete_image_tag(&name.name, &name.tag).await? {
                        anyhow::bail!("image {name} not found");
                    }
                    let target = format!("image:{name}");
                    audit(&app, ACTOR, "image.remove", &target, "").await?;
                }
            }
            eprintln!("image {name}: removed");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn import(source: PathBuf, name: ImageName, local: &Local) -> anyhow::Result<()> {
    let app = local.open().await?;
    let shown = source.display().to_string();
    let imported = registry::import(&app.store, &app.blobs, &source, &name, app.clock.now_ms())
        .await
        .context(shown)?;
    let target = format!("image:{}", imported.name);
    audit(&app, ACTOR, "image.import", &target, &imported.digest).await?;
    eprintln!("{}, {}", imported.digest, bytes(imported.size));
    output::line(format!("{HOST}/{}", imported.name))?;
    Ok(())
}
