//! What is measured: App Runner's metrics (specification, section 17.2), and what was missing there.
//!
//! Two views of the same facts. The **metric store** has a datum per series and minute, written when the minute is
//! over: CloudWatch's operations read it. The **totals** have been counted since the control plane started, and are
//! what Prometheus scrapes ([`exposition`]). Both are fed here, every [`LOOK_EVERY`]: by what the edges tell, what
//! the engine reads, and what the workers show.
//!
//! What a minute had is in memory until it is over; when the control plane is killed, that part is lost, as are
//! requests that edges told of within it.

mod exposition;
mod minute;
mod otlp;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ekiden_engine::Engine;
use ekiden_logs::store::LogStore;
use ekiden_metrics::store::{BATCH_MAX, MetricStore, Record};
use ekiden_model::{
    histogram::Histogram,
    id::{InstanceId, ServiceId},
    instance::{Activity, InstanceState},
    request_counts::RequestCounts,
    service::{Operation, OperationKind, OperationStatus, Phase, ServiceStatus},
    time::Timestamp,
    usage::InstanceUsage,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::minute::{Minute, ServiceMinute, Shares};
use crate::{
    certificates::Certificates,
    clock,
    edges::Edges,
    events::alerts::DrainLags,
    services::Services,
    traffic::Traffic,
    worker::{Chain, Snapshot},
};

/// How often what there is to measure is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often edges tell of requests that are over.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// How long after its end a minute is written: what edges tell of it comes up to a second later.
const WRITE_AFTER_MS: u64 = 3000;

/// In milliseconds.
const MINUTE: u64 = 60_000;

/// Data that could not be written and are tried again, at most; of more, the oldest are lost and counted.
const UNWRITTEN_MAX: usize = 200_000;

/// Operations that have ended and are not counted yet; of more, the oldest are not.
const ENDED_MAX: usize = 10_000;

/// Starts that are known to be counted, so that none is counted twice.
const STARTS_KNOWN_MAX: usize = 20_000;

/// What is measured.
pub(crate) struct Metrics<E> {
    pub(crate) store: MetricStore,
    host: Host,
    services: Arc<Services<E>>,
    edges: Arc<Edges>,
    engine: Arc<E>,
    ended: Arc<EndedOperations>,
    state: Mutex<State>,
}

/// What is measured of no service.
pub(crate) struct Host {
    pub(crate) log_store: LogStore,
    pub(crate) drain_lags: DrainLags,
    pub(crate) certificates: Arc<Certificates>,
}

/// Operations that have ended, until they are counted.
#[derive(Debug, Default)]
pub(crate) struct EndedOperations(Mutex<VecDeque<(ServiceId, Operation)>>);

impl EndedOperations {
    /// One more.
    pub(crate) fn push(&self, service: ServiceId, operation: &Operation) {
        let mut ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() == ENDED_MAX {
            ended.pop_front();
        }
        ended.push_back((service, operation.clone()));
    }

    fn take(&self) -> VecDeque<(ServiceId, Operation)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, Default)]
struct State {
    minutes: BTreeMap<u64, Minute>,
    /// Since the control plane started.
    services: HashMap<ServiceId, Totals>,
    unrouted: Totals,
    /// When an edge last told of a request that is counted.
    told_at: Timestamp,
    /// Starts that are counted: all stages of them.
    starts_counted: HashSet<InstanceId>,
    minutes_lost: u64,
    refused: u64,
}

/// Requests of services that are over, counted since the control plane started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    /// Until when all of them are counted.
    pub(crate) until: Timestamp,
    /// In the order that was asked for.
    pub(crate) services: Vec<ServiceCounted>,
}

/// One service's.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceCounted {
    pub(crate) counts: RequestCounts,
    /// In microseconds.
    pub(crate) latency: Histogram,
}

