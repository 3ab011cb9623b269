//! The command line: what `ekiden` says and asks, apart from running the server.

pub mod api;
pub mod audit;
pub mod build_log;
pub mod certificate;
pub mod command;
pub mod connection;
pub mod deploy;
pub mod domain;
pub mod drain;
pub mod endpoint;
pub mod environment;
pub mod failure;
pub mod image;
pub mod ingress;
pub mod key;
pub mod logs;
pub mod operation;
pub mod operations;
pub mod output;
pub mod progress;
pub mod revisions;
pub mod scale;
pub mod secrets;
pub mod services;
pub mod status;
pub mod webhook;
