//! Delays between attempts: exponential, with full jitter, so that a crowd of executors does not
//! come back in step.

use std::time::Duration;

use rand::RngExt as _;

/// Delays of a series of attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    attempt: u32,
}

impl Backoff {
    /// Delays grow from `base` to `max`.
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, attempt: 0 }
    }

    /// Delays of the transport: 50 ms to 1 s, as stock executors have them.
    pub fn transport() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(1))
    }

    /// Delays of loops that must not give up: 200 ms to 10 s.
    pub fn patient() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(10))
    }

    /// The next delay: between half and all of the doubled one before.
    pub fn next_delay(&mut self) -> Duration {
        let full = self.base.saturating_mul(1 << self.attempt.min(16)).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Attempts since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempt
    }

    /// The last attempt succeeded.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_start_again() {
        let mut backoff = Backoff::transport();
        for expected in [50, 100, 200, 400, 800, 1000, 1000] {
            let full = Duration::from_millis(expected);
            let delay = backoff.next_delay();
            assert!(delay >= full / 2 && delay <= full, "{delay:?} for {full:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(50));
    }
}
