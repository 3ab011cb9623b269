//! One metric's statistics per period: GetMetricStatistics.

use std::collections::BTreeMap;

use crate::{
    codec::metric_key,
    error::Error,
    read::{Periods, Want},
    series::{Metric, Unit},
    stat::Stat,
    store::minute_of,
};

/// Datapoints of one answer.
pub const DATAPOINTS_MAX: u64 = 1440;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct StatisticsQuery {
    /// The metric.
    pub metric: Metric,
    /// Only in this unit; otherwise each unit has its datapoints.
    pub unit: Option<Unit>,
    /// From when, milliseconds since 1970; rounded down to the minute (5 minutes when it is longer ago than
    /// 1-minute points are kept, the hour when it is longer ago than 5-minute points are kept). Periods begin here.
    pub start_ms: u64,
    /// To when, excluding.
    pub end_ms: u64,
    /// Seconds of a period: 1, 5, 10, 30 (all as 60) or a multiple of 60.
    pub period_s: u32,
    /// Which, at least one.
    pub stats: Vec<Stat>,
}

/// The statistics of a period that has data.
#[derive(Debug, Clone, PartialEq)]
pub struct Datapoint {
    /// When the period begins, milliseconds since 1970.
    pub timestamp_ms: u64,
    /// One for each that was asked for. `None` for a percentile of what was only told as a statistic set.
    pub values: Vec<Option<f64>>,
    /// The unit.
    pub unit: Unit,
}

/// Minutes of a period.
///
/// # Errors
/// [`Error::InvalidParameterValue`] when it is none of CloudWatch's.
pub(crate) fn period_minutes(period_s: u32) -> Result<u32, Error> {
    match period_s {
        1 | 5 | 10 | 30 => Ok(1),
        0 => Err(Error::value("the parameter Period must be greater than 0")),
        _ if period_s.is_multiple_of(60) => Ok(period_s / 60),
        _ => Err(Error::value(format!(
            "the parameter Period is {period_s}; it must be 1, 5, 10, 30 or a multiple of 60"
        ))),
    }
}

/// Checks that a time begins before it ends.
pub(crate) fn check_times(start_ms: u64, end_ms: u64) -> Result<(), Error> {
    if start_ms < end_ms {
        return Ok(());
    }
    Err(Error::value(
        "The parameter StartTime must be less than the parameter EndTime.",
    ))
}

impl StatisticsQuery {
    /// What to read. `kept` are the minutes that 1-minute and 5-minute points are kept.
    pub(crate) fn want(&self, now_minute: u32, kept: [u64; 2]) -> Result<Want, Error> {
        if self.stats.is_empty() {
            return Err(Error::MissingRequiredParameter(
                "the parameter Statistics or ExtendedStatistics must be given".to_owned(),
            ));
        }
        check_times(self.start_ms, self.end_ms)?;
        let period = period_minutes(self.period_s)?;
        let period_ms = u64::from(period) * 60_000;
        let wanted = (self.end_ms - self.start_ms).div_ceil(period_ms);
        if wanted > DATAPOINTS_MAX {
            return Err(Error::InvalidParameterCombination(format!(
                "You have requested up to {}, which exceeds the limit of 1,440. You may reduce the datapoints requested \
                 by increasing Period, or decreasing the time range.",
                thousands(wanted)
            )));
        }
        let start = minute_of(self.start_ms);
        let age = u64::from(now_minute.saturating_sub(start));
        let rounded_to = if age <= kept[0] {
            1
        } else if age <= kept[1] {
            5
        } else {
            60
        };
        Ok(Want {
            prefix: metric_key(&self.metric),
            unit: self.unit,
            start_minute: start - start % rounded_to,
            end_minute: minute_of(self.end_ms.saturating_add(59_999)),
            period_minutes: period,
            stats: self.stats.clone(),
        })
    }
}

/// What was read for a metric, by time and then unit.
pub(crate) fn datapoints(found: Vec<BTreeMap<Unit, Periods>>) -> Vec<Datapoint> {
    let mut all: Vec<Datapoint> = Vec::new();
    for (unit, periods) in found.into_iter().flatten() {
        all.extend(periods.into_iter().map(|(minute, values)| Datapoint {
            timestamp_ms: u64::from(minute) * 60_000,
            values,
            unit,
        }));
    }
    all.sort_by_key(|datapoint| (datapoint.timestamp_ms, datapoint.unit));
    all
}

/// A number as AWS writes it in this message, "2,880 datapoints".
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + " datapoints"
}
