//! The table of all keys. Validation, the JSON schema and `docs/site-configuration.md` come from
//! here; a test keeps [`super::SiteConfig`] and its defaults in step.

use super::network::NetworkAccess;

/// What a key's value may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number within bounds, both included.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// Text of a least length; longer than that are secrets only.
    Token {
        /// Fewest characters.
        min_length: usize,
    },
    /// Absolute `http` or `https` URL without user, query and fragment; empty = unset.
    Url,
    /// A moment as RFC 3339.
    Time,
    /// A number of bytes such as `256M`.
    Size,
    /// A duration such as `1h30m`.
    Span,
    /// The same, or `0` for never.
    SpanOrNever,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of text, each entry checked.
    List(ListOf),
    /// An object with keys of its own.
    Object(&'static [Key]),
}

/// What the entries of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOf {
    /// Addresses and networks, each with or without a port.
    Addresses,
    /// Domains, each with or without a port.
    Domains,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As written in the file; at the top level dots are part of the name.
    pub name: &'static str,
    /// What the value may be.
    pub kind: Kind,
    /// The value when absent, as JSON; empty = none.
    pub default: &'static str,
    /// The value is a secret: shown as `REDACTED`.
    pub secret: bool,
    /// Must be present (within an object that is).
    pub required: bool,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
}

/// A plain optional key.
const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, secret: false, required: false, doc }
}

const fn required(key: Key) -> Key {
    Key { required: true, ..key }
}

const fn secret(key: Key) -> Key {
    Key { secret: true, ..key }
}

/// Shortest shared secret, as in the original's schema.
pub const MIN_TOKEN_LENGTH: usize = 20;

const COUNT: Kind = Kind::Integer { min: 1, max: 1_000_000 };

const PREVIOUS_TOKEN: &[Key] = &[
    required(secret(key(
        "value",
        Kind::Token { min_length: MIN_TOKEN_LENGTH },
        "",
        "The secret before the rotation.",
    ))),
    required(key("validUntil", Kind::Time, "", "It is refused from this moment on (RFC 3339).")),
];

const SHARE: &[Key] = &[
    required(key(
        "limit",
        Kind::Integer { min: 1, max: 1_000_000 },
        "",
        "Dequeues within five minutes after which the other queues go first.",
    )),
    required(key(
        "weight",
        Kind::Integer { min: 0, max: 1_000_000 },
        "",
        "Weight in the draw among the queues that have jobs.",
    )),
];

