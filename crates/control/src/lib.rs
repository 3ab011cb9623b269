//! The control plane: Ekiden's brain.
//!
//! It answers the API, keeps what was asked for in the store, and moves every service towards it:
//! one worker per service asks the pure functions of `ekiden_model` what to do and does it, through
//! an [`Engine`] that runs instances and edges that serve requests. It is an unprivileged process
//! that can be killed and started again at any instant: what it has acknowledged is in the store,
//! and everything else it finds again by looking.
//!
//! What it deliberately does not do: touch namespaces, cgroups, mounts or images, forward a request,
//! or decide (see `ekiden_model::plan`).

mod alarms;
mod api;
mod audit;
mod builds;
mod certificates;
mod clock;
mod config;
mod deliveries;
mod demand;
mod domains;
mod drains;
mod edges;
mod ends;
mod events;
mod host;
mod identity;
mod ingress;
mod keyring;
mod logs;
mod metrics;
mod observability;
mod observations;
mod probe;
mod services;
mod telemetry;
mod traffic;
mod vault;
mod worker;

use std::{io, sync::Arc, time::Duration};

use ekiden_engine::Engine;
use ekiden_logs::store::LogStore;
use ekiden_registry::Registry;
use ekiden_store::{Store, StoreError};
use tokio::{
    net::UnixListener,
    sync::{Notify, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

#[doc(hidden)]
pub use crate::api::page::fuzzing;
use crate::{
    api::Api,
    audit::Audit,
    builds::Builds,
    certificates::Certificates,
    deliveries::Deliveries,
    domains::Domains,
    edges::Edges,
    ends::Ends,
    identity::Identities,
    ingress::Ingress,
    keyring::Keyring,
    logs::LineWriter,
    metrics::EndedOperations,
    observability::{Foundation, Observability},
    observations::Observations,
    services::Services,
    vault::Vault,
    worker::Chain,
    worker::Tools,
};
pub use crate::{
    certificates::DnsUpdates,
    config::{
        AcmeConfig, BuildsConfig, CertificatesConfig, ChallengeKind, ControlConfig,
        DomainValidation, Handshake, LogsConfig, Quotas, References, RegistryConfig,
    },
    telemetry::TelemetryConfig,
};

/// How long what was deleted is remembered: clients poll until they have seen `DELETED`
/// (specification, section 5.1, asks for an hour).
const DELETED_REMEMBERED: Duration = Duration::from_secs(3 * 3600);

/// How often what is to be forgotten is looked for.
const FORGET_INTERVAL: Duration = Duration::from_secs(600);

/// How long until a stray instance that could not be removed is removed again.
const STRAY_RETRY: Duration = Duration::from_secs(5);

/// The first wait before the engine is told again which images to keep; it doubles up to a minute.
const RETAIN_RETRY: Duration = Duration::from_secs(1);

/// Why a control plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The store cannot be used.
    #[error("cannot use the store")]
    Store(#[from] StoreError),
    /// The key that the first client needs cannot be read or made.
    #[error("cannot read or make the access key in `{path}`")]
    AdminKey {
        /// Where it is kept.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The installation's own key cannot be read or made.
    #[error("cannot read or make the installation's key in `{path}`")]
    InstallationKey {
        /// Where it is kept.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The audit log cannot be opened.
    #[error("cannot open the audit log in `{path}`")]
    Audit {
        /// Where it is kept.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The registry's directory cannot be made.
    #[error("cannot open the registry in `{path}`")]
    Registry {
        /// Where it is.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory of source trees cannot be made.
    #[error("cannot keep source trees in `{path}`")]
    Sources {
        /// Where they would be.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The log store cannot be opened.
    #[error("cannot open the log store in `{path}`")]
    Logs {
        /// Where it is.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A setting of the collector is not what it must be.
    #[error("cannot send to the collector: {0}; see `telemetry.otlp`")]
    Telemetry(String),
    /// The metric store cannot be opened.
    #[error("cannot open the metric store in `{path}`")]
    Metrics {
        /// Where it is.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The socket for the edges cannot be used.
    #[error("cannot use the listening socket for edges")]
    EdgeSocket(#[source] io::Error),
    /// The API's socket cannot be used.
    #[error("cannot use the API's listening socket")]
    ApiSocket(#[source] io::Error),
}

/// Runs a control plane until `stop` is cancelled. Clients of the API connect to `api`, edges to
/// `edge_socket`; whoever made them lets only those connect who may. `serving` is called when they
/// are answered.
///
/// # Errors
/// [`ControlError`], before anything is served.
pub async fn run<E: Engine>(
    config: ControlConfig,
    engine: E,
    api: std::net::TcpListener,
    edge_socket: std::os::unix::net::UnixListener,
    serving: impl FnOnce(),
    stop: CancellationToken,
) -> Result<(), ControlError> {
    let store = Arc::new(Store::open(&config.data_dir.join("ekiden.db")).await?);
    let keyring = load_keyring(&config.data_dir)?;
    let identities = Identities::load(Arc::clone(&store), Arc::clone(&keyring)).await?;
    identities
        .install(&config.data_dir.join("admin-key.json"))
        .await?;
    let identities = Arc::new(identities);
    let audit = Arc::new(open_audit(&config.data_dir)?);
    let (edges, certificates_wanted) = Edges::load(Arc::clone(&store)).await?;
    let edges = Arc::new(edges);
    let certificates = Certificates::load(
        Arc::clone(&store),
        Arc::clone(&keyring),
        Arc::clone(&edges),
        config.certificates.clone(),
        config.domain.clone(),
    );
    let certificates = Arc::new(certificates.await?);
    edge_socket
        .set_nonblocking(true)
        .map_err(ControlError::EdgeSocket)?;
    let edge_listener = UnixListener::from_std(edge_socket).map_err(ControlError::EdgeSocket)?;
    let api_listener = tokio_listener(api).map_err(ControlError::ApiSocket)?;

    let engine = Arc::new(engine);
    let observations = Arc::new(Observations::default());
    let images_changed = Arc::new(Notify::new());
    let news = watch::Sender::new(());
    let ended = Arc::new(EndedOperations::default());
    let ends = Arc::new(Ends::default());
    let vault = Vault::new(
        Arc::clone(&store),
        Arc::clone(&keyring),
        config.account_id.clone(),
    );
    let (log_store, lines) = open_logs(&config).await?;
    // Before the first line is stored: what takes the place of lines that a power cut took is not taken for sent.
    drains::lower_positions(&store, &log_store).await?;
    let builds = Builds::new(
        Arc::clone(&engine),
        Arc::clone(&store),
        vault.clone(),
        Arc::clone(&keyring),
        Arc::clone(&images_changed),
        config.builds.clone(),
        &config.data_dir,
        lines.clone(),
    );
    let builds = Arc::new(builds.map_err(|source| ControlError::Sources {
        path: config.data_dir.display().to_string(),
        source,
    })?);
    let tools = Arc::new(Tools {
        builds: Arc::clone(&builds),
        store: Arc::clone(&store),
        vault,
        engine: Arc::clone(&engine),
        edges: Arc::clone(&edges),
        observations: Arc::clone(&observations),
        timing: config.timing,
        scaling: config.scaling,
        counts: Arc::default(),
        images_changed: Arc::clone(&images_changed),
        news: news.clone(),
        ended: Arc::clone(&ended),
        telemetry: config.telemetry.clone(),
    });
    // Services first, so that no instance is taken for a stray before its service is known.
    let services = Arc::new(Services::load(tools, config.quotas.services, stop.clone()).await?);
    info!(services = services.count(), "control plane started");

    let tasks = TaskTracker::new();
    tasks.spawn(Arc::clone(&edges).serve(edge_listener, config.edge_uids.clone(), stop.clone()));
    tasks.spawn(observe(
        Arc::clone(&engine),
        Arc::clone(&observations),
        Arc::clone(&ends),
        stop.clone(),
    ));
    tasks.spawn(Arc::clone(&builds).sweep(stop.clone()));
    let foundation = Foundation {
        config: &config,
        store: &store,
        keyring: &keyring,
        engine: &engine,
        observations: &observations,
        services: &services,
        edges: &edges,
        certificates: &certificates,
        log_store: &log_store,
        news: &news,
        ended: &ended,
        ends: &ends,
        tasks: &tasks,
        stop: &stop,
    };
    let observability = Observability::start(&foundation).await?;
    tasks.spawn(retain(
        Arc::clone(&engine),
        Arc::clone(&store),
        images_changed,
        stop.clone(),
    ));
    let ingress = Arc::new(Ingress::new(Arc::clone(&store)));
    tasks.spawn(Arc::clone(&ingress).settle(stop.clone()));
    tasks.spawn(forget(
        Arc::clone(&services),
        store.clone(),
        log_store.clone(),
        stop.clone(),
    ));
    let domains = Arc::new(Domains::new(
        Arc::clone(&store),
        Arc::clone(&services),
        Arc::clone(&edges),
        Arc::clone(&keyring),
        Arc::clone(&certificates),
        config.domain_validation,
    ));
    tasks.spawn(Arc::clone(&certificates).keep(certificates_wanted, stop.clone()));
    tasks.spawn(Arc::clone(&domains).keep(stop.clone()));
    let images = Arc::new(open_registry(&config, &store).await?);
    let deliveries = Deliveries::new(
        Arc::clone(&images),
        Arc::clone(&store),
        Arc::clone(&engine),
        Arc::clone(&services),
        Arc::clone(&builds),
        config.registry.clone(),
        config.builds.poll,
    );
    let notices = Arc::new(deliveries).spawn(&tasks, &stop);
    let api = Api::new(
        config,
        store,
        Arc::clone(&services),
        domains,
        certificates,
        edges,
        observations,
        ingress,
        keyring,
        Arc::clone(&identities),
        audit,
        images,
        builds,
        notices,
        observability,
    );
    tasks.spawn(identities.write_down_uses(stop.clone()));
    tasks.spawn(Arc::new(api).serve(api_listener, stop.clone()));
    tasks.close();
    serving();
    tasks.wait().await;
    services.stopped().await;
    Ok(())
}

fn load_keyring(data_dir: &std::path::Path) -> Result<Arc<Keyring>, ControlError> {
    let path = data_dir.join("installation.key");
    let keyring = Keyring::load_or_make(&path).map_err(|source| ControlError::InstallationKey {
        path: path.display().to_string(),
        source,
    })?;
    Ok(Arc::new(keyring))
}

async fn open_registry(
    config: &ControlConfig,
    store: &Arc<Store>,
) -> Result<Registry, ControlError> {
    let dir = config.data_dir.join("registry");
    let opened = Registry::open(
        Arc::clone(store),
        dir.clone(),
        config.registry.budget,
        config.quotas.repositories,
    );
    opened.await.map_err(|source| ControlError::Registry {
        path: dir.display().to_string(),
        source,
    })
}

async fn open_logs(config: &ControlConfig) -> Result<(LogStore, LineWriter), ControlError> {
    let (data_dir, settings) = (config.data_dir.clone(), config.logs.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let store = logs::open(&data_dir, &settings).map_err(io::Error::other)?;
        let lines = LineWriter::start(store.clone())?;
        Ok((store, lines))
    });
    let opened = opened
        .await
        .map_err(io::Error::other)
        .and_then(|opened| opened);
    opened.map_err(|source| ControlError::Logs {
        path: config.data_dir.join("logs").display().to_string(),
        source,
    })
}

fn open_audit(data_dir: &std::path::Path) -> Result<Audit, ControlError> {
    let dir = data_dir.join("audit");
    Audit::open(dir.clone()).map_err(|source| ControlError::Audit {
        path: dir.display().to_string(),
        source,
    })
}

fn tokio_listener(listener: std::net::TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// Hands the engine's observation to the workers; removes instances of services that are gone.
async fn observe<E: Engine>(
    engine: Arc<E>,
    observations: Arc<Observations>,
    ends: Arc<Ends>,
    stop: CancellationToken,
) {
    let mut whole = engine.observe();
    loop {
        let seen = whole.borrow_and_update().clone();
        let mut left = false;
        ends.note(&seen);
        for stray in observations.update(seen) {
            warn!(instance = %stray, "removing an instance of a service that is gone");
            if let Err(error) = engine.remove(stray).await {
                warn!(instance = %stray, %error, "a stray instance could not be removed");
                left = true;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
            changed = whole.changed() => if changed.is_err() { return }, // cancel-safe per its docs
            () = tokio::time::sleep(STRAY_RETRY), if left => {} // a timer
        }
    }
}

/// Tells the engine which images must stay, whenever that may have changed.
async fn retain<E: Engine>(
    engine: Arc<E>,
    store: Arc<Store>,
    changed: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut retry: Option<Duration> = Some(RETAIN_RETRY);
    loop {
        let told = match store.images().await {
            Ok(images) => engine
                .retain_images(&images)
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(Chain(&error).to_string()),
        };
        retry = match told {
            Ok(()) => None,
            Err(error) => {
                warn!(error, "the engine could not be told which images to keep");
                Some(retry.map_or(RETAIN_RETRY, |wait| (wait * 2).min(Duration::from_secs(60))))
            }
        };
        let retry_after = async {
            match retry {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
            () = changed.notified() => {} // cancel-safe per its docs
            () = retry_after => {} // a timer
        }
    }
}

/// Forgets services, and what owners made beside them, that were deleted long enough ago, and secrets
/// that can be restored no more.
async fn forget<E: Engine>(
    services: Arc<Services<E>>,
    store: Arc<Store>,
    log_store: LogStore,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(FORGET_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
            _ = tick.tick() => {} // cancel-safe per its docs
        }
        let now = clock::now();
        let before = now
            .as_millis()
            .saturating_sub(DELETED_REMEMBERED.as_millis() as u64);
        let before = ekiden_model::time::Timestamp::from_millis(before);
        match store.forget_deleted(before).await {
            Ok(ids) => services.forget(&ids),
            Err(error) => warn!(error = %Chain(&error), "deleted services could not be forgotten"),
        }
        if let Err(error) = store.forget_deleted_resources(before).await {
            warn!(error = %Chain(&error), "deleted resources could not be forgotten");
        }
        let known = Arc::clone(&services);
        let swept = logs::blocking(&log_store, move |log_store| {
            logs::sweep(log_store, |id| known.watch(id).is_some())
        });
        match swept.await {
            Ok(0) => {}
            Ok(count) => info!(
                count,
                "log groups of services that are long gone were removed"
            ),
            Err(error) => warn!(error = %Chain(&error), "old log groups could not be removed"),
        }
        match store.purge_secrets(now).await {
            Ok(0) => {}
            Ok(count) => info!(count, "deleted secrets are gone for good"),
            Err(error) => warn!(error = %Chain(&error), "deleted secrets could not be forgotten"),
        }
    }
}
