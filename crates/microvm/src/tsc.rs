//! The frequency of this machine's time stamp counter, which an emulated guest shares.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::qemu::TscKhz;

/// Long enough for an error below 1:10000, short enough not to be noticed.
const SAMPLE: Duration = Duration::from_millis(20);

/// Measures once per process. Blocking, for 20 ms.
pub fn frequency() -> TscKhz {
    static FREQUENCY: OnceLock<TscKhz> = OnceLock::new();
    *FREQUENCY.get_or_init(measure)
}

fn measure() -> TscKhz {
    let (start, first) = (Instant::now(), counter());
    // Counted awake: a sleeping processor may be late to wake, but the ratio holds whatever the interval.
    while start.elapsed() < SAMPLE {
        std::hint::spin_loop();
    }
    let (ticks, elapsed) = (counter() - first, start.elapsed());
    TscKhz(u64::try_from(u128::from(ticks) * 1_000_000 / elapsed.as_nanos()).unwrap_or(u64::MAX))
}

fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux lets user programs use it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let (TscKhz(one), TscKhz(other)) = (measure(), measure());
        assert!(one > 100_000, "{one} kHz");
        assert!(one.abs_diff(other) * 100 < one, "{one} and {other} kHz");
    }
}
