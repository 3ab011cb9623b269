//! The store as control uses it, against values calculated by hand.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, time::Duration};

use ekiden_metrics::{
    datum::Datum,
    error::Error,
    list::ListQuery,
    metric_data::{MetricDataQuery, MetricDataRequest, ScanBy, Source},
    series::{Metric, Series, Unit},
    settings::Settings,
    stat::Stat,
    statistics::{Datapoint, StatisticsQuery},
    store::{MetricStore, Record},
};
use ekiden_model::histogram::Histogram;
use proptest::prelude::*;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// A day's beginning.
const NOW: u64 = 20_000 * DAY;

fn metric(name: &str) -> Metric {
    Metric::new(
        "AWS/AppRunner",
        name,
        [("ServiceName", "web"), ("ServiceID", "1")],
    )
    .unwrap()
}

fn series(name: &str) -> Series {
    metric(name).in_unit(Unit::COUNT)
}

fn open(directory: &Path, now: u64) -> MetricStore {
    MetricStore::open(directory, Settings::default(), now).unwrap()
}

fn query(name: &str, start: u64, end: u64, period_s: u32, stats: &[Stat]) -> StatisticsQuery {
    StatisticsQuery {
        metric: metric(name),
        unit: None,
        start_ms: start,
        end_ms: end,
        period_s,
        stats: stats.to_vec(),
    }
}

/// When periods begin, after [`NOW`], in minutes, and the first statistic.
fn firsts(datapoints: &[Datapoint]) -> Vec<(i64, f64)> {
    let minute = |at: u64| (at as i64 - NOW as i64) / MINUTE as i64;
    datapoints
        .iter()
        .map(|point| (minute(point.timestamp_ms), point.values[0].unwrap()))
        .collect()
}

#[test]
fn statistics_are_what_was_recorded_before_and_after_it_is_in_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path(), NOW);
    let series = series("RequestLatency");
    for (minute, values) in [(0, &[1.0, 2.0, 9.0][..]), (1, &[-4.5]), (7, &[0.25, 0.25])] {
        for value in values {
            store
                .record(
                    &series,
                    NOW + minute * MINUTE + 59_999,
                    &Datum::value(*value),
                    NOW,
                )
                .unwrap();
        }
    }
    let stats = [
        Stat::SampleCount,
        Stat::Average,
        Stat::Sum,
        Stat::Minimum,
        Stat::Maximum,
        Stat::Percentile(50.0),
    ];
    for round in 0..4 {
        let ask = query("RequestLatency", NOW, NOW + HOUR, 60, &stats);
        let got = store.statistics(&ask, NOW + HOUR).unwrap();
        let want = [
            (0, [3.0, 4.0, 12.0, 1.0, 9.0, 2.0]),
            (1, [1.0, -4.5, -4.5, -4.5, -4.5, -4.5]),
            (7, [2.0, 0.25, 0.5, 0.25, 0.25, 0.25]),
        ];
        assert_eq!(got.len(), 3, "{round}");
        for (got, (minute, values)) in got.iter().zip(want) {
            assert_eq!(got.timestamp_ms, NOW + minute * MINUTE);
            assert_eq!(got.values, values.map(Some));
            assert_eq!(got.unit, Unit::COUNT);
        }
        let ask = query("RequestLatency", NOW, NOW + HOUR, 300, &stats[..5]);
        let got = store.statistics(&ask, NOW + HOUR).unwrap();
        assert_eq!(got[0].values, [4.0, 1.875, 7.5, -4.5, 9.0].map(Some));
        assert_eq!(got[1].timestamp_ms, NOW + 5 * MINUTE);
        match round {
            0 => store.flush(NOW).unwrap(),
            1 => {
                drop(store);
                store = open(directory.path(), NOW);
            }
            2 => store.tick(NOW + HOUR).unwrap(),
            _ => {}
        }
    }
    assert_eq!(store.usage().memory_bytes, 0);
    assert_eq!(store.usage().damaged, 0);
}

