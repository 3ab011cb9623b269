//! One minute, as it is gathered and as it is stored.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use ekiden_logs::stats::Stats;
use ekiden_metrics::{
    datum::Datum,
    series::{Metric, Unit},
    store::{Record, Usage},
};
use ekiden_model::id::{InstanceId, ServiceId};

use crate::traffic::ToldInterval;

/// App Runner's own metrics.
pub(crate) const APP_RUNNER: &str = "AWS/AppRunner";

/// What is measured besides.
pub(crate) const EKIDEN: &str = "Ekiden";

/// Instances of one service with metrics of their own in one minute; of more, only the service's are kept.
const INSTANCES_MAX: usize = 100;

/// A value that is looked at several times in a minute.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gauge {
    count: u32,
    sum: f64,
    min: f64,
    max: f64,
}

impl Gauge {
    pub(super) fn add(&mut self, value: f64) {
        (self.min, self.max) = match self.count {
            0 => (value, value),
            _ => (self.min.min(value), self.max.max(value)),
        };
        self.count += 1;
        self.sum += value;
    }

    fn datum(&self) -> Option<Datum> {
        Datum::set(self.count.into(), self.sum, self.min, self.max).ok()
    }
}

/// What an instance uses of what it may.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shares {
    pub(super) cpu_percent: f64,
    pub(super) memory_percent: f64,
    pub(super) cpu_millis: u32,
    pub(super) memory_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Minute {
    pub(super) services: HashMap<ServiceId, ServiceMinute>,
    pub(super) unrouted: ToldInterval,
    /// Bytes, by what has them.
    disk: BTreeMap<&'static str, Gauge>,
    /// Seconds, by the drain that is behind.
    drains: BTreeMap<String, Gauge>,
    certificates: BTreeMap<String, Gauge>,
}

#[derive(Debug, Default)]
pub(super) struct ServiceMinute {
    pub(super) told: ToldInterval,
    pub(super) states: BTreeMap<&'static str, Gauge>,
    cpu: Gauge,
    memory: Gauge,
    instances: HashMap<InstanceId, (Gauge, Gauge)>,
    /// Milliseconds.
    stages: BTreeMap<&'static str, Vec<f64>>,
    /// Seconds, by kind and outcome.
    operations: BTreeMap<(&'static str, bool), Vec<f64>>,
    prepared: Vec<f64>,
}

/// Values of one series in one minute that are kept one by one.
const VALUES_MAX: usize = 150;

impl ServiceMinute {
    pub(super) fn instance(&mut self, id: InstanceId, shares: &Shares) {
        self.cpu.add(shares.cpu_percent);
        self.memory.add(shares.memory_percent);
        if self.instances.len() < INSTANCES_MAX || self.instances.contains_key(&id) {
            let (cpu, memory) = self.instances.entry(id).or_default();
            cpu.add(shares.cpu_percent);
            memory.add(shares.memory_percent);
        }
    }

    pub(super) fn stage(&mut self, stage: &'static str, time: Duration) {
        keep(
            self.stages.entry(stage).or_default(),
            time.as_secs_f64() * 1000.0,
        );
    }

    pub(super) fn operation(&mut self, kind: &'static str, succeeded: bool, time: Duration) {
        let of_kind = self.operations.entry((kind, succeeded)).or_default();
        keep(of_kind, time.as_secs_f64());
    }

    pub(super) fn prepared(&mut self, time: Duration) {
        keep(&mut self.prepared, time.as_secs_f64());
    }
}

fn keep(values: &mut Vec<f64>, value: f64) {
    if values.len() < VALUES_MAX {
        values.push(value);
    }
}

impl Minute {
    pub(super) fn disk(&mut self, logs: &Stats, metrics: &Usage) {
        for (what, bytes) in [("logs", logs.disk_bytes), ("metrics", metrics.disk_bytes)] {
            self.disk.entry(what).or_default().add(bytes as f64);
        }
    }

    pub(super) fn drain(&mut self, name: String, lag: Duration) {
        self.drains.entry(name).or_default().add(lag.as_secs_f64());
    }

    /// How long a certificate lasts still.
    pub(super) fn certificate(&mut self, names: String, left: Duration) {
        let days = left.as_secs_f64() / 86_400.0;
        self.certificates.entry(names).or_default().add(days);
    }

