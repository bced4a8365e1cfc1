//! Waiting on a condition with a deadline. The only place in the tests that sleeps.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(50);

/// Calls `check` until it gives a value, and panics with `what` when `deadline` has passed.
pub async fn until<T>(
    what: &str,
    deadline: Duration,
    mut check: impl AsyncFnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(started.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// The same for a condition that is only true or false.
pub async fn until_true(what: &str, deadline: Duration, mut check: impl AsyncFnMut() -> bool) {
    until(what, deadline, async || check().await.then_some(())).await;
}

/// The same where nothing can be awaited; no panic, because a panic may be the reason for it.
pub(crate) fn blocking(deadline: Duration, mut check: impl FnMut() -> bool) {
    let started = Instant::now();
    while !check() && started.elapsed() < deadline {
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing else runs on the thread that tears down"
        )]
        std::thread::sleep(STEP);
    }
}

/// Lets `time` pass while `check` must stay true: for what must *not* happen.
pub async fn while_true(what: &str, time: Duration, mut check: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while started.elapsed() < time {
        assert!(check().await, "no longer true after {:?}: {what}", started.elapsed());
        tokio::time::sleep(STEP).await;
    }
}

/// Lets `time` pass: only for what is slow on purpose, such as a proxy's delay or the retries of a
/// played executor.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
