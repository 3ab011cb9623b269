//! Several metrics and what is calculated from them: GetMetricData.

use std::collections::{BTreeMap, HashMap};

use crate::{
    codec::metric_key,
    error::Error,
    expression::{Expression, Grid, Input, TimeSeries, Value},
    read::{Periods, Want},
    series::{Metric, Unit},
    stat::Stat,
    statistics::{check_times, period_minutes},
    store::minute_of,
};

/// Queries of one request.
pub const QUERIES_MAX: usize = 500;
/// Datapoints of one answer.
pub const DATAPOINTS_MAX: usize = 100_800;
/// Periods that all queries of a request together may cover, with data or not.
pub const PERIODS_MAX: u64 = 2_000_000;
/// Characters of an expression.
pub const EXPRESSION_CHARS_MAX: usize = 2048;
/// Characters of an id.
pub const ID_CHARS_MAX: usize = 255;

/// Expressions that may build on each other.
const DEPTH_MAX: usize = 32;

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

impl MetricDataRequest {
    /// What to read: one for each query that is about a metric, in order.
    pub(crate) fn wants(&self) -> Result<Vec<Want>, Error> {
        if self.queries.is_empty() {
            return Err(Error::MissingRequiredParameter(
                "the parameter MetricDataQueries must be given".to_owned(),
            ));
        }
        if self.queries.len() > QUERIES_MAX {
            return Err(Error::ValidationError(format!(
                "the parameter MetricDataQueries has {} members; it may have {QUERIES_MAX}",
                self.queries.len()
            )));
        }
        check_times(self.start_ms, self.end_ms)?;
        let mut ids = HashMap::new();
        for query in &self.queries {
            check_id(&query.id)?;
            if ids.insert(&query.id, ()).is_some() {
                return Err(Error::ValidationError(format!(
                    "the id `{}` is there twice; ids of MetricDataQueries must differ",
                    query.id
                )));
            }
        }
        let mut wants = Vec::new();
        let mut periods = 0;
        for query in &self.queries {
            let Source::MetricStat {
                metric,
                unit,
                period_s,
                stat,
            } = &query.source
            else {
                continue;
            };
            let period = period_minutes(*period_s)?;
            let start = minute_of(self.start_ms);
            let want = Want {
                prefix: metric_key(metric),
                unit: *unit,
                start_minute: start - start % period,
                end_minute: minute_of(self.end_ms.saturating_add(59_999)),
                period_minutes: period,
                stats: vec![*stat],
            };
            periods += u64::from((want.end_minute - want.start_minute).div_ceil(period));
            wants.push(want);
        }
        if periods > PERIODS_MAX {
            return Err(Error::ValidationError(format!(
                "the queries cover {periods} periods; they may cover {PERIODS_MAX} together; increase Period, or \
                 decrease the time range or the number of queries"
            )));
        }
        Ok(wants)
    }

    /// The answer, of what was read for each of [`Self::wants`].
    pub(crate) fn answer(&self, found: Vec<BTreeMap<Unit, Periods>>) -> Result<MetricData, Error> {
        let mut found = found.into_iter();
        let mut inputs = Vec::new();
        let mut expressions = HashMap::new();
        for query in &self.queries {
            match &query.source {
                Source::MetricStat {
                    metric, period_s, ..
                } => {
                    let period = period_minutes(*period_s)?;
                    let periods = found.next().and_then(|units| units.into_values().next());
                    inputs.push(Input {
                        id: query.id.clone(),
                        series: TimeSeries {
                            label: query
                                .label
                                .clone()
                                .unwrap_or_else(|| metric.name().to_owned()),
                            period_minutes: period,
                            points: points_of(periods.unwrap_or_default()),
                        },
                    });
                }
                Source::Expression(text) => {
                    if text.chars().count() > EXPRESSION_CHARS_MAX {
                        return Err(Error::ValidationError(format!(
                            "the expression `{}` has more than {EXPRESSION_CHARS_MAX} characters",
                            query.id
                        )));
                    }
                    let parsed = text.parse::<Expression>();
                    let parsed = parsed.map_err(|problem| in_expression(&query.id, &problem))?;
                    expressions.insert(&*query.id, parsed);
                }
            }
        }
        let calculation = Calculation {
            start_minute: minute_of(self.start_ms),
            end_minute: minute_of(self.end_ms.saturating_add(59_999)),
            inputs,
            expressions,
        };
        let mut results = Vec::new();
        let mut known = HashMap::new();
        for query in &self.queries {
            if matches!(query.source, Source::Expression(_)) {
                calculation.value(&query.id, &mut known, 0)?;
            }
        }
        for query in self.queries.iter().filter(|query| query.return_data) {
            match known.remove(&*query.id) {
                None => {
                    let input = calculation.inputs.iter().find(|input| input.id == query.id);
                    results.extend(input.map(|input| self.result(query, &input.series, false)));
                }
                Some(Value::Series(series)) => results.push(self.result(query, &series, false)),
                Some(Value::Array(all)) => {
                    results.extend(all.iter().map(|series| self.result(query, series, true)));
                }
                Some(Value::Number(_)) => {
                    return Err(in_expression(
                        &query.id,
                        "it makes a number; the result must be a time series, such as TIME_SERIES(...) of the number",
                    ));
                }
            }
        }
        Ok(self.page(results))
    }