    /// Everything there is of the minute that began at `at`. `names` has the services' names, and whether each
    /// runs; one without a name is gone.
    pub(super) fn records(
        self,
        at: u64,
        names: &HashMap<ServiceId, (String, bool)>,
    ) -> Vec<Record> {
        let mut out = Writer {
            at,
            records: Vec::new(),
        };
        for (id, minute) in self.services {
            if let Some((name, runs)) = names.get(&id) {
                out.service(id, name, *runs, &minute);
            }
        }
        let unrouted = self.unrouted.counts.requests();
        if unrouted > 0 {
            out.put(
                EKIDEN,
                "UnroutedRequests",
                &[],
                Unit::COUNT,
                Some(Datum::value(unrouted as f64)),
            );
        }
        for (what, gauge) in &self.disk {
            out.put(
                EKIDEN,
                "DiskBytes",
                &[("Store", *what)],
                Unit::BYTES,
                gauge.datum(),
            );
        }
        for (drain, gauge) in &self.drains {
            let of_drain = [("Drain", drain.as_str())];
            out.put(EKIDEN, "DrainLag", &of_drain, Unit::SECONDS, gauge.datum());
        }
        for (names, gauge) in &self.certificates {
            let of_names = [("Certificate", names.as_str())];
            out.put(
                EKIDEN,
                "DaysToExpiry",
                &of_names,
                Unit::COUNT,
                gauge.datum(),
            );
        }
        out.records
    }
}

struct Writer {
    at: u64,
    records: Vec<Record>,
}

impl Writer {
    fn service(&mut self, id: ServiceId, name: &str, runs: bool, minute: &ServiceMinute) {
        let id = id.to_string();
        let of_service = [("ServiceID", id.as_str()), ("ServiceName", name)];
        let with = |more: (&'static str, &'static str)| [more, of_service[0], of_service[1]];
        let told = &minute.told;
        let counts = &told.counts;
        // A service that runs and has no requests has none of each kind, which alarms want to know.
        if runs || counts.requests() > 0 {
            for (metric, count) in [
                ("Requests", counts.requests()),
                ("2xxStatusResponses", counts.answered[1]),
                ("4xxStatusResponses", counts.answered[3]),
                ("5xxStatusResponses", counts.answered[4]),
            ] {
                let datum = Some(Datum::value(count as f64));
                self.put(APP_RUNNER, metric, &of_service, Unit::COUNT, datum);
            }
            let datum = concurrency(told);
            self.put(APP_RUNNER, "Concurrency", &of_service, Unit::COUNT, datum);
        }
        let latency = Datum::from_histogram(&told.latency, 0.001);
        self.put(
            APP_RUNNER,
            "RequestLatency",
            &of_service,
            Unit::MILLISECONDS,
            latency,
        );
        for (metric, histogram) in [("QueueTime", &told.queued), ("ColdStartTime", &told.cold)] {
            let datum = Datum::from_histogram(histogram, 0.001);
            self.put(EKIDEN, metric, &of_service, Unit::MILLISECONDS, datum);
        }
        for (cause, count) in &counts.causes {
            let dimensions = [("Cause", cause.as_str()), of_service[0], of_service[1]];
            let datum = Some(Datum::value(*count as f64));
            self.put(EKIDEN, "FailedRequests", &dimensions, Unit::COUNT, datum);
        }
        for (state, gauge) in &minute.states {
            if *state == "active" {
                self.put(
                    APP_RUNNER,
                    "ActiveInstances",
                    &of_service,
                    Unit::COUNT,
                    gauge.datum(),
                );
            }
            if gauge.max > 0.0 {
                self.put(
                    EKIDEN,
                    "Instances",
                    &with(("State", state)),
                    Unit::COUNT,
                    gauge.datum(),
                );
            }
        }
        for (metric, gauge) in [
            ("CPUUtilization", &minute.cpu),
            ("MemoryUtilization", &minute.memory),
        ] {
            self.put(
                APP_RUNNER,
                metric,
                &of_service,
                Unit::PERCENT,
                gauge.datum(),
            );
        }
        for (instance, (cpu, memory)) in &minute.instances {
            let instance = instance.to_string();
            let dimensions = [
                ("Instance", instance.as_str()),
                of_service[0],
                of_service[1],
            ];
            for (metric, gauge) in [("CPUUtilization", cpu), ("MemoryUtilization", memory)] {
                self.put(
                    APP_RUNNER,
                    metric,
                    &dimensions,
                    Unit::PERCENT,
                    gauge.datum(),
                );
            }
        }
        for (stage, values) in &minute.stages {
            let datum = Datum::values(values, &[]).ok();
            self.put(
                EKIDEN,
                "StartTime",
                &with(("Stage", stage)),
                Unit::MILLISECONDS,
                datum,
            );
        }
        for ((kind, succeeded), values) in &minute.operations {
            let outcome = if *succeeded { "Succeeded" } else { "Failed" };
            let dimensions = [
                ("Operation", *kind),
                ("Outcome", outcome),
                of_service[0],
                of_service[1],
            ];
            let datum = Datum::values(values, &[]).ok();
            self.put(EKIDEN, "OperationTime", &dimensions, Unit::SECONDS, datum);
        }
        if !minute.prepared.is_empty() {
            let datum = Datum::values(&minute.prepared, &[]).ok();
            self.put(EKIDEN, "PrepareTime", &of_service, Unit::SECONDS, datum);
        }
    }

