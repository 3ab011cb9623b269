//! Signing keys that were derived already: four rounds of HMAC that every request of a day would
//! repeat.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use ekiden_aws::sigv4::{claim::Claim, credentials::SigningKey};

/// Signing keys kept at once. When there are more, all are forgotten: a day has few, and the next
/// day's come all at once.
const SIGNING_KEYS_MAX: usize = 1024;

/// What a signing key was derived for: the access key, and day, region and service.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    access_key_id: String,
    scope: [String; 3],
}

impl Entry {
    pub(super) fn of(claim: &Claim) -> Self {
        Self {
            access_key_id: claim.access_key_id().to_owned(),
            scope: claim.scope().map(str::to_owned),
        }
    }
}

#[derive(Default)]
pub(super) struct SigningKeys {
    kept: Mutex<HashMap<Entry, SigningKey>>,
}

impl SigningKeys {
    pub(super) fn get(&self, entry: &Entry) -> Option<SigningKey> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(entry).cloned()
    }

    pub(super) fn keep(&self, entry: Entry, key: SigningKey) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == SIGNING_KEYS_MAX && !kept.contains_key(&entry) {
            kept.clear();
        }
        kept.insert(entry, key);
    }

    pub(super) fn clear(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
    }
}
