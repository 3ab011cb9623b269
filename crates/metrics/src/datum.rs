//! What a series has for a minute, or for a longer time: a statistic set, and how the values are distributed.

use ekiden_model::histogram::Histogram;

use crate::{distribution::Distribution, error::Error};

/// CloudWatch's bound of what a value may be: -2^360 to 2^360.
pub const VALUE_MAX: f64 = 2.348_542_582_773_833e108;
/// Values that one datum of PutMetricData may bring.
pub const VALUES_MAX: usize = 150;

/// Values put together.
#[derive(Debug, Clone, PartialEq)]
pub struct Datum {
    /// How many; CloudWatch allows parts.
    pub count: f64,
    /// All together.
    pub sum: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How they are distributed. When it is missing there is one value, if the smallest is the largest, or it is
    /// not known: there are no percentiles.
    pub distribution: Option<Distribution>,
}

impl Datum {
    /// One value: a gauge, or what a counter counted in the minute. It must be finite.
    #[must_use]
    pub const fn value(value: f64) -> Self {
        Self {
            count: 1.0,
            sum: value,
            min: value,
            max: value,
            distribution: None,
        }
    }

    /// A checked value, as PutMetricData has it.
    ///
    /// # Errors
    /// [`Error::InvalidParameterValue`] when it is not a number or too large.
    pub fn checked_value(value: f64) -> Result<Self, Error> {
        check("Value", value)?;
        Ok(Self::value(value))
    }

    /// A statistic set. Its percentiles are known only when all values are the same.
    ///
    /// # Errors
    /// [`Error::InvalidParameterValue`] when a part is not a number or too large, the count is not positive or the
    /// minimum above the maximum.
    pub fn set(count: f64, sum: f64, min: f64, max: f64) -> Result<Self, Error> {
        check("StatisticValues.SampleCount", count)?;
        check("StatisticValues.Sum", sum)?;
        check("StatisticValues.Minimum", min)?;
        check("StatisticValues.Maximum", max)?;
        if count <= 0.0 {
            return Err(Error::value(format!(
                "the parameter StatisticValues.SampleCount is {count}; it must be greater than 0"
            )));
        }
        if min > max {
            return Err(Error::value(format!(
                "the parameter StatisticValues.Minimum is {min}, which is greater than Maximum, {max}"
            )));
        }
        Ok(Self {
            count,
            sum,
            min,
            max,
            distribution: None,
        })
    }

    /// Values, each with how often it was there; once, when `counts` is empty.
    ///
    /// # Errors
    /// [`Error::InvalidParameterValue`] when there are none or more than [`VALUES_MAX`], not as many counts, a count
    /// that is not positive, or a value that is not a number or too large.
    pub fn values(values: &[f64], counts: &[f64]) -> Result<Self, Error> {
        if values.is_empty() || values.len() > VALUES_MAX {
            return Err(Error::value(format!(
                "the parameter Values has {} members; it must have 1 to {VALUES_MAX}",
                values.len()
            )));
        }
        if !counts.is_empty() && counts.len() != values.len() {
            return Err(Error::InvalidParameterCombination(format!(
                "the parameters Values and Counts must have as many members; they have {} and {}",
                values.len(),
                counts.len()
            )));
        }
        let mut all: Option<Self> = None;
        for (n, value) in values.iter().enumerate() {
            let count = counts.get(n).copied().unwrap_or(1.0);
            check("Values", *value)?;
            check("Counts", count)?;
            if count <= 0.0 {
                return Err(Error::value(format!(
                    "the parameter Counts has {count}; it must be greater than 0"
                )));
            }
            let one = Self {
                count,
                sum: value * count,
                ..Self::value(*value)
            };
            match &mut all {
                Some(all) => all.merge(&one),
                None => all = Some(one),
            }
        }
        all.ok_or_else(|| Error::value("the parameter Values is empty"))
    }

