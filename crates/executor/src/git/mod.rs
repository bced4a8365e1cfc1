//! Repositories: mirrors that fetch only what is missing, and checkouts as read-only images that
//! are made once per (repository, commit, sparse patterns, options).
//!
//! A tree is hostile. Git on the host refuses names such as `.git` in it, follows no link while it
//! writes, runs no hook and no filter; afterwards the tree is only read by the program that packs it,
//! which stores links and never follows them. Everything that is written later is written in the guest.

mod cache;
mod checkout;
mod command;
mod mirror;
mod request;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use microvm::images::ImageError;
use microvm::images::squash::{self, DirOptions};

use crate::client::JobClient;
use crate::logs::{JobLog, LogWriter, Stream};
use cache::Cache;
pub use cache::InUse;
pub use command::GitError;
use mirror::Mirror;
pub use request::{CheckoutRequest, RequestError};

/// The repository could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// Fetching or checking out failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The work tree could not be packed.
    #[error("cannot pack the work tree: {0}")]
    Pack(#[from] ImageError),
    /// The caches of this machine.
    #[error("repository cache: {0}")]
    Cache(#[from] io::Error),
}

impl CheckoutError {
    /// The repository or commit is the trouble, not this machine.
    pub fn is_about_the_repository(&self) -> bool {
        matches!(self, Self::Git(GitError::Failed { .. }))
    }
}

/// A checkout that is ready to be attached to a microVM.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The image.
    pub squashfs: PathBuf,
    /// The commit that was checked out.
    pub commit: String,
    /// Keeps the file while the job runs.
    pub in_use: InUse,
}

/// All mirrors and checkouts of one executor.
pub struct Repositories {
    mirrors: Arc<Cache>,
    checkouts: Arc<Cache>,
    quota_bytes: u64,
    /// One at a time per mirror: a second job waits and then finds everything there.
    locks: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Repositories {
    /// Opens the caches in `dir`.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(dir: &Path, quota_bytes: u64) -> io::Result<Self> {
        Ok(Self {
            mirrors: Cache::open(&dir.join("mirrors"))?.into(),
            checkouts: Cache::open(&dir.join("checkouts"))?.into(),
            quota_bytes,
            locks: Mutex::default(),
        })
    }

    /// Gets a checkout ready; what is done is written to the job's log.
    ///
    /// # Errors
    /// See [`CheckoutError`].
    pub async fn workspace(
        &self,
        request: &CheckoutRequest,
        client: &JobClient,
        log: &JobLog,
    ) -> Result<Workspace, CheckoutError> {
        let name = request.mirror_name();
        let lock = self.lock_of(&name);
        let _alone = lock.lock().await;
        let mirror_in_use = self.mirrors.hold(&name);
        let args =
            [vec!["git".to_owned(), "fetch".to_owned()], Mirror::fetch_args(request)].concat();
        let command = [args, vec!["origin".to_owned(), request.revision.clone()]].concat();
        let mut entry = log.entry("setup.git.fetch", Some(&command))?;
        let fetched = self.fetch(&name, request, client, &mut entry).await;
        let (mirror, commit, tags) = finish(entry, fetched)?;
        let command = ["git", "checkout", "--force", &commit].map(str::to_owned);
        let mut entry = log.entry("setup.git.checkout", Some(&command))?;
        let workspace = self.check_out(&mirror, request, commit, &tags, &mut entry).await;
        drop(mirror_in_use);
        finish(entry, workspace)
    }

    async fn fetch(
        &self,
        name: &str,
        request: &CheckoutRequest,
        client: &JobClient,
        entry: &mut LogWriter,
    ) -> Result<(Mirror, String, String), CheckoutError> {
        let mirror = Mirror::open(&self.mirrors.path(name)).await?;
        // A branch may have moved, tags may have been added: only commits stay.
        let commit = if request.is_commit() && !request.tags && mirror.has(&request.revision).await
        {
            say(entry, &format!("{} is here already", request.revision));
            request.revision.to_ascii_lowercase()
        } else {
            self.make_room().await?;
            mirror.fetch(request, client).await?
        };
        let tags = if request.tags { mirror.tags().await? } else { String::new() };
        Ok((mirror, commit, tags))
    }

    async fn check_out(
        &self,
        mirror: &Mirror,
        request: &CheckoutRequest,
        commit: String,
        tags: &str,
        entry: &mut LogWriter,
    ) -> Result<Workspace, CheckoutError> {
        let name = request.checkout_name(&commit, tags);
        let in_use = self.checkouts.hold(&name);
        let squashfs = self.checkouts.path(&name);
        if squashfs.exists() {
            say(entry, "this checkout is here already");
            return Ok(Workspace { squashfs, commit, in_use });
        }
        let unfinished = Unfinished { path: self.checkouts.unfinished() };
        let root = unfinished.path.join("root");
        std::fs::create_dir_all(&root)?;
        checkout::build(&root, mirror, request, &commit).await?;
        let packed = unfinished.path.join("packed");
        let out = packed.clone();
        let options = DirOptions { owner: Some((0, 0)), ..DirOptions::default() };
        let packing = tokio::task::spawn_blocking(move || squash::from_dir(&root, &out, &options));
        packing.await.map_err(io::Error::other)??;
        std::fs::rename(&packed, &squashfs)?;
        let _removed = tokio::task::spawn_blocking(move || drop(unfinished)).await;
        self.make_room().await?;
        Ok(Workspace { squashfs, commit, in_use })
    }

    /// Evicts down to the quota: checkouts first, they are made from mirrors without the network.
    async fn make_room(&self) -> io::Result<()> {
        let (mirrors, checkouts) = (Arc::clone(&self.mirrors), Arc::clone(&self.checkouts));
        let quota = self.quota_bytes;
        let work = move || {
            let over = (mirrors.size()? + checkouts.size()?).saturating_sub(quota);
            if over > 0 {
                let freed = checkouts.free(over)?;
                mirrors.free(over.saturating_sub(freed))?;
            }
            Ok(())
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }

    fn lock_of(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().expect("no panic while held");
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(name.to_owned()).or_default())
    }
}

/// A directory that is removed whatever happens.
struct Unfinished {
    path: PathBuf,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Err(error) = cache::remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "left for the next start to remove");
        }
    }
}

fn say(entry: &mut LogWriter, line: &str) {
    // An entry over the output limit ends the job when a step writes next.
    let _ = entry.output(Stream::Stderr, format!("{line}\n").as_bytes());
}

/// Ends a log entry with the result's words.
fn finish<T>(mut entry: LogWriter, result: Result<T, CheckoutError>) -> Result<T, CheckoutError> {
    match &result {
        Ok(_) => entry.close(0),
        Err(CheckoutError::Git(GitError::Failed { stderr, .. })) => {
            let _ = entry.output(Stream::Stderr, stderr.as_bytes());
            entry.close(128);
        }
        Err(error) => {
            say(&mut entry, &error.to_string());
            entry.close(1);
        }
    }
    result
}
