//! What a job wants of a repository, checked: every value goes to git as an argument and into paths.

use protocol::Job;
use sha2::{Digest as _, Sha256};

/// A repository at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckoutRequest {
    /// Full name on the instance.
    pub repository: String,
    /// Commit, or another revision that the instance knows.
    pub revision: String,
    /// Where in the workspace; empty = its root.
    pub directory: String,
    /// With tags.
    pub tags: bool,
    /// Depth 1.
    pub shallow: bool,
    /// No-cone sparse patterns; empty = everything.
    pub sparse: Vec<String>,
}

/// A value that must not reach git or a path.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {value:?} {problem}")]
pub struct RequestError {
    /// The field of the job document.
    pub field: &'static str,
    /// The value.
    pub value: String,
    /// What is wrong.
    pub problem: &'static str,
}

impl CheckoutRequest {
    /// The repository of a job; `None` when it has none.
    ///
    /// # Errors
    /// The first value that is refused.
    pub fn of_job(job: &Job) -> Result<Option<Self>, RequestError> {
        if job.repository_name.is_empty() {
            return Ok(None);
        }
        let refuse = |field, value: &str, problem| {
            Err(RequestError { field, value: value.to_owned(), problem })
        };
        let odd = |text: &str| text.chars().any(|c| c.is_control());
        let name = &job.repository_name;
        if name.starts_with(['-', '/']) || odd(name) || name.contains(['?', '#', '\\', ' ']) {
            return refuse("repositoryName", name, "is not a repository name");
        }
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return refuse("repositoryName", name, "has an empty or dotted part");
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "._/-+".contains(c);
        let revision = &job.commit;
        if revision.is_empty()
            || revision.starts_with(['-', '.', '/'])
            || !revision.chars().all(plain)
        {
            return refuse("commit", revision, "is not a commit or branch name");
        }
        let directory = job.repository_directory.trim_matches('/');
        let directory = if directory == "." { "" } else { directory };
        let bad_part =
            |part: &str| matches!(part, "" | "." | "..") || part.eq_ignore_ascii_case(".git");
        if odd(directory) || (!directory.is_empty() && directory.split('/').any(bad_part)) {
            return refuse("repositoryDirectory", directory, "must be a path inside the workspace");
        }
        if let Some(pattern) = job.sparse_checkout.iter().find(|pattern| odd(pattern)) {
            return refuse("sparseCheckout", pattern, "has a control character");
        }
        Ok(Some(Self {
            repository: name.clone(),
            revision: revision.clone(),
            directory: directory.to_owned(),
            tags: job.fetch_tags,
            shallow: job.shallow_clone,
            sparse: job.sparse_checkout.clone(),
        }))
    }

    /// The revision names one commit for ever.
    pub(super) fn is_commit(&self) -> bool {
        matches!(self.revision.len(), 40 | 64)
            && self.revision.bytes().all(|b| b.is_ascii_hexdigit())
    }

    /// Name of the mirror. Shallow and full histories do not mix in one repository.
    pub(super) fn mirror_name(&self) -> String {
        let depth = if self.shallow { "shallow" } else { "full" };
        format!("{}-{depth}.git", hex::encode(&Sha256::digest(&self.repository)[..16]))
    }

    /// Name of the checkout of a commit. `tags` stands for the tags that it contains.
    pub(super) fn checkout_name(&self, commit: &str, tags: &str) -> String {
        let mut hash = Sha256::new();
        let shallow = if self.shallow { "1" } else { "0" };
        // The first word changes whenever checkouts are made differently.
        let fixed = ["checkout-1", &self.repository, commit, &self.directory, shallow, tags];
        for part in fixed.into_iter().chain(self.sparse.iter().map(String::as_str)) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        format!("{}.squashfs", hex::encode(&hash.finalize()[..16]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str, commit: &str, directory: &str) -> Job {
        Job {
            repository_name: name.into(),
            commit: commit.into(),
            repository_directory: directory.into(),
            ..Job::default()
        }
    }

    #[test]
    fn honest_values_pass() {
        let request = CheckoutRequest::of_job(&job("git.example/a/b", "main", "repository/"));
        assert_eq!(request.unwrap().unwrap().directory, "repository");
        assert_eq!(CheckoutRequest::of_job(&Job::default()), Ok(None));
        let root = CheckoutRequest::of_job(&job("a", &"0c".repeat(20), ".")).unwrap().unwrap();
        assert_eq!(root.directory, "");
        assert!(root.is_commit());
    }

    #[test]
    fn values_that_git_or_a_path_would_read_otherwise_are_refused() {
        for (name, commit, directory) in [
            ("--upload-pack=x", "main", ""),
            ("a/../b", "main", ""),
            ("a?x=1", "main", ""),
            ("a\nb", "main", ""),
            ("a", "--exec=x", ""),
            ("a", "", ""),
            ("a", "x:refs/heads/y", ""),
            ("a", "main", "../x"),
            ("a", "main", "x/.git/hooks"),
            ("a", "main", "x//y"),
        ] {
            let result = CheckoutRequest::of_job(&job(name, commit, directory));
            assert!(result.is_err(), "{name:?} {commit:?} {directory:?}");
        }
    }

    #[test]
    fn checkouts_differ_in_everything_that_matters() {
        let base = CheckoutRequest::of_job(&job("a", "main", "d")).unwrap().unwrap();
        let with = |change: fn(&mut CheckoutRequest)| {
            let mut request = base.clone();
            change(&mut request);
            request.checkout_name("c", "")
        };
        let names = [
            with(|_| ()),
            with(|r| r.directory = "e".into()),
            with(|r| r.shallow = true),
            with(|r| r.sparse = vec!["x".into()]),
            with(|r| r.sparse = vec!["x".into(), "".into()]),
            base.checkout_name("d", ""),
            base.checkout_name("c", "tags"),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