#[test]
fn latency_percentiles_are_within_half_a_percent() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), NOW);
    let mut all: Vec<u64> = Vec::new();
    for part in 0..10 {
        let mut histogram = Histogram::default();
        for n in 0..1000 {
            let micros = 500 + (n * 7919 + part * 104_729) % 1_000_003;
            histogram.record(micros);
            all.push(micros);
        }
        let datum = Datum::from_histogram(&histogram, 0.001).unwrap();
        let at = NOW + part * 20_000;
        store
            .record(
                &metric("RequestLatency").in_unit(Unit::MILLISECONDS),
                at,
                &datum,
                NOW,
            )
            .unwrap();
    }
    all.sort_unstable();
    for flush in [false, true] {
        if flush {
            store.flush(NOW).unwrap();
        }
        for percent in [1.0, 50.0, 90.0, 99.0, 99.9] {
            let ask = query(
                "RequestLatency",
                NOW,
                NOW + HOUR,
                3600,
                &[Stat::Percentile(percent)],
            );
            let got = store.statistics(&ask, NOW + HOUR).unwrap()[0].values[0].unwrap();
            let want = all[(percent / 100.0 * 10_000.0_f64).ceil() as usize - 1] as f64 / 1000.0;
            assert!(
                (got - want).abs() <= want * 0.005,
                "p{percent}: {got} {want}"
            );
        }
    }
}

#[test]
fn late_data_are_added_to_their_minute_and_what_is_too_late_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), NOW);
    let series = series("Requests");
    let late = NOW - 14 * DAY + MINUTE;
    for at in [late, NOW + 2 * HOUR, late] {
        store.record(&series, at, &Datum::value(2.0), NOW).unwrap();
        store.flush(NOW).unwrap();
    }
    for at in [NOW - 14 * DAY - 1, NOW + 2 * HOUR + 1] {
        let refused = store
            .record(&series, at, &Datum::value(1.0), NOW)
            .unwrap_err();
        assert_eq!(refused.code(), "InvalidParameterValue");
    }
    let sum = |start, end, period_s| {
        let ask = query("Requests", start, end, period_s, &[Stat::Sum]);
        firsts(&store.statistics(&ask, NOW).unwrap())
    };
    assert_eq!(sum(late, late + HOUR, 60), [(-14 * 24 * 60 + 1, 4.0)]);
    assert_eq!(sum(NOW, NOW + 3 * HOUR, 3600), [(120, 2.0)]);
}

#[test]
fn periods_begin_at_the_rounded_start_and_coarse_points_are_used_when_fine_ones_are_gone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), NOW);
    for minute in 0..120 {
        let at = NOW + minute * MINUTE;
        store
            .record(&series("Requests"), at, &Datum::value(1.0), at)
            .unwrap();
    }
    store.flush(NOW).unwrap();
    let sum = |now: u64, start, end, period_s| {
        let ask = query("Requests", start, end, period_s, &[Stat::Sum]);
        firsts(&store.statistics(&ask, now).unwrap())
    };
    let (start, end) = (NOW + 18 * MINUTE + 7_000, NOW + 78 * MINUTE + 7_000);
    assert_eq!(sum(NOW, start, end, 3600), [(18, 60.0), (78, 1.0)]);
    assert_eq!(
        sum(NOW, start, start + 2 * MINUTE, 60),
        [(18, 1.0), (19, 1.0), (20, 1.0)]
    );
    // 16 days later there are 5-minute points, 64 days later 1-hour points, 460 days later none.
    for (days, want, files) in [
        (16, vec![(15, 5.0), (20, 5.0), (25, 5.0)], 2),
        (64 + 1, vec![(0, 60.0)], 1),
        (470, vec![], 0),
    ] {
        let now = NOW + days * DAY;
        store.tick(now).unwrap();
        assert_eq!(
            sum(now, NOW + 17 * MINUTE, NOW + 30 * MINUTE, 60),
            want,
            "{days}"
        );
        let blocks = fs::read_dir(directory.path()).unwrap().filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|end| end == "block")
        });
        assert_eq!(blocks.count(), files, "{days}");
    }
}

