//! A work tree at a commit, as a directory that becomes a read-only image.
//!
//! Inside it is a normal git work tree: its own small `.git`, history as deep as asked, remote
//! `origin` set to the repository's name. Nothing in it tells of the host or of credentials.

use std::path::Path;

use super::command::{Git, GitError, Reach};
use super::mirror::Mirror;
use super::request::CheckoutRequest;
use crate::job::script;

/// Settings of the repository that the job sees. The file's identity changes on the way into the
/// guest, so git must not take that for a changed file.
const SETTINGS: &[(&str, &str)] =
    &[("gc.auto", "0"), ("core.checkStat", "minimal"), ("core.trustctime", "false")];

/// Builds the work tree in `root` (a new directory), below the request's directory.
pub(super) async fn build(
    root: &Path,
    mirror: &Mirror,
    request: &CheckoutRequest,
    commit: &str,
) -> Result<(), GitError> {
    let tree = root.join(&request.directory);
    std::fs::create_dir_all(&tree).map_err(GitError::Start)?;
    let git = |verb: &str| Git::new(&tree, verb, Reach::Local);
    git("init").args(["--quiet", "--template=", "--initial-branch=main", "."]).run().await?;
    fetch_from_mirror(&tree, mirror, request, commit).await?;
    for (key, value) in SETTINGS {
        git("config").args(["--local", key, value]).run().await?;
    }
    git("remote").args(["add", "origin", &request.repository]).run().await?;
    let dot_git = tree.join(".git");
    let info = dot_git.join("info");
    // The scripts of the steps come to lie in the work tree; `git add --all` must not take them along.
    std::fs::create_dir_all(&info)
        .and_then(|()| std::fs::write(info.join("exclude"), format!("/{}/\n", script::DIRECTORY)))
        .map_err(GitError::Start)?;
    if !request.sparse.is_empty() {
        git("config").args(["--local", "core.sparseCheckout", "true"]).run().await?;
        let patterns = request.sparse.join("\n") + "\n";
        std::fs::write(info.join("sparse-checkout"), patterns).map_err(GitError::Start)?;
    }
    git("checkout").args(["--quiet", "--force", "--detach", commit]).run().await?;
    for name in ["FETCH_HEAD", "ORIG_HEAD", "logs"] {
        super::cache::remove(&dot_git.join(name)).map_err(GitError::Start)?;
    }
    Ok(())
}

async fn fetch_from_mirror(
    tree: &Path,
    mirror: &Mirror,
    request: &CheckoutRequest,
    commit: &str,
) -> Result<(), GitError> {
    let mut fetch = Git::new(tree, "fetch", Reach::Disk)
        // The mirror checked everything when it came in.
        .setting("transfer.fsckObjects", "false")
        .args(["--quiet", "--no-recurse-submodules", "--no-write-fetch-head", "--update-shallow"])
        .arg(if request.tags { "--tags" } else { "--no-tags" });
    if request.shallow {
        fetch = fetch.arg("--depth=1");
    }
    let mirror_url = format!("file://{}", mirror.path().display());
    // A reference is needed to carry the history over; HEAD holds it afterwards.
    fetch.arg(mirror_url).arg(format!("+{}:refs/fetched", Mirror::kept(commit))).run().await?;
    Git::new(tree, "update-ref", Reach::Local).args(["--no-deref", "HEAD", commit]).run().await?;
    Git::new(tree, "update-ref", Reach::Local).args(["-d", "refs/fetched"]).run().await?;
    Ok(())
}
