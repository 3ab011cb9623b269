//! What is left after a crash, and of damaged files.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use ekiden_metrics::{
    datum::Datum,
    series::{Metric, Series, Unit},
    settings::Settings,
    stat::Stat,
    statistics::StatisticsQuery,
    store::MetricStore,
};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const NOW: u64 = 20_000 * 24 * HOUR;
const DIRECTORY: &str = "EKIDEN_METRICS_CRASH_DIRECTORY";
const SERIES: u64 = 7;

fn metric(n: u64) -> Metric {
    Metric::new("Test", "m", [("n", n.to_string())]).unwrap()
}

fn series(n: u64) -> Series {
    metric(n).in_unit(Unit::COUNT)
}

fn count(store: &MetricStore, n: u64, days_later: u64, period_s: u32) -> f64 {
    let query = StatisticsQuery {
        metric: metric(n),
        unit: None,
        start_ms: NOW,
        end_ms: NOW + 12 * HOUR,
        period_s,
        stats: vec![Stat::Sum],
    };
    let found = store
        .statistics(&query, NOW + days_later * 24 * HOUR)
        .unwrap();
    found.iter().map(|point| point.values[0].unwrap()).sum()
}

/// Not a test by itself: what [`no_acknowledged_datum_is_lost_or_counted_twice`] kills.
#[test]
fn writer() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let settings = Settings {
        // Moved to files all the time.
        memory_bytes_max: 2_000,
        ..Settings::default()
    };
    let store = MetricStore::open(Path::new(&directory), settings, NOW).unwrap();
    println!("\nready");
    for n in 0_u64.. {
        let at = NOW + (n * 37 % 600) * MINUTE;
        let now = NOW + 10 * HOUR;
        store
            .record(&series(n % SERIES), at, &Datum::value(1.0), now)
            .unwrap();
        println!("{n}");
        if n % 50 == 49 {
            store.tick(now).unwrap();
        }
    }
}

#[test]
fn no_acknowledged_datum_is_lost_or_counted_twice() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = [0_u64; SERIES as usize];
    let mut seed = std::process::id();
    println!("seed {seed}");
    for round in 0..30 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["writer", "--exact", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            // What comes before is the test harness's.
            let numbers = lines.skip_while(|line| line != "ready").skip(1);
            numbers.map_while(|line| line.parse::<u64>().ok()).last()
        });
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        std::thread::sleep(Duration::from_millis(u64::from(30 + (seed >> 16) % 300)));
        child.kill().unwrap();
        child.wait().unwrap();
        // One was perhaps recorded and not yet told.
        let last = reader.join().unwrap();
        let told = last.map_or(0, |last| last + 1);
        let of = |n: u64, all: u64| all / SERIES + u64::from(n < all % SERIES);

        let store = MetricStore::open(directory.path(), Settings::default(), NOW).unwrap();
        for n in 0..SERIES {
            let got = count(&store, n, 1, 60);
            // The 5-minute and 1-hour points have the same.
            assert_eq!(count(&store, n, 30, 300), got, "round {round}");
            assert_eq!(count(&store, n, 100, 3600), got, "round {round}");
            let least = acknowledged[n as usize] + of(n, told);
            let most = acknowledged[n as usize] + of(n, told + 1);
            let got = got as u64;
            assert!(
                (least..=most).contains(&got),
                "round {round}: {got} of {least} to {most}"
            );
            acknowledged[n as usize] = got;
        }
    }
    assert!(acknowledged[0] > 50, "{acknowledged:?}");
}

fn file_of(directory: &Path, end: &str) -> std::path::PathBuf {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.to_str().unwrap().ends_with(end) && fs::metadata(path).unwrap().len() > 0
        })
        .collect();
    files.sort();
    files.remove(0)
}

/// Makes a store of 300 series, a datum each, and damages a copy of it at many places.
fn damage(in_journal: bool, least: f64) {
    let made = tempfile::tempdir().unwrap();
    let store = MetricStore::open(made.path(), Settings::default(), NOW).unwrap();
    for n in 0..300 {
        store
            .record(&series(n), NOW, &Datum::value(1.0), NOW)
            .unwrap();
    }
    if !in_journal {
        store.flush(NOW).unwrap();
    }
    let end = if in_journal { ".journal" } else { ".block" };
    let name = file_of(made.path(), end).file_name().unwrap().to_owned();
    let bytes = fs::read(made.path().join(&name)).unwrap();
    let mut seed = 7_u64;
    for round in 0..60 {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let at = (seed >> 33) as usize % bytes.len();
        let mut damaged = bytes.clone();
        let cut = round % 3 == 0;
        if cut {
            damaged.truncate(at);
        } else {
            damaged[at] ^= 1 << (seed >> 60 & 7);
        }
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(made.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        fs::write(copy.path().join(&name), damaged).unwrap();
        let store = MetricStore::open(copy.path(), Settings::default(), NOW).unwrap();
        let read: f64 = (0..300).map(|n| count(&store, n, 1, 60)).sum();
        assert!(
            read <= 300.0 && (cut || read >= least),
            "round {round} at {at}: {read}"
        );
        // It goes on.
        store
            .record(&series(0), NOW + HOUR, &Datum::value(5.0), NOW)
            .unwrap();
        store.flush(NOW).unwrap();
        let after: f64 = (0..300).map(|n| count(&store, n, 1, 60)).sum();
        assert_eq!(after, read + 5.0, "round {round} at {at}");
    }
}

#[test]
fn damaged_journals_lose_one_record() {
    damage(true, 299.0);
}

#[test]
fn damaged_files_lose_one_group() {
    damage(false, 300.0 - 64.0);
}
