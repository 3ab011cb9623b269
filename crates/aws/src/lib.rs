//! The wire: AWS's protocols as a server speaks them, and a client that speaks one.
//!
//! What clients send and are sent, apart from what is done about it. Nothing here does I/O but
//! [`client`]; nothing reads a clock but it. The shapes and constraints of App Runner and
//! of most of its companions are generated from their public service models; what Ekiden accepts
//! beyond them stands, with the reason, in `models/apprunner.relaxed.json`.

pub mod apprunner;
pub mod arn;
pub mod blob;
pub mod client;
pub mod cloudwatch;
pub mod constraint;
pub mod decode;
pub mod ecr;
mod encode;
pub mod epoch_seconds;
pub mod error;
pub mod events;
pub mod logs;
#[cfg(test)]
mod model_tests;
pub mod native;
pub mod nothing;
mod operations;
pub mod protocol;
pub mod secretsmanager;
pub mod sigv4;
pub mod ssm;
pub mod sts;
