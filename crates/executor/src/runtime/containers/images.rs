//! Images for the engine. The one way to an image is our own store, which asks the registry with the job's log-in,
//! follows mirrors and checks what comes; the engine gets the merged root file system under the manifest's
//! digest. So an image means the same here as in a microVM, and the engine needs no registry of its own.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use microvm::agent::PROGRAM;
use microvm::images::Image;
use sha2::{Digest as _, Sha256};
use tokio::process::Command;
use tokio_util::io::ReaderStream;

use super::engine::{Asked as _, Engine, EngineError};

/// Repository of loaded images; the host does not exist, so nobody can push to it or pull from it.
const REPOSITORY: &str = "executors.invalid/image";
const AGENT_REPOSITORY: &str = "executors.invalid/agent";
/// Time to take over a large image: the engine answers when it is done.
const LOADING: Duration = Duration::from_secs(3600);
/// Where the agent is in its image.
pub(super) const AGENT_PATH: &str = "/agent";
/// Writes a squashfs file as a tar archive.
pub(super) const UNPACKER: &str = "sqfs2tar";

/// An image could not be given to the engine.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The engine refused it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A program or file of this machine.
    #[error("{UNPACKER}: {0}")]
    Unpack(io::Error),
}

/// Images in the engine, as far as they are ours.
#[derive(Debug)]
pub(super) struct EngineImages {
    engine: Engine,
    /// A file for each loaded image; its time says when it was last used.
    used: PathBuf,
    quota_bytes: u64,
    loading: tokio::sync::Mutex<()>,
}

impl EngineImages {
    pub(super) fn open(engine: Engine, state_dir: &Path, quota_bytes: u64) -> io::Result<Self> {
        let used = state_dir.join("engine-images");
        std::fs::create_dir_all(&used)?;
        Ok(Self { engine, used, quota_bytes, loading: tokio::sync::Mutex::default() })
    }

    /// The name by which the engine knows an image; loads it if it does not.
    pub(super) async fn name(&self, image: &Image) -> Result<String, LoadError> {
        let (_, digest) = image.manifest_digest.split_once(':').unwrap_or_default();
        let tag = digest.get(..32).unwrap_or(digest);
        let name = format!("{REPOSITORY}:{tag}");
        // One at a time: a second job waits and then finds it there.
        let _turn = self.loading.lock().await;
        if !self.has(&name).await? {
            let mut unpacker = Command::new(UNPACKER)
                .args(["--root-becomes", "."])
                .arg(&image.squashfs)
                // Where it works: so it is found if we die before it (`kill_helpers`).
                .current_dir(image.squashfs.parent().unwrap_or(Path::new("/")))
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .map_err(LoadError::Unpack)?;
            let stdout = unpacker.stdout.take().expect("it is piped");
            // The engine must not take what broke off for the whole: the stream ends well only if the program did.
            let ended = async move {
                let status = unpacker.wait().await?;
                if status.success() {
                    Ok(Bytes::new())
                } else {
                    Err(io::Error::other(format!("{UNPACKER} ended with {status}")))
                }
            };
            let archive = ReaderStream::with_capacity(stdout, 256 << 10);
            let archive = futures_util::StreamExt::chain(
                archive,
                futures_util::stream::once(Box::pin(ended)),
            );
            self.load(REPOSITORY, tag, archive).await?;
        }
        File::create(self.used.join(tag)).map_err(LoadError::Unpack)?;
        Ok(name)
    }

    /// The image of the agent, made of the program that this executor carries.
    pub(super) async fn agent(&self) -> Result<String, LoadError> {
        let hash = hex::encode(&Sha256::digest(PROGRAM)[..8]);
        let name = format!("{AGENT_REPOSITORY}:{hash}");
        let _turn = self.loading.lock().await;
        if !self.has(&name).await? {
            let mut archive = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(PROGRAM.len() as u64);
            header.set_mode(0o755);
            let path = AGENT_PATH.trim_start_matches('/');
            archive.append_data(&mut header, path, PROGRAM).map_err(LoadError::Unpack)?;
            let bytes = Bytes::from(archive.into_inner().map_err(LoadError::Unpack)?);
            let archive = futures_util::stream::once(async { Ok::<_, io::Error>(bytes) });
            self.load(AGENT_REPOSITORY, &hash, archive).await?;
        }
        Ok(name)
    }

    async fn has(&self, name: &str) -> Result<bool, EngineError> {
        match self.engine.api.inspect_image(name).await.asked(format!("look for {name}")) {
            Ok(_) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn load(
        &self,
        repository: &str,
        tag: &str,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), EngineError> {
        // In one word: Podman does not look at a tag beside it.
        let name = format!("{repository}:{tag}");
        let options = CreateImageOptionsBuilder::new().from_src("-").repo(&name).build();
        let body = bollard::body_try_stream(archive);
        let engine = self.engine.patient(LOADING);
        let loaded = engine.create_image(Some(options), Some(body), None);
        loaded.try_collect::<Vec<_>>().await.asked("load an image")?;
        Ok(())
    }

    /// Removes what was not used for longest until the rest is within the quota. What a container uses stays.
    pub(super) async fn sweep(&self) -> Result<(), EngineError> {
        let _turn = self.loading.lock().await;
        let filters = HashMap::from([("reference", vec![REPOSITORY])]);
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        let images = self.engine.api.list_images(Some(options)).await.asked("list images")?;
        let mut loaded: Vec<_> = images
            .into_iter()
            .filter_map(|image| {
                let tag = image.repo_tags.iter().find_map(|name| {
                    name.strip_prefix(REPOSITORY)?.strip_prefix(':').map(str::to_owned)
                })?;
                let used = std::fs::metadata(self.used.join(&tag)).and_then(|m| m.modified());
                Some((used.ok(), u64::try_from(image.size).unwrap_or(0), tag))
            })
            .collect();
        loaded.sort();
        let mut bytes: u64 = loaded.iter().map(|(_, size, _)| size).sum();
        for (_, size, tag) in loaded {
            if bytes <= self.quota_bytes {
                break;
            }
            let options = RemoveImageOptionsBuilder::new().build();
            let name = format!("{REPOSITORY}:{tag}");
            match self.engine.api.remove_image(&name, Some(options), None).await {
                Ok(_) => {
                    // Absent is fine.
                    let _ = std::fs::remove_file(self.used.join(&tag));
                    bytes -= size;
                    tracing::info!(image = name, "removed an image that was not used for long");
                }
                Err(error) => tracing::debug!(image = name, %error, "image not removed"),
            }
        }
        Ok(())
    }
}
