//! Alarms' configurations from the wire and back.

use ekiden_aws::{
    cloudwatch::shapes::{Metric, MetricAlarm, MetricDataQuery, MetricStat, PutMetricAlarmInput},
    epoch_seconds::EpochSeconds,
    error::ApiError,
};
use ekiden_store::alarms::{Alarm, Configuration, Watched, WatchedMetric, WatchedQuery};

use super::{pairs, wire_dimensions};

/// What a low sample count's percentile may be.
const LOW_SAMPLE_COUNT: [&str; 2] = ["evaluate", "ignore"];

/// What a request configures.
///
/// # Errors
/// What is missing, does not go together or is not offered; what only evaluation finds is not looked for.
pub(super) fn configuration(request: PutMetricAlarmInput) -> Result<Configuration, ApiError> {
    let not_offered = [
        ("EvaluationCriteria", request.evaluation_criteria.is_some()),
        ("EvaluationInterval", request.evaluation_interval.is_some()),
        ("ThresholdMetricId", request.threshold_metric_id.is_some()),
    ];
    if let Some((name, _)) = not_offered.iter().find(|(_, given)| *given) {
        return Err(ApiError::validation(format!(
            "The parameter {name} is not offered by Ekiden; alarms compare a metric or an expression with the parameter \
             Threshold"
        )));
    }
    let low = request.evaluate_low_sample_count_percentile;
    if let Some(low) = low.as_deref()
        && !LOW_SAMPLE_COUNT.contains(&low)
    {
        return Err(ApiError::validation(format!(
            "the parameter EvaluateLowSampleCountPercentile is `{low}`; it must be evaluate or ignore"
        )));
    }
    let threshold = request.threshold.ok_or_else(|| required("Threshold"))?;
    if !threshold.is_finite() {
        return Err(ApiError::validation(format!(
            "the parameter Threshold is {threshold}; it must be a number"
        )));
    }
    let watched = match request.metrics.filter(|metrics| !metrics.is_empty()) {
        Some(queries) => {
            let metric = [
                ("MetricName", request.metric_name.is_some()),
                ("Namespace", request.namespace.is_some()),
                (
                    "Dimensions",
                    request.dimensions.is_some_and(|all| !all.is_empty()),
                ),
                ("Period", request.period.is_some()),
                ("Unit", request.unit.is_some()),
                ("Statistic", request.statistic.is_some()),
                ("ExtendedStatistic", request.extended_statistic.is_some()),
            ];
            if let Some((name, _)) = metric.iter().find(|(_, given)| *given) {
                return Err(ApiError::validation(format!(
                    "The parameters Metrics and {name} are mutually exclusive and you have specified both"
                )));
            }
            Watched::Queries(queries.into_iter().map(watched_query).collect())
        }
        None => Watched::Metric(WatchedMetric {
            name: request.metric_name.ok_or_else(|| required("MetricName"))?,
            namespace: request.namespace.ok_or_else(|| required("Namespace"))?,
            dimensions: pairs(request.dimensions),
            stat: stat(request.statistic, request.extended_statistic)?,
            period_s: request
                .period
                .ok_or_else(|| required("Period"))?
                .unsigned_abs(),
            unit: request.unit,
        }),
    };
    Ok(Configuration {
        description: request.alarm_description,
        actions_enabled: request.actions_enabled != Some(false),
        ok_actions: actions(request.ok_actions)?,
        alarm_actions: actions(request.alarm_actions)?,
        insufficient_data_actions: actions(request.insufficient_data_actions)?,
        watched,
        evaluation_periods: request.evaluation_periods.unwrap_or(1).unsigned_abs(),
        datapoints_to_alarm: request.datapoints_to_alarm.map(i32::unsigned_abs),
        threshold,
        comparison: request.comparison_operator.unwrap_or_default(),
        treat_missing_data: request.treat_missing_data,
        evaluate_low_sample_count_percentile: low,
    })
}

fn required(name: &str) -> ApiError {
    ApiError::validation(format!(
        "The parameter {name} is required, unless the parameter Metrics says what is watched"
    ))
}

