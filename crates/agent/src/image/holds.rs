//! What must not be removed just now, counted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ekiden_model::image::Digest;

/// Who holds what.
///
/// A user takes its hold first and then looks whether the thing is there; whoever removes looks for
/// holds while it keeps others from looking. So one of the two always sees the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Holds(Arc<Mutex<BTreeMap<Digest, usize>>>);

/// Keeps one thing until dropped.
#[derive(Debug)]
pub(super) struct Hold {
    holds: Holds,
    digest: Digest,
}

impl Holds {
    pub(super) fn hold(&self, digest: Digest) -> Hold {
        *self.lock().entry(digest).or_default() += 1;
        Hold {
            holds: self.clone(),
            digest,
        }
    }

    /// How many hold it.
    pub(super) fn count(&self, digest: &Digest) -> usize {
        self.lock().get(digest).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = self.holds.lock();
        if let Some(count) = holds.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                holds.remove(&self.digest);
            }
        }
    }
}
