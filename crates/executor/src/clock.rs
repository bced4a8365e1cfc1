//! Wall-clock time. Durations come from tokio's clock, which tests can stop.

/// Now.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the executor that reads the wall clock"
)]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
