//! What the store has done since it was opened.

use std::collections::BTreeMap;

use crate::append::DropCause;

/// Counters since the store was opened, and what there is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Lines stored.
    pub lines: u64,
    /// Bytes of their text.
    pub bytes: u64,
    /// Lines that were dropped, and their bytes, by cause: those the callers said.
    pub dropped: BTreeMap<DropCause, Dropped>,
    /// Appends that were refused because of the disk or a budget.
    pub refused_disk_full: u64,
    /// Appends that were refused because sealing did not keep up.
    pub refused_busy: u64,
    /// Journals that were sealed to segments.
    pub sealed: u64,
    /// Attempts to seal that failed; they are made again.
    pub seal_failures: u64,
    /// Segments that were removed because of their age.
    pub removed_by_age: u64,
    /// Segments that were removed because of a budget.
    pub removed_by_budget: u64,
    /// Journals' frames and segments' blocks that could not be read, each time that they were met.
    pub damaged: u64,
    /// Lines in them, as far as it is known how many.
    pub damaged_lines: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Groups.
    pub groups: u64,
    /// Journals that wait for being sealed.
    pub unsealed: u64,
}

/// Lines that were dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many.
    pub lines: u64,
    /// The bytes of their text.
    pub bytes: u64,
}
