//! Ekiden's words, and every decision it makes.
//!
//! Nothing here does I/O, reads a clock or draws a random number: time and randomness are
//! arguments. What other crates do is decided here, so that a decision can be tested, replayed and
//! simulated without a machine to run it on.

pub mod access;
pub mod alert;
pub mod certificate;
pub mod domain;
pub mod domain_name;
pub mod event_pattern;
pub mod health;
pub mod histogram;
pub mod id;
pub mod image;
pub mod ingress;
pub mod ingress_path;
pub mod instance;
pub mod lifecycle;
pub mod name;
pub mod narrative;
pub mod parameter;
pub mod peak;
pub mod plan;
pub mod repository;
pub mod request_counts;
pub mod revision;
pub mod route;
pub mod scale;
pub mod scaling;
pub mod secret;
pub mod secret_env;
pub mod secret_reference;
pub mod service;
pub mod source;
pub mod span;
pub mod time;
pub mod usage;
pub mod wildcard;