#[test]
fn the_oldest_go_when_there_is_too_much() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        bytes_max: 100_000,
        ..Settings::default()
    };
    let store = MetricStore::open(directory.path(), settings, NOW).unwrap();
    let mut seed = 1_u64;
    for hour in 0..48 {
        let now = NOW + hour * HOUR;
        let batch: Vec<Record> = (0..60 * 10)
            .map(|n| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                Record {
                    series: series(&format!("m{}", n % 10)),
                    timestamp_ms: now + n / 10 * MINUTE,
                    datum: Datum::value(seed as f64 / 7.0),
                }
            })
            .collect();
        assert_eq!(store.record_batch(&batch, now).unwrap().recorded, 600);
        store.flush(now).unwrap();
        store.tick(now).unwrap();
        assert!(store.usage().disk_bytes <= 100_000, "{:?}", store.usage());
    }
    let newest = query("m1", NOW + 47 * HOUR, NOW + 48 * HOUR, 60, &[Stat::Sum]);
    assert_eq!(
        store.statistics(&newest, NOW + 48 * HOUR).unwrap().len(),
        60
    );
}

#[test]
fn series_are_bounded_and_old_ones_still_written() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        series_max: 5,
        series_per_namespace_max: 3,
        ..Settings::default()
    };
    let store = MetricStore::open(directory.path(), settings, NOW).unwrap();
    let of = |namespace: &str, name: &str| {
        let none: [(&str, &str); 0] = [];
        Metric::new(namespace, name, none)
            .unwrap()
            .in_unit(Unit::NONE)
    };
    let batch: Vec<Record> = ["a", "b", "c", "d", "a", "e"]
        .map(|name| Record {
            series: of("One", name),
            timestamp_ms: NOW,
            datum: Datum::value(1.0),
        })
        .into();
    let recorded = store.record_batch(&batch, NOW).unwrap();
    assert_eq!((recorded.recorded, recorded.refused), (4, 2));
    let refusal = recorded.refusal.unwrap();
    assert_eq!(refusal.code(), "LimitExceeded");
    assert!(
        refusal.to_string().contains("`One` has 3 metrics"),
        "{refusal}"
    );
    store
        .record(&of("One", "b"), NOW, &Datum::value(1.0), NOW)
        .unwrap();
    for name in ["a", "b"] {
        store
            .record(&of("Two", name), NOW, &Datum::value(1.0), NOW)
            .unwrap();
    }
    let refusal = store
        .record(&of("Two", "c"), NOW, &Datum::value(1.0), NOW)
        .unwrap_err();
    assert!(
        refusal.to_string().contains("there are 5 metrics"),
        "{refusal}"
    );
    assert_eq!(store.usage().series_refused, 3);
    // 16 days later there is room.
    store.tick(NOW + 16 * DAY).unwrap();
    store
        .record(
            &of("Two", "c"),
            NOW + 16 * DAY,
            &Datum::value(1.0),
            NOW + 16 * DAY,
        )
        .unwrap();
    assert_eq!(store.usage().series, 1);
}