    /// A histogram's values, each times `scale` (0.001 makes milliseconds of microseconds). `None` when it is empty.
    #[must_use]
    pub fn from_histogram(histogram: &Histogram, scale: f64) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let (min, max) = (histogram.min as f64 * scale, histogram.max as f64 * scale);
        Some(Self {
            count: histogram.count as f64,
            sum: histogram.sum as f64 * scale,
            min,
            max,
            distribution: (min < max).then(|| Distribution::from_histogram(histogram, scale)),
        })
    }

    /// Adds what another one has.
    pub fn merge(&mut self, other: &Self) {
        let same = self.distribution.is_none()
            && other.distribution.is_none()
            && [self.max, other.min, other.max] == [self.min; 3];
        if !same {
            self.distribution = match (self.known_distribution(), other.distribution.as_ref()) {
                (Some(mut ours), Some(theirs)) => {
                    ours.merge(theirs);
                    Some(ours)
                }
                (Some(mut ours), None) if other.min == other.max => {
                    ours.merge(&Distribution::of(other.min, other.count));
                    Some(ours)
                }
                _ => None,
            };
        }
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// How its values are distributed, when that is known.
    #[must_use]
    pub fn known_distribution(&self) -> Option<Distribution> {
        match &self.distribution {
            Some(distribution) => Some(distribution.clone()),
            None if self.min == self.max => Some(Distribution::of(self.min, self.count)),
            None => None,
        }
    }

    /// The value that `percent` of all are not above. `None` when it is not known.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        match &self.distribution {
            Some(distribution) => distribution
                .percentile(percent)
                .map(|value| value.max(self.min).min(self.max)),
            None => (self.min == self.max).then_some(self.min),
        }
    }
}

fn check(parameter: &str, value: f64) -> Result<(), Error> {
    if value.is_finite() && value.abs() <= VALUE_MAX {
        return Ok(());
    }
    Err(Error::value(format!(
        "the parameter {parameter} is {value}; it must be a number between -2^360 and 2^360"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_value_again_needs_no_distribution() {
        let mut datum = Datum::value(2.5);
        datum.merge(&Datum::value(2.5));
        assert_eq!((datum.count, datum.sum), (2.0, 5.0));
        assert_eq!(datum.distribution, None);
        assert_eq!(datum.percentile(99.0), Some(2.5));
        datum.merge(&Datum::value(-1.0));
        assert_eq!(datum.percentile(10.0), Some(-1.0));
        assert_eq!(datum.percentile(50.0), Some(2.5));
    }

    #[test]
    fn percentiles_of_a_statistic_set_are_not_known() {
        let mut datum = Datum::set(3.0, 6.0, 1.0, 3.0).unwrap();
        assert_eq!(datum.percentile(50.0), None);
        datum.merge(&Datum::value(2.0));
        assert_eq!(datum.percentile(50.0), None);
        assert_eq!(
            (datum.count, datum.sum, datum.min, datum.max),
            (4.0, 8.0, 1.0, 3.0)
        );
        let mut other = Datum::value(2.0);
        other.merge(&Datum::set(3.0, 6.0, 1.0, 3.0).unwrap());
        assert_eq!(other, datum);
        assert_eq!(
            Datum::set(3.0, 6.0, 2.0, 2.0).unwrap().percentile(1.0),
            Some(2.0)
        );
    }

    #[test]
    fn values_come_with_counts() {
        let datum = Datum::values(&[1.0, 10.0, 5.0], &[1.0, 2.0, 7.0]).unwrap();
        assert_eq!(
            (datum.count, datum.sum, datum.min, datum.max),
            (10.0, 56.0, 1.0, 10.0)
        );
        assert_eq!(datum.percentile(80.0), Some(5.0));
        assert_eq!(datum.percentile(81.0), Some(10.0));
        assert_eq!(Datum::values(&[1.0, 1.0], &[]).unwrap().count, 2.0);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(Datum::checked_value(f64::NAN).is_err());
        assert!(Datum::checked_value(f64::NEG_INFINITY).is_err());
        assert!(Datum::checked_value(2e109).is_err());
        assert!(Datum::checked_value(-2e108).is_ok());
        assert!(Datum::values(&[], &[]).is_err());
        assert!(Datum::values(&[1.0], &[0.0]).is_err());
        assert!(Datum::values(&[1.0], &[1.0, 2.0]).is_err());
        assert!(Datum::values(&[1.0; 151], &[]).is_err());
        assert!(Datum::set(0.0, 0.0, 0.0, 0.0).is_err());
        assert!(Datum::set(1.0, 1.0, 2.0, 1.0).is_err());
    }
}
