//! Typed calls to an instance: those of the executor itself (shared secret) here and in
//! [`queue`], those of one job (job token) in [`job`].

mod error;
mod hold;
mod http_call;
pub mod job;
pub mod queue;
mod retry;

use std::sync::Arc;
use std::time::Duration;

use protocol::ext::Extensions;
use protocol::headers;
use tokio::sync::watch;
use url::Url;

use crate::config::Secret;
pub use error::ClientError;
pub use hold::is_over;
pub use http_call::Attempts;
pub use job::{JobClient, MarkKind};
pub use queue::{Dequeued, JobRef};
pub use retry::Backoff;

/// The string that every instance answers with job format v2: stock instances compare it for
/// equality with this constant, and their feature gates (`>= 4.3.0-0`) let it pass.
const JOB_FORMAT_VERSION: &str = "4.3.0-0";

/// Time for an answer that nothing holds back.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls to one instance. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Arc<Url>,
    shared: Secret,
    executor_name: Arc<str>,
    granted: Arc<watch::Sender<Extensions>>,
}

impl Client {
    /// A client for the instance at `base`, under a name that is new at every start.
    ///
    /// # Errors
    /// The TLS set-up failed (no root certificates).
    pub fn new(base: Url, shared: Secret, executor_name: String) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("executors/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            // Answers come from the instance alone; a redirect would carry the token elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(Duration::from_secs(60))
            .tcp_nodelay(true)
            .build()?;
        Ok(Self {
            http,
            base: Arc::new(base),
            shared,
            executor_name: executor_name.into(),
            granted: Arc::new(watch::Sender::new(Extensions::default())),
        })
    }

    /// `<hostname>-<uuid>`.
    pub fn executor_name(&self) -> &str {
        &self.executor_name
    }

    /// What the instance granted in its last answer.
    pub fn granted(&self) -> Extensions {
        *self.granted.borrow()
    }

    /// The base URL.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// A route under the base URL; a path prefix of the base is kept.
    pub(crate) fn url(&self, route: &str) -> Url {
        let mut url = (*self.base).clone();
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{prefix}{route}"));
        url.set_query(None);
        url.set_fragment(None);
        url
    }

    /// The git route of a repository: at the root of the host, a path prefix of the base is dropped
    /// (as stock executors do).
    pub fn git_url(&self, repository: &str) -> Url {
        let mut url = (*self.base).clone();
        url.set_path(&format!("{}/{repository}", protocol::routes::GIT));
        url.set_query(None);
        url.set_fragment(None);
        url
    }

    fn shared_authorization(&self) -> String {
        format!("{} {}", headers::SCHEME_SHARED, self.shared.expose())
    }

    /// Calls of one job.
    pub fn job(&self, queue: &str, id: i64, token: &str) -> JobClient {
        JobClient::new(self.clone(), queue, id, token)
    }
}

/// A name that no other process has or had: the host's name and a random part.
pub fn unique_executor_name() -> String {
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "executor".to_owned());
    format!("{host}-{}", uuid::Uuid::new_v4())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(base: &str) -> Client {
        // Idempotent: another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::new(Url::parse(base).unwrap(), Secret::new("s"), "e-1".into()).unwrap()
    }

    #[test]
    fn a_path_prefix_is_kept_except_for_git() {
        let client = client("https://sg.example/prefix/");
        assert_eq!(
            client.url("/.executors/queue/dequeue").as_str(),
            "https://sg.example/prefix/.executors/queue/dequeue"
        );
        assert_eq!(
            client.git_url("git.example/a/b").as_str(),
            "https://sg.example/.executors/git/git.example/a/b"
        );
    }

    #[test]
    fn names_are_unique() {
        assert_ne!(unique_executor_name(), unique_executor_name());
    }
}
