//! The host engine: images, root file systems, networks, cgroups and containers of one machine.
//!
//! The only crate with `unsafe`, and the only role that runs as root with its hands on the kernel.

pub mod cgroup;
pub mod config;
mod durable;
pub mod image;
mod log;
pub mod network;
mod seccomp;
pub mod shim;
mod sys;
