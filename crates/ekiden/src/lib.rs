//! Ekiden: a self-hosted App Runner in one program.
//!
//! One program file is the server, its roles, the shim of every instance and the command line;
//! which of them a process is, its first argument says.

pub mod arguments;
pub mod backoff;
pub mod channel;
pub mod config;
pub mod durable;
pub mod health;
pub mod layout;
pub mod link;
pub mod listeners;
pub mod lock;
pub mod log;
pub mod notify;
pub mod process;
pub mod role;
pub mod stop;
pub mod supervisor;
pub mod wiring;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::{arguments::Arguments, role::Role};

/// Everything a process of this program does.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        // Not shown in any help: only Ekiden itself starts these.
        // The shim first: its start is part of every instance's start.
        (Some("shim"), None) => ekiden_agent::shim::main(),
        (Some(ekiden_agent::dockerfile::SANDBOX), None) => ekiden_agent::dockerfile::sandbox_main(),
        (Some("role"), Some(name)) if let Ok(role) = Role::from_str(&name, false) => {
            role::main(role)
        }
        _ => Arguments::parse().run(),
    }
}
