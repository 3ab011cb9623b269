//! What of uploads is told to whoever uploads.

use crate::worker::Chain;

/// Uploads at one time.
pub(crate) const UPLOADS_MAX: usize = 8;

/// Why an upload was not taken.
#[derive(Debug)]
pub(crate) enum Problem {
    /// What is wrong with it.
    Refused(String),
    /// Another upload of the same name came between: its contents are to be asked for once more.
    Stale(String),
    /// This host cannot.
    Host(String),
}

impl Problem {
    pub(super) fn refused(error: impl std::error::Error) -> Self {
        Self::Refused(Chain(&error).to_string())
    }

    pub(super) fn host(error: impl std::error::Error) -> Self {
        Self::Host(Chain(&error).to_string())
    }
}
