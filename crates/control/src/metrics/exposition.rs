//! What Prometheus scrapes: the totals since the control plane started, and what is now.

use ekiden_engine::Engine;
use ekiden_metrics::exposition::{Kind, Writer};
use ekiden_model::histogram::{Histogram, bounds_of};

use super::{Metrics, STATES, Totals};

/// Upper bounds of the buckets of times, in seconds.
pub(super) const BOUNDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// The classes of statuses, as label values.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl<E: Engine> Metrics<E> {
    /// Everything, in Prometheus' text format.
    pub(crate) fn exposition(&self) -> String {
        let (logs, metrics) = (self.host.log_store.stats(), self.store.usage());
        let state = self.lock();
        let mut services: Vec<_> = state
            .services
            .iter()
            .map(|(id, totals)| (id.to_string(), totals))
            .collect();
        services.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        let mut out = Writer::new();
        write_requests(&mut out, &services, state.unrouted.counts.requests());
        write_instances(&mut out, &services);
        write_durations(&mut out, &services);
        let mut family = out.family("ekiden_disk_bytes", Kind::Gauge, "Disk that stores take.");
        family.sample(&[("store", "logs")], logs.disk_bytes as f64);
        family.sample(&[("store", "metrics")], metrics.disk_bytes as f64);
        let mut family = out.family(
            "ekiden_drain_behind_seconds",
            Kind::Gauge,
            "How old the oldest line is that a drain has not sent.",
        );
        for (drain, lag) in (self.host.drain_lags)() {
            family.sample(&[("drain", &drain)], lag.as_secs_f64());
        }
        let mut family = out.family(
            "ekiden_certificate_expiry_timestamp_seconds",
            Kind::Gauge,
            "When a certificate ends, in seconds since 1970.",
        );
        for (names, end) in self.host.certificates.ends() {
            family.sample(&[("names", &names)], end.as_secs() as f64);
        }
        for (name, help, value) in [
            (
                "ekiden_log_lines_total",
                "Lines that were stored.",
                logs.lines,
            ),
            (
                "ekiden_log_lines_dropped_total",
                "Lines that were not stored.",
                logs.dropped.values().map(|dropped| dropped.lines).sum(),
            ),
            (
                "ekiden_log_damaged_total",
                "Pieces of the log store that could not be read.",
                logs.damaged,
            ),
            (
                "ekiden_metric_series_refused_total",
                "Data that the metric store did not take.",
                state.refused + metrics.series_refused,
            ),
            (
                "ekiden_metric_intervals_lost_total",
                "Intervals of a minute whose requests were not counted in time.",
                state.minutes_lost,
            ),
        ] {
            out.family(name, Kind::Counter, help)
                .sample(&[], value as f64);
        }
        out.finish()
    }
}

/// Services by their ids, in the order of their names.
type Services<'a> = [(String, &'a Totals)];

/// What the front door answered, and how long that took.
fn write_requests(out: &mut Writer, services: &Services<'_>, unrouted: u64) {
    let mut family = out.family(
        "ekiden_requests_total",
        Kind::Counter,
        "Requests that are over, by the class of the status that their clients were sent.",
    );
    for (id, totals) in services {
        for (class, count) in CLASSES.iter().zip(totals.counts.answered) {
            let labels = of(id, totals, Some(("status", class)));
            family.sample(&labels, count as f64);
        }
        let labels = of(id, totals, Some(("status", "none")));
        family.sample(&labels, totals.counts.unanswered as f64);
    }
    let mut family = out.family(
        "ekiden_requests_failed_total",
        Kind::Counter,
        "Requests that the front door answered itself or gave up, by cause.",
    );
    for (id, totals) in services {
        for (cause, count) in &totals.counts.causes {
            family.sample(&of(id, totals, Some(("cause", cause))), *count as f64);
        }
    }
    let mut family = out.family(
        "ekiden_unrouted_requests_total",
        Kind::Counter,
        "Requests that led to no service.",
    );
    family.sample(&[], unrouted as f64);
    for (name, help, histogram) in [
        (
            "ekiden_request_seconds",
            "How long requests took at the front door.",
            (|totals| &totals.latency) as fn(&Totals) -> &Histogram,
        ),
        (
            "ekiden_queue_seconds",
            "How long requests waited for an instance with room, of those that waited.",
            |totals| &totals.queued,
        ),
        (
            "ekiden_cold_seconds",
            "How long requests waited that found no instance at all.",
            |totals| &totals.cold,
        ),
    ] {
        let mut family = out.family(name, Kind::Histogram, help);
        for (id, totals) in services {
            let histogram = histogram(totals);
            let seconds = histogram.sum as f64 / 1e6;
            let labels = of(id, totals, None);
            family.histogram(&labels, &cumulative(histogram), seconds, histogram.count);
        }
    }
}

