//! What is asked of services and what they use, as counters and as they are now: for whoever asks again and
//! again and takes the difference.
//!
//! An answer is bounded: [`SERVICES_MAX`] services, each with [`INSTANCES_MAX`] instances and with as many
//! buckets as a histogram has, which comes to about 3 MB at worst and to some kilobytes as a rule.

use ekiden_aws::{
    error::ApiError,
    native::{
        Distribution, GetUsageRequest, GetUsageResponse, HostUsage, InstanceUsage as WireInstance,
        ServiceUsage,
    },
};
use ekiden_engine::Engine;
use ekiden_model::{
    histogram::Histogram, id::ServiceId, instance::InstanceState, plan::InstanceView,
    scale::Demand, time::Timestamp, usage::InstanceUsage,
};

use super::{Api, Caller, native::instance_status, page::Page};
use crate::{clock, metrics::ServiceCounted};

/// Services of one answer.
const SERVICES_MAX: u32 = 50;

/// Instances that are told one by one of a service; counts and sums have all of them.
const INSTANCES_MAX: usize = 100;

impl<E: Engine> Api<E> {
    pub(super) async fn get_usage(
        &self,
        caller: &Caller,
        request: GetUsageRequest,
    ) -> Result<GetUsageResponse, ApiError> {
        let count = request.max_results.unwrap_or(SERVICES_MAX);
        if !(1..=SERVICES_MAX).contains(&count) {
            return Err(ApiError::invalid_request(format!(
                "MaxResults must be from 1 to {SERVICES_MAX}."
            )));
        }
        let request = GetUsageRequest {
            max_results: Some(count),
            ..request
        };
        let page: Page<(Timestamp, ServiceId)> = self.page("GetUsage", caller, &request)?;
        let only = match request.service_arn.as_deref() {
            Some(arn) => Some(self.find(caller, Some(arn))?),
            None => None,
        };
        let (found, next_token) = self.services_of(caller, &page, only);
        let ids: Vec<_> = found.iter().map(|one| one.stored.service.id).collect();
        let counted = self.metrics.counted(&ids, clock::now());
        let used = self.metrics.instance_usage();
        let services = found.iter().zip(counted.services);
        let services = services.map(|(snapshot, counted)| {
            let service = &snapshot.stored.service;
            let demand = self.edges.demands().now(service.id);
            ServiceUsage {
                service_arn: self.arn(&snapshot.stored),
                service_id: service.id.to_string(),
                service_name: service.name.to_string(),
                status: service.status().to_string(),
                cpu_millis_max: service.settings.cpu_millis,
                memory_bytes_max: service.settings.memory_bytes,
                ..usage_of(&snapshot.instances, &used, demand, counted)
            }
        });
        Ok(GetUsageResponse {
            since: self.edges.traffic().since().as_millis(),
            counted_until: counted.until.as_millis(),
            services: services.collect(),
            host: HostUsage {
                cpus: self.host.cpus,
                memory_bytes: self.host.memory_mib.map(|mib| mib << 20),
                logs_disk_bytes: self.log_store.stats().disk_bytes,
                metrics_disk_bytes: self.metric_store.usage().disk_bytes,
            },
            next_token,
        })
    }
}

/// All of a service but what it is called and may use. `used` is in the order of ids, as the engine tells it.
fn usage_of(
    views: &[InstanceView],
    used: &[InstanceUsage],
    demand: Option<Demand>,
    counted: ServiceCounted,
) -> ServiceUsage {
    let [status_1xx, status_2xx, status_3xx, status_4xx, status_5xx] = counted.counts.answered;
    let mut usage = ServiceUsage {
        requests: counted.counts.requests(),
        status_1xx,
        status_2xx,
        status_3xx,
        status_4xx,
        status_5xx,
        unanswered: counted.counts.unanswered,
        causes: counted.counts.causes,
        latency: distribution(&counted.latency),
        in_flight: demand.map(|demand| demand.in_flight),
        queued: demand.map(|demand| demand.queued),
        ..ServiceUsage::default()
    };
    for view in views {
        let status = instance_status(view);
        let of_status = usage.instances_by_status.entry(status.to_owned());
        *of_status.or_default() += 1;
        let known = used.binary_search_by_key(&view.id, |known| known.id);
        let known = known.ok().map(|index| used[index]);
        usage.cpu_millis += known.map_or(0, |known| known.cpu_millis.into());
        usage.memory_bytes += known.map_or(0, |known| known.memory_bytes);
        usage.instances.push(WireInstance {
            instance_id: view.id.to_string(),
            status: status.to_owned(),
            activity: matches!(view.state, InstanceState::Running { .. })
                .then(|| view.activity.to_string()),
            cpu_millis: known.map(|known| known.cpu_millis),
            memory_bytes: known.map(|known| known.memory_bytes),
        });
    }
    let rank = |one: &WireInstance| {
        let cpu = std::cmp::Reverse(one.cpu_millis);
        (cpu, one.instance_id.clone())
    };
    usage.instances.sort_by_cached_key(rank);
    usage.instances.truncate(INSTANCES_MAX);
    usage
}