#[test]
fn metrics_are_listed_by_page_and_filter() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), NOW);
    for n in 0..7 {
        let dimensions = [("Id", n.to_string()), ("Odd", (n % 2).to_string())];
        let metric = Metric::new("Mine", format!("metric{}", n % 3), dimensions).unwrap();
        let at = if n == 6 { NOW - 4 * HOUR } else { NOW };
        for unit in [Unit::COUNT, Unit::NONE] {
            let series = metric.clone().in_unit(unit);
            store.record(&series, at, &Datum::value(1.0), NOW).unwrap();
        }
    }
    store
        .record(&series("Requests"), NOW, &Datum::value(1.0), NOW)
        .unwrap();
    store.flush(NOW).unwrap();
    drop(store);
    let store = open(directory.path(), NOW);
    let list = |query: &ListQuery| store.list_metrics(query, NOW).unwrap();
    let count = |query: &ListQuery| list(query).metrics.len();
    let mine = ListQuery {
        namespace: Some("Mine".to_owned()),
        ..ListQuery::default()
    };
    assert_eq!(count(&ListQuery::default()), 8);
    assert_eq!(count(&mine), 7);
    assert_eq!(
        count(&ListQuery {
            recently_active: true,
            ..mine.clone()
        }),
        6
    );
    assert_eq!(
        count(&ListQuery {
            name: Some("metric1".to_owned()),
            ..mine.clone()
        }),
        2
    );
    assert_eq!(
        count(&ListQuery {
            name: Some("metric1".to_owned()),
            ..ListQuery::default()
        }),
        2
    );
    let odd = vec![
        ("Odd".to_owned(), Some("1".to_owned())),
        ("Id".to_owned(), None),
    ];
    assert_eq!(
        count(&ListQuery {
            dimensions: odd,
            ..mine.clone()
        }),
        3
    );
    let mut paged = Vec::new();
    let mut page = ListQuery {
        limit: 3,
        ..mine.clone()
    };
    loop {
        let got = list(&page);
        paged.push(got.metrics.len());
        page.after = got.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(paged, [3, 3, 1]);
    let wrong = ListQuery {
        after: Some("zz".to_owned()),
        ..mine
    };
    assert!(store.list_metrics(&wrong, NOW).is_err());
    assert_eq!(
        store
            .list_metrics(&ListQuery::default(), NOW + 15 * DAY)
            .unwrap()
            .metrics
            .len(),
        0
    );
}

fn metric_stat(id: &str, name: &str, period_s: u32) -> MetricDataQuery {
    MetricDataQuery {
        id: id.to_owned(),
        source: Source::MetricStat {
            metric: metric(name),
            unit: None,
            period_s,
            stat: Stat::Sum,
        },
        label: None,
        return_data: true,
    }
}

fn expression(id: &str, text: &str) -> MetricDataQuery {
    MetricDataQuery {
        source: Source::Expression(text.to_owned()),
        ..metric_stat(id, "none", 60)
    }
}

fn request(queries: Vec<MetricDataQuery>) -> MetricDataRequest {
    MetricDataRequest {
        queries,
        start_ms: NOW,
        end_ms: NOW + HOUR,
        scan_by: ScanBy::TimestampAscending,
        datapoints_max: 0,
        after: None,
    }
}

#[test]
fn metric_data_are_metrics_and_what_is_calculated() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), NOW);
    for minute in 0..10 {
        let at = NOW + minute * MINUTE;
        store
            .record(&series("Requests"), at, &Datum::value(100.0), NOW)
            .unwrap();
        if minute % 2 == 0 {
            let errors = Datum::value(minute as f64);
            store.record(&series("5xx"), at, &errors, NOW).unwrap();
        }
    }
    let mut requests = metric_stat("requests", "Requests", 300);
    requests.return_data = false;
    let mut rate = expression("rate", "100 * FILL(errors, 0) / requests");
    rate.label = Some("error rate".to_owned());
    let ask = request(vec![
        rate,
        expression("twice", "rate * 2"),
        requests,
        metric_stat("errors", "5xx", 300),
    ]);
    let got = store.metric_data(&ask, NOW).unwrap();
    assert_eq!(got.next, None);
    let got: Vec<(&str, &str, &[f64])> = got
        .results
        .iter()
        .map(|r| (&*r.id, &*r.label, &*r.values))
        .collect();
    let want = [
        ("rate", "error rate", &[1.2, 2.8][..]),
        ("twice", "twice", &[2.4, 5.6]),
        ("errors", "5xx", &[6.0, 14.0]),
    ];
    assert_eq!(got, want);

    // Page by page, the newest first.
    let mut ask = request(vec![
        metric_stat("a", "Requests", 60),
        metric_stat("b", "5xx", 60),
    ]);
    ask.scan_by = ScanBy::TimestampDescending;
    ask.datapoints_max = 6;
    let mut pages = Vec::new();
    loop {
        let got = store.metric_data(&ask, NOW).unwrap();
        let results = got
            .results
            .iter()
            .map(|r| (r.id.clone(), r.values.clone(), r.is_complete));
        pages.push(results.collect::<Vec<_>>());
        ask.after = got.next;
        if ask.after.is_none() {
            break;
        }
    }
    let a = |count, complete| ("a".to_owned(), vec![100.0; count], complete);
    let b = |values: &[f64], complete| ("b".to_owned(), values.to_vec(), complete);
    let want = [
        vec![a(6, false)],
        vec![a(4, true), b(&[8.0, 6.0], false)],
        vec![b(&[4.0, 2.0, 0.0], true)],
    ];
    assert_eq!(pages, want);

    // A metric without data is there, without values.
    let none = store
        .metric_data(&request(vec![metric_stat("a", "None", 60)]), NOW)
        .unwrap();
    assert_eq!((none.results.len(), none.results[0].values.len()), (1, 0));
}

