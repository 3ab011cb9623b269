//! Syslog over TCP and TLS: messages of RFC 5424 by octet counting.

mod message;
mod replay;

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use self::{message::Encoder, replay::Replay};
use crate::{
    connection::{Connection, Connector, Ended},
    drain::{SendError, Sent},
    limits::Limits,
    line::Line,
    target::{ConfigError, Endpoint, SyslogTarget},
};

/// The first wait for the other kernel's acknowledgement; doubles.
const ACKNOWLEDGED_POLL_MIN: Duration = Duration::from_micros(500);

/// The longest wait between two looks.
const ACKNOWLEDGED_POLL_MAX: Duration = Duration::from_millis(50);

/// Sends messages. See [`SyslogTarget`] for what is promised.
pub(crate) struct Syslog {
    connector: Connector,
    encoder: Encoder,
    /// Taken while it is in use, so that a send that is dropped leaves no half of a message behind.
    connection: Option<Connection>,
    replay: Replay,
    limits: Limits,
}

impl Syslog {
    pub(crate) fn new(target: &SyslogTarget, limits: Limits) -> Result<Self, ConfigError> {
        let connector = Connector::new(
            &target.host,
            target.port,
            target.transport,
            target.ca_file.as_deref(),
            limits,
        )?;
        Ok(Self {
            connector,
            encoder: Encoder::new(target)?,
            connection: None,
            replay: Replay::default(),
            limits,
        })
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.connector.endpoint().clone()
    }

    pub(crate) async fn send(&mut self, lines: &[Line]) -> Result<Sent, SendError> {
        let pieces = self.encoder.encode(lines);
        let (again, mut connection) = match timeout(self.limits.send, self.deliver(&pieces)).await {
            Ok(delivered) => delivered?,
            Err(_) => {
                self.replay.ended(Ended::Reset);
                let seconds = self.limits.send.as_secs_f32();
                return Err(SendError::retry(format!(
                    "the receiver did not take the lines within {seconds} s"
                )));
            }
        };
        // A receiver that ended in this moment may have read nothing of it.
        if let Some(ended) = connection.ended().await {
            self.replay.ended(ended);
            return Err(lost("while it was sent to"));
        }
        self.connection = Some(connection);
        let now = Instant::now();
        self.replay.sent_again(now);
        let bytes = pieces.iter().chain(&again).map(|piece| piece.len() as u64);
        let bytes = bytes.sum();
        self.replay.remember(pieces, now);
        Ok(Sent {
            bytes,
            ..Sent::default()
        })
    }

    /// Writes what is to be sent again and `pieces`, and waits until the other kernel has it. Returns what was
    /// sent again.
    async fn deliver(&mut self, pieces: &[Bytes]) -> Result<(Vec<Bytes>, Connection), SendError> {
        let mut connection = self.connection.take();
        if let Some(open) = &mut connection
            && let Some(ended) = open.ended().await
        {
            self.replay.ended(ended);
            connection = None;
        }
        let (again, mut connection) = match connection {
            Some(connection) => (Vec::new(), connection),
            None => {
                let connection = self.connector.connect().await?;
                (self.replay.pieces(Instant::now()), connection)
            }
        };
        if let Err(error) = write(&mut connection, again.iter().chain(pieces)).await {
            self.replay.ended(Ended::Reset);
            return Err(error);
        }
        let mut wait = ACKNOWLEDGED_POLL_MIN;
        loop {
            match connection.unacknowledged() {
                Ok(0) => return Ok((again, connection)),
                Ok(_) => {}
                Err(_) => {
                    self.replay.ended(Ended::Reset);
                    return Err(lost("before it had everything"));
                }
            }
            if let Some(ended) = connection.ended().await {
                self.replay.ended(ended);
                return Err(lost("before it had everything"));
            }
            sleep(wait).await;
            wait = (wait * 2).min(ACKNOWLEDGED_POLL_MAX);
        }
    }

    pub(crate) async fn close(self) {
        if let Some(connection) = self.connection {
            connection.close().await;
        }
    }
}

async fn write(
    connection: &mut Connection,
    pieces: impl Iterator<Item = &Bytes>,
) -> Result<(), SendError> {
    let broken = |error| SendError::retry(format!("the connection broke: {error}"));
    for piece in pieces {
        connection.write(piece).await.map_err(broken)?;
    }
    connection.flush().await.map_err(broken)
}

fn lost(when: &str) -> SendError {
    SendError::retry(format!("the receiver closed the connection {when}"))
}
