//! What a day of 500 services costs. Run by hand: `cargo test --release -p ekiden-metrics --test scale -- --ignored
//! --nocapture`.

#![allow(clippy::unwrap_used)]

use std::{fs, time::Instant};

use ekiden_metrics::{
    datum::Datum,
    metric_data::{MetricDataQuery, MetricDataRequest, ScanBy, Source},
    series::{Metric, Unit},
    settings::Settings,
    stat::Stat,
    store::{MetricStore, Record},
};
use ekiden_model::histogram::Histogram;

const MINUTE: u64 = 60_000;
const NOW: u64 = 20_000 * 24 * 60 * MINUTE;
const SERVICES: u64 = 500;
const SERIES: u64 = 40;

fn metric(service: u64, n: u64) -> Metric {
    let id = format!(
        "{:032x}",
        u128::from(service) * 0x9E37_79B9_7F4A_7C15_F39C_C060
    );
    let dimensions = [
        ("ServiceName", format!("service-{service}")),
        ("ServiceID", id),
    ];
    Metric::new("AWS/AppRunner", format!("metric-{n}"), dimensions).unwrap()
}

fn memory_kib(of: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(of)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Ticks of a hundredth of a second that this process has computed.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let mut fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11);
    let mut next = || fields.next().unwrap().parse::<f64>().unwrap();
    (next() + next()) / 100.0
}

/// Of each service's 40: one latency of up to 50 requests, four that are never whole, ten counters of some requests,
/// 25 that are mostly 0. A tenth of the services is busy.
#[test]
#[ignore = "takes minutes; run by hand with --release"]
fn a_day_of_500_services() {
    let hours: u64 = std::env::var("HOURS").map_or(24, |hours| hours.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let store = MetricStore::open(directory.path(), Settings::default(), NOW).unwrap();
    let mut seed = 1_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let (before, mut in_store, mut slowest) = (memory_kib("VmRSS"), 0.0, 0.0_f64);
    for minute in 0..hours * 60 {
        let at = NOW + minute * MINUTE;
        let mut batch = Vec::new();
        for service in 0..SERVICES {
            let busy = service % 10 == 0;
            for n in 0..SERIES {
                let datum = match n {
                    0 => {
                        let mut histogram = Histogram::default();
                        for _ in 0..if busy {
                            50 + random() % 200
                        } else {
                            random() % 3
                        } {
                            histogram.record(1000 + random() % 30_000);
                        }
                        match Datum::from_histogram(&histogram, 0.001) {
                            Some(datum) => datum,
                            None => continue,
                        }
                    }
                    1..5 => Datum::value((random() % 100_000) as f64 / 1000.0),
                    5..15 => Datum::value((random() % if busy { 250 } else { 3 }) as f64),
                    _ => Datum::value(f64::from(u8::from(random() % 50 == 0))),
                };
                batch.push(Record {
                    series: metric(service, n).in_unit(Unit::COUNT),
                    timestamp_ms: at,
                    datum,
                });
            }
        }
        let cpu = cpu_seconds();
        let started = Instant::now();
        store.record_batch(&batch, at).unwrap();
        slowest = slowest.max(started.elapsed().as_secs_f64());
        store.tick(at).unwrap();
        in_store += cpu_seconds() - cpu;
    }
    let of_a_core = in_store / (hours as f64 * 3600.0) * 100.0;
    println!("{hours} h: {of_a_core:.2} % of a core, slowest batch {slowest:.3} s");
    println!(
        "memory +{} MiB, at most {} MiB",
        (memory_kib("VmRSS") - before) >> 10,
        memory_kib("VmHWM") >> 10
    );
    println!("{:?}", store.usage());
    let end = NOW + hours * 60 * MINUTE;
    let ask = |services: u64, per: u64, period_s| {
        let queries = (0..services * per).map(|n| MetricDataQuery {
            id: format!("m{n}"),
            source: Source::MetricStat {
                metric: metric(n / per, n % per),
                unit: None,
                period_s,
                stat: Stat::Percentile(99.0),
            },
            label: None,
            return_data: true,
        });
        let request = MetricDataRequest {
            queries: queries.collect(),
            start_ms: NOW,
            end_ms: end,
            scan_by: ScanBy::TimestampAscending,
            datapoints_max: 0,
            after: None,
        };
        let started = Instant::now();
        let got = store.metric_data(&request, end).unwrap();
        let points: usize = got.results.iter().map(|result| result.values.len()).sum();
        println!(
            "{} queries: {points} points, {:?}",
            services * per,
            started.elapsed()
        );
    };
    ask(1, 1, 60);
    ask(1, 40, 300);
    ask(500, 1, 3600);
    drop(store);
    let started = Instant::now();
    let store = MetricStore::open(directory.path(), Settings::default(), end).unwrap();
    println!(
        "opened in {:?}, {} series",
        started.elapsed(),
        store.usage().series
    );
}