#[test]
fn wrong_requests_are_told_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), NOW);
    let refused = |queries| {
        store
            .metric_data(&request(queries), NOW)
            .unwrap_err()
            .to_string()
    };
    let check = |queries, want: &str| {
        let got = refused(queries);
        assert!(got.contains(want), "{got}");
    };
    check(vec![], "MetricDataQueries must be given");
    check(vec![metric_stat("A", "m", 60)], "the id `A` is not valid");
    check(vec![metric_stat("a", "m", 61)], "multiple of 60");
    check(
        vec![metric_stat("a", "m", 60), metric_stat("a", "m", 60)],
        "there twice",
    );
    check(
        vec![expression("a", "b + 1"), expression("b", "a + 1")],
        "builds on itself",
    );
    check(
        vec![expression("a", "SEARCH('x', 'Sum')")],
        "SEARCH is not supported here",
    );
    check(vec![expression("a", "1 + 1")], "must be a time series");
    check(
        (0..501)
            .map(|n| metric_stat(&format!("a{n}"), "m", 60))
            .collect(),
        "501 members",
    );

    let asked = |query: StatisticsQuery| store.statistics(&query, NOW).unwrap_err();
    let many = asked(query("m", NOW, NOW + 2 * DAY, 60, &[Stat::Sum]));
    assert!(matches!(many, Error::InvalidParameterCombination(_)));
    let want = "You have requested up to 2,880 datapoints, which exceeds the limit of 1,440.";
    assert!(many.to_string().starts_with(want), "{many}");
    assert_eq!(
        asked(query("m", NOW, NOW, 60, &[Stat::Sum])).code(),
        "InvalidParameterValue"
    );
    assert_eq!(
        asked(query("m", NOW, NOW + 1, 60, &[])).code(),
        "MissingParameter"
    );
    assert_eq!(
        asked(query("m", NOW, NOW + 1, 0, &[Stat::Sum])).code(),
        "InvalidParameterValue"
    );
}

#[test]
fn when_files_cannot_be_written_memory_is_bounded_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        memory_bytes_max: 10_000,
        ..Settings::default()
    };
    let store = MetricStore::open(directory.path(), settings, NOW).unwrap();
    // In the way of the temporary file.
    let id = NOW / MINUTE / 180;
    for number in 2..5 {
        fs::create_dir(
            directory
                .path()
                .join(format!("01-{id:08}-{number:012}.block.tmp")),
        )
        .unwrap();
    }
    let mut recorded = 0;
    let refused = loop {
        let at = NOW + recorded % 180 * MINUTE;
        let series = series(&format!("m{}", recorded / 180));
        match store.record(&series, at, &Datum::value(1.0), at) {
            Ok(()) => recorded += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code(), "LimitExceeded");
    assert!(store.usage().memory_bytes < 100_000, "{:?}", store.usage());
    let sum = |store: &MetricStore| -> f64 {
        let of = |n| query(&format!("m{n}"), NOW, NOW + 3 * HOUR, 60, &[Stat::Sum]);
        let all = (0..=recorded / 180).map(|n| firsts(&store.statistics(&of(n), NOW).unwrap()));
        all.flatten().map(|(_, value)| value).sum()
    };
    assert_eq!(sum(&store), recorded as f64);
    for number in 2..5 {
        fs::remove_dir(
            directory
                .path()
                .join(format!("01-{id:08}-{number:012}.block.tmp")),
        )
        .unwrap();
    }
    store.tick(NOW + 4 * HOUR).unwrap();
    store.flush(NOW + 4 * HOUR).unwrap();
    assert_eq!(
        (sum(&store), store.usage().memory_bytes),
        (recorded as f64, 0)
    );
    store
        .record(&series("m0"), NOW, &Datum::value(1.0), NOW)
        .unwrap();
    drop(store);
    assert_eq!(sum(&open(directory.path(), NOW)), recorded as f64 + 1.0);
}

