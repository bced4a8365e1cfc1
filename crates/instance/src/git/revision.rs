//! From a revision, as people write it, to a commit.

use super::command::{git, last_words};
use super::mirror::Mirrors;

/// Longest revision text.
const MAX_REVISION: usize = 250;

/// Why a revision has no commit.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Git knows no such revision.
    #[error("revision {revision:?} not found")]
    NotFound {
        /// As it was given.
        revision: String,
    },
    /// Nothing was fetched yet.
    #[error("repository is not fetched yet, sync it first")]
    NotFetched,
    /// Git could not run.
    #[error("git: {0}")]
    Git(String),
}

impl Mirrors {
    /// The commit of a branch, tag, abbreviated or full hash; empty = the default branch.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub async fn resolve(&self, repository: i64, revision: &str) -> Result<String, ResolveError> {
        if !self.exists(repository) {
            return Err(ResolveError::NotFetched);
        }
        let revision = if revision.is_empty() { "HEAD" } else { revision };
        let not_found = || ResolveError::NotFound { revision: revision.to_owned() };
        // `:/text` searches all history and `-x` is an option: neither names a revision.
        let odd = revision.starts_with(['-', ':', '^'])
            || revision.contains("..")
            || revision.chars().any(|c| c.is_control() || c.is_whitespace());
        if odd || revision.len() > MAX_REVISION {
            return Err(not_found());
        }
        let output = git(&self.path(repository), "")
            .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
            .arg(format!("{revision}^{{commit}}"))
            .output()
            .await
            .map_err(|e| ResolveError::Git(e.to_string()))?;
        let commit = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match output.status.code() {
            Some(0) if commit.len() >= 40 => Ok(commit),
            Some(0 | 1) => Err(not_found()),
            // An ambiguous abbreviation and the like.
            Some(128) => Err(not_found()),
            _ => Err(ResolveError::Git(last_words(&output.stderr))),
        }
    }
}
