//! The host engine: images, root file systems, networks, cgroups and containers of one machine.
//!
//! The only crate with `unsafe` (in one module, `sys`), and the only role that runs as root with its hands on the
//! kernel. It decides nothing: control says what runs, the agent makes it so and says what it sees.
//!
//! [`server::run`] is the agent; [`shim::main`] is what its program must call when its first argument
//! is `shim`; [`teardown::teardown`] removes every trace and [`doctor::check`] says what a host lacks.
//!
//! ```text
//! server -> host -> instance (a task each) -> link ~~~ socket ~~~ shim (a process each) -> container
//!             |         |-- record, resolver, tree, disk, cgroup, network
//!             |-- images
//! ```

mod builds;
pub mod cgroup;
pub mod config;
pub mod disk;
pub mod dockerfile;
pub mod doctor;
mod durable;
pub mod host;
pub mod image;
pub mod images;
mod instance;
mod link;
mod log;
pub mod network;
mod record;
mod resolver;
mod seccomp;
pub mod server;
pub mod shim;
mod sys;
pub mod teardown;
mod tree;
mod usage;