/// How many there are, and what each uses.
fn write_instances(out: &mut Writer, services: &Services<'_>) {
    let mut family = out.family("ekiden_instances", Kind::Gauge, "Instances, by state.");
    for (id, totals) in services {
        for state in STATES {
            let count = totals.states.get(state).copied().unwrap_or(0);
            family.sample(&of(id, totals, Some(("state", state))), f64::from(count));
        }
    }
    let mut family = out.family(
        "ekiden_instance_cpu_cores",
        Kind::Gauge,
        "What an instance uses of CPUs.",
    );
    for (id, totals) in services {
        for (instance, shares) in &totals.instances {
            let instance = instance.to_string();
            let labels = of(id, totals, Some(("instance", &instance)));
            family.sample(&labels, f64::from(shares.cpu_millis) / 1000.0);
        }
    }
    let mut family = out.family(
        "ekiden_instance_memory_bytes",
        Kind::Gauge,
        "Memory that an instance uses, without what the kernel could drop at once.",
    );
    for (id, totals) in services {
        for (instance, shares) in &totals.instances {
            let instance = instance.to_string();
            let labels = of(id, totals, Some(("instance", &instance)));
            family.sample(&labels, shares.memory_bytes as f64);
        }
    }
}

/// How long starts and operations took.
fn write_durations(out: &mut Writer, services: &Services<'_>) {
    let mut family = out.family(
        "ekiden_start_stage_seconds",
        Kind::Summary,
        "How long the stages of starts of instances took.",
    );
    for (id, totals) in services {
        for (stage, (count, millis)) in &totals.stages {
            let labels = of(id, totals, Some(("stage", stage)));
            family.summary(&labels, &[], millis / 1000.0, *count);
        }
    }
    let mut family = out.family(
        "ekiden_operation_seconds",
        Kind::Summary,
        "How long operations took that are over.",
    );
    for (id, totals) in services {
        for ((kind, succeeded), (count, seconds)) in &totals.operations {
            let outcome = if *succeeded { "succeeded" } else { "failed" };
            let mut labels = of(id, totals, Some(("operation", kind)));
            labels.push(("outcome", outcome));
            family.summary(&labels, &[], *seconds, *count);
        }
    }
}

fn of<'a>(
    id: &'a str,
    totals: &'a Totals,
    more: Option<(&'a str, &'a str)>,
) -> Vec<(&'a str, &'a str)> {
    let mut labels = vec![("service", totals.name.as_str()), ("service_id", id)];
    labels.extend(more);
    labels
}

/// How many values are at or below each bound. A bucket that a bound divides counts as above it.
pub(super) fn cumulative(histogram: &Histogram) -> Vec<(f64, u64)> {
    let below = |bound: f64| {
        let micros = (bound * 1e6) as u64;
        let buckets = histogram.buckets.iter();
        let within = buckets.take_while(|(bucket, _)| bounds_of(usize::from(**bucket)).1 <= micros);
        within.map(|(_, count)| count).sum()
    };
    BOUNDS.iter().map(|bound| (*bound, below(*bound))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let mut histogram = Histogram::default();
        for value in [500, 999, 5_000, 90_000_000] {
            histogram.record(value);
        }
        let cumulative = cumulative(&histogram);
        assert_eq!(cumulative[0], (0.001, 2));
        assert_eq!(cumulative[3], (0.01, 3));
        assert_eq!(cumulative[13], (60.0, 3));
    }
}
