//! What is given to be stored, and what is said about it.

use crate::event::NewEvent;

/// The most events in one append.
pub const BATCH_EVENTS_MAX: usize = 10_000;

/// The most bytes of text in one append.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The longest source position.
pub const POSITION_BYTES_MAX: usize = 1024;

/// Events of one stream, stored together or not at all.
#[derive(Debug, Clone, Copy)]
pub struct Append<'a> {
    /// The group.
    pub group: &'a str,
    /// The stream.
    pub stream: &'a str,
    /// What to do when the stream, or the group, is not there.
    pub missing: Missing,
    /// What the events' times are held to.
    pub times: Times,
    /// Now, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// How far the source has come with these events; kept with them, so that both are there or none.
    /// Up to [`POSITION_BYTES_MAX`]. `None` leaves the one that is there.
    pub position: Option<&'a [u8]>,
    /// Up to [`BATCH_EVENTS_MAX`] and [`BATCH_BYTES_MAX`]. None at all is fine, for a position alone.
    pub events: &'a [NewEvent<'a>],
}

/// What an append does when the stream is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is refused.
    Refuse,
    /// The stream is created; a missing group is refused.
    CreateStream,
    /// The group, without retention or tags, and the stream are created.
    CreateGroup,
}

/// What the times of appended events are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Every event keeps its own.
    Given,
    /// A time before the last of the stream becomes the last, so that lines stay in the order in which they
    /// were written when the clock goes back.
    Raised,
}

/// What was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The sequence of the first event that was given; the others follow without gaps.
    pub first_sequence: u64,
    /// How many of the given events were stored: all.
    pub events: usize,
}

/// Why lines were dropped before they reached the store, or by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropCause {
    /// The disk or the budget is full.
    DiskFull,
    /// The source wrote faster than it may.
    TooFast,
    /// The store did not keep up.
    Busy,
    /// The disk failed.
    DiskError,
    /// Too long, or otherwise not to be stored.
    Refused,
}

impl DropCause {
    /// The cause in words, as the mark in the stream says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DiskFull => "the disk has no room for logs",
            Self::TooFast => "they were written too fast",
            Self::Busy => "the log store could not keep up",
            Self::DiskError => "the disk failed",
            Self::Refused => "they could not be stored",
        }
    }
}
