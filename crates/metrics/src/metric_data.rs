//! Several metrics and what is calculated from them: GetMetricData.

use crate::{
    series::{Metric, Unit},
    stat::Stat,
};

/// Queries of one request.
pub const QUERIES_MAX: usize = 500;
/// Datapoints of one answer.
pub const DATAPOINTS_MAX: usize = 100_800;
/// Characters of an expression.
pub const EXPRESSION_CHARS_MAX: usize = 2048;
/// Characters of an id.
pub const ID_CHARS_MAX: usize = 255;

/// One query.
#[derive(Debug, Clone)]
pub struct MetricDataQuery {
    /// How expressions and the answer call it: a small letter, then letters, digits and underscores.
    pub id: String,
    /// What is wanted.
    pub source: Source,
    /// What the answer calls it; otherwise the metric's name, or the id of an expression.
    pub label: Option<String>,
    /// Whether the answer has it.
    pub return_data: bool,
}

/// What a query is about.
#[derive(Debug, Clone)]
pub enum Source {
    /// A statistic of a metric.
    MetricStat {
        /// The metric.
        metric: Metric,
        /// In this unit; otherwise the first one, in CloudWatch's order, that has data.
        unit: Option<Unit>,
        /// Seconds of a period: 1, 5, 10, 30 (all as 60) or a multiple of 60. Periods begin at multiples of it.
        period_s: u32,
        /// The statistic.
        stat: Stat,
    },
    /// A math expression.
    Expression(String),
}

/// In which order datapoints come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScanBy {
    /// The newest first.
    #[default]
    TimestampDescending,
    /// The oldest first.
    TimestampAscending,
}

/// A request.
#[derive(Debug, Clone)]
pub struct MetricDataRequest {
    /// 1 to [`QUERIES_MAX`].
    pub queries: Vec<MetricDataQuery>,
    /// From when, milliseconds since 1970.
    pub start_ms: u64,
    /// To when, excluding.
    pub end_ms: u64,
    /// The order.
    pub scan_by: ScanBy,
    /// Datapoints of the answer; [`DATAPOINTS_MAX`] when it is 0 or more.
    pub datapoints_max: usize,
    /// Where the last answer ended: its [`MetricData::next`].
    pub after: Option<u64>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricData {
    /// One for each query that returns data, or one for each of an expression's time series.
    pub results: Vec<MetricDataResult>,
    /// What to ask for the rest with; `None` when this was all.
    pub next: Option<u64>,
}

/// A time series.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricDataResult {
    /// The query's id.
    pub id: String,
    /// What it is called.
    pub label: String,
    /// When periods with data begin, milliseconds since 1970.
    pub timestamps_ms: Vec<u64>,
    /// Their values.
    pub values: Vec<f64>,
    /// Whether this is all of it (`Complete`) or the next answer has more (`PartialData`).
    pub is_complete: bool,
}
