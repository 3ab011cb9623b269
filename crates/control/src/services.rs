//! All services: who they are, and the worker of each.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use ekiden_engine::Engine;
use ekiden_model::{id::ServiceId, service::ServiceStatus, time::Timestamp};
use ekiden_store::{StoreError, StoredService};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::worker::{
    Change, REQUESTS_WAITING_MAX, Refused, Request, RequestError, Snapshot, Tools, Worker,
};

/// Every service that is remembered.
#[derive(Debug)]
pub(crate) struct Services<E> {
    tools: Arc<Tools<E>>,
    known: RwLock<Known>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<ServiceId, Handle>,
    /// In the order in which they are listed: oldest first within a region.
    order: BTreeMap<(String, Timestamp, ServiceId), ()>,
}

#[derive(Debug, Clone)]
struct Handle {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    requests: mpsc::Sender<Request>,
}

/// Why a change was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError<R> {
    /// No such service.
    #[error("no such service")]
    Unknown,
    /// Too many requests wait for it.
    #[error("too many requests wait for this service")]
    Busy,
    /// The change itself refused.
    #[error("refused")]
    Refused(R),
    /// The store failed; nothing was changed.
    #[error(transparent)]
    Store(StoreError),
}

impl<E: Engine> Services<E> {
    /// Takes up every service in the store.
    pub(crate) async fn load(
        tools: Arc<Tools<E>>,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        let stored = tools.store.services().await?;
        let services = Self {
            tools,
            known: RwLock::default(),
            tasks: TaskTracker::new(),
            stop,
        };
        for stored in stored {
            services.take_up(stored).await;
        }
        Ok(services)
    }

    /// Waits until every worker has ended, after the stop token was cancelled.
    pub(crate) async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Stores a new service and takes it up.
    pub(crate) async fn create(&self, stored: StoredService) -> Result<(), StoreError> {
        self.tools.store.create_service(&stored).await?;
        self.take_up(stored).await;
        Ok(())
    }

    /// What is known of a service of a region, deleted ones that are still remembered included.
    pub(crate) fn get(&self, region: &str, id: ServiceId) -> Option<Arc<Snapshot>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let snapshot = Arc::clone(&known.by_id.get(&id)?.snapshot.borrow());
        (snapshot.stored.region == region).then_some(snapshot)
    }

    /// Services of a region that are not deleted, in order, from after a place.
    pub(crate) fn list(
        &self,
        region: &str,
        after: Option<(Timestamp, ServiceId)>,
        count: usize,
    ) -> Vec<Arc<Snapshot>> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let first = match after {
            Some((at, id)) => Excluded((region.to_owned(), at, id)),
            None => Included((
                region.to_owned(),
                Timestamp::default(),
                ServiceId::from_bytes([0; 16]),
            )),
        };
        known
            .order
            .range((first, Unbounded))
            .take_while(|((other, _, _), ())| other == region)
            .filter_map(|((_, _, id), ())| known.by_id.get(id))
            .map(|handle| Arc::clone(&handle.snapshot.borrow()))
            .filter(|snapshot| snapshot.stored.service.settled != ServiceStatus::Deleted)
            .take(count)
            .collect()
    }

    /// How many services are not deleted.
    pub(crate) fn count(&self) -> usize {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let deleted = |handle: &&Handle| {
            handle.snapshot.borrow().stored.service.settled == ServiceStatus::Deleted
        };
        known.by_id.len() - known.by_id.values().filter(deleted).count()
    }

    /// Changes a service through its worker; answers the stored result.
    ///
    /// `change` works on a copy; what it refuses leaves no trace.
    pub(crate) async fn change<R: Send + 'static>(
        &self,
        id: ServiceId,
        change: impl FnOnce(&mut StoredService) -> Result<(), R> + Send + 'static,
    ) -> Result<Arc<StoredService>, ChangeError<R>> {
        let handle = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.by_id.get(&id).cloned().ok_or(ChangeError::Unknown)?
        };
        let (refusal_sender, refusal) = oneshot::channel();
        let change: Change = Box::new(move |stored| {
            change(stored).map_err(|refused| {
                // Received below unless the caller has left.
                let _ = refusal_sender.send(refused);
                Refused
            })
        });
        let (reply, answer) = oneshot::channel();
        handle
            .requests
            .try_send(Request { change, reply })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => ChangeError::Busy,
                mpsc::error::TrySendError::Closed(_) => ChangeError::Unknown,
            })?;
        match answer.await {
            Ok(Ok(stored)) => Ok(stored),
            Ok(Err(RequestError::Store(error))) => Err(ChangeError::Store(error)),
            Ok(Err(RequestError::Refused)) => match refusal.await {
                Ok(refused) => Err(ChangeError::Refused(refused)),
                Err(_) => Err(ChangeError::Unknown),
            },
            // The worker ended between taking the request and answering: the service is gone.
            Err(_) => Err(ChangeError::Unknown),
        }
    }

    /// Forgets services that the store has forgotten.
    pub(crate) fn forget(&self, ids: &[ServiceId]) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            if let Some(handle) = known.by_id.remove(id) {
                let stored = Arc::clone(&handle.snapshot.borrow().stored);
                known.order.remove(&order(&stored));
            }
        }
    }

    async fn take_up(&self, stored: StoredService) {
        let place = order(&stored);
        let id = stored.service.id;
        let deleted = stored.service.settled == ServiceStatus::Deleted;
        let (worker, snapshot) = Worker::new(Arc::clone(&self.tools), stored).await;
        let (requests, waiting) = mpsc::channel(REQUESTS_WAITING_MAX);
        {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            known.by_id.insert(id, Handle { snapshot, requests });
            known.order.insert(place, ());
        }
        match deleted {
            true => self.tools.observations.forget(id),
            false => {
                self.tasks.spawn(worker.run(waiting, self.stop.clone()));
            }
        }
    }
}

fn order(stored: &StoredService) -> (String, Timestamp, ServiceId) {
    (
        stored.region.clone(),
        stored.service.created_at,
        stored.service.id,
    )
}
