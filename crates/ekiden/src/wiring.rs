//! What each role is made of: its settings, its sockets, its runtime.

use std::os::fd::OwnedFd;

use crate::{channel::Start, link::Link};

/// Runs the role until it is told to stop.
///
/// # Errors
/// The role cannot begin, or cannot go on.
pub fn run(start: Start, sockets: Vec<OwnedFd>, link: &Link) -> anyhow::Result<()> {
    link.ready();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _ = (start, sockets);
    runtime.block_on(link.stop.cancelled());
    Ok(())
}
