//! From two answers with counters to what happened between them.

use std::{cmp::Reverse, collections::BTreeMap};

use clap::ValueEnum;
use ekiden_aws::native::{Distribution, GetUsageResponse, HostUsage, InstanceUsage, ServiceUsage};
use ekiden_model::histogram::{BUCKETS, Histogram, VALUE_MAX};
use serde::Serialize;

/// The shortest time that a difference is taken for: the front door tells once a second what it has
/// counted, so that what comes within less is not a rate yet.
const INTERVAL_MILLIS_MIN: u64 = 500;

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Sort {
    /// What uses the most CPU.
    #[default]
    Cpu,
    /// What uses the most memory.
    Memory,
    /// What is asked most.
    Requests,
    /// What is slowest, by its 99th percentile.
    Latency,
    /// In the order of names.
    Name,
}

/// What the server answered at one time.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    /// Of the first page.
    since: u64,
    until: u64,
    services: BTreeMap<String, Counted>,
    host: HostUsage,
}

/// One service's counters, and of which time they are: pages are answered one after the other.
#[derive(Debug, Clone, Default)]
struct Counted {
    since: u64,
    until: u64,
    usage: ServiceUsage,
}

/// The samples that are compared: the newest, and one of long enough before.
#[derive(Debug)]
pub(super) struct Samples {
    before: Option<Sample>,
    now: Sample,
}

/// What is to be shown.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct View {
    pub(super) services: Vec<ServiceView>,
    pub(super) host: HostUsage,
}

/// Of one service.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceView {
    pub(super) service_name: String,
    pub(super) service_arn: String,
    pub(super) status: String,
    pub(super) instances_ready: u32,
    pub(super) instances_starting: u32,
    /// Unhealthy, draining, stopping or exited.
    pub(super) instances_other: u32,
    /// `None`: the counters began anew, or the service was not there before.
    pub(super) rates: Option<Rates>,
    pub(super) in_flight: Option<u32>,
    pub(super) queued: Option<u32>,
    pub(super) cpu_millis: u64,
    pub(super) memory_bytes: u64,
    /// Of one instance.
    pub(super) cpu_millis_max: u32,
    pub(super) memory_bytes_max: u64,
    pub(super) instances: Vec<InstanceUsage>,
}

/// What happened between two samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Rates {
    pub(super) seconds: f64,
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    /// Of status 5xx.
    pub(super) errors_per_second: f64,
    /// The part of 5xx; `None` without requests.
    pub(super) errors_percent: Option<f64>,
    #[serde(rename = "LatencyMillisP50")]
    pub(super) latency_millis_p50: Option<f64>,
    #[serde(rename = "LatencyMillisP99")]
    pub(super) latency_millis_p99: Option<f64>,
}

impl Sample {
    /// Takes in a page.
    pub(super) fn add(&mut self, page: GetUsageResponse) {
        if self.since == 0 {
            (self.since, self.until) = (page.since, page.counted_until);
        }
        self.host = page.host;
        for usage in page.services {
            let counted = Counted {
                since: page.since,
                until: page.counted_until,
                usage,
            };
            let arn = counted.usage.service_arn.clone();
            self.services.insert(arn, counted);
        }
    }
}

impl Samples {
    /// The first one.
    pub(super) const fn new(now: Sample) -> Self {
        Self { before: None, now }
    }

    /// Takes in a newer one. When next to nothing was counted in between, the one before stays what it is
    /// compared with: otherwise it would be shown as if nothing happened.
    pub(super) fn take(&mut self, newer: Sample) {
        let before = std::mem::replace(&mut self.now, newer);
        let apart = self.now.until.abs_diff(before.until);
        if self.before.is_none() || apart >= INTERVAL_MILLIS_MIN || self.now.since != before.since {
            self.before = Some(before);
        }
    }

    /// What is to be shown of them.
    pub(super) fn view(&self, sort: Sort) -> View {
        View::of(self.before.as_ref(), &self.now, sort)
    }
}

impl View {
    /// The difference of two samples, in order.
    pub(super) fn of(before: Option<&Sample>, now: &Sample, sort: Sort) -> Self {
        let views = now.services.iter().map(|(arn, counted)| {
            let before = before.and_then(|before| before.services.get(arn));
            service(before, counted)
        });
        let mut services: Vec<_> = views.collect();
        services.sort_by(|one, other| one.service_name.cmp(&other.service_name));
        // A stable sort: what is equal stays in the order of names.
        match sort {
            Sort::Cpu => services.sort_by_key(|one| Reverse(one.cpu_millis)),
            Sort::Memory => services.sort_by_key(|one| Reverse(one.memory_bytes)),
            Sort::Requests => most_first(&mut services, |rates| Some(rates.requests_per_second)),
            Sort::Latency => most_first(&mut services, |rates| rates.latency_millis_p99),
            Sort::Name => {}
        }
        Self {
            services,
            host: now.host.clone(),
        }
    }
}

