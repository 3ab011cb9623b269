//! The sending end of a drain.

use std::{fmt, time::Duration};

use tokio::{net::lookup_host, time::timeout};

use crate::{
    fluent::Fluent,
    json_http::JsonHttp,
    limits::Limits,
    line::Line,
    otlp::OtlpClient,
    s3::S3,
    secrets::Secrets,
    syslog::Syslog,
    target::{ConfigError, Endpoint, Target},
};

/// Sends batches of lines to one target, one at a time. Keeps its connection between batches.
pub struct Drain {
    sender: Sender,
    limits: Limits,
}

enum Sender {
    Otlp(OtlpClient),
    Syslog(Box<Syslog>),
    Fluent(Box<Fluent>),
    Http(JsonHttp),
    S3(S3),
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
        secrets.only(target)?;
        let sender = match target {
            Target::Otlp(target) => Sender::Otlp(OtlpClient::new(target, secrets, limits)?),
            Target::Syslog(target) => Sender::Syslog(Box::new(Syslog::new(target, limits)?)),
            Target::Fluent(target) => {
                Sender::Fluent(Box::new(Fluent::new(target, secrets, limits)?))
            }
            Target::Http(target) => Sender::Http(JsonHttp::new(target, secrets, limits)?),
            Target::S3(target) => Sender::S3(S3::new(target, secrets, limits)?),
        };
        Ok(Self { sender, limits })
    }

    /// Whether the target's host has an address now: what is worth knowing before a drain is created.
    ///
    /// # Errors
    /// [`ConfigError::Unresolved`].
    pub async fn resolve(&self) -> Result<(), ConfigError> {
        let Endpoint { host, port } = match &self.sender {
            Sender::Otlp(otlp) => otlp.endpoint(),
            Sender::Syslog(syslog) => syslog.endpoint(),
            Sender::Fluent(fluent) => fluent.endpoint(),
            Sender::Http(http) => http.endpoint(),
            Sender::S3(s3) => s3.endpoint(),
        };
        let unresolved = |problem: String| ConfigError::Unresolved {
            host: host.clone(),
            problem,
        };
        match timeout(self.limits.connect, lookup_host((host.as_str(), port))).await {
            Ok(Ok(mut addresses)) => match addresses.next() {
                Some(_) => Ok(()),
                None => Err(unresolved("its name exists, without an address".to_owned())),
            },
            Ok(Err(error)) => Err(unresolved(error.to_string())),
            Err(_) => Err(unresolved("the name servers do not answer".to_owned())),
        }
    }

    /// Sends a batch, in order. `Ok` means that the caller need not send it again. Dropping the future is safe:
    /// the batch may or may not have arrived then, and the next send makes a new connection if it must.
    /// An empty batch is `Ok` without a word to the receiver.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&mut self, batch: &[Line]) -> Result<Sent, SendError> {
        if batch.is_empty() {
            return Ok(Sent::default());
        }
        match &mut self.sender {
            Sender::Otlp(otlp) => otlp.send_lines(batch).await,
            Sender::Syslog(syslog) => syslog.send(batch).await,
            Sender::Fluent(fluent) => fluent.send(batch).await,
            Sender::Http(http) => http.send(batch).await,
            Sender::S3(s3) => s3.send(batch).await,
        }
    }

    /// Ends the connection in the way the protocol has for it, if there is one; waits for the receiver as
    /// long as for a connection. A drain that is only dropped loses nothing that was `Ok` unless the receiver
    /// minds how a connection ends.
    pub async fn close(self) {
        let closing = async {
            match self.sender {
                Sender::Syslog(syslog) => syslog.close().await,
                Sender::Fluent(fluent) => fluent.close().await,
                Sender::Otlp(_) | Sender::Http(_) | Sender::S3(_) => {}
            }
        };
        let _ = timeout(self.limits.connect, closing).await;
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").finish_non_exhaustive()
    }
}

impl SendError {
    pub(crate) fn retry(message: impl Into<String>) -> Self {
        Self::Retry {
            after: None,
            message: cut(message.into()),
        }
    }

    pub(crate) fn permanent(message: impl Into<String>) -> Self {
        Self::Permanent {
            message: cut(message.into()),
        }
    }
}

/// A message of one line and at most [`MESSAGE_BYTES_MAX`], whatever a receiver put into it.
pub(crate) fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    if message.contains(char::is_control) {
        message = message.replace(char::is_control, " ");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drains are run by tasks that may move between threads.
    #[allow(dead_code, reason = "that it compiles is the test")]
    fn sending_may_move_between_threads(drain: &'static mut Drain, batch: &'static [Line]) {
        fn moves(_: impl Send) {}
        moves(drain.send(batch));
    }

    #[test]
    fn messages_are_one_line_and_cut_between_characters() {
        let message = cut(format!("a\r\n\u{1b}{}", "é".repeat(1000)));
        assert!(message.starts_with("a   é") && message.len() <= MESSAGE_BYTES_MAX);
        assert_eq!(cut("short".to_owned()), "short");
    }
}