fn stat(plain: Option<String>, extended: Option<String>) -> Result<String, ApiError> {
    match (plain, extended) {
        (Some(stat), None) | (None, Some(stat)) => Ok(stat),
        (None, None) => Err(ApiError::missing_parameter(
            "One of the parameters Statistic and ExtendedStatistic is required",
        )),
        (Some(_), Some(_)) => Err(ApiError::invalid_parameter_combination(
            "The parameters Statistic and ExtendedStatistic are mutually exclusive and you have specified both",
        )),
    }
}

fn actions(given: Option<Vec<String>>) -> Result<Vec<String>, ApiError> {
    let given = given.unwrap_or_default();
    match given.iter().find(|action| !action.starts_with("arn:")) {
        None => Ok(given),
        Some(bad) => Err(ApiError::validation(format!("Invalid arn syntax: {bad}"))),
    }
}

fn watched_query(query: MetricDataQuery) -> WatchedQuery {
    let metric = query.metric_stat.map(|stat| {
        let metric = stat.metric.unwrap_or_default();
        WatchedMetric {
            namespace: metric.namespace.unwrap_or_default(),
            name: metric.metric_name.unwrap_or_default(),
            dimensions: pairs(metric.dimensions),
            stat: stat.stat.unwrap_or_default(),
            period_s: stat.period.unwrap_or_default().unsigned_abs(),
            unit: stat.unit,
        }
    });
    WatchedQuery {
        id: query.id.unwrap_or_default(),
        metric,
        expression: query.expression,
        label: query.label,
        return_data: query.return_data,
        period_s: query.period.map(i32::unsigned_abs),
    }
}

/// An alarm as DescribeAlarms tells it.
pub(super) fn wire(alarm: Alarm, arn: String) -> MetricAlarm {
    let (config, standing) = (alarm.config, alarm.standing);
    let seconds = |at: ekiden_model::time::Timestamp| Some(EpochSeconds(at.as_secs()));
    let mut wire = MetricAlarm {
        alarm_name: Some(alarm.name),
        alarm_arn: Some(arn),
        alarm_description: config.description,
        alarm_configuration_updated_timestamp: seconds(alarm.configured_at),
        actions_enabled: Some(config.actions_enabled),
        ok_actions: Some(config.ok_actions),
        alarm_actions: Some(config.alarm_actions),
        insufficient_data_actions: Some(config.insufficient_data_actions),
        state_value: Some(standing.state),
        state_reason: Some(standing.reason),
        state_reason_data: standing.reason_data,
        state_updated_timestamp: seconds(standing.updated_at),
        state_transitioned_timestamp: seconds(standing.transitioned_at),
        evaluation_periods: Some(config.evaluation_periods as i32),
        datapoints_to_alarm: config.datapoints_to_alarm.map(|number| number as i32),
        threshold: Some(config.threshold),
        comparison_operator: Some(config.comparison),
        treat_missing_data: config.treat_missing_data,
        evaluate_low_sample_count_percentile: config.evaluate_low_sample_count_percentile,
        ..MetricAlarm::default()
    };
    match config.watched {
        Watched::Metric(metric) => {
            wire.dimensions = Some(wire_dimensions(&metric.dimensions));
            wire.period = Some(metric.period_s as i32);
            wire.metric_name = Some(metric.name);
            wire.namespace = Some(metric.namespace);
            wire.unit = metric.unit;
            // Percentiles are extended ones, and the others begin with a capital letter.
            if metric.stat.starts_with(char::is_uppercase) {
                wire.statistic = Some(metric.stat);
            } else {
                wire.extended_statistic = Some(metric.stat);
            }
        }
        Watched::Queries(queries) => {
            wire.dimensions = Some(Vec::new());
            wire.metrics = Some(queries.into_iter().map(wire_query).collect());
        }
    }
    wire
}

fn wire_query(query: WatchedQuery) -> MetricDataQuery {
    let stat = query.metric.map(|metric| MetricStat {
        metric: Some(Metric {
            dimensions: Some(wire_dimensions(&metric.dimensions)),
            namespace: Some(metric.namespace),
            metric_name: Some(metric.name),
        }),
        period: Some(metric.period_s as i32),
        stat: Some(metric.stat),
        unit: metric.unit,
    });
    MetricDataQuery {
        id: Some(query.id),
        metric_stat: stat,
        expression: query.expression,
        label: query.label,
        return_data: query.return_data,
        period: query.period_s.map(|period| period as i32),
        account_id: None,
    }
}