fn distribution(histogram: &Histogram) -> Distribution {
    let buckets = histogram.buckets.iter();
    Distribution {
        count: histogram.count,
        sum: histogram.sum,
        min: histogram.min,
        max: histogram.max,
        buckets: buckets.map(|(bucket, count)| (*bucket, *count)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use ekiden_model::{
        health::Verdict,
        id::InstanceId,
        instance::{Activity, RevisionNumber},
        plan::Traffic,
        request_counts::RequestCounts,
    };

    use super::*;

    fn view(id: u8, state: InstanceState, verdict: Verdict) -> InstanceView {
        InstanceView {
            id: InstanceId::from_bytes([id; 16]),
            revision: RevisionNumber(1),
            state,
            created_at: Timestamp::from_millis(0),
            verdict,
            last_failure: None,
            failing: false,
            activity: Activity::Active,
            traffic: Traffic::Routed,
        }
    }

    fn running(id: u8) -> InstanceView {
        let state = InstanceState::Running {
            address: std::net::IpAddr::from([10, 0, 0, id]),
            started_at: Timestamp::from_millis(0),
        };
        view(id, state, Verdict::Healthy)
    }

    fn used(id: u8, cpu_millis: u32) -> InstanceUsage {
        InstanceUsage {
            id: InstanceId::from_bytes([id; 16]),
            cpu_millis,
            memory_bytes: 1 << 20,
        }
    }

    #[test]
    fn instances_are_counted_and_what_they_use_is_added_up() {
        let views = [
            running(1),
            running(2),
            view(3, InstanceState::Creating, Verdict::Starting),
        ];
        // The last one is another service's.
        let used = [used(1, 30), used(2, 250), used(9, 1000)];
        let usage = usage_of(&views, &used, None, ServiceCounted::default());
        let by_status = [("RUNNING".to_owned(), 2), ("STARTING".to_owned(), 1)];
        assert_eq!(usage.instances_by_status, by_status.into());
        assert_eq!((usage.cpu_millis, usage.memory_bytes), (280, 2 << 20));
        let cpu: Vec<_> = usage.instances.iter().map(|one| one.cpu_millis).collect();
        assert_eq!(cpu, [Some(250), Some(30), None]);
        assert_eq!(usage.instances[0].activity.as_deref(), Some("active"));
        assert_eq!(usage.instances[2].activity, None);
        assert_eq!((usage.in_flight, usage.queued), (None, None));
    }

    #[test]
    fn requests_are_told_as_they_are_counted() {
        let mut counted = ServiceCounted {
            counts: RequestCounts {
                answered: [0, 7, 0, 2, 1],
                unanswered: 3,
                causes: [("queue_full".to_owned(), 1)].into(),
            },
            ..ServiceCounted::default()
        };
        counted.latency.record_many(1000, 12);
        let demand = Demand {
            in_flight: 4,
            queued: 2,
        };
        let usage = usage_of(&[], &[], Some(demand), counted);
        assert_eq!((usage.requests, usage.status_5xx), (13, 1));
        assert_eq!((usage.unanswered, usage.causes["queue_full"]), (3, 1));
        assert_eq!((usage.in_flight, usage.queued), (Some(4), Some(2)));
        let bucket = ekiden_model::histogram::bucket_of(1000) as u16;
        assert_eq!(usage.latency.buckets, [(bucket, 12)]);
        assert_eq!((usage.latency.count, usage.latency.max), (12, 1000));
    }

    #[test]
    fn of_too_many_instances_those_that_use_most_are_told_and_all_are_counted() {
        let views: Vec<_> = (0..=120).map(running).collect();
        let used: Vec<_> = (0..=120).map(|id| used(id, id.into())).collect();
        let usage = usage_of(&views, &used, None, ServiceCounted::default());
        assert_eq!(usage.instances.len(), INSTANCES_MAX);
        assert_eq!(usage.instances[99].cpu_millis, Some(21));
        assert_eq!(usage.instances_by_status["RUNNING"], 121);
        assert_eq!(usage.cpu_millis, 121 * 60);
    }
}
