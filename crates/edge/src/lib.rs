//! The front door: accepts connections of HTTP/1 and HTTP/2, finds each request's service by its
//! host name, waits for an instance with room, and passes request and response on.
//!
//! One thread per core, each with its own event loop, listening sockets and connections to
//! instances; a thread more talks to control and makes the tables. What all workers share is little:
//! per instance one count of requests in flight, per service one queue and its counters.
//!
//! A request's way through the modules: [`worker`] accepts, [`tls`] shakes hands, [`connection`]
//! reads a head, or [`http2`] writes one for a stream; both are a [`client`] from there on. [`head`]
//! finds it good or refuses it, [`forward`] writes it anew, [`dispatch`] finds the service and a
//! slot in [`routes`] ([`queue`], when there is none), [`link`] is the way to the instance ([`h2c`],
//! when that speaks HTTP/2), [`exchange`] moves both bodies ([`body`], [`chunked`]), or [`tunnel`]
//! what follows a change of protocol, [`answer`] says why where the edge answers itself ([`cause`]),
//! and [`access_log`] and [`counters`] take in what became of it ([`distribution`], how long it took).
//! Which trace it is of is in [`trace_context`] and [`tracer`]. A table's way:
//! [`control`], [`publisher`], [`routes`], and back through [`worker`]'s acknowledgement.
//!
//! A certificate's way: [`control`], [`tls`], and from there into the next handshake.
//!
//! The edge reads no database and never waits for control: it serves by the last table and the last
//! certificates it was given, across its own restarts too. The keys of those certificates are the
//! only secrets it has.

mod access_log;
mod acme;
mod answer;
mod body;
mod buffer;
pub mod cause;
pub mod chunked;
mod client;
mod client_address;
mod compression;
pub mod config;
mod connection;
mod control;
#[cfg(test)]
mod cost;
mod counters;
mod demand;
mod dispatch;
mod distribution;
mod edge;
mod exchange;
mod fields;
mod forward;
mod gather;
mod h2c;
pub mod head;
mod http2;
mod ingress;
mod instance;
mod link;
pub mod listener;
pub mod proxy_protocol;
mod publisher;
mod queue;
mod request_id;
mod routes;
mod saved;
mod scratch;
mod sticky;
mod stream;
mod tls;
mod trace_context;
mod tracer;
mod tunnel;
mod watch;
mod worker;

pub use edge::{Edge, EdgeError, run};
