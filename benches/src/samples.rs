//! Many measurements of one thing.

use std::time::Duration;

use crate::report::Quantity;

/// Durations, to be read by percentile.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    sorted: Vec<Duration>,
}

impl FromIterator<Duration> for Samples {
    fn from_iter<I: IntoIterator<Item = Duration>>(durations: I) -> Self {
        let mut sorted: Vec<_> = durations.into_iter().collect();
        sorted.sort_unstable();
        Self { sorted }
    }
}

impl Samples {
    /// The smallest sample that `percent` of all do not exceed (nearest rank), in milliseconds.
    pub fn percentile(&self, percent: usize) -> Quantity {
        assert!(!self.sorted.is_empty(), "nothing was measured");
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        Quantity::milliseconds(self.sorted[rank - 1])
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_of_the_nearest_rank() {
        let samples: Samples = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(samples.percentile(50).value, 100.0);
        assert_eq!(samples.percentile(99).value, 198.0);
        assert_eq!(samples.percentile(100).value, 200.0);
        let one: Samples = [Duration::from_millis(7)].into_iter().collect();
        assert_eq!((one.percentile(1).value, one.len()), (7.0, 1));
    }
}