#[test]
fn a_store_is_open_once() {
    let directory = tempfile::tempdir().unwrap();
    let _store = open(directory.path(), NOW);
    assert!(MetricStore::open(directory.path(), Settings::default(), NOW).is_err());
}

#[test]
fn expiry_of_fine_points_does_not_count_twice_where_tiers_meet() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        keep_minutes: Duration::from_secs(24 * 3600),
        keep_five_minutes: Duration::from_secs(48 * 3600),
        ..Settings::default()
    };
    let store = MetricStore::open(directory.path(), settings, NOW).unwrap();
    for ten in 0..6 * 24 * 4 {
        let at = NOW + ten * 10 * MINUTE;
        store
            .record(&series("Requests"), at, &Datum::value(1.0), at)
            .unwrap();
        if ten % 50 == 0 {
            store.tick(at).unwrap();
            store.flush(at).unwrap();
        }
    }
    for after in [0, 7 * MINUTE, 3 * HOUR + MINUTE] {
        let now = NOW + 4 * DAY + after;
        store.tick(now).unwrap();
        let ask = query("Requests", NOW, NOW + 4 * DAY, 86_400, &[Stat::Sum]);
        let want = (0..4).map(|day| (day * 24 * 60, 144.0)).collect::<Vec<_>>();
        assert_eq!(firsts(&store.statistics(&ask, now).unwrap()), want);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whole numbers, whose sums do not depend on the order: what is rolled up is what is calculated directly.
    #[test]
    fn rolled_up_is_as_direct(
        values in prop::collection::vec((0_u64..26 * 60, -1000..1000_i32, any::<bool>()), 1..120),
        hours in 1_u64..7,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), NOW);
        for (minute, value, flush) in &values {
            let datum = Datum::value(f64::from(*value));
            store.record(&series("m"), NOW + minute * MINUTE, &datum, NOW + DAY).unwrap();
            if *flush && value % 8 == 0 {
                store.flush(NOW + DAY).unwrap();
            }
        }
        store.flush(NOW + DAY).unwrap();
        let stats = [Stat::SampleCount, Stat::Sum, Stat::Minimum, Stat::Maximum];
        let period = hours * 60;
        let mut want: std::collections::BTreeMap<u64, Vec<f64>> = std::collections::BTreeMap::new();
        for (minute, value, _) in &values {
            want.entry(minute / period).or_default().push(f64::from(*value));
        }
        let want: Vec<(u64, Vec<Option<f64>>)> = want.into_iter().map(|(n, values)| {
            let (count, sum) = (values.len() as f64, values.iter().sum::<f64>());
            let min = values.iter().copied().fold(f64::INFINITY, f64::min);
            let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            (NOW + n * period * MINUTE, vec![Some(count), Some(sum), Some(min), Some(max)])
        }).collect();
        // Of 1-minute, 5-minute and 1-hour points.
        for days in [2, 20, 100] {
            let ask = query("m", NOW, NOW + 28 * HOUR, hours as u32 * 3600, &stats);
            let got = store.statistics(&ask, NOW + days * DAY).unwrap();
            let got: Vec<_> = got.into_iter().map(|p| (p.timestamp_ms, p.values)).collect();
            prop_assert_eq!(&got, &want);
        }
    }
}
