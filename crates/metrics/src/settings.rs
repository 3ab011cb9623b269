//! How much is kept, and for how long.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Series that are remembered in all, unless set otherwise: 100,000.
pub const SERIES_MAX: usize = 100_000;
/// Series that are remembered in one namespace, unless set otherwise.
pub const SERIES_PER_NAMESPACE_MAX: usize = 50_000;

/// What may be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long 1-minute points are kept.
    pub keep_minutes: Duration,
    /// How long 5-minute points are kept.
    pub keep_five_minutes: Duration,
    /// How long 1-hour points are kept.
    pub keep_hours: Duration,
    /// Bytes of all files together; beyond, the oldest go.
    pub bytes_max: u64,
    /// Series that had a datum in the last 15 days, in all. New ones beyond are refused.
    pub series_max: usize,
    /// The same for each namespace.
    pub series_per_namespace_max: usize,
    /// Memory for what is not in a file yet, about; when it is used up, it is written.
    pub memory_bytes_max: usize,
    /// Bytes of journal after which what is in it is written to files.
    pub journal_bytes_max: u64,
    /// How long what is recorded may stay in the journal alone.
    pub flush_every: Duration,
}

impl Default for Settings {
    /// CloudWatch's: 15, 63 and 455 days; 4 GiB.
    fn default() -> Self {
        Self {
            keep_minutes: 15 * DAY,
            keep_five_minutes: 63 * DAY,
            keep_hours: 455 * DAY,
            bytes_max: 4 << 30,
            series_max: SERIES_MAX,
            series_per_namespace_max: SERIES_PER_NAMESPACE_MAX,
            memory_bytes_max: 24 << 20,
            journal_bytes_max: 64 << 20,
            flush_every: Duration::from_secs(15 * 60),
        }
    }
}
