//! The site configuration: one file of JSON with comments, `site-config.jsonc` in the data folder.
//!
//! [`keys`] is the single table of what exists; validation, the JSON schema and the documentation
//! are made from it. [`SiteConfigHandle`] publishes the last valid file and reloads it by itself.

pub mod document;
pub mod file;
pub mod keys;
pub mod network;
pub mod parse;
pub mod redact;
mod rotate;
pub mod schema;
pub mod token;
pub mod watch;

use jiff::Timestamp;
use serde::Deserialize;

use crate::units::{Size, Span};
pub use document::{Document, SaveError};
pub use network::{Network, NetworkAccess};
pub use rotate::rotate;
pub use token::{Secret, SharedToken};
pub use watch::SiteConfigHandle;

/// Every setting with its value, defaults filled in. The names of the keys are in [`keys::KEYS`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SiteConfig {
    /// Where users reach the instance; empty = unknown.
    #[serde(rename = "externalURL")]
    pub external_url: String,
    /// The secret shared by the executors; empty = executors are not configured.
    #[serde(rename = "executors.accessToken")]
    pub access_token: Secret,
    /// The secret before the last rotation.
    #[serde(rename = "executors.previousAccessToken")]
    pub previous_access_token: Option<PreviousAccessToken>,
    /// Where executors reach the instance; empty = `external_url`.
    #[serde(rename = "executors.frontendURL")]
    pub frontend_url: String,
    /// Old executors may use the shared secret on job routes.
    #[serde(rename = "executors.allowSharedTokenOnJobRoutes")]
    pub allow_shared_token_on_job_routes: bool,
    /// How a dequeue over several queues chooses.
    #[serde(rename = "executors.multiqueue.dequeueCacheConfig")]
    pub multiqueue: Multiqueue,
    /// What the jobs of each queue may reach.
    #[serde(rename = "executors.network")]
    pub network: Network,
    /// Longest time that a failed job's machine is kept; 0 = never.
    #[serde(rename = "executors.maximumHold")]
    pub max_hold: Span,
    /// Ended jobs are removed after so many days.
    #[serde(rename = "jobs.retentionDays")]
    pub jobs_retention_days: u32,
    /// Queued jobs one user may have on the queue `jobs`.
    #[serde(rename = "limits.queuedJobsPerUser")]
    pub max_queued_jobs_per_user: u32,
    /// Largest job file.
    #[serde(rename = "limits.jobFileSize")]
    pub max_job_file: Size,
    /// Most vCPUs a job file may ask for.
    #[serde(rename = "limits.cpus")]
    pub max_cpus: u32,
    /// Most memory a job file may ask for.
    #[serde(rename = "limits.memory")]
    pub max_memory: Size,
    /// Largest disk a job file may ask for.
    #[serde(rename = "limits.disk")]
    pub max_disk: Size,
    /// Most processes a job file may ask for.
    #[serde(rename = "limits.processes")]
    pub max_processes: u32,
    /// Longest wall time a job file may ask for.
    #[serde(rename = "limits.timeout")]
    pub max_timeout: Span,
    /// Most log output stored for one job.
    #[serde(rename = "limits.logSize")]
    pub max_log: Size,
    /// Largest artifact.
    #[serde(rename = "limits.artifactSize")]
    pub max_artifact: Size,
    /// Most artifacts of one job.
    #[serde(rename = "limits.artifactsPerJob")]
    pub max_artifacts_per_job: u32,
    /// Largest upload of a code-intelligence index.
    #[serde(rename = "limits.uploadSize")]
    pub max_upload: Size,
    /// A session ends after so long without use.
    #[serde(rename = "auth.sessionExpiry")]
    pub session_expiry: Span,
    /// The client's address is the last one in `X-Forwarded-For`.
    #[serde(rename = "auth.trustForwardedFor")]
    pub trust_forwarded_for: bool,
}

