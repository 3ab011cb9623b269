//! What is asked of the store, and the pages it answers with.

use std::fmt;

use crate::{
    cursor::Cursor,
    event::{Event, EventRef},
};

/// Which streams of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Streams {
    /// All.
    All,
    /// Those whose name begins so.
    Prefix(String),
    /// Those of these names; ones that are not there have no lines.
    Names(Vec<String>),
}

impl Streams {
    /// Whether a stream is one of them.
    #[must_use]
    pub fn has(&self, stream: &str) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => stream.starts_with(prefix.as_str()),
            Self::Names(names) => names.iter().any(|name| name == stream),
        }
    }
}

/// In which direction of time pages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    Backward,
}

/// Which events of a group to find.
#[derive(Debug, Clone)]
pub struct Query {
    /// The group.
    pub group: String,
    /// Which of its streams.
    pub streams: Streams,
    /// The first time, in milliseconds since the Unix epoch.
    pub from_ms: Option<i64>,
    /// The time before which they are: not included.
    pub to_ms: Option<i64>,
    /// Oldest first, or newest first.
    pub direction: Direction,
    /// Go on after this event in the query's direction; it need not exist.
    pub after: Option<Cursor>,
    /// The most events in the page, at least 1.
    pub events_max: usize,
    /// The most bytes of text in the page; one event is given however long it is.
    pub bytes_max: usize,
    /// The most bytes of text that are looked at for the page, more or less: what has to be read to come on
    /// at all is read.
    pub scan_bytes_max: u64,
}

impl Query {
    /// All events of a group, oldest first, in pages of 10,000 events, 1 MiB, or 256 MiB looked at.
    #[must_use]
    pub fn new(group: &str) -> Self {
        Self {
            group: group.to_owned(),
            streams: Streams::All,
            from_ms: None,
            to_ms: None,
            direction: Direction::Forward,
            after: None,
            events_max: 10_000,
            bytes_max: 1024 * 1024,
            scan_bytes_max: 256 * 1024 * 1024,
        }
    }
}

/// Which of a query's events are wanted, by what is in them.
#[derive(Clone, Copy)]
pub struct Filter<'a> {
    /// A text that every wanted event has; blocks without it are not looked at line by line.
    pub literal: Option<&'a [u8]>,
    /// Whether an event is wanted. Only asked for events that have the literal.
    pub matches: &'a dyn Fn(&EventRef<'_>) -> bool,
}

impl Filter<'static> {
    /// Wants every event.
    #[must_use]
    pub fn all() -> Self {
        Self {
            literal: None,
            matches: &|_| true,
        }
    }
}

impl fmt::Debug for Filter<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Filter")
            .field("literal", &self.literal.map(String::from_utf8_lossy))
            .finish_non_exhaustive()
    }
}

/// A page of found events.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// In the query's direction, by time and then sequence.
    pub events: Vec<Event>,
    /// Where the next page goes on; `None` when nothing follows. There may be no events and still a next
    /// page, when as much as was allowed has been looked at.
    pub next: Option<Cursor>,
    /// Bytes of text that were looked at.
    pub scanned_bytes: u64,
    /// Blocks and frames that could not be read and were left out.
    pub damaged: u64,
}

/// Lines of a group in the order in which they were stored, for those who pass them on.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    /// By sequence.
    pub events: Vec<Event>,
    /// The sequence to go on after: of the last event, or what was asked when there is none, or the last of
    /// what is lost.
    pub last_sequence: u64,
    /// How many lines between the one that was asked for and [`Self::last_sequence`] are no longer there:
    /// removed by age or budget, or damaged. Lines of deleted streams are not counted.
    pub gap: u64,
    /// Whether there was more than fits.
    pub more: bool,
}
