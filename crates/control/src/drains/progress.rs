//! How it goes with a drain: what its sender writes down, and everybody may read.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ekiden_model::time::Timestamp;
use ekiden_store::drains::{DrainFacts, DrainPosition};

use super::{
    batch::{Part, Start},
    heads::{Head, Heads},
};
use crate::clock;

/// What a drain does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DrainState {
    /// It sends what there is.
    Running,
    /// The receiver does not take now what it may take later.
    Retrying,
    /// The receiver refuses for good one batch after another, or the first one.
    Paused,
    /// It was told not to send.
    Disabled,
}

impl DrainState {
    /// As the API says it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Retrying => "RETRYING",
            Self::Paused => "PAUSED",
            Self::Disabled => "DISABLED",
        }
    }
}

/// How it goes with a drain. Counts begin when the control plane starts, and anew when the drain is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DrainStatus {
    /// What it does now.
    pub(crate) state: DrainState,
    /// Lines that were taken.
    pub(crate) lines_sent: u64,
    /// Bytes that went out for them.
    pub(crate) bytes_sent: u64,
    /// Lines that the receiver will not have.
    pub(crate) lines_rejected: u64,
    /// Lines that were removed from the logs before they were sent.
    pub(crate) lines_lost: u64,
    /// Lines that are there and not sent.
    pub(crate) behind_lines: u64,
    /// How long the oldest of them has been there; 0 when there are none, and of a disabled drain.
    pub(crate) behind_seconds: u64,
    /// Why the last batch that failed did, and when.
    pub(crate) last_error: Option<(Timestamp, String)>,
    /// When a batch was last taken.
    pub(crate) last_success: Option<Timestamp>,
    /// When the batch on its way is tried again.
    pub(crate) retry_at: Option<Timestamp>,
}

/// Which groups a drain sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    service: Option<String>,
    kinds: Vec<String>,
}

impl Scope {
    pub(super) fn of(facts: &DrainFacts) -> Self {
        Self {
            service: facts.service.as_ref().map(|service| service.id.clone()),
            kinds: facts.kinds.clone(),
        }
    }

    pub(super) fn has(&self, head: &Head) -> bool {
        self.service.as_deref().is_none_or(|id| *id == *head.id)
            && self.kinds.iter().any(|kind| kind == head.kind.as_str())
    }
}

/// Shared by a drain's sender and those who ask.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) scope: Scope,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    places: HashMap<Arc<str>, Place>,
    changed: HashSet<Arc<str>>,
    status: DrainStatus,
    /// When the oldest line was stored that is not sent, as far as it is known.
    oldest_ms: Option<u64>,
}

/// How far the drain has come in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    sent: u64,
    on_its_way: Option<u64>,
}

/// What is to be written down.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) positions: Vec<DrainPosition>,
    pub(super) gone: Vec<String>,
}

impl Progress {
    pub(super) fn new(facts: &DrainFacts, positions: Vec<DrainPosition>) -> Self {
        let places = positions.into_iter().map(|position| {
            let place = Place {
                sent: position.sent,
                on_its_way: position.on_its_way,
            };
            (position.group.into(), place)
        });
        let state = match facts.enabled {
            true => DrainState::Running,
            false => DrainState::Disabled,
        };
        Self {
            scope: Scope::of(facts),
            inner: Mutex::new(Inner {
                places: places.collect(),
                changed: HashSet::new(),
                status: DrainStatus {
                    state,
                    lines_sent: 0,
                    bytes_sent: 0,
                    lines_rejected: 0,
                    lines_lost: 0,
                    behind_lines: 0,
                    behind_seconds: 0,
                    last_error: None,
                    last_success: None,
                    retry_at: None,
                },
                oldest_ms: None,
            }),
        }
    }

    /// As it is now.
    pub(super) fn status(&self, heads: &Heads) -> DrainStatus {
        let inner = self.lock();
        let behind_lines = inner.behind(heads, &self.scope);
        let age = |oldest: u64| clock::now().as_millis().saturating_sub(oldest) / 1000;
        DrainStatus {
            behind_lines,
            behind_seconds: match behind_lines {
                0 => 0,
                _ => inner.oldest_ms.map_or(0, age),
            },
            ..inner.status.clone()
        }
    }

    /// Lines that are there and not sent.
    pub(super) fn behind(&self, heads: &Heads) -> u64 {
        self.lock().behind(heads, &self.scope)
    }

    /// Groups that have something to send, in the order of their names.
    pub(super) fn starts(&self, heads: &Heads) -> Vec<Start> {
        let inner = self.lock();
        let wanted = heads.iter().filter(|(_, head)| self.scope.has(head));
        wanted
            .filter_map(|(group, head)| {
                let from = inner.places.get(group).map_or(0, |place| place.sent);
                (head.last > from).then(|| Start {
                    group: Arc::clone(group),
                    head: head.clone(),
                    from,
                })
            })
            .collect()
    }