/// The shared secret before the last rotation.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PreviousAccessToken {
    /// The secret.
    pub value: Secret,
    /// It is refused from this moment on.
    pub valid_until: Timestamp,
}

/// How a dequeue over several queues chooses: a queue over its limit waits, the rest is drawn by
/// weight.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Multiqueue {
    /// Queue `batches`.
    pub batches: QueueShare,
    /// Queue `codeintel`.
    pub codeintel: QueueShare,
    /// Queue `jobs`.
    pub jobs: QueueShare,
}

/// One queue's share in a dequeue over several.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueShare {
    /// Dequeues in five minutes before the other queues go first.
    pub limit: u32,
    /// Weight in the draw; 0 = only when no other queue has a job.
    pub weight: u32,
}

impl Default for Multiqueue {
    fn default() -> Self {
        Self {
            batches: QueueShare { limit: 50, weight: 4 },
            codeintel: QueueShare { limit: 250, weight: 1 },
            jobs: QueueShare { limit: 50, weight: 4 },
        }
    }
}

impl Default for SiteConfig {
    fn default() -> Self {
        Self {
            external_url: String::new(),
            access_token: Secret::default(),
            previous_access_token: None,
            frontend_url: String::new(),
            allow_shared_token_on_job_routes: false,
            multiqueue: Multiqueue::default(),
            network: Network::default(),
            max_hold: Span(3600),
            jobs_retention_days: 30,
            max_queued_jobs_per_user: 10_000,
            max_job_file: Size(4 << 20),
            max_cpus: 64,
            max_memory: Size(64 << 30),
            max_disk: Size(200 << 30),
            max_processes: 65_536,
            max_timeout: Span(86_400),
            max_log: Size(256 << 20),
            max_artifact: Size(256 << 20),
            max_artifacts_per_job: 1_000,
            max_upload: Size(1 << 30),
            session_expiry: Span(30 * 86_400),
            trust_forwarded_for: false,
        }
    }
}

impl SiteConfig {
    /// Cookies carry `Secure` when users come over TLS.
    pub fn is_https(&self) -> bool {
        self.external_url.starts_with("https://")
    }

    /// The URL that executors are told: `executors.frontendURL`, else `externalURL`; empty = unknown.
    pub fn executor_url(&self) -> &str {
        if self.frontend_url.is_empty() { &self.external_url } else { &self.frontend_url }
    }

    /// Whether a shared secret is set at all.
    pub fn executors_configured(&self) -> bool {
        !self.access_token.is_empty()
    }

    /// Compares a presented shared secret in constant time; the previous one counts until its end.
    pub fn check_shared_token(&self, presented: &str, now: Timestamp) -> SharedToken {
        if !self.executors_configured() {
            return SharedToken::NotConfigured;
        }
        let current = self.access_token.equals(presented);
        let previous = self
            .previous_access_token
            .as_ref()
            .is_some_and(|p| p.value.equals(presented) & (now < p.valid_until));
        if current | previous { SharedToken::Right } else { SharedToken::Wrong }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_previous_token_counts_until_its_end() {
        let config = SiteConfig {
            access_token: Secret::new("n".repeat(20)),
            previous_access_token: Some(PreviousAccessToken {
                value: Secret::new("o".repeat(20)),
                valid_until: at("2026-05-01T00:00:00Z"),
            }),
            ..SiteConfig::default()
        };
        let (before, after) = (at("2026-04-30T23:59:59Z"), at("2026-05-01T00:00:00Z"));
        assert_eq!(config.check_shared_token(&"n".repeat(20), after), SharedToken::Right);
        assert_eq!(config.check_shared_token(&"o".repeat(20), before), SharedToken::Right);
        assert_eq!(config.check_shared_token(&"o".repeat(20), after), SharedToken::Wrong);
        assert_eq!(config.check_shared_token("", before), SharedToken::Wrong);
        let none = SiteConfig::default();
        assert_eq!(none.check_shared_token("", before), SharedToken::NotConfigured);
    }
}
