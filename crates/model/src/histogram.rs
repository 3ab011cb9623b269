//! How values are distributed: percentiles within 0.4 % in a few hundred bytes.
//!
//! Values below 256 have a bucket each; above, every power of two is divided into 128 of the same width,
//! so that no bucket is wider than 1/128 of what is in it. Sum, minimum and maximum are exact. Histograms of
//! the same values in several places add up to the histogram of all of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Buckets that there are.
pub const BUCKETS: usize = 33 * 128 + 128;

/// What is larger is counted as this: in microseconds 12 days.
pub const VALUE_MAX: u64 = (1 << 40) - 1;

/// The bucket of a value, less than [`BUCKETS`].
#[must_use]
pub const fn bucket_of(value: u64) -> usize {
    let value = if value > VALUE_MAX { VALUE_MAX } else { value };
    if value < 256 {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - 7;
    shift as usize * 128 + (value >> shift) as usize
}

/// The smallest and the largest value of a bucket.
#[must_use]
pub const fn bounds_of(bucket: usize) -> (u64, u64) {
    if bucket < 256 {
        return (bucket as u64, bucket as u64);
    }
    let shift = bucket / 128 - 1;
    let low = ((bucket - shift * 128) as u64) << shift;
    (low, low + (1 << shift) - 1)
}

/// Values, counted by bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// How many.
    pub count: u64,
    /// All together; stays at its greatest when it is reached.
    pub sum: u64,
    /// The smallest; 0 when there is none.
    pub min: u64,
    /// The largest; 0 when there is none.
    pub max: u64,
    /// How many are in each bucket, of those that have some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub buckets: BTreeMap<u16, u64>,
}

impl Histogram {
    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Records a value.
    pub fn record(&mut self, value: u64) {
        self.record_many(value, 1);
    }

    /// Records a value `count` times.
    pub fn record_many(&mut self, value: u64, count: u64) {
        if count == 0 {
            return;
        }
        self.min = match self.count {
            0 => value,
            _ => self.min.min(value),
        };
        self.max = self.max.max(value);
        self.count = self.count.saturating_add(count);
        self.sum = self.sum.saturating_add(value.saturating_mul(count));
        let bucket = self.buckets.entry(bucket_of(value) as u16).or_default();
        *bucket = bucket.saturating_add(count);
    }

    /// Adds what another one has. Buckets that do not exist are left out.
    pub fn add(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.min = match self.count {
            0 => other.min,
            _ => self.min.min(other.min),
        };
        self.max = self.max.max(other.max);
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
        for (bucket, more) in &other.buckets {
            if usize::from(*bucket) < BUCKETS {
                let count = self.buckets.entry(*bucket).or_default();
                *count = count.saturating_add(*more);
            }
        }
    }

    /// The value that `percent` of all are not above, 0 to 100; nearest rank (the smallest value with at
    /// least that part of all at or below it), within half a bucket. `None` when there is no value.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        let all: u64 = self.buckets.values().sum();
        if all == 0 {
            return None;
        }
        let rank = ((percent.clamp(0.0, 100.0) / 100.0 * all as f64).ceil() as u64).clamp(1, all);
        let mut below = 0;
        for (bucket, count) in &self.buckets {
            below += count;
            if below >= rank {
                let (low, high) = bounds_of(usize::from(*bucket));
                let middle = low as f64 + (high - low) as f64 / 2.0;
                return Some(middle.clamp(self.min as f64, self.max as f64));
            }
        }
        Some(self.max as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        let mut next = 0;
        for bucket in 0..BUCKETS {
            let (low, high) = bounds_of(bucket);
            assert_eq!(low, next);
            assert!((high - low) as f64 <= low as f64 / 128.0);
            assert_eq!((bucket_of(low), bucket_of(high)), (bucket, bucket));
            next = high + 1;
        }
        assert_eq!(next, VALUE_MAX + 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_within_half_a_percent() {
        let mut histogram = Histogram::default();
        let values: Vec<u64> = (1..=10_000).map(|n| n * n / 7).collect();
        values.iter().for_each(|value| histogram.record(*value));
        for percent in [1.0, 50.0, 90.0, 99.0, 99.9, 100.0] {
            let want = values[(percent / 100.0 * 10_000.0_f64).ceil() as usize - 1] as f64;
            let got = histogram.percentile(percent).unwrap();
            assert!(
                (got - want).abs() <= want * 0.004,
                "{percent}: {got} {want}"
            );
        }
        assert_eq!(histogram.sum, values.iter().sum::<u64>());
        assert_eq!(Histogram::default().percentile(50.0), None);
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let (mut one, mut two, mut all) = (
            Histogram::default(),
            Histogram::default(),
            Histogram::default(),
        );
        for value in 0..1000 {
            let part = if value % 3 == 0 { &mut one } else { &mut two };
            part.record(value * 17);
            all.record(value * 17);
        }
        let mut sum = Histogram::default();
        sum.add(&one);
        sum.add(&Histogram::default());
        sum.add(&two);
        assert_eq!(sum, all);
    }
}
