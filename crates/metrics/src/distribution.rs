//! How values that may be negative or fractional are distributed: percentiles within half a percent.
//!
//! Up to [`EXACT_MAX`] different values are kept as they are. Beyond, they are counted in buckets by the leading bits
//! of the floating-point number, which divides every power of two into 512 of the same width: no bucket is wider
//! than 1/512 of what is in it. Should there be more than [`BUCKETS_MAX`] buckets, each two become one. What
//! distributions of parts add up to does not depend on the order.

use ekiden_model::histogram::{Histogram, bounds_of};

/// Different values that are kept exactly.
pub const EXACT_MAX: usize = 32;
/// Buckets of one distribution: 64 KiB.
pub const BUCKETS_MAX: usize = 4096;
/// Bits after the leading one that tell buckets apart.
pub(crate) const BITS_MAX: u8 = 9;

/// Values, each with how often it was there.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution(pub(crate) Form);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    /// Values, ascending.
    Exact(Vec<(f64, f64)>),
    /// Buckets, ascending; negative ones hold negative values.
    Buckets { bits: u8, buckets: Vec<(i32, f64)> },
}

impl Distribution {
    /// One value that was there `count` times. Both are finite.
    #[must_use]
    pub fn of(value: f64, count: f64) -> Self {
        // There is one zero.
        Self(Form::Exact(vec![(value + 0.0, count)]))
    }

    /// A histogram's values, each times `scale`, which is positive.
    #[must_use]
    pub fn from_histogram(histogram: &Histogram, scale: f64) -> Self {
        let (min, max) = (histogram.min as f64, histogram.max as f64);
        let values = histogram.buckets.iter().map(|(bucket, count)| {
            let (low, high) = bounds_of(usize::from(*bucket));
            let middle = low as f64 + (high - low) as f64 / 2.0;
            (middle.clamp(min, max) * scale, *count as f64)
        });
        let mut exact: Vec<(f64, f64)> = Vec::with_capacity(histogram.buckets.len());
        for (value, count) in values {
            match exact.last_mut() {
                Some(last) if last.0 == value => last.1 += count,
                _ => exact.push((value, count)),
            }
        }
        Self(Form::Exact(exact)).bounded()
    }

    /// Adds what another one has.
    pub fn merge(&mut self, other: &Self) {
        let merged = match (&self.0, &other.0) {
            (Form::Exact(ours), Form::Exact(theirs)) => {
                Form::Exact(merge_sorted(ours, theirs, f64::total_cmp))
            }
            _ => {
                let bits = self.bits().min(other.bits());
                let (ours, theirs) = (self.in_buckets(bits), other.in_buckets(bits));
                Form::Buckets {
                    bits,
                    buckets: merge_sorted(&ours, &theirs, i32::cmp),
                }
            }
        };
        *self = Self(merged).bounded();
    }

    /// The same, in buckets unless all values are whole numbers: what is kept of it in the long run.
    #[must_use]
    pub(crate) fn rolled_up(self) -> Self {
        match &self.0 {
            Form::Exact(values) if values.iter().any(|(value, _)| value.fract() != 0.0) => {
                Self(Form::Buckets {
                    bits: BITS_MAX,
                    buckets: self.in_buckets(BITS_MAX),
                })
            }
            _ => self,
        }
    }

    /// Values, ascending, each with how often it was there. A bucket's value is its middle.
    #[must_use]
    pub fn values(&self) -> Vec<(f64, f64)> {
        match &self.0 {
            Form::Exact(values) => values.clone(),
            Form::Buckets { bits, buckets } => {
                let value = |(key, count): &(i32, f64)| (middle_of(*key, *bits), *count);
                buckets.iter().map(value).collect()
            }
        }
    }

    /// The value that `percent` of all are not above, 0 to 100; nearest rank. `None` when there is no value.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        let values = self.values();
        let all: f64 = values.iter().map(|(_, count)| count).sum();
        let rank = percent.clamp(0.0, 100.0) / 100.0 * all;
        let mut below = 0.0;
        for (value, count) in &values {
            below += count;
            // A part in 10^12 is what adding has lost.
            if below * (1.0 + 1e-12) >= rank && *count > 0.0 {
                return Some(*value);
            }
        }
        values.last().map(|(value, _)| *value)
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        match &self.0 {
            Form::Exact(values) => values.capacity() * 16,
            Form::Buckets { buckets, .. } => buckets.capacity() * 16,
        }
    }

    fn bits(&self) -> u8 {
        match &self.0 {
            Form::Exact(_) => BITS_MAX,
            Form::Buckets { bits, .. } => *bits,
        }
    }

    /// Its buckets; `wanted` is not more than it has.
    fn in_buckets(&self, wanted: u8) -> Vec<(i32, f64)> {
        match &self.0 {
            Form::Exact(values) => {
                collect(values.iter().map(|(v, count)| (key_of(*v, wanted), *count)))
            }
            Form::Buckets { bits, buckets } => {
                let by = 1 << (bits - wanted);
                collect(buckets.iter().map(|(key, count)| (key / by, *count)))
            }
        }
    }

    fn bounded(self) -> Self {
        match &self.0 {
            Form::Exact(values) if values.len() <= EXACT_MAX => self,
            Form::Buckets { buckets, .. } if buckets.len() <= BUCKETS_MAX => self,
            _ => {
                let mut bits = match &self.0 {
                    Form::Exact(_) => BITS_MAX,
                    Form::Buckets { bits, .. } => bits.saturating_sub(1),
                };
                let mut buckets = self.in_buckets(bits);
                while buckets.len() > BUCKETS_MAX && bits > 0 {
                    bits -= 1;
                    buckets = collect(buckets.into_iter().map(|(key, count)| (key / 2, count)));
                }
                Self(Form::Buckets { bits, buckets })
            }
        }
    }
}

