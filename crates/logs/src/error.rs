//! What can go wrong with the log store.

use std::io;

/// Why the log store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A group of that name is there.
    #[error("log group `{group}` exists already")]
    GroupExists {
        /// Its name.
        group: String,
    },
    /// There is no such group.
    #[error("log group `{group}` does not exist")]
    NoGroup {
        /// The name that was asked for.
        group: String,
    },
    /// A stream of that name is there.
    #[error("log stream `{stream}` exists already in `{group}`")]
    StreamExists {
        /// Its group.
        group: String,
        /// Its name.
        stream: String,
    },
    /// There is no such stream.
    #[error("log stream `{stream}` does not exist in `{group}`")]
    NoStream {
        /// The group that was asked.
        group: String,
        /// The name that was asked for.
        stream: String,
    },
    /// There are [`GROUPS_MAX`](crate::store::GROUPS_MAX) groups.
    #[error("there are {max} log groups, which is the most; delete one")]
    TooManyGroups {
        /// The bound.
        max: usize,
    },
    /// The group has [`STREAMS_MAX`](crate::store::STREAMS_MAX) streams, and all have lines.
    #[error("log group `{group}` has {max} streams, which is the most; delete one")]
    TooManyStreams {
        /// The group.
        group: String,
        /// The bound.
        max: usize,
    },
    /// A line or a batch is longer than is taken.
    #[error("{what} of {bytes} bytes is longer than {max} bytes")]
    TooLong {
        /// "a line", "a batch".
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The disk has less free than is to be left, or the budget has no room and nothing can go.
    #[error("there is no room on the disk for logs; free some, or lower what is kept")]
    DiskFull,
    /// Sealing does not keep up; the same call may succeed later.
    #[error("the log store cannot keep up; try again")]
    Busy,
    /// The disk failed.
    #[error("failed to {what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// What was asked is not possible as it was asked.
    #[error("{message}")]
    Invalid {
        /// What, why and what to do.
        message: String,
    },
}

impl LogError {
    /// Wraps an error of the disk; no space is [`LogError::DiskFull`].
    pub(crate) fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io { what, source },
        }
    }
}