const MULTIQUEUE: &[Key] = &[
    key("batches", Kind::Object(SHARE), r#"{ "limit": 50, "weight": 4 }"#, "Queue `batches`."),
    key("codeintel", Kind::Object(SHARE), r#"{ "limit": 250, "weight": 1 }"#, "Queue `codeintel`."),
    key("jobs", Kind::Object(SHARE), r#"{ "limit": 50, "weight": 4 }"#, "Queue `jobs`."),
];

const QUEUE_NETWORK: &[Key] = &[
    key(
        "default",
        Kind::Choice(&NetworkAccess::NAMES),
        "",
        "For jobs that do not say: `none`, or `egress` (outgoing TCP and look-ups of names). Absent: \
         `egress` for `batches` and `codeintel`, `none` for `jobs`.",
    ),
    key(
        "allowAddresses",
        Kind::List(ListOf::Addresses),
        "[]",
        "Private addresses and networks that jobs reach nevertheless, such as a package mirror.",
    ),
    key(
        "allowDomains",
        Kind::List(ListOf::Domains),
        "",
        "Where set, jobs reach these domains (ports 80 and 443, or the one given) and the addresses \
         above, and nothing else.",
    ),
];

const NETWORK: &[Key] = &[
    key("batches", Kind::Object(QUEUE_NETWORK), "", "Queue `batches`."),
    key("codeintel", Kind::Object(QUEUE_NETWORK), "", "Queue `codeintel`."),
    key("jobs", Kind::Object(QUEUE_NETWORK), "", "Queue `jobs`."),
];

/// All top-level keys, in the order of the documentation.
pub const KEYS: &[Key] = &[
    key(
        "externalURL",
        Kind::Url,
        r#""""#,
        "Where users reach the instance. With `https` the session cookie is sent over TLS only.",
    ),
    secret(key(
        "executors.accessToken",
        Kind::Token { min_length: MIN_TOKEN_LENGTH },
        "",
        "The secret that executors present (`EXECUTOR_FRONTEND_PASSWORD`), at least 20 characters. \
         Without it no executor can connect. Make one with `instance config generate-token`.",
    )),
    key(
        "executors.previousAccessToken",
        Kind::Object(PREVIOUS_TOKEN),
        "",
        "The secret before a rotation, still accepted until the stated time, so that executors can \
         be changed one after the other.",
    ),
    key(
        "executors.frontendURL",
        Kind::Url,
        r#""""#,
        "Where executors reach the instance, if that differs from `externalURL`.",
    ),
    key(
        "executors.allowSharedTokenOnJobRoutes",
        Kind::Boolean,
        "false",
        "Accept the shared secret instead of a job token on the routes of a job. Only for executors \
         older than 4.1; any holder of the secret can then act on every job.",
    ),
    key(
        "executors.multiqueue.dequeueCacheConfig",
        Kind::Object(MULTIQUEUE),
        "",
        "How an executor that serves several queues chooses: a queue over its limit waits for the \
         others, the rest is drawn by weight.",
    ),
    key(
        "executors.network",
        Kind::Object(NETWORK),
        "",
        "What jobs may reach over the network, queue by queue. Enforced by the executors for jobs that \
         they dequeue after the change; stock executors have rules of their own.",
    ),
    key(
        "executors.maximumHold",
        Kind::SpanOrNever,
        r#""1h""#,
        "Longest time that a failed job's machine is kept for a site admin to look into; `0` = never. \
         A machine that is kept occupies a slot of its executor, which has a limit of its own.",
    ),
    key(
        "jobs.retentionDays",
        Kind::Integer { min: 1, max: 3_650 },
        "30",
        "Ended jobs are removed after so many days, with their logs and artifacts.",
    ),
    key("limits.queuedJobsPerUser", COUNT, "10000", "Queued jobs one user may have at a time."),
    key("limits.jobFileSize", Kind::Size, r#""4M""#, "Largest job file, with its `files`."),
    key("limits.cpus", Kind::Integer { min: 1, max: 1_024 }, "64", "Most vCPUs of one job."),
    key("limits.memory", Kind::Size, r#""64G""#, "Most memory of one job."),
    key("limits.disk", Kind::Size, r#""200G""#, "Largest disk of one job."),
    key(
        "limits.processes",
        Kind::Integer { min: 16, max: 4_194_304 },
        "65536",
        "Most processes of one job.",
    ),
    key("limits.timeout", Kind::Span, r#""1d""#, "Longest wall time of one job."),
    key(
        "limits.logSize",
        Kind::Size,
        r#""256M""#,
        "Most log output stored for one job; a job above it fails with `output_limit`.",
    ),
    key("limits.artifactSize", Kind::Size, r#""256M""#, "Largest artifact."),
    key("limits.artifactsPerJob", COUNT, "1000", "Most artifacts of one job."),
    key("limits.uploadSize", Kind::Size, r#""1G""#, "Largest upload of a code-intelligence index."),
    key("auth.sessionExpiry", Kind::Span, r#""30d""#, "A session ends after so long without use."),
    key(
        "auth.trustForwardedFor",
        Kind::Boolean,
        "false",
        "Take a client's address from the last entry of `X-Forwarded-For`. Only behind a reverse \
         proxy that sets this header; used by the rate limit of log-in.",
    ),
];

/// Every secret key with its path (`executors.previousAccessToken.value`), depth first.
pub fn secrets() -> Vec<(String, Key)> {
    fn walk(prefix: &str, keys: &[Key], found: &mut Vec<(String, Key)>) {
        for key in keys {
            let path = format!("{prefix}{}", key.name);
            if key.secret {
                found.push((path.clone(), *key));
            }
            if let Kind::Object(inner) = key.kind {
                walk(&format!("{path}."), inner, found);
            }
        }
    }
    let mut found = Vec::new();
    walk("", KEYS, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site_config::SiteConfig;

    /// Redaction finds a secret by its own name, so no other key may have the same one.
    #[test]
    fn names_of_secrets_are_theirs_alone() {
        fn names(keys: &[Key], found: &mut Vec<(&'static str, bool)>) {
            for key in keys {
                found.push((key.name, key.secret));
                if let Kind::Object(inner) = key.kind {
                    names(inner, found);
                }
            }
        }
        let mut all = Vec::new();
        names(KEYS, &mut all);
        for (path, key) in secrets() {
            let same = all.iter().filter(|(name, _)| *name == key.name).count();
            assert_eq!(same, 1, "{path}");
        }
    }

    #[test]
    fn the_defaults_of_the_table_are_those_of_the_type() {
        let written: Vec<String> = KEYS
            .iter()
            .filter(|key| !key.default.is_empty())
            .map(|key| format!("{:?}: {}", key.name, key.default))
            .collect();
        let queues: Vec<String> =
            MULTIQUEUE.iter().map(|key| format!("{:?}: {}", key.name, key.default)).collect();
        let text = format!(
            "{{ {}, \"executors.multiqueue.dequeueCacheConfig\": {{ {} }} }}",
            written.join(", "),
            queues.join(", ")
        );
        assert_eq!(crate::site_config::parse::parse(&text).unwrap(), SiteConfig::default());
    }
}