fn most_first(services: &mut [ServiceView], of: impl Fn(&Rates) -> Option<f64>) {
    let of = |view: &ServiceView| view.rates.as_ref().and_then(&of).unwrap_or(-1.0);
    services.sort_by(|one, other| of(other).total_cmp(&of(one)));
}

fn service(before: Option<&Counted>, now: &Counted) -> ServiceView {
    let usage = now.usage.clone();
    let of_status = |status| usage.instances_by_status.get(status).copied().unwrap_or(0);
    let (ready, starting) = (of_status("RUNNING"), of_status("STARTING"));
    let all = usage.instances_by_status.values();
    let all = all.fold(0_u32, |sum, count| sum.saturating_add(*count));
    ServiceView {
        instances_ready: ready,
        instances_starting: starting,
        instances_other: all.saturating_sub(ready).saturating_sub(starting),
        rates: before.and_then(|before| rates(before, now)),
        service_name: usage.service_name,
        service_arn: usage.service_arn,
        status: usage.status,
        in_flight: usage.in_flight,
        queued: usage.queued,
        cpu_millis: usage.cpu_millis,
        memory_bytes: usage.memory_bytes,
        cpu_millis_max: usage.cpu_millis_max,
        memory_bytes_max: usage.memory_bytes_max,
        instances: usage.instances,
    }
}

/// `None` if the counters are not the same ones: control has started anew in between.
fn rates(before: &Counted, now: &Counted) -> Option<Rates> {
    if before.since != now.since {
        return None;
    }
    let requests = now.usage.requests.checked_sub(before.usage.requests)?;
    let errors = now.usage.status_5xx.checked_sub(before.usage.status_5xx)?;
    let latency = difference(&before.usage.latency, &now.usage.latency)?;
    let millis = now.until.saturating_sub(before.until);
    let seconds = millis.max(INTERVAL_MILLIS_MIN) as f64 / 1000.0;
    let millis_at = |percent| latency.percentile(percent).map(|micros| micros / 1000.0);
    Some(Rates {
        seconds,
        requests,
        requests_per_second: requests as f64 / seconds,
        errors_per_second: errors as f64 / seconds,
        errors_percent: (requests > 0).then(|| errors as f64 / requests as f64 * 100.0),
        latency_millis_p50: millis_at(50.0),
        latency_millis_p99: millis_at(99.0),
    })
}

