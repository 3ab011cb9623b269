//! The totals as OpenTelemetry has metrics.

use std::sync::Arc;

use ekiden_engine::Engine;
use ekiden_export::telemetry::{Attributes, Data, MetricPoint, Resource, Temporality, Value};
use ekiden_model::time::Timestamp;

use super::{
    Metrics,
    exposition::{BOUNDS, CLASSES, cumulative},
};

impl<E: Engine> Metrics<E> {
    /// What Prometheus would scrape of services, as points of now.
    pub(crate) fn points(&self, now: Timestamp) -> Vec<MetricPoint> {
        let nanos = |at: Timestamp| at.as_millis().saturating_mul(1_000_000);
        let (start, time) = (nanos(self.edges.traffic().since()), nanos(now));
        let state = self.lock();
        let mut points = Vec::new();
        for (id, totals) in &state.services {
            let resource = Arc::new(Resource {
                attributes: vec![
                    ("service.namespace".to_owned(), Value::from("ekiden")),
                    ("service.name".to_owned(), Value::from(&totals.name[..])),
                    ("ekiden.service.id".to_owned(), Value::from(id.to_string())),
                ],
            });
            let mut put = |name: &str, unit: &str, attributes: Attributes, data: Data| {
                let start_unix_nanos = match data {
                    Data::Gauge(_) => 0,
                    Data::Sum { .. } | Data::Histogram { .. } => start,
                };
                points.push(MetricPoint {
                    resource: Arc::clone(&resource),
                    name: name.to_owned(),
                    description: String::new(),
                    unit: unit.to_owned(),
                    attributes,
                    start_unix_nanos,
                    time_unix_nanos: time,
                    data,
                });
            };
            let of = |name: &str, value: &str| vec![(name.to_owned(), Value::from(value))];
            let sum = |value: u64| Data::Sum {
                value: value as f64,
                temporality: Temporality::Cumulative,
                monotonic: true,
            };
            for (class, count) in CLASSES.iter().zip(totals.counts.answered) {
                put(
                    "ekiden.requests",
                    "{request}",
                    of("status", class),
                    sum(count),
                );
            }
            for (cause, count) in &totals.counts.causes {
                put(
                    "ekiden.requests.failed",
                    "{request}",
                    of("cause", cause),
                    sum(*count),
                );
            }
            let histogram = &totals.latency;
            if !histogram.is_empty() {
                let mut below = 0;
                let mut counts: Vec<u64> = cumulative(histogram)
                    .into_iter()
                    .map(|(_, count)| count - std::mem::replace(&mut below, count))
                    .collect();
                counts.push(histogram.count - below);
                let data = Data::Histogram {
                    count: histogram.count,
                    sum: histogram.sum as f64 / 1e6,
                    min: Some(histogram.min as f64 / 1e6),
                    max: Some(histogram.max as f64 / 1e6),
                    bounds: BOUNDS.to_vec(),
                    counts,
                    temporality: Temporality::Cumulative,
                };
                put("http.server.request.duration", "s", Vec::new(), data);
            }
            for (state, count) in &totals.states {
                let data = Data::Gauge(f64::from(*count));
                put("ekiden.instances", "{instance}", of("state", state), data);
            }
            for (instance, shares) in &totals.instances {
                let of_it = || of("service.instance.id", &instance.to_string());
                let cores = f64::from(shares.cpu_millis) / 1000.0;
                put("ekiden.instance.cpu", "{cpu}", of_it(), Data::Gauge(cores));
                let bytes = Data::Gauge(shares.memory_bytes as f64);
                put("ekiden.instance.memory", "By", of_it(), bytes);
            }
        }
        points
    }
}