/// Of one service, since the control plane started.
#[derive(Debug, Clone, Default)]
struct Totals {
    name: String,
    counts: RequestCounts,
    /// In microseconds.
    latency: Histogram,
    queued: Histogram,
    cold: Histogram,
    /// By kind and whether it succeeded: seconds.
    operations: BTreeMap<(&'static str, bool), (u64, f64)>,
    /// Milliseconds of each stage of starts: how many and all together.
    stages: BTreeMap<&'static str, (u64, f64)>,
    /// As they were seen last.
    states: BTreeMap<&'static str, u32>,
    instances: Vec<(InstanceId, Shares)>,
}

impl<E> std::fmt::Debug for Metrics<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl<E: Engine> Metrics<E> {
    pub(crate) fn new(
        store: MetricStore,
        host: Host,
        services: Arc<Services<E>>,
        edges: Arc<Edges>,
        engine: Arc<E>,
        ended: Arc<EndedOperations>,
    ) -> Self {
        Self {
            store,
            host,
            services,
            edges,
            engine,
            ended,
            state: Mutex::default(),
        }
    }

    /// Measures until the control plane stops, and writes what there is then.
    pub(crate) async fn record(self: Arc<Self>, stop: CancellationToken) {
        let mut unwritten = VecDeque::new();
        let mut fails = false;
        loop {
            let stops = tokio::select! {
                () = stop.cancelled() => true, // cancel-safe: nothing is in flight here
                () = tokio::time::sleep(LOOK_EVERY) => false, // a timer
            };
            let now = clock::now().as_millis();
            self.look(now);
            let until = match stops {
                true => u64::MAX,
                false => now.saturating_sub(WRITE_AFTER_MS),
            };
            unwritten.extend(self.take(until));
            let lost = unwritten.len().saturating_sub(UNWRITTEN_MAX);
            unwritten.drain(..lost);
            let store = self.store.clone();
            let writing = tokio::task::spawn_blocking(move || {
                let (refused, error) = write(&store, &mut unwritten, now);
                (unwritten, refused, error)
            });
            let (left, refused, error) = match writing.await {
                Ok(written) => written,
                Err(error) => std::panic::resume_unwind(error.into_panic()), // never aborted
            };
            unwritten = left;
            self.lock().refused += (refused + lost) as u64;
            if let Some(error) = &error
                && !fails
            {
                warn!(error = %Chain(error), "metrics cannot be written, and are tried again");
            }
            fails = error.is_some();
            if stops {
                return;
            }
        }
    }

    /// Takes in what is to be seen now.
    fn look(&self, now: u64) {
        let usage = self.engine.usage().borrow().clone();
        let snapshots = self.services.all();
        let mut state = self.lock();
        let state = &mut *state;
        state.take_in(self.edges.traffic());
        let minute = state.minutes.entry(now - now % MINUTE).or_default();
        for snapshot in &snapshots {
            let id = snapshot.stored.service.id;
            let of_minute = minute.services.entry(id).or_default();
            let totals = state.services.entry(id).or_default();
            sample(snapshot, &usage, of_minute, totals);
            for start in &snapshot.scaling.starts() {
                let stages = [start.prepare, start.listen, start.route];
                let [Some(prepare), Some(listen), Some(route)] = stages else {
                    continue;
                };
                if !state.starts_counted.insert(start.instance) {
                    continue;
                }
                for (stage, time) in [
                    ("decide", start.decide),
                    ("prepare", prepare),
                    ("listen", listen),
                    ("route", route),
                ] {
                    of_minute.stage(stage, time);
                    let of_stage = totals.stages.entry(stage).or_default();
                    of_stage.0 += 1;
                    of_stage.1 += time.as_secs_f64() * 1000.0;
                }
            }
        }
        if state.starts_counted.len() > STARTS_KNOWN_MAX {
            // Those that are still shown may be counted once more, every so many thousand starts.
            state.starts_counted.clear();
        }
        for (id, operation) in self.ended.take() {
            let totals = state.services.entry(id).or_default();
            let of_minute = minute.services.entry(id).or_default();
            operation_ended(&operation, of_minute, totals);
        }
        minute.disk(&self.host.log_store.stats(), &self.store.usage());
        for (drain, lag) in (self.host.drain_lags)() {
            minute.drain(drain, lag);
        }
        for (names, end) in self.host.certificates.ends() {
            minute.certificate(
                names,
                Duration::from_millis(end.as_millis().saturating_sub(now)),
            );
        }
        let known: HashSet<ServiceId> = snapshots.iter().map(|s| s.stored.service.id).collect();
        state.services.retain(|id, _| known.contains(id));
    }

