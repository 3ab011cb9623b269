//! How far long work has come.

use std::fmt;

use tokio::sync::mpsc;

/// One step of long work on an image. Figures are totals so far, so that any of these may be
/// missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressEvent {
    /// What is going on now, for a person.
    Phase(String),
    /// Compressed bytes of the image's layers.
    Bytes {
        /// Fetched, or found to be here.
        done: u64,
        /// Of the whole image.
        total: u64,
    },
}

impl fmt::Display for ProgressEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mega = |bytes: u64| bytes as f64 / 1e6;
        match self {
            Self::Phase(text) => f.write_str(text),
            Self::Bytes { done, total } => {
                write!(f, "{:.1} of {:.1} MB", mega(*done), mega(*total))
            }
        }
    }
}

/// Where progress goes; nowhere, for callers who do not watch.
///
/// Never waits: a watcher who is slow misses events.
#[derive(Debug, Clone, Default)]
pub struct Progress(Option<mpsc::Sender<ProgressEvent>>);

impl Progress {
    /// Nobody watches.
    pub fn none() -> Self {
        Self(None)
    }

    /// To this channel.
    pub fn to(events: mpsc::Sender<ProgressEvent>) -> Self {
        Self(Some(events))
    }

    pub(super) fn phase(&self, text: impl Into<String>) {
        self.send(|| ProgressEvent::Phase(text.into()));
    }

    pub(super) fn bytes(&self, done: u64, total: u64) {
        self.send(|| ProgressEvent::Bytes { done, total });
    }

    fn send(&self, event: impl FnOnce() -> ProgressEvent) {
        if let Some(events) = &self.0 {
            // A full or closed channel is the watcher's choice.
            let _ = events.try_send(event());
        }
    }
}
