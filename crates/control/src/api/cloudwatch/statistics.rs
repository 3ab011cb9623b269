//! GetMetricStatistics.

use std::collections::BTreeMap;

use ekiden_aws::{
    cloudwatch::shapes::{
        Datapoint as WireDatapoint, GetMetricStatisticsInput, GetMetricStatisticsOutput,
    },
    epoch_seconds::EpochSeconds,
    error::ApiError,
};
use ekiden_engine::Engine;
use ekiden_metrics::{
    series::Metric,
    stat::Stat,
    statistics::{Datapoint, StatisticsQuery},
};

use super::{Api, pairs, refused, unit};

impl<E: Engine> Api<E> {
    pub(super) async fn get_metric_statistics(
        &self,
        request: GetMetricStatisticsInput,
    ) -> Result<GetMetricStatisticsOutput, ApiError> {
        let name = request.metric_name.unwrap_or_default();
        let metric = Metric::new(
            request.namespace.unwrap_or_default(),
            name.clone(),
            pairs(request.dimensions),
        );
        let stats = stats(request.statistics, request.extended_statistics)?;
        let query = StatisticsQuery {
            metric: metric.map_err(refused)?,
            unit: unit(request.unit.as_deref())?,
            start_ms: millis(request.start_time),
            end_ms: millis(request.end_time),
            period_s: request.period.unwrap_or_default().unsigned_abs(),
            stats: stats.iter().map(|(_, stat)| *stat).collect(),
        };
        let found = self
            .metric_work(move |store, now_ms| store.statistics(&query, now_ms))
            .await?;
        Ok(GetMetricStatisticsOutput {
            label: Some(name),
            datapoints: Some(
                found
                    .iter()
                    .filter(|datapoint| datapoint.values.iter().any(Option::is_some))
                    .map(|datapoint| wire(datapoint, &stats))
                    .collect(),
            ),
        })
    }
}

/// The statistics that are asked for, each as it was written.
fn stats(
    plain: Option<Vec<String>>,
    extended: Option<Vec<String>>,
) -> Result<Vec<(String, Stat)>, ApiError> {
    let (plain, extended) = (plain.unwrap_or_default(), extended.unwrap_or_default());
    match (plain.is_empty(), extended.is_empty()) {
        (true, true) => {
            return Err(ApiError::invalid_parameter_combination(
                "Must specify either Statistics or ExtendedStatistics",
            ));
        }
        (false, false) => {
            return Err(ApiError::invalid_parameter_combination(
                "The parameters Statistics and ExtendedStatistics are mutually exclusive and you have specified both.",
            ));
        }
        (true, false) | (false, true) => {}
    }
    let is_extended = plain.is_empty();
    plain
        .into_iter()
        .chain(extended)
        .map(|text| {
            let stat: Stat = text.parse().map_err(refused)?;
            if is_extended && !matches!(stat, Stat::Percentile(_)) {
                return Err(ApiError::invalid_parameter_value(format!(
                    "The value {text} for parameter ExtendedStatistics is invalid. It must be a percentile such as \
                     p99; ask for {text} by the parameter Statistics."
                )));
            }
            Ok((text, stat))
        })
        .collect()
}

fn wire(datapoint: &Datapoint, stats: &[(String, Stat)]) -> WireDatapoint {
    let mut wire = WireDatapoint {
        timestamp: Some(EpochSeconds(datapoint.timestamp_ms / 1000)),
        unit: Some(datapoint.unit.to_string()),
        ..WireDatapoint::default()
    };
    let mut extended = BTreeMap::new();
    for ((text, stat), value) in stats.iter().zip(&datapoint.values) {
        match stat {
            Stat::SampleCount => wire.sample_count = *value,
            Stat::Average => wire.average = *value,
            Stat::Sum => wire.sum = *value,
            Stat::Minimum => wire.minimum = *value,
            Stat::Maximum => wire.maximum = *value,
            Stat::Percentile(_) => extended.extend(value.map(|value| (text.clone(), value))),
        }
    }
    wire.extended_statistics = (!extended.is_empty()).then_some(extended);
    wire
}

/// A time; it is there, by the model.
pub(super) fn millis(time: Option<EpochSeconds>) -> u64 {
    time.unwrap_or_default().0.saturating_mul(1000)
}