    /// What is counted of these services' requests, with all that edges have told by now: not only
    /// what was there at the last look, so that who asks every second sees every second.
    pub(crate) fn counted(&self, services: &[ServiceId], now: Timestamp) -> Counted {
        let mut state = self.lock();
        state.take_in(self.edges.traffic());
        let of = |id: &ServiceId| match state.services.get(id) {
            Some(totals) => ServiceCounted {
                counts: totals.counts.clone(),
                latency: totals.latency.clone(),
            },
            None => ServiceCounted::default(),
        };
        Counted {
            until: counted_until(state.told_at, now),
            services: services.iter().map(of).collect(),
        }
    }

    /// What every instance uses, in the order of ids, as the engine last told.
    pub(crate) fn instance_usage(&self) -> Arc<[InstanceUsage]> {
        Arc::clone(&self.engine.usage().borrow())
    }

    /// Takes the minutes that were over by a time, as they are stored.
    fn take(&self, until_ms: u64) -> Vec<Record> {
        let mut over = Vec::new();
        let mut names = HashMap::new();
        {
            let mut state = self.lock();
            while let Some(first) = state.minutes.first_entry() {
                if first.key().saturating_add(MINUTE) > until_ms {
                    break;
                }
                let at = *first.key();
                over.push((at, first.remove()));
            }
        }
        for (_, minute) in &over {
            for id in minute.services.keys() {
                if let Some(service) = self.services.watch(*id) {
                    let stored = Arc::clone(&service.borrow().stored);
                    let running = stored.service.settled == ServiceStatus::Running;
                    names.insert(*id, (stored.service.name.to_string(), running));
                }
            }
        }
        let records = over
            .into_iter()
            .flat_map(|(at, minute)| minute.records(at, &names));
        records.collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes in what edges have told.
    fn take_in(&mut self, traffic: &Traffic) {
        let told = traffic.take_told();
        self.minutes_lost += told.minutes_lost;
        self.told_at = told.at;
        for interval in &told.intervals {
            let minute = self.minutes.entry(interval.minute_ms).or_default();
            let totals = match interval.service {
                Some(id) => {
                    minute.services.entry(id).or_default().told.merge(interval);
                    self.services.entry(id).or_default()
                }
                None => {
                    minute.unrouted.merge(interval);
                    &mut self.unrouted
                }
            };
            totals.counts.add(&interval.counts);
            totals.latency.add(&interval.latency);
            totals.queued.add(&interval.queued);
            totals.cold.add(&interval.cold);
        }
    }
}

/// Until when everything is counted that edges last told at `told_at`.
///
/// They tell once a second, unless there is nothing to tell. So what ended more than [`TOLD_EVERY`] ago
/// was told, and everything before the last time that something was. Who takes the time between two
/// answers for the time that their difference was counted in would see two seconds' requests in one of
/// them, now and then, and none in the next.
fn counted_until(told_at: Timestamp, now: Timestamp) -> Timestamp {
    let told_for_sure = now
        .as_millis()
        .saturating_sub(TOLD_EVERY.as_millis() as u64);
    told_at.min(now).max(Timestamp::from_millis(told_for_sure))
}

/// Writes data, oldest first; what could not be written stays. Answers how many the store refused, and what
/// failed. Blocks.
fn write(
    store: &MetricStore,
    unwritten: &mut VecDeque<Record>,
    now: u64,
) -> (usize, Option<ekiden_metrics::error::Error>) {
    let mut refused = 0;
    while !unwritten.is_empty() {
        let count = unwritten.len().min(BATCH_MAX);
        let batch = &unwritten.make_contiguous()[..count];
        match store.record_batch(batch, now) {
            Ok(recorded) => refused += recorded.refused,
            Err(error) => return (refused, Some(error)),
        }
        unwritten.drain(..count);
    }
    (refused, store.tick(now).err())
}

/// The states that instances are counted by.
const STATES: [&str; 6] = [
    "creating",
    "active",
    "throttled",
    "frozen",
    "stopping",
    "exited",
];

fn state_of(state: &InstanceState, activity: Activity) -> &'static str {
    match (state, activity) {
        (InstanceState::Creating, _) => "creating",
        (InstanceState::Running { .. }, Activity::Throttled) => "throttled",
        (InstanceState::Running { .. }, Activity::Frozen) => "frozen",
        (InstanceState::Running { .. }, _) => "active",
        (InstanceState::Stopping { .. }, _) => "stopping",
        (InstanceState::Exited(_), _) => "exited",
    }
}

/// What a service's instances are and use now.
fn sample(
    snapshot: &Snapshot,
    usage: &[InstanceUsage],
    minute: &mut ServiceMinute,
    totals: &mut Totals,
) {
    let service = &snapshot.stored.service;
    totals.name = service.name.to_string();
    totals.states = STATES.iter().map(|state| (*state, 0)).collect();
    totals.instances.clear();
    for view in &snapshot.instances {
        let state = state_of(&view.state, view.activity);
        *totals.states.entry(state).or_default() += 1;
        let Ok(index) = usage.binary_search_by_key(&view.id, |known| known.id) else {
            continue;
        };
        let (settings, used) = (&service.settings, usage[index]);
        let share = |used: f64, of: f64| if of > 0.0 { used / of * 100.0 } else { 0.0 };
        let shares = Shares {
            cpu_percent: share(used.cpu_millis.into(), settings.cpu_millis.into()),
            memory_percent: share(used.memory_bytes as f64, settings.memory_bytes as f64),
            cpu_millis: used.cpu_millis,
            memory_bytes: used.memory_bytes,
        };
        minute.instance(view.id, &shares);
        totals.instances.push((view.id, shares));
    }
    for (state, count) in &totals.states {
        minute
            .states
            .entry(state)
            .or_default()
            .add(f64::from(*count));
    }
}

fn operation_ended(operation: &Operation, minute: &mut ServiceMinute, totals: &mut Totals) {
    let succeeded = operation.status == OperationStatus::Succeeded;
    let Some(ended_at) = operation.ended_at else {
        return;
    };
    let took = ended_at.since(operation.started_at);
    let kind = operation.kind.event_name();
    minute.operation(kind, succeeded, took);
    let of_kind = totals.operations.entry((kind, succeeded)).or_default();
    of_kind.0 += 1;
    of_kind.1 += took.as_secs_f64();
    let deploys = match operation.kind {
        OperationKind::CreateService
        | OperationKind::UpdateService
        | OperationKind::StartDeployment => true,
        OperationKind::PauseService
        | OperationKind::ResumeService
        | OperationKind::DeleteService => false,
    };
    let mut steps = operation.steps.iter();
    if let Some(prepare) = steps.find(|step| step.phase == Phase::Prepare)
        && deploys
    {
        let next = steps.next().map_or(ended_at, |step| step.at);
        minute.prepared(next.since(prepare.at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_counted_until_it_was_last_told_or_would_have_been() {
        let until = |told_at, now| {
            let [told_at, now] = [told_at, now].map(Timestamp::from_millis);
            counted_until(told_at, now).as_millis()
        };
        assert_eq!(until(9700, 10_000), 9700);
        assert_eq!(until(4000, 10_000), 9000, "there was nothing to tell");
        assert_eq!(until(0, 500), 0);
        assert_eq!(until(10_300, 10_000), 10_000, "the clock was set back");
    }
}
