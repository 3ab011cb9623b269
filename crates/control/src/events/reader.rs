//! From news of services to deliveries.

use std::{sync::Arc, time::Duration};

use ekiden_engine::Engine;
use ekiden_model::narrative::ServiceEvent;
use ekiden_store::{Store, StoreError, events::Because, news::NumberedNews};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Alerts, Events, envelope, told};

/// This reader's name.
const READER: &str = "events";

/// News that are read at one time.
const NEWS_MAX: u32 = 100;

/// The wait after news could not be read or what follows from them not stored.
const RETRY: Duration = Duration::from_secs(1);

/// Makes events of news until the control plane stops. `grown` changes when there may be some.
pub(crate) async fn read<E: Engine>(
    events: Arc<Events>,
    alerts: Arc<Alerts<E>>,
    mut grown: watch::Receiver<()>,
    stop: CancellationToken,
) {
    loop {
        grown.borrow_and_update();
        let wait = match read_some(&events, &alerts).await {
            Ok(0) => None,
            Ok(_) => continue,
            Err(error) => {
                warn!(
                    error = told(&error),
                    "news could not be made events of and are read again"
                );
                Some(RETRY)
            }
        };
        let retry = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
            changed = grown.changed(), if wait.is_none() => if changed.is_err() { return }, // cancel-safe per its docs
            () = retry => {} // a timer
        }
    }
}

/// Has the first reader begin with what comes: nobody had rules before there were any.
///
/// # Errors
/// Any.
pub(super) async fn begin(store: &Store) -> Result<(), StoreError> {
    if store.news_read(READER).await?.is_none() {
        let newest = store.news_newest().await?;
        store.put_news_read(READER, Some(newest)).await?;
    }
    Ok(())
}

async fn read_some<E: Engine>(events: &Events, alerts: &Alerts<E>) -> Result<usize, StoreError> {
    let store = &events.store;
    let from = store.news_read(READER).await?.unwrap_or(0);
    let some = store.news_after(from, NEWS_MAX).await?;
    for one in &some {
        // First, and again if the rest fails: what is raised already is not raised twice.
        note_deployments(one, alerts).await?;
        let lane = one.news.service.to_string();
        let deliveries: Vec<_> = envelope::of_news(&events.account, one)
            .iter()
            .flat_map(|event| events.deliveries(&one.region, &lane, one.news.at, event))
            .collect();
        events
            .put(&deliveries, Because::Read(READER, one.number))
            .await?;
    }
    Ok(some.len())
}

async fn note_deployments<E: Engine>(
    one: &NumberedNews,
    alerts: &Alerts<E>,
) -> Result<(), StoreError> {
    for event in &one.news.events {
        if let ServiceEvent::Operation {
            kind,
            outcome,
            reason,
            ..
        } = event
        {
            alerts
                .operation(one, *kind, *outcome, reason.as_deref())
                .await?;
        }
    }
    Ok(())
}
