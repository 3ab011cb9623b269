//! How a command fails: what, why, and what to do next.

use std::{fmt::Display, process::ExitCode};

/// A failure to be printed, with a hint if there is something to do about it.
#[derive(Debug)]
pub struct Failure {
    /// What failed, with its causes.
    pub error: anyhow::Error,
    /// A command to run or a setting to look at.
    pub hint: Option<String>,
}

/// What a command ends with.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// A failure without an underlying error.
    pub fn new(what: impl Display) -> Self {
        Self {
            error: anyhow::anyhow!("{what}"),
            hint: None,
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Prints it to standard error, readable without colour, and says with what to exit: 1.
    /// (Wrong usage exits with 2, which clap does.)
    pub fn report(&self) -> ExitCode {
        eprintln!("error: {}", self.sentence());
        if let Some(hint) = &self.hint {
            eprintln!("hint: {hint}");
        }
        ExitCode::FAILURE
    }

    /// The error and its causes in one line; a cause that its error already says is not repeated.
    pub fn sentence(&self) -> String {
        let mut sentence = String::new();
        for cause in self.error.chain().map(ToString::to_string) {
            if sentence.is_empty() {
                sentence = cause;
            } else if !sentence.contains(&cause) {
                sentence = format!("{sentence}: {cause}");
            }
        }
        sentence
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            hint: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn causes_are_said_once() {
        let cause = std::io::Error::other("disk is full");
        let error = Err::<(), _>(cause)
            .context("cannot write: disk is full")
            .context("cannot go on");
        let failure = Failure::from(error.unwrap_err());
        assert_eq!(
            failure.sentence(),
            "cannot go on: cannot write: disk is full"
        );
    }
}
