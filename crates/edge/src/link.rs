//! Connections to instances, and keeping them for the next request.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{
    body::{Sink, Source},
    buffer::Input,
    cause::Cause,
    dispatch::Request,
    exchange::Failed,
    h2c::Exchange,
    head,
    scratch::Scratch,
    watch::{Clock, Moment},
};

/// A connection on which nothing came for so long is probed.
const PROBE_AFTER: Duration = Duration::from_secs(10);

/// The time between probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// After so many probes without an answer the connection has failed.
const PROBES: u32 = 3;

/// One way to one instance, for one request.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) kind: LinkKind,
    /// Whether it has served a request before. Then the application may have closed it just now,
    /// without having seen the next.
    pub(crate) reused: bool,
}

/// In which protocol.
#[derive(Debug)]
pub(crate) enum LinkKind {
    /// A connection of its own.
    Http1(TcpStream),
    /// A stream of a shared connection.
    H2c(Box<Exchange>),
}

/// Why there is no head of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoHead {
    /// The instance closed before the first byte of one.
    Closed,
    /// Something else.
    Because(Cause),
}

impl Link {
    /// Whether bodies without a length are chunked here.
    pub(crate) fn is_coded(&self) -> bool {
        matches!(self.kind, LinkKind::Http1(_))
    }

    /// Whether the response has ended with its head.
    pub(crate) fn has_ended(&self) -> bool {
        match &self.kind {
            LinkKind::Http1(_) => false,
            LinkKind::H2c(exchange) => exchange.has_ended(),
        }
    }

    /// Begins a request, whose head is at the start of `to_app`.
    pub(crate) fn begin(&mut self, scratch: &mut Scratch, request: &Request) -> Result<(), Failed> {
        match &mut self.kind {
            LinkKind::Http1(_) => Ok(()),
            LinkKind::H2c(exchange) => exchange.begin(scratch, request),
        }
    }

    /// Reads until `from_app` begins with the head of a response; gives its length. `scanned` is
    /// how much of it was looked at before.
    pub(crate) fn poll_head(
        &mut self,
        from_app: &mut Input,
        scanned: &mut usize,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, NoHead>> {
        let stream = match &mut self.kind {
            LinkKind::Http1(stream) => stream,
            LinkKind::H2c(exchange) => return exchange.poll_head(from_app, cx),
        };
        loop {
            let held = from_app.held();
            match head::find_end(held, *scanned) {
                Ok(Some(end)) => return Poll::Ready(Ok(end)),
                Ok(None) if held.len() < bytes_max => *scanned = held.len(),
                _ => return Poll::Ready(Err(NoHead::Because(Cause::AppBadResponse))),
            }
            match ready!(from_app.poll_fill(stream, bytes_max, cx)) {
                Ok(1..) => {}
                _ if from_app.is_empty() => return Poll::Ready(Err(NoHead::Closed)),
                _ => return Poll::Ready(Err(NoHead::Because(Cause::AppClosedEarly))),
            }
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            LinkKind::Http1(stream) => Pin::new(stream).poll_read(cx, room),
            LinkKind::H2c(exchange) => exchange.poll_read(cx, room),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            LinkKind::Http1(stream) => Pin::new(stream).poll_write(cx, bytes),
            LinkKind::H2c(exchange) => exchange.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // neither kind holds anything back
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            LinkKind::Http1(stream) => Pin::new(stream).poll_shutdown(cx),
            LinkKind::H2c(exchange) => Poll::Ready(exchange.end(&[])),
        }
    }
}

impl Source for Link {
    fn poll_trailers(&mut self, lines: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            LinkKind::Http1(_) => Poll::Ready(Ok(())),
            LinkKind::H2c(exchange) => exchange.poll_trailers(lines, cx),
        }
    }
}

impl Sink for Link {
    fn end(&mut self, trailers: &[u8]) -> io::Result<()> {
        match &mut self.kind {
            LinkKind::Http1(_) => Ok(()),
            LinkKind::H2c(exchange) => exchange.end(trailers),
        }
    }
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
                    kind: LinkKind::Http1(stream),
                    reused: true,
                });
            }
        }
    }

    /// Keeps a connection, unless there are `links_max` or the instance is gone.
    pub(crate) fn put(&mut self, link: Link, until: Moment, fresh_until: Moment, links_max: usize) {
        if let LinkKind::Http1(stream) = link.kind
            && !self.closed
            && self.links.len() < links_max
        {
            self.links.push(IdleLink {
                stream,
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
