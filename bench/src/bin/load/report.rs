//! What happened, counted.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use crate::connection::Failure;

/// Failures told one by one in the summary; the others are only counted.
const FAILURES_TOLD_MAX: usize = 1000;

/// Latencies are kept with three digits up to this many microseconds.
const LATENCY_MICROS_MAX: u64 = 600_000_000;

/// One request that failed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failed {
    /// When it was due: milliseconds since the Unix epoch.
    begun_ms: u64,
    /// When it had failed.
    ended_ms: u64,
    kind: String,
    detail: String,
    request: &'static str,
    /// Whether it used a connection of its own.
    fresh: bool,
    host: String,
    instance: Option<String>,
}

impl Failed {
    pub(crate) fn of(host: &str, request: &'static str, fresh: bool, failure: Failure) -> Self {
        let Failure {
            kind,
            detail,
            instance,
        } = failure;
        let host = host.to_owned();
        Self {
            begun_ms: 0,
            ended_ms: 0,
            kind,
            detail,
            request,
            fresh,
            host,
            instance,
        }
    }
}

/// Latency from when a request was due to its answer's last byte, in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

/// The whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    seconds: f64,
    pub(crate) sent: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    /// Successful ones by kind.
    by_request: BTreeMap<&'static str, u64>,
    /// Successful ones by instance.
    by_instance: BTreeMap<String, u64>,
    /// Failures by kind.
    by_failure: BTreeMap<String, u64>,
    /// By kind of request: a large body takes its time.
    latency_ms: BTreeMap<&'static str, Latency>,
    failures: Vec<Failed>,
}

/// The counters while it runs.
pub(crate) struct Report {
    started: Instant,
    began: u64,
    succeeded: u64,
    failed: u64,
    by_request: BTreeMap<&'static str, Histogram<u64>>,
    by_instance: BTreeMap<String, u64>,
    by_failure: BTreeMap<String, u64>,
    failures: Vec<Failed>,
    file: Option<File>,
}

impl Report {
    pub(crate) fn new(failures: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.with_context(|| format!("cannot open `{}`", path.display()))
        };
        Ok(Self {
            started: Instant::now(),
            began: 0,
            succeeded: 0,
            failed: 0,
            by_request: BTreeMap::new(),
            by_instance: BTreeMap::new(),
            by_failure: BTreeMap::new(),
            failures: Vec::new(),
            file: failures.map(open).transpose()?,
        })
    }

    /// Counts a request that begins; how many are in flight with it.
    pub(crate) fn began(&mut self) -> u64 {
        self.began += 1;
        self.in_flight()
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.began - self.succeeded - self.failed
    }

    pub(crate) fn succeeded(&mut self, request: &'static str, instance: &str, due: Instant) {
        self.succeeded += 1;
        let latency = due.elapsed().as_micros() as u64;
        let histogram = self.by_request.entry(request).or_insert_with(|| {
            Histogram::new_with_max(LATENCY_MICROS_MAX, 3).expect("the bounds are constants")
        });
        histogram.saturating_record(latency);
        match self.by_instance.get_mut(instance) {
            Some(count) => *count += 1,
            None => {
                self.by_instance.insert(instance.to_owned(), 1);
            }
        }
    }

    pub(crate) fn failed(&mut self, mut failed: Failed, due: Instant) {
        self.failed += 1;
        failed.ended_ms = unix_ms();
        failed.begun_ms = failed
            .ended_ms
            .saturating_sub(due.elapsed().as_millis() as u64);
        *self.by_failure.entry(failed.kind.clone()).or_default() += 1;
        if let Some(file) = &mut self.file {
            // The summary tells the same again, so a full disk loses nothing that matters.
            let line = serde_json::to_string(&failed).unwrap_or_default();
            let _ = writeln!(file, "{line}");
        }
        if self.failures.len() < FAILURES_TOLD_MAX {
            self.failures.push(failed);
        }
    }

    /// The running counters.
    pub(crate) fn line(&self) -> String {
        format!(
            "load: {:.0} s, {} sent, {} ok, {} failed {:?}, {} in flight",
            self.started.elapsed().as_secs_f64(),
            self.began,
            self.succeeded,
            self.failed,
            self.by_failure,
            self.in_flight(),
        )
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary {
            seconds: self.started.elapsed().as_secs_f64(),
            sent: self.began,
            succeeded: self.succeeded,
            failed: self.failed,
            by_request: self
                .by_request
                .iter()
                .map(|(kind, h)| (*kind, h.len()))
                .collect(),
            by_instance: self.by_instance.clone(),
            by_failure: self.by_failure.clone(),
            latency_ms: self
                .by_request
                .iter()
                .map(|(kind, h)| (*kind, latency(h)))
                .collect(),
            failures: self.failures.clone(),
        }
    }
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    Latency {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: histogram.max() as f64 / 1000.0,
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_millis() as u64
}
