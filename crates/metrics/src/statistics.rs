//! One metric's statistics per period: GetMetricStatistics.

use crate::{
    series::{Metric, Unit},
    stat::Stat,
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
