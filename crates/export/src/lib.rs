//! Sends log lines, metrics and spans to other systems.
//!
//! The sending end only: whoever has the lines reads them by their sequence, calls
//! [`Drain::send`](drain::Drain::send) and goes on when it is `Ok`. Nothing is queued here, nothing is repeated
//! here, and nothing is written to the disk; [`backoff::Backoff`] says how long to wait before a batch is sent
//! again. So every line arrives at least once, as far as the protocol lets a sender know:
//!
//! | target | `Ok` means |
//! | --- | --- |
//! | `otlp`, `http` | the receiver answered 2xx |
//! | `fluent` | the receiver acknowledged the chunk |
//! | `s3` | the objects are written, under names that the same batch has again |
//! | `syslog` | the receiver's kernel has every byte; see [`target::SyslogTarget`] for what that is worth |
//!
//! Metrics and spans go by [`otlp::OtlpClient`].

pub mod backoff;
mod compress;
mod connection;
pub mod drain;
mod fluent;
mod http_client;
mod json;
mod json_http;
pub mod limits;
pub mod line;
mod msgpack;
pub mod otlp;
mod s3;
pub mod secrets;
mod syslog;
pub mod target;
pub mod telemetry;
mod timestamp;
mod tls;
mod unacknowledged;
