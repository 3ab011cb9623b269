//! Why a container, or a sandbox of a build, could not be started: one sentence that travels over a pipe.

use std::{error::Error, fmt::Display};

/// A sentence for people.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) String);

/// Says what was being done when a call failed.
pub(crate) trait Step<T> {
    /// `doing` completes "cannot ...".
    fn step(self, doing: impl Display) -> Result<T, Failure>;
}

impl<T, E: Error> Step<T> for Result<T, E> {
    fn step(self, doing: impl Display) -> Result<T, Failure> {
        self.map_err(|error| {
            let mut text = format!("cannot {doing}: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            Failure(text)
        })
    }
}
