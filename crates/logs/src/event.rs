//! One line of a log: as it is given, as it is looked at, and as it is handed out.

use std::sync::Arc;

use crate::cursor::Cursor;

/// The longest text of an event.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// An event that is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewEvent<'a> {
    /// When it happened, in milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// Its text without a newline at the end; up to [`EVENT_BYTES_MAX`]. Any bytes are kept as they are.
    pub text: &'a [u8],
}

/// A stored event, while it is being looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRef<'a> {
    /// When it happened, in milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub ingestion_ms: i64,
    /// Its number within the group.
    pub sequence: u64,
    /// The name of its stream.
    pub stream: &'a str,
    /// Its text.
    pub text: &'a [u8],
}

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it happened, in milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub ingestion_ms: i64,
    /// Its number within the group: with the group it says which event this is.
    pub sequence: u64,
    /// The name of its stream.
    pub stream: Arc<str>,
    /// Its text.
    pub text: Vec<u8>,
}

impl Event {
    /// The place of the event: a page that goes on after it begins with the next one.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            time_ms: self.time_ms,
            sequence: self.sequence,
        }
    }

    /// The event, to be looked at.
    #[must_use]
    pub fn as_ref(&self) -> EventRef<'_> {
        EventRef {
            time_ms: self.time_ms,
            ingestion_ms: self.ingestion_ms,
            sequence: self.sequence,
            stream: &self.stream,
            text: &self.text,
        }
    }
}
