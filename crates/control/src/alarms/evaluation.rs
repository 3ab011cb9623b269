//! An alarm's state by what the metric store has.

use ekiden_metrics::{
    alarm::{self, AlarmConfig, AlarmState, Comparison, TreatMissingData},
    error::Error,
    metric_data::{MetricDataQuery, MetricDataRequest, ScanBy, Source},
    series::Metric,
    stat::Stat,
    store::MetricStore,
};
use ekiden_model::time::Timestamp;
use ekiden_store::alarms::{Configuration, Watched, WatchedMetric, WatchedQuery};

use super::reason::Seen;

/// The id of an alarm's only query.
const ONLY: &str = "m1";

/// Metrics are kept by the minute, so that nothing shorter can be evaluated.
const PERIOD_S_MIN: u32 = 60;

/// Seconds that all periods of an alarm may have together, and those of one that has periods of an hour or more:
/// CloudWatch's.
const RANGE_S_MAX: u64 = 86_400;
const RANGE_OF_HOURS_S_MAX: u64 = 7 * 86_400;

/// Queries of an alarm that are metrics: CloudWatch's.
const QUERIES_MAX: usize = 10;

/// What an alarm is now.
#[derive(Debug, PartialEq)]
pub(crate) struct Evaluation {
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub(crate) state: &'static str,
    /// Why, for people.
    pub(crate) reason: String,
    /// The same as JSON.
    pub(crate) reason_data: String,
}

impl Evaluation {
    /// Evaluates an alarm that was `current`. Blocks.
    ///
    /// # Errors
    /// What is wrong with the configuration, or that metrics could not be read.
    pub(crate) fn of(
        metrics: &MetricStore,
        configuration: &Configuration,
        current: &str,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let (config, queries, watched) = read(configuration)?;
        let now_ms = now.as_millis();
        let (from, to) = config.range_ms(now_ms);
        let request = MetricDataRequest {
            queries,
            start_ms: from,
            end_ms: to,
            scan_by: ScanBy::TimestampDescending,
            datapoints_max: 0,
            after: None,
        };
        let data = metrics.metric_data(&request, now_ms)?;
        let mut results = data.results.into_iter();
        let series = results.next();
        if results.next().is_some() {
            return Err(Error::ValidationError(format!(
                "the expression `{watched}` makes several time series; an alarm is on one"
            )));
        }
        let datapoints: Vec<(u64, f64)> = series.map_or_else(Vec::new, |series| {
            series
                .timestamps_ms
                .into_iter()
                .zip(series.values)
                .collect()
        });
        let state = alarm::evaluate(&config, &datapoints, now_ms, state_of(current));
        let seen = Seen {
            configuration,
            config: &config,
            datapoints: &datapoints,
            now,
        };
        Ok(Self {
            state: name_of(state),
            reason: seen.reason(state),
            reason_data: seen.data(),
        })
    }
}

/// What to evaluate, what to ask for, and the id of the query that is compared with the threshold.
fn read(
    configuration: &Configuration,
) -> Result<(AlarmConfig, Vec<MetricDataQuery>, String), Error> {
    let (queries, watched, period_s, stat) = match &configuration.watched {
        Watched::Metric(metric) => {
            let query = MetricDataQuery {
                id: ONLY.to_owned(),
                source: source_of(metric)?,
                label: None,
                return_data: true,
            };
            (
                vec![query],
                ONLY.to_owned(),
                metric.period_s,
                metric.stat.parse()?,
            )
        }
        Watched::Queries(queries) => read_queries(queries)?,
    };
    if period_s < PERIOD_S_MIN || !period_s.is_multiple_of(PERIOD_S_MIN) {
        return Err(Error::ValidationError(format!(
            "the parameter Period is {period_s}; that of an alarm must be a multiple of {PERIOD_S_MIN}, for metrics \
             are kept by the minute"
        )));
    }
    let evaluated = configuration.evaluation_periods;
    let range_s = u64::from(period_s) * u64::from(evaluated);
    if range_s > RANGE_OF_HOURS_S_MAX {
        return Err(Error::ValidationError(format!(
            "Metrics cannot be checked across more than seven days (EvaluationPeriods * Period must be <= \
             {RANGE_OF_HOURS_S_MAX})."
        )));
    }
    if range_s > RANGE_S_MAX && period_s < 3600 {
        return Err(Error::ValidationError(format!(
            "Metrics cannot be checked across more than a day (EvaluationPeriods * Period must be <= {RANGE_S_MAX})."
        )));
    }
    let datapoints_to_alarm = configuration.datapoints_to_alarm.unwrap_or(evaluated);
    if datapoints_to_alarm > evaluated {
        return Err(Error::ValidationError(format!(
            "the parameter DatapointsToAlarm is {datapoints_to_alarm}; it must be at most EvaluationPeriods, {evaluated}"
        )));
    }
    let config = AlarmConfig {
        period_s,
        evaluation_periods: evaluated,
        datapoints_to_alarm,
        threshold: configuration.threshold,
        comparison: comparison_of(&configuration.comparison)?,
        treat_missing_data: treat_of(configuration.treat_missing_data.as_deref())?,
        stat,
    };
    Ok((config, queries, watched))
}