/// The values that came since; `None` if there are fewer than before. Their smallest and largest are not
/// known, only their buckets.
fn difference(before: &Distribution, now: &Distribution) -> Option<Histogram> {
    let before: BTreeMap<u16, u64> = before.buckets.iter().copied().collect();
    let mut values = Histogram {
        max: VALUE_MAX,
        ..Histogram::default()
    };
    for (bucket, count) in &now.buckets {
        let count = count.checked_sub(before.get(bucket).copied().unwrap_or(0))?;
        if count > 0 && usize::from(*bucket) < BUCKETS {
            values.count = values.count.checked_add(count)?;
            values.buckets.insert(*bucket, count);
        }
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer at a time, in seconds, of services with a name, requests that took 1 ms each, and so
    /// many of them failed.
    fn sample(since: u64, until: f64, services: &[(&str, u64, u64)]) -> Sample {
        let services = services.iter().map(|(name, requests, failed)| {
            let mut latency = Histogram::default();
            latency.record_many(1000, *requests);
            ServiceUsage {
                service_arn: format!("arn/{name}"),
                service_name: (*name).to_owned(),
                requests: *requests,
                status_5xx: *failed,
                latency: distribution(&latency),
                ..ServiceUsage::default()
            }
        });
        let mut sample = Sample::default();
        sample.add(GetUsageResponse {
            since,
            counted_until: (until * 1000.0) as u64,
            services: services.collect(),
            ..GetUsageResponse::default()
        });
        sample
    }

    fn distribution(histogram: &Histogram) -> Distribution {
        let buckets = histogram.buckets.iter();
        Distribution {
            count: histogram.count,
            buckets: buckets.map(|(bucket, count)| (*bucket, *count)).collect(),
            ..Distribution::default()
        }
    }

    fn rates_of(samples: &Samples) -> Option<(f64, f64)> {
        let view = samples.view(Sort::Name);
        let rates = view.services[0].rates.as_ref()?;
        Some((
            rates.requests_per_second,
            rates.errors_percent.unwrap_or(-1.0),
        ))
    }

    fn names(view: &View) -> Vec<&str> {
        let services = view.services.iter();
        services.map(|one| one.service_name.as_str()).collect()
    }

    #[test]
    fn rates_are_the_difference_by_the_time_it_was_counted_in() {
        let mut samples = Samples::new(sample(1, 10.0, &[("web", 100, 10)]));
        assert_eq!(rates_of(&samples), None);
        samples.take(sample(1, 12.5, &[("web", 150, 15)]));
        assert_eq!(rates_of(&samples), Some((20.0, 10.0)));
        samples.take(sample(1, 14.5, &[("web", 150, 15)]));
        assert_eq!(rates_of(&samples), Some((0.0, -1.0)));
    }

    #[test]
    fn a_look_before_anything_new_was_counted_changes_nothing() {
        let mut samples = Samples::new(sample(1, 10.0, &[("web", 0, 0)]));
        samples.take(sample(1, 11.0, &[("web", 30, 0)]));
        samples.take(sample(1, 11.0, &[("web", 30, 0)]));
        assert_eq!(rates_of(&samples), Some((30.0, 0.0)));
        samples.take(sample(1, 12.0, &[("web", 40, 0)]));
        assert_eq!(rates_of(&samples), Some((10.0, 0.0)));
    }

    #[test]
    fn counters_that_began_anew_are_no_rate_and_never_a_negative_one() {
        let mut samples = Samples::new(sample(1, 10.0, &[("web", 100, 0)]));
        samples.take(sample(2, 12.0, &[("web", 200, 0)]));
        assert_eq!(rates_of(&samples), None);
        samples.take(sample(2, 14.0, &[("web", 220, 0)]));
        assert_eq!(rates_of(&samples), Some((10.0, 0.0)));
        samples.take(sample(2, 16.0, &[("web", 219, 0)]));
        assert_eq!(rates_of(&samples), None);
        let fewer = difference(
            &sample(1, 0.0, &[("web", 2, 0)]).services["arn/web"]
                .usage
                .latency,
            &sample(1, 0.0, &[("web", 1, 0)]).services["arn/web"]
                .usage
                .latency,
        );
        assert_eq!(fewer, None);
    }

    #[test]
    fn a_clock_that_was_set_back_gives_no_endless_rate() {
        let mut samples = Samples::new(sample(1, 10.0, &[("web", 0, 0)]));
        samples.take(sample(1, 4.0, &[("web", 10, 0)]));
        assert_eq!(rates_of(&samples), Some((20.0, 0.0)));
    }

    #[test]
    fn percentiles_are_of_what_came_in_between() {
        let (mut before, mut now) = (Histogram::default(), Histogram::default());
        before.record_many(5_000_000, 1000);
        now.add(&before);
        now.record_many(2000, 98);
        now.record_many(300_000, 2);
        let values = difference(&distribution(&before), &distribution(&now)).unwrap();
        let near = |percent, want: f64| {
            let got = values.percentile(percent).unwrap();
            assert!((got - want).abs() <= want * 0.004, "{percent}: {got}");
        };
        near(50.0, 2000.0);
        near(99.0, 300_000.0);
        let same = difference(&distribution(&now), &distribution(&now)).unwrap();
        assert_eq!(same.percentile(50.0), None);
    }

    #[test]
    fn buckets_that_do_not_exist_are_left_out() {
        let strange = Distribution {
            buckets: vec![(u16::MAX, 3), (5, u64::MAX)],
            ..Distribution::default()
        };
        let values = difference(&Distribution::default(), &strange).unwrap();
        assert_eq!(values.percentile(99.0), Some(5.0));
        let endless = Distribution {
            buckets: vec![(4, u64::MAX), (5, u64::MAX)],
            ..Distribution::default()
        };
        assert_eq!(difference(&Distribution::default(), &endless), None);
    }

    #[test]
    fn services_are_in_the_order_that_was_asked_for_and_else_of_names() {
        let before = sample(1, 0.0, &[("a", 0, 0), ("b", 0, 0), ("c", 0, 0)]);
        let mut now = sample(
            1,
            1.0,
            &[("d", 0, 0), ("a", 1, 0), ("b", 2, 0), ("c", 2, 0)],
        );
        now.services.get_mut("arn/c").unwrap().usage.cpu_millis = 7;
        now.services.get_mut("arn/a").unwrap().usage.memory_bytes = 7;
        for (sort, want) in [
            (Sort::Name, ["a", "b", "c", "d"]),
            (Sort::Cpu, ["c", "a", "b", "d"]),
            (Sort::Memory, ["a", "b", "c", "d"]),
            (Sort::Requests, ["b", "c", "a", "d"]),
            (Sort::Latency, ["a", "b", "c", "d"]),
        ] {
            assert_eq!(
                names(&View::of(Some(&before), &now, sort)),
                want,
                "{sort:?}"
            );
        }
    }

    #[test]
    fn instances_are_ready_starting_or_something_else() {
        let mut now = sample(1, 0.0, &[("web", 0, 0)]);
        let usage = &mut now.services.get_mut("arn/web").unwrap().usage;
        let by_status = [
            ("RUNNING", 3),
            ("STARTING", 2),
            ("DRAINING", 1),
            ("EXITED", 4),
        ];
        let by_status = by_status.map(|(status, count)| (status.to_owned(), count));
        usage.instances_by_status = by_status.into();
        let view = View::of(None, &now, Sort::Cpu).services.remove(0);
        let counts = [
            view.instances_ready,
            view.instances_starting,
            view.instances_other,
        ];
        assert_eq!(counts, [3, 2, 5]);
    }
}
