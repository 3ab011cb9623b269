//! How much the store may take, and how often it does what costs.

use std::time::Duration;

/// Bounds and intervals of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The most bytes on disk of one group, at least 1 MiB. What is over it goes, oldest first.
    pub group_bytes_max: u64,
    /// The most bytes on disk of all groups, at least 1 MiB. Over it, the oldest of the group with the most
    /// bytes goes.
    pub total_bytes_max: u64,
    /// Nothing is taken while the disk has less free than this.
    pub disk_free_bytes_min: u64,
    /// A journal is sealed when it has reached this many bytes, or a sixteenth of a budget if that is less.
    pub segment_raw_bytes_max: u64,
    /// A journal that is older than this is sealed when it has a sixteenth of [`Self::segment_raw_bytes_max`].
    pub seal_after: Duration,
    /// How often what was stored is synced for the case that the power goes; what a process stored
    /// survives its end in any case.
    pub sync_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            group_bytes_max: 2 << 30,
            total_bytes_max: 10 << 30,
            disk_free_bytes_min: 1 << 30,
            segment_raw_bytes_max: 16 << 20,
            seal_after: Duration::from_secs(3600),
            sync_every: Duration::from_secs(1),
        }
    }
}
