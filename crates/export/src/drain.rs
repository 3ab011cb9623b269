//! The sending end of a drain.

use std::time::Duration;

use crate::{
    limits::Limits,
    line::Line,
    secrets::Secrets,
    target::{ConfigError, Target},
};

/// Sends batches of lines to one target, one at a time. Keeps its connection between batches.
pub struct Drain {
    limits: Limits,
}

/// What became of a batch that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sent {
    /// Bytes that went out for it, after compression; without heads of protocols.
    pub bytes: u64,
    /// Lines that the receiver says it will not have. They are not to be sent again.
    pub rejected: u64,
    /// What the receiver said about it, if anything; at most [`MESSAGE_BYTES_MAX`].
    pub message: Option<String>,
}

/// Why a batch was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It may be taken later, and may have been taken in part.
    #[error("{message}")]
    Retry {
        /// How long the receiver wants to be left alone.
        after: Option<Duration>,
        /// Why; at most [`MESSAGE_BYTES_MAX`].
        message: String,
    },
    /// The receiver will never take this batch. It is to be counted, told and left out.
    #[error("{message}")]
    Permanent {
        /// Why; at most [`MESSAGE_BYTES_MAX`].
        message: String,
    },
}

/// Bytes of a message, after which it is cut.
pub const MESSAGE_BYTES_MAX: usize = 512;

impl Drain {
    /// A drain for a target. Reads `ca_file`; connects to nothing. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// A setting or a secret is not what it must be.
    pub fn new(target: &Target, secrets: &Secrets) -> Result<Self, ConfigError> {
        Self::with_limits(target, secrets, Limits::default())
    }

    /// As [`Self::new`], with other limits.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_limits(
        target: &Target,
        secrets: &Secrets,
        limits: Limits,
    ) -> Result<Self, ConfigError> {
        let _ = (target, secrets);
        Ok(Self { limits })
    }

    /// Whether the target's host has an address now: what is worth knowing before a drain is created.
    ///
    /// # Errors
    /// [`ConfigError::Unresolved`].
    pub async fn resolve(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Sends a batch, in order. `Ok` means that the caller need not send it again. Dropping the future is safe:
    /// the batch may or may not have arrived then, and the next send makes a new connection if it must.
    /// An empty batch is `Ok` without a word to the receiver.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&mut self, batch: &[Line]) -> Result<Sent, SendError> {
        let _ = (batch, self.limits);
        Ok(Sent::default())
    }
}
