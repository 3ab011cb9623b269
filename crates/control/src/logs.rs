//! The logs of services, in the log store.
//!
//! Groups and streams have App Runner's names (specification, section 17.1): of each service
//! `/aws/apprunner/<name>/<id>/application` with a stream for each instance, and `.../service` with what happened
//! to it and what its builds said. Besides, `.../access` has its requests.
//!
//! Three tasks bring lines here, and each may die at any instant: the [`collector`] takes what instances wrote from
//! the engine, the [`chronicle`] writes down news, and a thread writes what builds say. How far the first two have
//! come is stored with the lines, so that none is stored twice.

mod access;
mod chronicle;
mod collector;
mod writer;

use std::{path::Path, sync::Arc, time::Duration};

use ekiden_logs::{error::LogError, settings::Settings, store::LogStore};
use ekiden_model::{id::ServiceId, name::ServiceName};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(crate) use self::{
    access::follow as follow_access, chronicle::write as write_chronicle, collector::collect,
    writer::LineWriter,
};
use crate::{clock, config::LogsConfig, worker::Chain};

/// How often the store is tidied.
const MAINTAIN_EVERY: Duration = Duration::from_secs(1);

/// What the name of every group of App Runner's begins with.
pub(crate) const GROUP_PREFIX: &str = "/aws/apprunner/";

/// A kind of a service's groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupKind {
    /// What instances write.
    Application,
    /// What happens to the service.
    Service,
    /// Its requests.
    Access,
}

impl GroupKind {
    /// Of a service.
    pub(crate) fn group(self, name: &ServiceName, id: ServiceId) -> String {
        let kind = match self {
            Self::Application => "application",
            Self::Service => "service",
            Self::Access => "access",
        };
        format!("{GROUP_PREFIX}{name}/{id}/{kind}")
    }
}

/// Opens the store. Blocks.
///
/// # Errors
/// As the store says.
pub(crate) fn open(data_dir: &Path, config: &LogsConfig) -> Result<LogStore, LogError> {
    let settings = Settings {
        group_bytes_max: config.group_bytes_max,
        total_bytes_max: config.total_bytes_max,
        disk_free_bytes_min: config.disk_free_bytes_min,
        ..Settings::default()
    };
    LogStore::open(&data_dir.join("logs"), settings)
}

/// Syncs, seals and removes what is too old, until the control plane stops.
pub(crate) async fn maintain(store: LogStore, stop: CancellationToken) {
    let mut fails = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => break, // cancel-safe: nothing is in flight here
            () = tokio::time::sleep(MAINTAIN_EVERY) => {} // a timer
        }
        let maintained = blocking(&store, |store| store.maintain(now_ms())).await;
        if let Err(error) = &maintained
            && !fails
        {
            warn!(error = %Chain(error), "the log store could not be tidied");
        }
        fails = maintained.is_err();
    }
    if let Err(error) = blocking(&store, LogStore::close).await {
        warn!(error = %Chain(&error), "the log store could not be closed");
    }
}

/// Works on the store where that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    store: &LogStore,
    work: impl FnOnce(&LogStore) -> T + Send + 'static,
) -> T {
    let store = store.clone();
    match tokio::task::spawn_blocking(move || work(&store)).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()), // never aborted
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    clock::now().as_millis() as i64
}

/// What a service is called, by its id; deleted ones that are still remembered have names.
pub(crate) type Names = Arc<dyn Fn(ServiceId) -> Option<ServiceName> + Send + Sync>;
