//! The edge from outside: real sockets, scripted clients, scripted applications, a scripted
//! control. Nothing here sleeps to synchronise; whatever is waited for, is waited for as a state,
//! and a test that waits for [`support::PATIENCE`] has failed.

#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod bodies;
mod capacity;
mod counts;
mod failures;
mod forwarding;
mod http2;
mod ingress;
mod refusals;
mod support;
mod tables;
mod tracing;
mod upgrades;
