//! How Ekiden is looked at: logs, metrics, alarms, drains, traces, events and alerts, started in the order in which they
//! need one another.

use std::{io, sync::Arc, time::Duration};

use ekiden_engine::Engine;
use ekiden_logs::store::LogStore;
use ekiden_metrics::{settings::Settings, store::MetricStore};
use ekiden_store::Store;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ControlError,
    alarms::Alarms,
    certificates::Certificates,
    clock,
    config::ControlConfig,
    drains::{self, Drains},
    edges::Edges,
    ends::Ends,
    events::{self, Alerts, Events, alerts::DrainLags},
    keyring::Keyring,
    logs::{self, Names},
    metrics::{self, EndedOperations, Metrics},
    observations::Observations,
    services::Services,
    telemetry,
};

/// What is there before anything is looked at.
pub(crate) struct Foundation<'a, E: Engine> {
    pub(crate) config: &'a ControlConfig,
    pub(crate) store: &'a Arc<Store>,
    pub(crate) keyring: &'a Arc<Keyring>,
    pub(crate) engine: &'a Arc<E>,
    pub(crate) observations: &'a Arc<Observations>,
    pub(crate) services: &'a Arc<Services<E>>,
    pub(crate) edges: &'a Arc<Edges>,
    pub(crate) certificates: &'a Arc<Certificates>,
    pub(crate) log_store: &'a LogStore,
    /// Told when there are news of services.
    pub(crate) news: &'a watch::Sender<()>,
    pub(crate) ended: &'a Arc<EndedOperations>,
    pub(crate) ends: &'a Arc<Ends>,
    pub(crate) tasks: &'a TaskTracker,
    pub(crate) stop: &'a CancellationToken,
}

/// What the API answers from.
pub(crate) struct Observability<E> {
    pub(crate) log_store: LogStore,
    pub(crate) drains: Arc<Drains>,
    pub(crate) metrics: Arc<Metrics<E>>,
    pub(crate) metric_store: MetricStore,
    pub(crate) alarms: Arc<Alarms>,
    pub(crate) events: Arc<Events>,
    pub(crate) alerts: Arc<Alerts<E>>,
}

impl<E: Engine> Observability<E> {
    /// Starts all of it; it runs until the control plane stops.
    ///
    /// # Errors
    /// A store cannot be opened or read, or the collector's address is of no use.
    pub(crate) async fn start(on: &Foundation<'_, E>) -> Result<Self, ControlError> {
        let drains = start_drains(on).await?;
        spawn_logs(on);
        let metric_store = open_metrics(on.config).await?;
        let alarms = Arc::new(Alarms::new(Arc::clone(on.store), metric_store.clone()));
        let metrics = start_metrics(on, &metric_store, &drains)?;
        let (events, alerts) = start_events(on, &alarms, &drains).await?;
        // Whoever passes changes on listens by now.
        on.tasks.spawn(Arc::clone(&alarms).keep(on.stop.clone()));
        Ok(Self {
            log_store: on.log_store.clone(),
            drains,
            metrics,
            metric_store,
            alarms,
            events,
            alerts,
        })
    }
}

async fn start_drains<E: Engine>(on: &Foundation<'_, E>) -> Result<Arc<Drains>, ControlError> {
    let drains = Drains::load(
        Arc::clone(on.store),
        on.log_store.clone(),
        Arc::clone(on.keyring),
        regions(on.services),
        on.config.account_id.clone(),
        on.stop.clone(),
    );
    let drains = Arc::new(drains.await?);
    on.tasks.spawn(Arc::clone(&drains).keep());
    Ok(drains)
}

/// What instances write, what happens to services, and who asked for what.
fn spawn_logs<E: Engine>(on: &Foundation<'_, E>) {
    let names = names(on.services);
    on.tasks.spawn(logs::collect(
        Arc::clone(on.engine),
        on.log_store.clone(),
        Arc::clone(&names),
        on.stop.clone(),
    ));
    on.tasks.spawn(logs::write_chronicle(
        Arc::clone(on.store),
        on.log_store.clone(),
        on.news.subscribe(),
        on.stop.clone(),
    ));
    if let Some(path) = on.config.logs.access_log.clone() {
        on.tasks.spawn(logs::follow_access(
            path,
            on.config.data_dir.join("access-log-place"),
            on.log_store.clone(),
            names,
            on.stop.clone(),
        ));
    }
    on.tasks
        .spawn(logs::maintain(on.log_store.clone(), on.stop.clone()));
}