/// The bucket of a value: sign, exponent and the first bits after the leading one.
fn key_of(value: f64, bits: u8) -> i32 {
    let magnitude = (value.abs().to_bits() >> (52 - bits)) as i32;
    if value < 0.0 { -magnitude } else { magnitude }
}

fn middle_of(key: i32, bits: u8) -> f64 {
    let magnitude = u64::from(key.unsigned_abs());
    if magnitude == 0 {
        return 0.0;
    }
    let at = |magnitude: u64| f64::from_bits(magnitude << (52 - bits));
    let (low, high) = (at(magnitude), at(magnitude + 1));
    let middle = low + (high - low) / 2.0;
    if key < 0 { -middle } else { middle }
}

/// Puts neighbours of the same key together.
fn collect(ascending: impl Iterator<Item = (i32, f64)>) -> Vec<(i32, f64)> {
    let mut buckets: Vec<(i32, f64)> = Vec::new();
    for (key, count) in ascending {
        match buckets.last_mut() {
            Some(last) if last.0 == key => last.1 += count,
            _ => buckets.push((key, count)),
        }
    }
    buckets
}

fn merge_sorted<K: Copy>(
    ours: &[(K, f64)],
    theirs: &[(K, f64)],
    order: impl Fn(&K, &K) -> std::cmp::Ordering,
) -> Vec<(K, f64)> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let mut merged = Vec::with_capacity(ours.len() + theirs.len());
    let (mut ours, mut theirs) = (ours.iter().peekable(), theirs.iter().peekable());
    while let (Some(one), Some(other)) = (ours.peek(), theirs.peek()) {
        match order(&one.0, &other.0) {
            Less => merged.extend(ours.next()),
            Greater => merged.extend(theirs.next()),
            Equal => {
                merged.push((one.0, one.1 + other.1));
                ours.next();
                theirs.next();
            }
        }
    }
    merged.extend(ours);
    merged.extend(theirs);
    merged.shrink_to_fit();
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = f64>) -> Distribution {
        let mut all = Distribution(Form::Exact(Vec::new()));
        for value in values {
            all.merge(&Distribution::of(value, 1.0));
        }
        all
    }

    #[test]
    fn few_values_are_exact() {
        let few = of([3.5, -2.25, 0.0, -0.0, 3.5]);
        assert_eq!(few.values(), [(-2.25, 1.0), (0.0, 2.0), (3.5, 2.0)]);
        assert_eq!(few.percentile(0.0), Some(-2.25));
        assert_eq!(few.percentile(20.0), Some(-2.25));
        assert_eq!(few.percentile(60.0), Some(0.0));
        assert_eq!(few.percentile(60.1), Some(3.5));
        assert_eq!(few.percentile(100.0), Some(3.5));
        assert_eq!(of([]).percentile(50.0), None);
    }

    #[test]
    fn many_values_are_within_a_tenth_of_a_percent() {
        let values: Vec<f64> = (-3000..3000).map(|n| f64::from(n) * 0.37).collect();
        let all = of(values.iter().copied());
        for percent in [0.1, 1.0, 25.0, 49.0, 51.0, 90.0, 99.9] {
            let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
            let (want, got) = (values[rank - 1], all.percentile(percent).unwrap());
            let off = (got - want).abs();
            assert!(off <= want.abs() * 0.001, "{percent}: {got} {want}");
        }
    }

    #[test]
    fn a_histogram_in_another_unit_is_within_half_a_percent() {
        let mut histogram = Histogram::default();
        let values: Vec<u64> = (1..=10_000).map(|n| n * n / 7).collect();
        values.iter().for_each(|value| histogram.record(*value));
        let scaled = Distribution::from_histogram(&histogram, 0.001);
        for percent in [1.0, 50.0, 90.0, 99.0, 99.9, 100.0] {
            let rank = (percent / 100.0 * 10_000.0_f64).ceil() as usize;
            let want = values[rank - 1] as f64 / 1000.0;
            let got = scaled.percentile(percent).unwrap();
            assert!(
                (got - want).abs() <= want * 0.005,
                "{percent}: {got} {want}"
            );
        }
    }

    #[test]
    fn too_many_buckets_become_wider_ones() {
        let wide = of((0..6000).map(|n| 1.005_f64.powi(n - 3000)));
        let Form::Buckets { bits, buckets } = &wide.0 else {
            panic!("{wide:?}");
        };
        assert!(buckets.len() <= BUCKETS_MAX && *bits < BITS_MAX);
        let half = wide.percentile(50.0).unwrap();
        assert!((half - 1.0).abs() < 0.02, "{half}");
    }
}
