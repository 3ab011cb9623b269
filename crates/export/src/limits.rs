//! How long a receiver may take, and how much it may say.

use std::time::Duration;

/// Bytes of an answer that are read; a receiver that says more is not listened to any further.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long things may take. The defaults are for production; tests have shorter ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For finding the address and making the TCP connection.
    pub connect: Duration,
    /// For the whole of one send, the connection, the TLS handshake and the answer included. Object
    /// storage has as long for each object.
    pub send: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            send: Duration::from_secs(30),
        }
    }
}
