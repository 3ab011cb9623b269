//! The command line: what `ekiden` says and asks, apart from running the server.

pub mod failure;
pub mod output;
pub mod status;
