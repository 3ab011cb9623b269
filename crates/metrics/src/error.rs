//! What a call can be refused with.

use std::io;

/// Why a call failed. The first four are the caller's to mend and named as CloudWatch's codes are.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that cannot be.
    #[error("{0}")]
    InvalidParameterValue(String),
    /// Values that do not go together.
    #[error("{0}")]
    InvalidParameterCombination(String),
    /// A value that has to be given.
    #[error("{0}")]
    MissingRequiredParameter(String),
    /// A query or an expression of GetMetricData that cannot be answered.
    #[error("{0}")]
    ValidationError(String),
    /// A bound of the store is reached.
    #[error("{0}")]
    LimitExceeded(String),
    /// The store's files could not be read or written.
    #[error("failed to {doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The code that CloudWatch has for it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidParameterValue(_) => "InvalidParameterValue",
            Self::InvalidParameterCombination(_) => "InvalidParameterCombination",
            Self::MissingRequiredParameter(_) => "MissingParameter",
            Self::ValidationError(_) => "ValidationError",
            Self::LimitExceeded(_) => "LimitExceeded",
            Self::Io { .. } => "InternalServiceError",
        }
    }

    pub(crate) fn value(message: impl Into<String>) -> Self {
        Self::InvalidParameterValue(message.into())
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
