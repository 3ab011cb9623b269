//! Work that several callers want at the same time and that is done once.

use std::{
    collections::HashMap,
    hash::Hash,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

/// What is being worked on, by key.
///
/// The work runs in a task of its own, so that it does not stop when the caller who began it goes
/// away; whoever gives it must bound its time.
pub(super) struct Flights<K, V>(Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>);

/// Whether a caller's own work was run, or somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Led,
    Joined,
}

/// Work as [`Flights::run`] takes it.
pub(super) type Work<V> = Pin<Box<dyn Future<Output = V> + Send>>;

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Hash + Eq + Clone + Send + 'static, V: Clone + Send + Sync + 'static> Flights<K, V> {
    /// Waits for the work under `key`, beginning it when nobody has. `None` when it was lost: it
    /// panicked, or the process is shutting down.
    pub(super) async fn run(&self, key: K, work: impl FnOnce() -> Work<V>) -> (Part, Option<V>) {
        let (part, mut end) = self.join_or_begin(key, work);
        let value = end
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|value| value.clone());
        (part, value)
    }

    fn join_or_begin(
        &self,
        key: K,
        work: impl FnOnce() -> Work<V>,
    ) -> (Part, watch::Receiver<Option<V>>) {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = flights.get(&key) {
            return (Part::Joined, end.clone());
        }
        let (landed, end) = watch::channel(None);
        flights.insert(key.clone(), end.clone());
        let landing = Landing {
            flights: Arc::clone(&self.0),
            key,
        };
        let work = work();
        tokio::spawn(async move {
            let value = work.await;
            // Off the list before it is told, so that whoever comes later begins anew.
            drop(landing);
            landed.send_replace(Some(value));
        });
        (Part::Led, end)
    }
}

/// Takes its flight off the list, also when the work panics.
struct Landing<K: Hash + Eq, V> {
    flights: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
    key: K,
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn callers_at_the_same_time_share_one_run() {
        let flights = Arc::new(Flights::<&str, u32>::default());
        let (finish, finished) = oneshot::channel();
        let leader = flights.join_or_begin("a", || Box::pin(async { finished.await.unwrap() }));
        let joiner = flights.join_or_begin("a", || unreachable!("the first is still at it"));
        assert_eq!((leader.0, joiner.0), (Part::Led, Part::Joined));
        finish.send(7).unwrap();
        for (_, mut end) in [leader, joiner] {
            assert_eq!(*end.wait_for(Option::is_some).await.unwrap(), Some(7));
        }
        assert_eq!(
            flights.run("a", || Box::pin(async { 8 })).await,
            (Part::Led, Some(8))
        );
    }

    #[tokio::test]
    async fn lost_work_is_told_and_can_be_begun_again() {
        let flights = Flights::<&str, u32>::default();
        let lost = flights
            .run("a", || Box::pin(async { panic!("planted") }))
            .await;
        assert_eq!(lost, (Part::Led, None));
        assert_eq!(
            flights.run("a", || Box::pin(async { 1 })).await,
            (Part::Led, Some(1))
        );
    }
}
