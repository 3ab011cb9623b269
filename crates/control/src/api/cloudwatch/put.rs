//! PutMetricData.

use std::collections::BTreeSet;

use ekiden_aws::{
    cloudwatch::shapes::{MetricDatum, PutMetricDataInput, StatisticSet},
    epoch_seconds::EpochSeconds,
    error::ApiError,
    nothing::Nothing,
};
use ekiden_engine::Engine;
use ekiden_metrics::{
    datum::{Datum, VALUE_MAX, VALUES_MAX},
    series::{Metric, Unit},
    store::{AGE_MAX, AHEAD_MAX, Record},
};

use super::{Api, pairs, refused, unit};
use crate::clock;

/// Data of one request: CloudWatch's.
const DATA_MAX: usize = 1000;

/// What the names of namespaces that are not for clients begin with.
const RESERVED_PREFIX: &str = "AWS/";

/// Seconds of the resolutions that there are. Both are kept by the minute.
const RESOLUTIONS: [i32; 2] = [1, 60];

impl<E: Engine> Api<E> {
    /// Records all of a request, or nothing when one of its data is bad.
    pub(super) async fn put_metric_data(
        &self,
        request: PutMetricDataInput,
    ) -> Result<Nothing, ApiError> {
        let namespace = request.namespace.unwrap_or_default();
        if namespace.starts_with(RESERVED_PREFIX) {
            return Err(ApiError::invalid_parameter_value(format!(
                "The value {namespace} for parameter Namespace is invalid. Namespaces that begin with \
                 {RESERVED_PREFIX} are not for clients to write to."
            )));
        }
        let lists = numbered(request.metric_data.unwrap_or_default(), "MetricData");
        let entities = request.entity_metric_data.unwrap_or_default();
        let of_entities = (1..).zip(entities).flat_map(|(number, entity)| {
            let list = format!("EntityMetricData.member.{number}.MetricData");
            numbered(entity.metric_data.unwrap_or_default(), &list)
        });
        let data: Vec<(String, MetricDatum)> = lists.into_iter().chain(of_entities).collect();
        if data.is_empty() {
            return Err(ApiError::missing_parameter(
                "The parameter MetricData is required.",
            ));
        }
        if data.len() > DATA_MAX {
            return Err(ApiError::invalid_parameter_value(format!(
                "The collection MetricData must not have a size greater than {DATA_MAX}."
            )));
        }
        let now_ms = clock::now().as_millis();
        let records = data
            .into_iter()
            .map(|(place, datum)| record(&namespace, &place, datum, now_ms))
            .collect::<Result<Vec<Record>, _>>()?;
        let recorded = self
            .metric_work(move |store, now_ms| store.record_batch(&records, now_ms))
            .await?;
        recorded
            .refusal
            .map_or(Ok(Nothing {}), |refusal| Err(refused(refusal)))
    }
}

/// Data with the names of their places, as CloudWatch's messages have them.
fn numbered(data: Vec<MetricDatum>, list: &str) -> Vec<(String, MetricDatum)> {
    (1..)
        .zip(data)
        .map(|(number, datum)| (format!("{list}.member.{number}"), datum))
        .collect()
}

fn record(
    namespace: &str,
    place: &str,
    wire: MetricDatum,
    now_ms: u64,
) -> Result<Record, ApiError> {
    if let Some(resolution) = wire.storage_resolution
        && !RESOLUTIONS.contains(&resolution)
    {
        return Err(invalid(
            resolution,
            place,
            "StorageResolution",
            "It must be 1 or 60.",
        ));
    }
    let timestamp_ms = timestamp_ms(wire.timestamp, place, now_ms)?;
    let unit = unit(wire.unit.as_deref())?.unwrap_or(Unit::NONE);
    let datum = datum(
        place,
        wire.value,
        wire.values,
        wire.counts,
        wire.statistic_values,
    )?;
    let name = wire.metric_name.unwrap_or_default();
    let metric = Metric::new(namespace, name, pairs(wire.dimensions)).map_err(refused)?;
    Ok(Record {
        series: metric.in_unit(unit),
        timestamp_ms,
        datum,
    })
}

fn timestamp_ms(
    timestamp: Option<EpochSeconds>,
    place: &str,
    now_ms: u64,
) -> Result<u64, ApiError> {
    let Some(EpochSeconds(seconds)) = timestamp else {
        return Ok(now_ms);
    };
    let at_ms = seconds.saturating_mul(1000);
    let bound = if at_ms.saturating_add(AGE_MAX.as_millis() as u64) < now_ms {
        "within the past two weeks"
    } else if at_ms > now_ms.saturating_add(AHEAD_MAX.as_millis() as u64) {
        "no more than two hours in the future"
    } else {
        return Ok(at_ms);
    };
    Err(ApiError::invalid_parameter_value(format!(
        "The parameter {place}.Timestamp must specify a time {bound}."
    )))
}

/// What was measured: a value, values with counts, or a statistic set.
fn datum(
    place: &str,
    value: Option<f64>,
    values: Option<Vec<f64>>,
    counts: Option<Vec<f64>>,
    set: Option<StatisticSet>,
) -> Result<Datum, ApiError> {
    let (values, counts) = (values.unwrap_or_default(), counts.unwrap_or_default());
    let given: BTreeSet<&str> = [
        value.map(|_| "Value"),
        (!values.is_empty()).then_some("Values"),
        set.as_ref().map(|_| "StatisticValues"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut given = given.iter();
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        return Err(ApiError::invalid_parameter_combination(format!(
            "The parameters {place}.{first} and {place}.{second} are mutually exclusive and you have specified both."
        )));
    }
    if !counts.is_empty() && values.is_empty() {
        return Err(ApiError::invalid_parameter_combination(format!(
            "The parameter {place}.Counts requires the parameter {place}.Values."
        )));
    }
    if values.len() > VALUES_MAX {
        return Err(ApiError::invalid_parameter_value(format!(
            "The collection {place}.Values must not have a size greater than {VALUES_MAX}."
        )));
    }
    if let Some(value) = value {
        number(value, place, "Value")?;
        return Ok(Datum::value(value));
    }
    if let Some(set) = set {
        let part = |value: Option<f64>, name: &str| {
            number(
                value.unwrap_or_default(),
                place,
                &format!("StatisticValues.{name}"),
            )
        };
        let datum = Datum::set(
            part(set.sample_count, "SampleCount")?,
            part(set.sum, "Sum")?,
            part(set.minimum, "Minimum")?,
            part(set.maximum, "Maximum")?,
        );
        return datum.map_err(refused);
    }
    if values.is_empty() {
        return Err(ApiError::missing_parameter(format!(
            "At least one of the parameters {place}.Value, {place}.Values and {place}.StatisticValues is required."
        )));
    }
    for (number_of, value) in (1..).zip(&values) {
        number(*value, place, &format!("Values.member.{number_of}"))?;
    }
    for (number_of, count) in (1..).zip(&counts) {
        number(*count, place, &format!("Counts.member.{number_of}"))?;
    }
    Datum::values(&values, &counts).map_err(refused)
}

/// A number that can be recorded.
fn number(value: f64, place: &str, name: &str) -> Result<f64, ApiError> {
    if value.is_finite() && value.abs() <= VALUE_MAX {
        return Ok(value);
    }
    let why = "It must be a number between -2^360 and 2^360.";
    Err(invalid(value, place, name, why))
}

fn invalid(value: impl std::fmt::Display, place: &str, name: &str, why: &str) -> ApiError {
    ApiError::invalid_parameter_value(format!(
        "The value {value} for parameter {place}.{name} is invalid. {why}"
    ))
}
