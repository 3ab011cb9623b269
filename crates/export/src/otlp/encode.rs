//! Lines, points and spans as messages of OTLP.

use std::{collections::HashMap, sync::Arc};

use super::proto::{self, AnyValue, ArrayValue, KeyValue, Scope, any_value, metric};
use crate::{
    line::{Line, Source},
    telemetry::{
        Attributes, Data, MetricPoint, Resource, Span, SpanKind, SpanStatus, Temporality, Value,
    },
};

/// Nanoseconds of a millisecond.
const NANOS_PER_MS: u64 = 1_000_000;

/// Lines by their sources, each source's in order.
pub(super) fn logs(lines: &[Line]) -> proto::LogsRequest {
    let mut sources: Vec<(&Source, Vec<proto::LogRecord>)> = Vec::new();
    let mut places: HashMap<&Source, usize> = HashMap::new();
    let mut last: Option<(&Arc<Source>, usize)> = None;
    for line in lines {
        let place = match last {
            Some((source, place)) if Arc::ptr_eq(source, &line.source) => place,
            _ => *places.entry(&*line.source).or_insert_with(|| {
                sources.push((&*line.source, Vec::new()));
                sources.len() - 1
            }),
        };
        last = Some((&line.source, place));
        sources[place].1.push(record(line));
    }
    let resource_logs = sources.into_iter().map(|(source, log_records)| {
        let scope_logs = vec![proto::ScopeLogs {
            scope: Some(scope()),
            log_records,
        }];
        proto::ResourceLogs {
            resource: Some(resource_of(source)),
            scope_logs,
        }
    });
    proto::LogsRequest {
        resource_logs: resource_logs.collect(),
    }
}

/// Names are those of OpenTelemetry's semantic conventions where there is one.
fn resource_of(source: &Source) -> proto::Resource {
    let mut attributes = Vec::new();
    if let Some(service) = &source.service {
        attributes.push(attribute("service.name", service.name.as_str()));
        attributes.push(attribute("ekiden.service.id", service.id.as_str()));
        attributes.push(attribute("cloud.resource_id", service.arn.as_str()));
    }
    if let Some(instance) = &source.instance {
        attributes.push(attribute("service.instance.id", instance.as_str()));
    }
    let one = |text: &String| Value::Strings(vec![text.clone()]);
    attributes.push(attribute("aws.log.group.names", one(&source.group)));
    attributes.push(attribute("aws.log.stream.names", one(&source.stream)));
    attributes.push(attribute("ekiden.log.kind", source.kind.as_str()));
    proto::Resource { attributes }
}

fn record(line: &Line) -> proto::LogRecord {
    let sequence = i64::try_from(line.sequence).unwrap_or(i64::MAX);
    let mut attributes = vec![attribute("ekiden.sequence", sequence)];
    if let Some(output) = line.output {
        attributes.push(attribute("log.iostream", output.as_str()));
    }
    if let Some(process) = &line.process {
        attributes.push(attribute("ekiden.process", &**process));
    }
    proto::LogRecord {
        time_unix_nano: line.time_ms.saturating_mul(NANOS_PER_MS),
        observed_time_unix_nano: line.observed_ms.saturating_mul(NANOS_PER_MS),
        body: Some(any(&Value::String(line.text.clone()))),
        attributes,
    }
}

/// Points by resource and metric.
pub(super) fn metrics(points: &[MetricPoint]) -> proto::MetricsRequest {
    let resource_metrics =
        by_resource(points, |point| &point.resource).map(|(resource, points)| {
            let mut metrics: Vec<proto::Metric> = Vec::new();
            let mut places = HashMap::new();
            for point in points {
                let shape = match &point.data {
                    Data::Gauge(_) => (0, 0, false),
                    Data::Sum {
                        temporality,
                        monotonic,
                        ..
                    } => (1, temporality_of(*temporality), *monotonic),
                    Data::Histogram { temporality, .. } => (2, temporality_of(*temporality), false),
                };
                let key = (&*point.name, &*point.unit, &*point.description, shape);
                let place = *places.entry(key).or_insert_with(|| {
                    metrics.push(metric_of(point));
                    metrics.len() - 1
                });
                add(&mut metrics[place], point);
            }
            let scope_metrics = vec![proto::ScopeMetrics {
                scope: Some(scope()),
                metrics,
            }];
            proto::ResourceMetrics {
                resource: Some(resource_as(resource)),
                scope_metrics,
            }
        });
    proto::MetricsRequest {
        resource_metrics: resource_metrics.collect(),
    }
}

/// The metric of a point, without points.
fn metric_of(point: &MetricPoint) -> proto::Metric {
    let data = match &point.data {
        Data::Gauge(_) => metric::Data::Gauge(proto::Gauge::default()),
        Data::Sum {
            temporality,
            monotonic,
            ..
        } => metric::Data::Sum(proto::Sum {
            data_points: Vec::new(),
            aggregation_temporality: temporality_of(*temporality),
            is_monotonic: *monotonic,
        }),
        Data::Histogram { temporality, .. } => metric::Data::Histogram(proto::Histogram {
            data_points: Vec::new(),
            aggregation_temporality: temporality_of(*temporality),
        }),
    };
    proto::Metric {
        name: point.name.clone(),
        description: point.description.clone(),
        unit: point.unit.clone(),
        data: Some(data),
    }
}

