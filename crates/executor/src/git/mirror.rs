//! Bare mirrors: one per repository and depth, holding every commit that a job needed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use protocol::headers;
use url::Url;

use super::command::{Git, GitError, Reach};
use super::request::CheckoutRequest;
use crate::client::{Backoff, JobClient};

/// Attempts of a fetch that may succeed later.
const ATTEMPTS: u32 = 4;

/// Where commits are kept from being collected, and found for negotiation.
const KEPT: &str = "refs/kept";

/// A mirror at a path.
pub(super) struct Mirror {
    path: PathBuf,
}

/// Git's words for what will not get better.
const PERMANENT: &[&str] = &[
    "not our ref",
    "couldn't find remote ref",
    "returned error: 400",
    "returned error: 401",
    "returned error: 403",
    "returned error: 404",
    "Authentication failed",
    "not found",
    "fsck error",
    "error in object",
    "not a valid object",
    "terminal prompts disabled",
];

impl Mirror {
    /// Opens the mirror, making an empty one if there is none or a half-made one. Nobody else may use it.
    pub(super) async fn open(path: &Path) -> Result<Self, GitError> {
        let mirror = Self { path: path.to_owned() };
        fs::create_dir_all(path).map_err(GitError::Start)?;
        remove_leftovers(path).map_err(GitError::Start)?;
        if Git::new(path, "rev-parse", Reach::Local).arg("--is-bare-repository").run().await.is_ok()
        {
            return Ok(mirror);
        }
        Git::new(path, "init", Reach::Local)
            .args(["--quiet", "--bare", "--template=", "."])
            .run()
            .await?;
        Ok(mirror)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The mirror has the commit and everything it needs.
    pub(super) async fn has(&self, commit: &str) -> bool {
        Git::new(&self.path, "rev-parse", Reach::Local)
            .args(["--verify", "--quiet", &format!("{KEPT}/{commit}^{{commit}}")])
            .run()
            .await
            .is_ok()
    }

    /// Arguments of the fetch, as they are shown in the log.
    pub(super) fn fetch_args(request: &CheckoutRequest) -> Vec<String> {
        let mut args = vec!["--no-recurse-submodules", "--no-write-fetch-head", "--force"];
        args.push(if request.tags { "--tags" } else { "--no-tags" });
        if request.shallow {
            args.push("--depth=1");
        }
        args.into_iter().map(str::to_owned).collect()
    }

    /// Fetches the revision from the instance with the job's credentials; answers its commit.
    pub(super) async fn fetch(
        &self,
        request: &CheckoutRequest,
        client: &JobClient,
    ) -> Result<String, GitError> {
        let url = client.instance().git_url(&request.repository);
        let incoming = format!("refs/incoming/{}", uuid::Uuid::new_v4());
        let mut backoff = Backoff::patient();
        loop {
            let fetch = self.fetch_call(request, client, &url, &incoming);
            match fetch.run().await {
                Ok(_) => break,
                Err(error) => {
                    let delay = backoff.next_delay();
                    if is_permanent(&error) || backoff.attempts() >= ATTEMPTS {
                        return Err(error);
                    }
                    tokio::time::sleep(delay).await;
                }
            }
        }
        let commit = self.resolve(&format!("{incoming}^{{commit}}")).await?;
        // The kept reference is written last: it says that the fetch was complete.
        self.update_ref(&["--no-deref", &format!("{KEPT}/{commit}"), &commit]).await?;
        self.update_ref(&["-d", &incoming]).await?;
        Ok(commit)
    }

    fn fetch_call(
        &self,
        request: &CheckoutRequest,
        client: &JobClient,
        url: &Url,
        incoming: &str,
    ) -> Git {
        // Only for this URL, so that nothing else that git may talk to sees the token.
        let key = format!("http.{url}.extraHeader");
        let header = |name: &str, value: &str| format!("{name}: {value}");
        Git::new(&self.path, "fetch", Reach::Instance)
            .setting(&key, header("Authorization", client.authorization().expose()))
            .setting(&key, header(headers::ACTOR_UID, "internal"))
            .setting(&key, header(headers::JOB_ID, &client.id().to_string()))
            .setting(&key, header(headers::EXECUTOR_NAME, client.executor_name()))
            .args(Self::fetch_args(request))
            .arg(url.as_str())
            .arg(format!("+{}:{incoming}", request.revision))
    }

    /// All tags as one text, for the name of a checkout that contains them.
    pub(super) async fn tags(&self) -> Result<String, GitError> {
        Git::new(&self.path, "for-each-ref", Reach::Local).arg("refs/tags").run().await
    }

    async fn resolve(&self, name: &str) -> Result<String, GitError> {
        let args = ["--verify", "--quiet", name];
        let commit = Git::new(&self.path, "rev-parse", Reach::Local).args(args).run().await?;
        Ok(commit.trim().to_owned())
    }

    async fn update_ref(&self, args: &[&str]) -> Result<String, GitError> {
        Git::new(&self.path, "update-ref", Reach::Local).args(args).run().await
    }

    /// The reference under which a commit is kept.
    pub(super) fn kept(commit: &str) -> String {
        format!("{KEPT}/{commit}")
    }
}

/// Removes what a killed git left: locks, which every later call would take for another git at work, and packs
/// that never became whole.
fn remove_leftovers(mirror: &Path) -> io::Result<()> {
    let mut folders = vec![mirror.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
            let name = name.to_string_lossy();
            // Below `objects` only the packs: there are many others, and none of them is locked.
            let inside_objects = path.strip_prefix(mirror.join("objects")).is_ok_and(|rest| {
                !matches!(rest.to_str(), Some("" | "pack" | "info")) && path.is_dir()
            });
            if path.is_symlink() || inside_objects {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".lock") || name.starts_with("tmp_") {
                tracing::info!(path = %path.display(), "removed what a killed git left");
                fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

fn is_permanent(error: &GitError) -> bool {
    match error {
        GitError::Start(_) => true,
        GitError::Failed { stderr, .. } => PERMANENT.iter().any(|words| stderr.contains(words)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mirror_in_a_work_tree_is_a_repository_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        Git::new(dir.path(), "init", Reach::Local).arg("--quiet").run().await.unwrap();
        let mirror = dir.path().join("state/mirror.git");
        Mirror::open(&mirror).await.unwrap();
        assert!(mirror.join("HEAD").exists(), "git took the repository around it");
    }

    #[tokio::test]
    async fn a_mirror_whose_git_was_killed_is_as_good_as_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mirror");
        Mirror::open(&path).await.unwrap();
        let pack = path.join("objects/pack");
        let kept = pack.join("pack-1.pack");
        let left = [
            path.join("shallow.lock"),
            path.join("packed-refs.lock"),
            path.join("refs/heads/main.lock"),
            pack.join("tmp_pack_1"),
        ];
        for file in left.iter().chain([&kept]) {
            fs::write(file, "").unwrap();
        }
        Mirror::open(&path).await.unwrap();
        assert!(kept.exists());
        for file in left {
            assert!(!file.exists(), "{}", file.display());
        }
        // One that was killed while it was made.
        fs::remove_file(path.join("HEAD")).unwrap();
        Mirror::open(&path).await.unwrap();
        assert!(path.join("HEAD").exists());
    }
}
