//! Fetches a mirror from its remote.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::command::{git, last_words};
use super::mirror::{Mirrors, clear_leftovers};
use super::remote::Remote;

/// A fetch may take so long in all.
const MAX_TIME: Duration = Duration::from_secs(2 * 3600);
/// Git says something at least so often while it works.
const MAX_SILENCE: Duration = Duration::from_secs(15 * 60);

/// A mirror after a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Short name of the branch that HEAD names; empty when HEAD is detached or there is no commit.
    pub default_branch: String,
    /// Size of the objects in bytes.
    pub size_bytes: i64,
}

/// Why a mirror was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// Somebody else is at it.
    #[error("a sync of this repository is already running")]
    Busy,
    /// Git's own words.
    #[error("{0}")]
    Git(String),
    /// It took too long.
    #[error("git fetch gave up after {0} s")]
    Timeout(u64),
    /// The mirror's folder.
    #[error("mirror folder: {0}")]
    Io(#[from] io::Error),
}

impl Mirrors {
    /// Makes the mirror if need be and fetches branches, tags and HEAD; what is gone at the remote goes
    /// here too. `progress` is told git's latest progress line.
    ///
    /// # Errors
    /// See [`SyncError`]; the mirror stays as usable as it was.
    pub async fn sync(
        &self,
        repository: i64,
        remote: &Remote,
        mut progress: impl FnMut(&str) + Send,
    ) -> Result<Synced, SyncError> {
        let Some(_lock) = self.try_lock(repository)? else { return Err(SyncError::Busy) };
        let mirror = self.path(repository);
        tokio::fs::create_dir_all(&mirror).await?;
        if mirror.join("HEAD").exists() {
            let leftovers = mirror.clone();
            tokio::task::spawn_blocking(move || clear_leftovers(&leftovers))
                .await
                .map_err(io::Error::other)??;
        } else {
            run(git(&mirror, "").args(["init", "--quiet", "--bare", "--template=", "."])).await?;
        }
        let head = remote_head(&mirror, remote).await?;
        fetch(&mirror, remote, head.exists, &mut progress).await?;
        point_head(&mirror, &head).await?;
        // Many small fetches make many small packs. A failure here costs only speed.
        drop(
            run(git(&mirror, "")
                .args(["-c", "gc.auto=2000", "-c", "gc.autoDetach=false"])
                .args(["gc", "--auto", "--quiet"]))
            .await,
        );
        tokio::fs::write(mirror.join("fetched"), b"").await?;
        Ok(Synced {
            default_branch: head.branch.unwrap_or_default(),
            size_bytes: size(&mirror).await?,
        })
    }
}

struct RemoteHead {
    branch: Option<String>,
    exists: bool,
}

fn git_remote(mirror: &Path, remote: &Remote) -> Command {
    let mut command = git(mirror, remote.protocols());
    let settings = remote.secret_settings();
    command.env("GIT_CONFIG_COUNT", settings.len().to_string());
    for (i, (key, value)) in settings.into_iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{i}"), key);
        command.env(format!("GIT_CONFIG_VALUE_{i}"), value);
    }
    command.args(["-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60"]);
    command
}

async fn remote_head(mirror: &Path, remote: &Remote) -> Result<RemoteHead, SyncError> {
    let output = run(git_remote(mirror, remote)
        .args(["ls-remote", "--symref", "--"])
        .arg(remote.location())
        .arg("HEAD"))
    .await?;
    let text = String::from_utf8_lossy(&output);
    let branch = text
        .lines()
        .find_map(|l| l.strip_prefix("ref: refs/heads/")?.strip_suffix("\tHEAD"))
        .map(str::to_owned);
    let exists = text.lines().any(|l| !l.starts_with("ref: ") && l.ends_with("\tHEAD"));
    Ok(RemoteHead { branch, exists })
}

async fn fetch(
    mirror: &Path,
    remote: &Remote,
    with_head: bool,
    progress: &mut (impl FnMut(&str) + Send),
) -> Result<(), SyncError> {
    let mut command = git_remote(mirror, remote);
    command
        .args(["fetch", "--progress", "--prune", "--force", "--no-tags", "--no-auto-maintenance"])
        .args(["--no-write-fetch-head", "--no-recurse-submodules", "--"])
        .arg(remote.location())
        .args(["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]);
    if with_head {
        command.arg("+HEAD:refs/mirror/HEAD");
    }
    let mut child = command.stdout(Stdio::null()).spawn()?;
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let deadline = tokio::time::Instant::now() + MAX_TIME;
    let mut tail = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let limit = deadline.min(tokio::time::Instant::now() + MAX_SILENCE);
        let Ok(read) = tokio::time::timeout_at(limit, stderr.read(&mut buffer)).await else {
            return Err(SyncError::Timeout(MAX_TIME.as_secs()));
        };
        match read? {
            0 => break,
            n => tail.extend_from_slice(&buffer[..n]),
        }
        let line = String::from_utf8_lossy(&tail);
        if let Some(line) = line.split(['\r', '\n']).rfind(|l| !l.trim().is_empty()) {
            progress(line.trim());
        }
        let excess = tail.len().saturating_sub(8192);
        tail.drain(..excess);
    }
    let status = child.wait().await?;
    if status.success() { Ok(()) } else { Err(SyncError::Git(last_words(&tail))) }
}

/// HEAD of the mirror names the remote's default branch, or its commit when it is detached there.
async fn point_head(mirror: &Path, head: &RemoteHead) -> Result<(), SyncError> {
    if let Some(branch) = &head.branch {
        let target = format!("refs/heads/{branch}");
        run(git(mirror, "").args(["symbolic-ref", "HEAD", &target])).await?;
    } else if head.exists {
        run(git(mirror, "").args(["update-ref", "--no-deref", "HEAD", "refs/mirror/HEAD"])).await?;
    }
    Ok(())
}

async fn size(mirror: &Path) -> Result<i64, SyncError> {
    let output = run(git(mirror, "").args(["count-objects", "-v"])).await?;
    let text = String::from_utf8_lossy(&output);
    let kib: i64 = text
        .lines()
        .filter_map(|l| l.strip_prefix("size: ").or_else(|| l.strip_prefix("size-pack: ")))
        .filter_map(|n| n.parse::<i64>().ok())
        .sum();
    Ok(kib * 1024)
}

async fn run(command: &mut Command) -> Result<Vec<u8>, SyncError> {
    let output = tokio::time::timeout(MAX_SILENCE, command.output())
        .await
        .map_err(|_| SyncError::Timeout(MAX_SILENCE.as_secs()))??;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(SyncError::Git(last_words(&output.stderr)))
    }
}