/// What is measured, and what of it a collector is sent.
fn start_metrics<E: Engine>(
    on: &Foundation<'_, E>,
    store: &MetricStore,
    drains: &Arc<Drains>,
) -> Result<Arc<Metrics<E>>, ControlError> {
    let metrics = Arc::new(Metrics::new(
        store.clone(),
        metrics::Host {
            log_store: on.log_store.clone(),
            drain_lags: drain_lags(drains),
            certificates: Arc::clone(on.certificates),
        },
        Arc::clone(on.services),
        Arc::clone(on.edges),
        Arc::clone(on.engine),
        Arc::clone(on.ended),
    ));
    on.tasks.spawn(Arc::clone(&metrics).record(on.stop.clone()));
    let collector = on
        .config
        .telemetry
        .client()
        .map_err(|error| ControlError::Telemetry(error.to_string()))?;
    on.tasks.spawn(telemetry::send(
        on.config.telemetry.clone(),
        collector,
        Arc::clone(on.edges),
        Arc::clone(on.services),
        Arc::clone(&metrics),
        on.stop.clone(),
    ));
    Ok(metrics)
}

/// Who is told what happens, and what is wrong.
async fn start_events<E: Engine>(
    on: &Foundation<'_, E>,
    alarms: &Arc<Alarms>,
    drains: &Arc<Drains>,
) -> Result<(Arc<Events>, Arc<Alerts<E>>), ControlError> {
    let events = Events::load(
        Arc::clone(on.store),
        Arc::clone(on.keyring),
        on.log_store.clone(),
        on.config.account_id.clone(),
    );
    let events = Arc::new(events.await?);
    let alerts = Alerts::load(
        Arc::clone(&events),
        Arc::clone(on.services),
        Arc::clone(on.observations),
        on.config,
        drain_lags(drains),
        Arc::clone(on.certificates),
        Arc::clone(on.ends),
    );
    let alerts = Arc::new(alerts.await?);
    on.tasks.spawn(events::read(
        Arc::clone(&events),
        Arc::clone(&alerts),
        on.news.subscribe(),
        on.stop.clone(),
    ));
    on.tasks.spawn(Arc::clone(&events).send(on.stop.clone()));
    on.tasks.spawn(events::pass_alarms(
        Arc::clone(&events),
        alarms.changes(),
        on.stop.clone(),
    ));
    on.tasks.spawn(Arc::clone(&alerts).watch(on.stop.clone()));
    Ok((events, alerts))
}

async fn open_metrics(config: &ControlConfig) -> Result<MetricStore, ControlError> {
    let path = config.data_dir.join("metrics");
    let now = clock::now().as_millis();
    let opening = path.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let opened = logs::patiently(|| MetricStore::open(&opening, Settings::default(), now));
        opened.map_err(io::Error::other)
    });
    let opened = opened
        .await
        .map_err(io::Error::other)
        .and_then(|opened| opened);
    opened.map_err(|source| ControlError::Metrics {
        path: path.display().to_string(),
        source,
    })
}

/// How far drains are behind.
fn drain_lags(drains: &Arc<Drains>) -> DrainLags {
    let drains = Arc::clone(drains);
    Arc::new(move || {
        let status = drains.status().into_iter();
        status
            .map(|(name, status)| (name, Duration::from_secs(status.behind_seconds)))
            .collect()
    })
}

/// What services are called.
fn names<E: Engine>(services: &Arc<Services<E>>) -> Names {
    let services = Arc::clone(services);
    Arc::new(move |id| {
        let service = services.watch(id)?;
        let name = service.borrow().stored.service.name.clone();
        Some(name)
    })
}

/// Where services are.
fn regions<E: Engine>(services: &Arc<Services<E>>) -> drains::Regions {
    let services = Arc::clone(services);
    Arc::new(move |id| {
        let service = services.watch(id)?;
        let region = service.borrow().stored.region.clone();
        Some(region)
    })
}
