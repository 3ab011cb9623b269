//! All services: who they are, and the worker of each.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard},
};

use ekiden_engine::Engine;
use ekiden_model::{
    id::ServiceId, name::ServiceName, narrative, service::ServiceStatus, time::Timestamp,
};
use ekiden_store::{StoreError, StoredService};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock,
    worker::{
        Change, REQUESTS_WAITING_MAX, Refused, Request, RequestError, Snapshot, Tools, Worker,
    },
};

/// Every service that is remembered.
#[derive(Debug)]
pub(crate) struct Services<E> {
    tools: Arc<Tools<E>>,
    /// How many services of one region there may be.
    quota: u64,
    known: Arc<RwLock<Known>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<ServiceId, Handle>,
    /// Those that are not deleted, in the order in which they are listed: oldest first within a
    /// region.
    order: BTreeMap<(String, Timestamp, ServiceId), ()>,
    /// By region and name; of those that had the same name, the newest.
    by_name: HashMap<(String, String), ServiceId>,
}

/// How many services of each region are not deleted, those that are just being stored included.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<HashMap<String, u64>>);

impl Counts {
    /// Counts one more, if that is within the quota.
    fn enter(&self, region: &str, quota: u64) -> bool {
        let mut counts = self.lock();
        let count = counts.entry(region.to_owned()).or_default();
        let fits = *count < quota;
        if fits {
            *count += 1;
        }
        fits
    }

    /// Counts one less: a service was deleted, or not stored after all.
    pub(crate) fn leave(&self, region: &str) {
        let mut counts = self.lock();
        if let Some(count) = counts.get_mut(region) {
            *count = count.saturating_sub(1);
        }
        counts.retain(|_, count| *count > 0);
    }

    fn total(&self) -> u64 {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a service was not created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// There are as many in the region as there may be.
    #[error("there is no room for another service")]
    Full,
    /// The store refused or failed; nothing was stored.
    #[error(transparent)]
    Store(#[from] StoreError),
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
        quota: u64,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        let stored = tools.store.services().await?;
        let services = Self {
            tools,
            quota,
            known: Arc::default(),
            tasks: TaskTracker::new(),
            stop,
        };
        for stored in stored {
            if stored.service.settled != ServiceStatus::Deleted {
                // What is there already stays, whatever the quota.
                services.tools.counts.enter(&stored.region, u64::MAX);
            }
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
    ///
    /// It goes on to its end even if the caller stops waiting: a service that is stored is taken up.
    pub(crate) async fn create(self: &Arc<Self>, stored: StoredService) -> Result<(), CreateError> {
        let services = Arc::clone(self);
        let creation = async move { services.create_here(stored).await };
        match self.tasks.spawn(creation).await {
            Ok(created) => created,
            Err(error) => std::panic::resume_unwind(error.into_panic()), // never aborted
        }
    }

    async fn create_here(&self, stored: StoredService) -> Result<(), CreateError> {
        let (region, name) = (&stored.region, &stored.service.name);
        if !self.tools.counts.enter(region, self.quota) {
            // A name that is taken is said before a quota that is reached.
            return Err(match self.has_name(region, name) {
                true => StoreError::NameTaken {
                    name: name.clone(),
                    region: region.clone(),
                }
                .into(),
                false => CreateError::Full,
            });
        }
        let news = narrative::narrate(None, &stored.service, None, clock::now());
        let created = self.tools.store.create_service(&stored, news.as_ref());
        if let Err(error) = created.await {
            self.tools.counts.leave(region);
            return Err(error.into());
        }
        self.tools.news.send_replace(());
        self.take_up(stored).await;
        Ok(())
    }

    /// Looks through all services of a region.
    fn has_name(&self, region: &str, name: &ServiceName) -> bool {
        let all = self.list(region, None, usize::MAX);
        all.iter()
            .any(|snapshot| snapshot.stored.service.name == *name)
    }

    /// How many services of one region there may be.
    pub(crate) fn quota(&self) -> u64 {
        self.quota
    }

    /// What is known of a service of a region, deleted ones that are still remembered included.
    pub(crate) fn get(&self, region: &str, id: ServiceId) -> Option<Arc<Snapshot>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let snapshot = Arc::clone(&known.by_id.get(&id)?.snapshot.borrow());
        (snapshot.stored.region == region).then_some(snapshot)
    }

    /// A service as its worker shows it, from now on; deleted ones that are still remembered
    /// included.
    pub(crate) fn watch(&self, id: ServiceId) -> Option<watch::Receiver<Arc<Snapshot>>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.by_id.get(&id).map(|handle| handle.snapshot.clone())
    }

    /// Whether a service of a region that is not deleted has the name. The store has the last word
    /// when two want one at the same moment.
    pub(crate) fn is_named(&self, region: &str, name: &str) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let id = known.by_name.get(&(region.to_owned(), name.to_owned()));
        let handle = id.and_then(|id| known.by_id.get(id));
        handle.is_some_and(|handle| {
            handle.snapshot.borrow().stored.service.settled != ServiceStatus::Deleted
        })
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

    /// Every service that is not deleted, of all regions.
    pub(crate) fn all(&self) -> Vec<Arc<Snapshot>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .by_id
            .values()
            .map(|handle| Arc::clone(&handle.snapshot.borrow()))
            .filter(|snapshot| snapshot.stored.service.settled != ServiceStatus::Deleted)
            .collect()
    }

    /// Has news read that were stored beside a service's own.
    pub(crate) fn news_grew(&self) {
        self.tools.news.send_replace(());
    }

    /// How many services are not deleted.
    pub(crate) fn count(&self) -> u64 {
        self.tools.counts.total()
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
        let mut known = self.write();
        for id in ids {
            known.by_id.remove(id);
        }
    }

    async fn take_up(&self, stored: StoredService) {
        let (place, name) = (order(&stored), name(&stored));
        let id = stored.service.id;
        let deleted = stored.service.settled == ServiceStatus::Deleted;
        let (worker, snapshot) = Worker::new(Arc::clone(&self.tools), stored).await;
        let (requests, waiting) = mpsc::channel(REQUESTS_WAITING_MAX);
        let handle = Handle { snapshot, requests };
        if deleted {
            self.tools.observations.forget(id);
            self.write().by_id.insert(id, handle);
            return;
        }
        {
            let mut known = self.write();
            known.by_id.insert(id, handle);
            known.order.insert(place.clone(), ());
            known.by_name.insert(name.clone(), id);
        }
        let (known, stop) = (Arc::clone(&self.known), self.stop.clone());
        self.tasks.spawn(async move {
            worker.run(waiting, stop.clone()).await;
            if !stop.is_cancelled() {
                let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
                known.order.remove(&place);
                if known.by_name.get(&name) == Some(&id) {
                    known.by_name.remove(&name);
                }
            }
        });
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(stored: &StoredService) -> (String, String) {
    (stored.region.clone(), stored.service.name.to_string())
}

fn order(stored: &StoredService) -> (String, Timestamp, ServiceId) {
    (
        stored.region.clone(),
        stored.service.created_at,
        stored.service.id,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_counted_apart_and_within_the_quota() {
        let counts = Counts::default();
        assert!(counts.enter("one", 2) && counts.enter("one", 2) && counts.enter("two", 2));
        assert!(!counts.enter("one", 2));
        assert_eq!(counts.total(), 3);
        counts.leave("one");
        assert!(counts.enter("one", 2) && !counts.enter("one", 2));
        counts.leave("two");
        counts.leave("two");
        assert_eq!(counts.total(), 2);
    }
}