    /// The batch that was on its way when the control plane ended.
    pub(super) fn on_its_way(&self) -> Vec<Part> {
        let inner = self.lock();
        let parts = inner.places.iter().filter_map(|(group, place)| {
            let to = place.on_its_way.filter(|to| *to > place.sent)?;
            Some(Part {
                group: Arc::clone(group),
                from: place.sent,
                to,
            })
        });
        let mut parts: Vec<_> = parts.collect();
        parts.sort_by(|one, other| one.group.cmp(&other.group));
        parts
    }

    /// A batch goes on its way.
    pub(super) fn begin(&self, parts: &[Part]) {
        let mut inner = self.lock();
        for part in parts {
            let place = Place {
                sent: part.from,
                on_its_way: Some(part.to),
            };
            inner.put(&part.group, place);
        }
    }

    /// A batch need not be sent again.
    pub(super) fn end(&self, parts: &[Part]) {
        let mut inner = self.lock();
        for part in parts {
            let place = Place {
                sent: part.to,
                on_its_way: None,
            };
            inner.put(&part.group, place);
        }
    }

    /// Says something of how it goes.
    pub(super) fn note(&self, what: impl FnOnce(&mut DrainStatus)) {
        what(&mut self.lock().status);
    }

    /// A batch failed.
    pub(super) fn failed(&self, state: DrainState, retry_at: Option<Timestamp>, message: &str) {
        self.note(|status| {
            status.state = state;
            status.retry_at = retry_at;
            status.last_error = Some((clock::now(), message.to_owned()));
        });
    }

    /// When the oldest line was stored that is not sent.
    pub(super) fn note_oldest(&self, oldest_ms: Option<u64>) {
        self.lock().oldest_ms = oldest_ms;
    }

    /// The same, unless it is known already.
    pub(super) fn note_waiting(&self) {
        let now = clock::now().as_millis();
        self.lock().oldest_ms.get_or_insert(now);
    }

    /// Whether there is something to write down.
    pub(super) fn has_changed(&self) -> bool {
        !self.lock().changed.is_empty()
    }

    /// Takes what is to be written down. Of groups that are gone nothing is kept.
    pub(super) fn take_changes(&self, heads: &Heads) -> Changes {
        let mut inner = self.lock();
        let gone: Vec<Arc<str>> = inner
            .places
            .keys()
            .filter(|group| !heads.contains_key(*group))
            .cloned()
            .collect();
        for group in &gone {
            inner.places.remove(group);
        }
        let changed = std::mem::take(&mut inner.changed);
        let positions = changed.iter().filter_map(|group| {
            let place = inner.places.get(group)?;
            Some(DrainPosition {
                group: group.to_string(),
                sent: place.sent,
                on_its_way: place.on_its_way,
            })
        });
        Changes {
            positions: positions.collect(),
            gone: gone.iter().map(ToString::to_string).collect(),
        }
    }

    /// What was taken could not be written down.
    pub(super) fn give_back(&self, changes: &Changes) {
        let groups = changes.positions.iter().map(|position| &position.group[..]);
        let mut inner = self.lock();
        inner.changed.extend(groups.map(Arc::from));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, group: &Arc<str>, place: Place) {
        self.places.insert(Arc::clone(group), place);
        self.changed.insert(Arc::clone(group));
    }

    fn behind(&self, heads: &Heads, scope: &Scope) -> u64 {
        let wanted = heads.iter().filter(|(_, head)| scope.has(head));
        wanted
            .map(|(group, head)| {
                let sent = self.places.get(group).map_or(0, |place| place.sent);
                head.last.saturating_sub(sent.max(head.floor))
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn facts() -> DrainFacts {
        DrainFacts {
            service: None,
            kinds: vec!["application".to_owned()],
            target: Value::Null,
            enabled: true,
            created_at: Timestamp::from_millis(0),
        }
    }

    fn part(group: &str, from: u64, to: u64) -> Part {
        Part {
            group: group.into(),
            from,
            to,
        }
    }

    #[test]
    fn a_batch_that_was_on_its_way_is_known_after_a_restart() {
        let progress = Progress::new(&facts(), Vec::new());
        let parts = [part("a", 1, 5), part("b", 0, 3)];
        progress.begin(&parts);
        let heads = Heads::default();
        // What is not there is forgotten, however far it was.
        let changes = progress.take_changes(&heads);
        assert_eq!((changes.positions.len(), changes.gone.len()), (0, 2));
        progress.begin(&parts);
        let positions = parts.iter().map(|part| DrainPosition {
            group: part.group.to_string(),
            sent: part.from,
            on_its_way: Some(part.to),
        });
        let later = Progress::new(&facts(), positions.collect());
        assert_eq!(later.on_its_way(), parts);
        later.end(&parts);
        assert_eq!(later.on_its_way(), []);
        assert!(later.has_changed());
    }
}
