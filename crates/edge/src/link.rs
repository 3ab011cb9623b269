//! Connections to instances, and keeping them for the next request.

use std::{
    io,
    mem::MaybeUninit,
    task::{Context, Waker},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::watch::{Clock, Moment};

/// A connection on which nothing came for so long is probed.
const PROBE_AFTER: Duration = Duration::from_secs(10);

/// The time between probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// After so many probes without an answer the connection has failed.
const PROBES: u32 = 3;

/// One connection to one instance.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    /// Whether it has served a request before. Then the application may have closed it just now,
    /// without having seen the next.
    pub(crate) reused: bool,
}

/// One worker's idle connections to one instance; the last one put is the first one taken.
#[derive(Debug, Default)]
pub(crate) struct IdleLinks {
    links: Vec<IdleLink>,
    closed: bool,
}

#[derive(Debug)]
struct IdleLink {
    stream: TcpStream,
    /// When it is to be closed.
    until: Moment,
    /// Until when a request that cannot be repeated may use it.
    fresh_until: Moment,
}

impl IdleLinks {
    /// A connection that the other side has not closed, as far as can be known.
    ///
    /// A request that may be repeated takes the event loop's word for it, which costs nothing. One
    /// that may not takes only a connection used just now, and asks the kernel as well.
    pub(crate) fn take(&mut self, clock: &Clock, repeatable: bool) -> Option<Link> {
        loop {
            let last = self.links.last()?;
            if !repeatable && clock.has_come(last.fresh_until) {
                return None;
            }
            let stream = self.links.pop()?.stream;
            if is_quiet(&stream) && (repeatable || is_quiet_now(&stream)) {
                return Some(Link {
                    stream,
                    reused: true,
                });
            }
        }
    }

    /// Keeps a connection, unless there are `links_max` or the instance is gone.
    pub(crate) fn put(&mut self, link: Link, until: Moment, fresh_until: Moment, links_max: usize) {
        if !self.closed && self.links.len() < links_max {
            self.links.push(IdleLink {
                stream: link.stream,
                until,
                fresh_until,
            });
        }
    }

    /// Drops those whose time is up and those that were closed by the other side.
    pub(crate) fn prune(&mut self, clock: &Clock) {
        self.links
            .retain(|link| !clock.has_come(link.until) && is_quiet(&link.stream));
    }

    /// The instance is gone from the table: closes all, and keeps none from now on.
    pub(crate) fn close(&mut self) {
        self.links = Vec::new();
        self.closed = true;
    }
}

/// Sets a new connection up.
///
/// An instance that vanishes with its network sends no word of it; the kernel's probes notice after
/// [`PROBE_AFTER`] and [`PROBES`] times [`PROBE_INTERVAL`].
///
/// # Errors
/// The connection has failed already.
pub(crate) fn prepare(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let probes = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_INTERVAL)
        .with_retries(PROBES);
    SockRef::from(&stream).set_tcp_keepalive(&probes)?;
    Ok(stream)
}

/// Whether the event loop has seen neither bytes nor an end on an idle connection.
fn is_quiet(stream: &TcpStream) -> bool {
    stream
        .poll_read_ready(&mut Context::from_waker(Waker::noop()))
        .is_pending()
}

/// Whether the kernel has neither bytes nor an end on an idle connection.
fn is_quiet_now(stream: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    let peeked = SockRef::from(stream).peek(&mut byte);
    matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