fn read_queries(
    queries: &[WatchedQuery],
) -> Result<(Vec<MetricDataQuery>, String, u32, Stat), Error> {
    if queries.len() > QUERIES_MAX {
        return Err(Error::ValidationError(format!(
            "the parameter Metrics has {} members; an alarm's may have {QUERIES_MAX}",
            queries.len()
        )));
    }
    let mut returned = queries
        .iter()
        .filter(|query| query.return_data != Some(false));
    let (Some(watched), None) = (returned.next(), returned.next()) else {
        return Err(Error::ValidationError(
            "exactly one member of the parameter Metrics must return data (ReturnData: false says that one does not)"
                .to_owned(),
        ));
    };
    let wanted = queries
        .iter()
        .map(|query| {
            let source = match (&query.metric, &query.expression) {
                (Some(metric), None) => source_of(metric)?,
                (None, Some(expression)) => Source::Expression(expression.clone()),
                (Some(_), Some(_)) | (None, None) => {
                    return Err(Error::ValidationError(format!(
                        "the query `{}` of the parameter Metrics must have either MetricStat or Expression",
                        query.id
                    )));
                }
            };
            Ok(MetricDataQuery {
                id: query.id.clone(),
                source,
                label: query.label.clone(),
                return_data: query.id == watched.id,
            })
        })
        .collect::<Result<_, Error>>()?;
    let periods = queries
        .iter()
        .filter_map(|query| Some(query.metric.as_ref()?.period_s));
    let period_s = match &watched.metric {
        Some(metric) => metric.period_s,
        None => watched.period_s.or(periods.max()).unwrap_or(PERIOD_S_MIN),
    };
    let stat = watched.metric.as_ref().map(|metric| metric.stat.parse());
    let stat = stat.transpose()?.unwrap_or(Stat::Average);
    Ok((wanted, watched.id.clone(), period_s, stat))
}

fn source_of(metric: &WatchedMetric) -> Result<Source, Error> {
    Ok(Source::MetricStat {
        metric: Metric::new(
            metric.namespace.clone(),
            metric.name.clone(),
            metric.dimensions.clone(),
        )?,
        unit: metric.unit.as_deref().map(str::parse).transpose()?,
        period_s: metric.period_s,
        stat: metric.stat.parse()?,
    })
}

fn comparison_of(text: &str) -> Result<Comparison, Error> {
    match text {
        "GreaterThanOrEqualToThreshold" => Ok(Comparison::GreaterThanOrEqualToThreshold),
        "GreaterThanThreshold" => Ok(Comparison::GreaterThanThreshold),
        "LessThanThreshold" => Ok(Comparison::LessThanThreshold),
        "LessThanOrEqualToThreshold" => Ok(Comparison::LessThanOrEqualToThreshold),
        other => Err(Error::ValidationError(format!(
            "the comparison `{other}` is not supported here; use GreaterThanOrEqualToThreshold, \
             GreaterThanThreshold, LessThanThreshold or LessThanOrEqualToThreshold"
        ))),
    }
}

fn treat_of(text: Option<&str>) -> Result<TreatMissingData, Error> {
    match text {
        None | Some("missing") => Ok(TreatMissingData::Missing),
        Some("ignore") => Ok(TreatMissingData::Ignore),
        Some("breaching") => Ok(TreatMissingData::Breaching),
        Some("notBreaching") => Ok(TreatMissingData::NotBreaching),
        Some(other) => Err(Error::ValidationError(format!(
            "the parameter TreatMissingData is `{other}`; it must be breaching, notBreaching, ignore or missing"
        ))),
    }
}

fn state_of(name: &str) -> AlarmState {
    match name {
        "OK" => AlarmState::Ok,
        "ALARM" => AlarmState::Alarm,
        _ => AlarmState::InsufficientData,
    }
}

pub(super) const fn name_of(state: AlarmState) -> &'static str {
    match state {
        AlarmState::Ok => "OK",
        AlarmState::Alarm => "ALARM",
        AlarmState::InsufficientData => "INSUFFICIENT_DATA",
    }
}
