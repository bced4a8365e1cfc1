//! Waiting for what the kernel gives no event for.

use std::time::Duration;

/// Waits that long. The guest has threads, no runtime that this could block.
#[expect(clippy::disallowed_methods, reason = "no runtime here; see the function's own words")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
