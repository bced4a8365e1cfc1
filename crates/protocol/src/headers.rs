//! Header names and authorization schemes.

/// `Authorization: token-executor <shared access token>`: executor routes.
pub const SCHEME_SHARED: &str = "token-executor";
/// `Authorization: Bearer <job token>`: job routes.
pub const SCHEME_JOB: &str = "Bearer";
/// The job's integer id, on every job-scoped request.
pub const JOB_ID: &str = "X-Sourcegraph-Job-ID";
/// The executor's name, on every job-scoped request.
pub const EXECUTOR_NAME: &str = "X-Sourcegraph-Executor-Name";
/// Sent by executors on git requests, always `internal`.
pub const ACTOR_UID: &str = "X-Sourcegraph-Actor-UID";
/// Ours. An executor lists the extensions it understands on dequeue, heartbeat and ping; the instance
/// answers with the ones it grants. See [`crate::ext::Extensions`].
pub const EXTENSIONS: &str = "X-Executor-Extensions";
/// RFC 7240. `Prefer: wait=<seconds>` holds a dequeue or heartbeat open.
pub const PREFER: &str = "Prefer";
/// Ours. On the answer to a held request: the instance honoured the preference (RFC 7240 §3).
pub const PREFERENCE_APPLIED: &str = "Preference-Applied";

/// Parses `wait=<seconds>` out of a `Prefer` header (RFC 7240 §4.3). Other preferences are ignored.
pub fn prefer_wait_seconds(value: &str) -> Option<u64> {
    value.split([',', ';']).find_map(|part| {
        let (name, seconds) = part.trim().split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| seconds.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::prefer_wait_seconds;

    #[test]
    fn prefer_wait_is_found_among_other_preferences() {
        assert_eq!(prefer_wait_seconds("respond-async, wait=30"), Some(30));
        assert_eq!(prefer_wait_seconds("Wait = 5"), Some(5));
        assert_eq!(prefer_wait_seconds("wait=soon"), None);
        assert_eq!(prefer_wait_seconds("return=minimal"), None);
    }
}