/// Adds a point to a metric of its kind.
fn add(metric: &mut proto::Metric, point: &MetricPoint) {
    let number = |value| proto::NumberDataPoint {
        attributes: attributes_of(&point.attributes),
        start_time_unix_nano: point.start_unix_nanos,
        time_unix_nano: point.time_unix_nanos,
        as_double: Some(value),
    };
    match (&mut metric.data, &point.data) {
        (Some(metric::Data::Gauge(gauge)), Data::Gauge(value)) => {
            gauge.data_points.push(number(*value));
        }
        (Some(metric::Data::Sum(sum)), Data::Sum { value, .. }) => {
            sum.data_points.push(number(*value));
        }
        (
            Some(metric::Data::Histogram(histogram)),
            Data::Histogram {
                count,
                sum,
                min,
                max,
                bounds,
                counts,
                ..
            },
        ) => histogram.data_points.push(proto::HistogramDataPoint {
            attributes: attributes_of(&point.attributes),
            start_time_unix_nano: point.start_unix_nanos,
            time_unix_nano: point.time_unix_nanos,
            count: *count,
            sum: Some(*sum),
            bucket_counts: counts.clone(),
            explicit_bounds: bounds.clone(),
            min: *min,
            max: *max,
        }),
        _ => unreachable!("points are put to metrics of their kind"),
    }
}

/// `AggregationTemporality`.
const fn temporality_of(temporality: Temporality) -> i32 {
    match temporality {
        Temporality::Delta => 1,
        Temporality::Cumulative => 2,
    }
}

/// Spans by resource.
pub(super) fn spans(spans: &[Span]) -> proto::TraceRequest {
    let resource_spans = by_resource(spans, |span| &span.resource).map(|(resource, spans)| {
        let scope_spans = vec![proto::ScopeSpans {
            scope: Some(scope()),
            spans: spans.into_iter().map(span_of).collect(),
        }];
        proto::ResourceSpans {
            resource: Some(resource_as(resource)),
            scope_spans,
        }
    });
    proto::TraceRequest {
        resource_spans: resource_spans.collect(),
    }
}

fn span_of(span: &Span) -> proto::Span {
    let kind = match span.kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
    };
    let (code, message) = match &span.status {
        SpanStatus::Unset => (0, String::new()),
        SpanStatus::Ok => (1, String::new()),
        SpanStatus::Error(message) => (2, message.clone()),
    };
    proto::Span {
        trace_id: span.trace_id.to_vec(),
        span_id: span.span_id.to_vec(),
        trace_state: span.trace_state.clone(),
        parent_span_id: span.parent_span_id.map(Vec::from).unwrap_or_default(),
        name: span.name.clone(),
        kind,
        start_time_unix_nano: span.start_unix_nanos,
        end_time_unix_nano: span.end_unix_nanos,
        attributes: attributes_of(&span.attributes),
        status: Some(proto::Status { message, code }),
    }
}

/// What shares a resource, in order of the first. Resources are few: they are looked for one by one.
fn by_resource<T>(
    items: &[T],
    resource: fn(&T) -> &Arc<Resource>,
) -> impl Iterator<Item = (&Resource, Vec<&T>)> {
    let mut groups: Vec<(&Arc<Resource>, Vec<&T>)> = Vec::new();
    let mut last = 0;
    for item in items {
        let wanted = resource(item);
        let same = |(known, _): &(&Arc<Resource>, Vec<&T>)| Arc::ptr_eq(known, wanted);
        if !groups.get(last).is_some_and(same) {
            let found = (groups.iter().position(same))
                .or_else(|| groups.iter().position(|(known, _)| *known == wanted));
            last = found.unwrap_or_else(|| {
                groups.push((wanted, Vec::new()));
                groups.len() - 1
            });
        }
        groups[last].1.push(item);
    }
    (groups.into_iter()).map(|(resource, items)| (&**resource, items))
}

fn resource_as(resource: &Resource) -> proto::Resource {
    proto::Resource {
        attributes: attributes_of(&resource.attributes),
    }
}

fn attributes_of(attributes: &Attributes) -> Vec<KeyValue> {
    let pairs = attributes.iter().map(|(key, value)| KeyValue {
        key: key.clone(),
        value: Some(any(value)),
    });
    pairs.collect()
}

fn attribute(key: &str, value: impl Into<Value>) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(any(&value.into())),
    }
}

fn any(value: &Value) -> AnyValue {
    use any_value::Value as Any;
    let text = |text: &String| AnyValue {
        value: Some(Any::String(text.clone())),
    };
    let value = match value {
        Value::String(string) => return text(string),
        Value::Int(int) => Any::Int(*int),
        Value::Double(double) => Any::Double(*double),
        Value::Bool(bool) => Any::Bool(*bool),
        Value::Strings(strings) => Any::Array(ArrayValue {
            values: strings.iter().map(text).collect(),
        }),
    };
    AnyValue { value: Some(value) }
}

fn scope() -> Scope {
    Scope {
        name: "ekiden".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