    fn result(
        &self,
        query: &MetricDataQuery,
        series: &TimeSeries,
        of_many: bool,
    ) -> MetricDataResult {
        let label = match (&query.label, &query.source) {
            (Some(label), _) if of_many => format!("{label} {}", series.label),
            (Some(label), _) => label.clone(),
            (None, Source::MetricStat { .. }) => series.label.clone(),
            (None, Source::Expression(_)) if of_many => series.label.clone(),
            (None, Source::Expression(_)) => query.id.clone(),
        };
        let mut points: Vec<(u32, f64)> = series.points.iter().map(|(at, v)| (*at, *v)).collect();
        if self.scan_by == ScanBy::TimestampDescending {
            points.reverse();
        }
        MetricDataResult {
            id: query.id.clone(),
            label,
            timestamps_ms: points
                .iter()
                .map(|(at, _)| u64::from(*at) * 60_000)
                .collect(),
            values: points.iter().map(|(_, value)| *value).collect(),
            is_complete: true,
        }
    }

    /// Leaves out what earlier answers had, and what is too much for this one.
    fn page(&self, mut results: Vec<MetricDataResult>) -> MetricData {
        let after = self.after.unwrap_or(0);
        let mut skip = usize::try_from(after).unwrap_or(usize::MAX);
        let max = match self.datapoints_max {
            0 => DATAPOINTS_MAX,
            max => max.min(DATAPOINTS_MAX),
        };
        let (mut room, mut left) = (max, false);
        results.retain_mut(|result| {
            let length = result.values.len();
            let skipped = skip.min(length);
            skip -= skipped;
            // All of it was in an earlier answer.
            if skipped == length && after > 0 && (length > 0 || skip > 0) {
                return false;
            }
            let taken = room.min(length - skipped);
            room -= taken;
            result.is_complete = skipped + taken == length;
            left |= !result.is_complete;
            result.timestamps_ms = result.timestamps_ms[skipped..skipped + taken].to_vec();
            result.values = result.values[skipped..skipped + taken].to_vec();
            taken > 0 || result.is_complete
        });
        MetricData {
            results,
            next: left.then(|| after.saturating_add(max as u64)),
        }
    }
}

/// The queries of a request, to be calculated.
struct Calculation<'a> {
    start_minute: u32,
    end_minute: u32,
    inputs: Vec<Input>,
    expressions: HashMap<&'a str, Expression>,
}

impl<'a> Calculation<'a> {
    /// Calculates an expression and those it builds on.
    fn value(
        &self,
        id: &str,
        known: &mut HashMap<&'a str, Value>,
        depth: usize,
    ) -> Result<(), Error> {
        let Some((id, expression)) = self.expressions.get_key_value(id) else {
            return Ok(());
        };
        if known.contains_key(id) {
            return Ok(());
        }
        if depth > DEPTH_MAX {
            return Err(in_expression(
                id,
                &format!(
                    "it builds on itself, or on more than {DEPTH_MAX} others one after the other"
                ),
            ));
        }
        for other in expression.ids() {
            let is_metric = self.inputs.iter().any(|input| input.id == other);
            if !is_metric && !self.expressions.contains_key(other) {
                return Err(in_expression(
                    id,
                    &format!("there is no query with the id `{other}`"),
                ));
            }
            self.value(other, known, depth + 1)?;
        }
        let grid = Grid {
            start_minute: self.start_minute,
            end_minute: self.end_minute,
        };
        let value = expression.calculate(&self.inputs, known, grid);
        known.insert(id, value.map_err(|problem| in_expression(id, &problem))?);
        Ok(())
    }
}

fn points_of(periods: Periods) -> BTreeMap<u32, f64> {
    let value = |(at, values): (u32, Vec<Option<f64>>)| Some((at, values.first().copied()??));
    periods.into_iter().filter_map(value).collect()
}

fn in_expression(id: &str, problem: &str) -> Error {
    Error::ValidationError(format!("Error in expression '{id}': {problem}"))
}

fn check_id(id: &str) -> Result<(), Error> {
    let mut characters = id.chars();
    let first = characters
        .next()
        .is_some_and(|first| first.is_ascii_lowercase());
    let rest = characters.all(|character| character.is_ascii_alphanumeric() || character == '_');
    if first && rest && id.len() <= ID_CHARS_MAX {
        return Ok(());
    }
    Err(Error::ValidationError(format!(
        "the id `{id}` is not valid; it must begin with a small letter and have letters, digits and underscores, up to \
         {ID_CHARS_MAX}"
    )))
}
