//! Statistics: what is made of the values of a period.

use std::{fmt, str::FromStr};

use crate::{datum::Datum, error::Error};

/// Beginnings of statistics that CloudWatch has and this has not.
const NOT_HERE: [&str; 10] = [
    "tm", "TM(", "IQM", "PR(", "tc", "TC(", "ts", "TS(", "wm", "WM(",
];

/// A statistic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stat {
    /// How many values.
    SampleCount,
    /// Their mean.
    Average,
    /// All together.
    Sum,
    /// The smallest.
    Minimum,
    /// The largest.
    Maximum,
    /// What so many of a hundred are not above, 0 to 100.
    Percentile(f64),
}

impl Stat {
    /// It of the values of a datum. `None` for a percentile of what was only told as a statistic set.
    #[must_use]
    pub fn of(self, datum: &Datum) -> Option<f64> {
        match self {
            Self::SampleCount => Some(datum.count),
            Self::Average => Some(datum.sum / datum.count),
            Self::Sum => Some(datum.sum),
            Self::Minimum => Some(datum.min),
            Self::Maximum => Some(datum.max),
            Self::Percentile(percent) => datum.percentile(percent),
        }
    }
}

impl FromStr for Stat {
    type Err = Error;

    /// `SampleCount`, `Average`, `Sum`, `Minimum`, `Maximum`, or `p` and 0 to 100 with up to ten decimals.
    fn from_str(text: &str) -> Result<Self, Error> {
        let known = match text {
            "SampleCount" => Some(Self::SampleCount),
            "Average" => Some(Self::Average),
            "Sum" => Some(Self::Sum),
            "Minimum" => Some(Self::Minimum),
            "Maximum" => Some(Self::Maximum),
            _ => text
                .strip_prefix('p')
                .and_then(percent)
                .map(Self::Percentile),
        };
        known.ok_or_else(|| {
            let known =
                "SampleCount, Average, Sum, Minimum, Maximum or a percentile such as p99 or p99.9";
            if NOT_HERE.iter().any(|start| text.starts_with(start)) {
                return Error::value(format!(
                    "the statistic `{text}` is not supported here; use {known}"
                ));
            }
            Error::value(format!(
                "the parameter Stat is `{text}`, which is not a statistic; it must be {known}"
            ))
        })
    }
}

impl fmt::Display for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SampleCount => f.write_str("SampleCount"),
            Self::Average => f.write_str("Average"),
            Self::Sum => f.write_str("Sum"),
            Self::Minimum => f.write_str("Minimum"),
            Self::Maximum => f.write_str("Maximum"),
            Self::Percentile(percent) => write!(f, "p{percent}"),
        }
    }
}

fn percent(text: &str) -> Option<f64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str, most| {
        (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole, 3) || !digits(decimals, 10) {
        return None;
    }
    text.parse().ok().filter(|percent| *percent <= 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_and_written() {
        for text in [
            "SampleCount",
            "Average",
            "Sum",
            "Minimum",
            "Maximum",
            "p0",
            "p99",
            "p99.95",
        ] {
            assert_eq!(text.parse::<Stat>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "p",
            "p-1",
            "p101",
            "p1e1",
            "pNaN",
            "p9.",
            "sum",
            "p99.12345678901",
        ] {
            assert!(text.parse::<Stat>().is_err(), "{text}");
        }
        let refused = "TM(10%:90%)".parse::<Stat>().unwrap_err().to_string();
        assert!(refused.contains("not supported here"), "{refused}");
    }
}
