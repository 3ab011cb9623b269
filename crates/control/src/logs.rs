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

use ekiden_logs::{
    append::DropCause,
    error::LogError,
    group_info::{self, GroupsQuery, StreamOrder, StreamsQuery},
    query::Direction,
    settings::Settings,
    store::{GROUPS_MAX, LogStore},
};
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

/// How long whoever had the store before may take to let go of it.
const OPEN_MAX: Duration = Duration::from_secs(10);

/// How often it is tried meanwhile.
const OPEN_EVERY: Duration = Duration::from_millis(50);

/// Opens something that one process may have open at a time, and whose last owner may be about to end. Blocks.
///
/// # Errors
/// What was said last.
pub(crate) fn patiently<T, E>(mut open: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let began = std::time::Instant::now();
    loop {
        match open() {
            Err(_) if began.elapsed() < OPEN_MAX => std::thread::sleep(OPEN_EVERY),
            opened => return opened,
        }
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
    patiently(|| LogStore::open(&data_dir.join("logs"), settings.clone()))
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

/// Groups of services that are forgotten, of which so many are kept: those that were written to last.
const FORGOTTEN_MAX: usize = 300;

/// Removes groups of services that are not known any more, beyond [`FORGOTTEN_MAX`]. Blocks.
///
/// # Errors
/// As the store says.
pub(crate) fn sweep(
    store: &LogStore,
    is_known: impl Fn(ServiceId) -> bool,
) -> Result<usize, LogError> {
    let all = store.groups(&GroupsQuery {
        names: group_info::Names::Prefix(GROUP_PREFIX.to_owned()),
        after: None,
        limit: GROUPS_MAX,
    });
    let mut forgotten = Vec::new();
    for group in all.items {
        let mut parts = group.name[GROUP_PREFIX.len()..].split('/').skip(1);
        let id = parts.next().and_then(|id| id.parse().ok());
        if id.is_some_and(|id| !is_known(id)) {
            let newest = store.streams(
                &group.name,
                &StreamsQuery {
                    prefix: None,
                    order: StreamOrder::LastEvent,
                    direction: Direction::Backward,
                    after: None,
                    limit: 1,
                },
            )?;
            let newest = newest.items.first().and_then(|stream| stream.last_event_ms);
            forgotten.push((newest.unwrap_or(group.created_ms), group.name));
        }
    }
    forgotten.sort();
    let surplus = forgotten.len().saturating_sub(FORGOTTEN_MAX);
    for (_, name) in &forgotten[..surplus] {
        store.delete_group(name)?;
    }
    Ok(surplus)
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

/// How far the source of a stream is stored; `None` when there is nothing of it.
///
/// # Errors
/// As the store says.
fn stored_position(
    store: &LogStore,
    group: &str,
    stream: &str,
) -> Result<Option<Vec<u8>>, LogError> {
    match store.source_position(group, stream) {
        Err(LogError::NoGroup { .. } | LogError::NoStream { .. }) => Ok(None),
        known => known,
    }
}

/// What the mark says in the place of lines that were not stored; [`DropCause::Refused`] for those that never
/// will be.
fn drop_cause(error: &LogError) -> DropCause {
    match error {
        LogError::DiskFull => DropCause::DiskFull,
        LogError::Busy => DropCause::Busy,
        LogError::Io { .. } => DropCause::DiskError,
        LogError::GroupExists { .. }
        | LogError::NoGroup { .. }
        | LogError::StreamExists { .. }
        | LogError::NoStream { .. }
        | LogError::TooManyGroups { .. }
        | LogError::TooManyStreams { .. }
        | LogError::TooLong { .. }
        | LogError::Invalid { .. } => DropCause::Refused,
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    clock::now().as_millis() as i64
}

/// What a service is called, by its id; deleted ones that are still remembered have names.
pub(crate) type Names = Arc<dyn Fn(ServiceId) -> Option<ServiceName> + Send + Sync>;

#[cfg(test)]
mod tests {
    use ekiden_logs::append::{Append, Missing, Times};
    use ekiden_logs::event::NewEvent;

    use super::*;

    #[test]
    fn of_groups_of_forgotten_services_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let config = LogsConfig {
            disk_free_bytes_min: 0,
            ..LogsConfig::default()
        };
        let store = open(dir.path(), &config).unwrap();
        let id = |n: usize| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
            ServiceId::from_bytes(bytes)
        };
        let name: ServiceName = "web1".parse().unwrap();
        let groups = FORGOTTEN_MAX + 3;
        for n in 0..groups {
            let group = GroupKind::Service.group(&name, id(n));
            let event = NewEvent {
                time_ms: n as i64,
                text: b"x",
            };
            let append = Append {
                group: &group,
                stream: "events",
                missing: Missing::CreateGroup,
                times: Times::Given,
                now_ms: 1,
                position: None,
                events: &[event],
            };
            store.append(&append).unwrap();
        }
        // The oldest is of a service that is there.
        let removed = sweep(&store, |service| service == id(0)).unwrap();
        assert_eq!(removed, 2);
        let is_there = |n| store.group(&GroupKind::Service.group(&name, id(n))).is_ok();
        assert!(is_there(0) && !is_there(1) && !is_there(2) && is_there(3));
    }
}