    fn put(
        &mut self,
        namespace: &str,
        name: &str,
        dimensions: &[(&str, &str)],
        unit: Unit,
        datum: Option<Datum>,
    ) {
        let Some(datum) = datum else { return };
        let dimensions = dimensions.iter().copied();
        // Names and values are our own and within bounds; what is not is no metric.
        if let Ok(metric) = Metric::new(namespace, name, dimensions) {
            self.records.push(Record {
                series: metric.in_unit(unit),
                timestamp_ms: self.at,
                datum,
            });
        }
    }
}

/// Requests that instances held at once: on average by Little's law, and at most.
fn concurrency(told: &ToldInterval) -> Option<Datum> {
    let max = f64::from(told.concurrency_max);
    let seconds = told.latency.sum as f64 / 60_000_000.0;
    // Of requests that are longer than the minute, what is over says too much and what goes on too little.
    let average = seconds.max(told.in_flight_sum as f64 / 60.0).min(max);
    Datum::set(1.0, average, average, max).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(records: &'a [Record], name: &str, dimensions: usize) -> Vec<&'a Record> {
        let of_name = records.iter().filter(|record| {
            let metric = &record.series.metric;
            metric.name() == name && metric.dimensions().len() == dimensions
        });
        of_name.collect()
    }

    #[test]
    fn a_minute_becomes_app_runners_metrics() {
        let id = ServiceId::from_bytes([9; 16]);
        let names = HashMap::from([(id, ("web1".to_owned(), true))]);
        let mut minute = Minute::default();
        let service = minute.services.entry(id).or_default();
        service.told.counts.answered = [0, 7, 1, 2, 3];
        service
            .told
            .counts
            .causes
            .insert("queue_full".to_owned(), 3);
        service.told.concurrency_max = 4;
        for value in [1000, 2000, 3000] {
            service.told.latency.record(value);
        }
        let shares = Shares {
            cpu_percent: 50.0,
            memory_percent: 25.0,
            cpu_millis: 500,
            memory_bytes: 1,
        };
        service.instance(InstanceId::from_bytes([1; 16]), &shares);
        service.states.entry("active").or_default().add(1.0);
        let records = minute.records(60_000, &names);
        let value = |name: &str| {
            let [record] = found(&records, name, 2)[..] else {
                panic!("{name}");
            };
            assert_eq!(record.timestamp_ms, 60_000);
            record.datum.sum
        };
        assert_eq!(value("Requests"), 13.0);
        assert_eq!(value("2xxStatusResponses"), 7.0);
        assert_eq!(value("4xxStatusResponses"), 2.0);
        assert_eq!(value("5xxStatusResponses"), 3.0);
        assert_eq!(value("RequestLatency"), 6.0);
        assert_eq!(value("ActiveInstances"), 1.0);
        assert_eq!(value("CPUUtilization"), 50.0);
        assert_eq!(found(&records, "Concurrency", 2)[0].datum.max, 4.0);
        let of_instance = found(&records, "MemoryUtilization", 3);
        assert_eq!(of_instance[0].series.metric.dimensions()[0].0, "Instance");
        assert_eq!(found(&records, "FailedRequests", 3)[0].datum.sum, 3.0);
    }

    #[test]
    fn a_service_that_runs_has_no_requests_rather_than_nothing() {
        let [runs, rests] = [1, 2].map(|n| ServiceId::from_bytes([n; 16]));
        let names = HashMap::from([
            (runs, ("runs".to_owned(), true)),
            (rests, ("rests".to_owned(), false)),
        ]);
        let mut minute = Minute::default();
        minute.services.entry(runs).or_default();
        minute.services.entry(rests).or_default();
        let records = minute.records(0, &names);
        let requests = found(&records, "Requests", 2);
        assert_eq!((requests.len(), requests[0].datum.sum), (1, 0.0));
        assert!(found(&records, "RequestLatency", 2).is_empty());
    }
}
