//! HTTP/2 to an application, without TLS and by prior knowledge (RFC 9113, section 3.3): what gRPC
//! servers speak.
//!
//! An instance's connections are shared by the requests of one worker, as many on each as the
//! application allows. A request's head arrives here as HTTP/1, and a response's leaves as such.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{HeaderValue, Method, Request as Http2Request, Uri, Version, header};
use tokio::{io::ReadBuf, net::TcpStream, task::spawn_local};

use crate::{
    buffer::Input,
    cause::Cause,
    dispatch::Request,
    exchange::Failed,
    fields,
    forward::status_line,
    gather::gather,
    head,
    http2::{CONNECTION_WINDOW_BYTES, FRAME_BYTES, STREAM_WINDOW_BYTES},
    link::NoHead,
    scratch::Scratch,
};

/// Connections that one worker has to one instance; beyond, requests wait for a stream of one.
const CONNECTIONS_MAX: usize = 8;

/// The largest field section of a response, in bytes.
const FIELDS_BYTES_MAX: u32 = 64 * 1024;

/// One worker's connections to one instance.
#[derive(Debug, Default)]
pub(crate) struct SharedLinks {
    connections: RefCell<Vec<Connection>>,
}

/// One connection.
#[derive(Debug, Clone)]
struct Connection {
    sender: SendRequest<Bytes>,
    /// Requests on it.
    streams: Rc<Cell<usize>>,
}

/// One request on a stream of its own.
pub(crate) struct Exchange {
    connection: Connection,
    state: State,
}

enum State {
    New,
    Open {
        up: SendStream<Bytes>,
        /// Whether the request has ended.
        up_ended: bool,
        response: ResponseFuture,
        down: Option<Download>,
    },
}

/// A response's body.
struct Download {
    stream: RecvStream,
    /// What was received and not yet taken.
    held: Bytes,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

impl SharedLinks {
    /// A way to a new stream on a connection that has room, if there is one.
    pub(crate) fn take(&self) -> Option<Box<Exchange>> {
        let mut connections = self.connections.borrow_mut();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut found = None;
        connections.retain_mut(|connection| {
            let room = connection.streams.get() < connection.sender.current_max_send_streams();
            match connection.sender.poll_ready(&mut cx) {
                Poll::Ready(Err(_)) => return false,
                Poll::Ready(Ok(())) if room && found.is_none() => found = Some(connection.clone()),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            true
        });
        if found.is_none() && connections.len() >= CONNECTIONS_MAX {
            found = connections.first().cloned();
        }
        Some(Box::new(Exchange::new(found?)))
    }

    /// Begins to speak HTTP/2 on a new connection, and keeps it.
    ///
    /// # Errors
    /// The connection fails.
    pub(crate) async fn open(&self, stream: TcpStream) -> Result<Box<Exchange>, h2::Error> {
        let (stream, gathered) = gather(stream);
        let (sender, mut connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .max_header_list_size(FIELDS_BYTES_MAX)
            .handshake::<_, Bytes>(stream)
            .await?;
        spawn_local(async move {
            let ended = poll_fn(|cx| {
                if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                    return Poll::Ready(ended.map_err(io::Error::other));
                }
                // Every stream that was ready has written.
                match gathered.poll_send(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    _ => Poll::Pending,
                }
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "a connection to an instance ended");
            }
        });
        let connection = Connection {
            sender,
            streams: Rc::default(),
        };
        self.connections.borrow_mut().push(connection.clone());
        Ok(Box::new(Exchange::new(connection)))
    }

    /// Drops the connections; each ends when its last stream does.
    pub(crate) fn close(&self) {
        self.connections.borrow_mut().clear();
    }
}

impl Exchange {
    fn new(connection: Connection) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self {
            connection,
            state: State::New,
        }
    }

    /// Waits until the connection takes another stream.
    ///
    /// # Errors
    /// The connection has ended.
    pub(crate) async fn ready(&mut self) -> Result<(), h2::Error> {
        poll_fn(|cx| self.connection.sender.poll_ready(cx)).await
    }

    /// Sends the head.
    pub(crate) fn begin(&mut self, scratch: &mut Scratch, request: &Request) -> Result<(), Failed> {
        let bytes = &scratch.to_app.bytes()[..request.head_bytes];
        let head =
            request_head(bytes, request.takes_trailers).ok_or(Failed::Answer(Cause::BadRequest))?;
        scratch.to_app.skip(request.head_bytes);
        let ends = request.framing == head::Framing::Empty;
        let (response, up) = self
            .connection
            .sender
            .send_request(head, ends)
            .map_err(|_| Failed::Closed)?;
        self.state = State::Open {
            up,
            up_ended: ends,
            response,
            down: None,
        };
        Ok(())
    }

    /// Whether the response has ended.
    pub(crate) fn has_ended(&self) -> bool {
        match &self.state {
            State::Open {
                down: Some(down), ..
            } => down.held.is_empty() && down.stream.is_end_stream(),
            _ => false,
        }
    }

    /// Waits for a response's head, and writes it as HTTP/1 does.
    pub(crate) fn poll_head(
        &mut self,
        from_app: &mut Input,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, NoHead>> {
        let State::Open { response, down, .. } = &mut self.state else {
            return Poll::Ready(Err(NoHead::Closed));
        };
        let mut head = Vec::with_capacity(512);
        if let Poll::Ready(Some(Ok(informational))) = response.poll_informational(cx) {
            status_line(&mut head, informational.status().as_u16(), "");
            fields::lines(informational.headers(), &mut head);
        } else {
            let (parts, stream) = match ready!(Pin::new(response).poll(cx)) {
                Ok(response) => response.into_parts(),
                Err(error) => return Poll::Ready(Err(no_head(&error))),
            };
            let reason = parts.status.canonical_reason().unwrap_or_default();
            status_line(&mut head, parts.status.as_u16(), reason);
            fields::lines(&parts.headers, &mut head);
            *down = Some(Download {
                stream,
                held: Bytes::new(),
            });
        }
        head.extend_from_slice(b"\r\n");
        from_app.put(&head);
        Poll::Ready(Ok(head.len()))
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Open {
                down: Some(down), ..
            } => poll_read(&mut down.stream, &mut down.held, cx, room),
            _ => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.state {
            State::Open {
                up,
                up_ended: false,
                ..
            } => poll_write(up, cx, bytes, |_| false),
            _ => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Ends the request.
    pub(crate) fn end(&mut self, section: &[u8]) -> io::Result<()> {
        match &mut self.state {
            State::Open { up, up_ended, .. } if !*up_ended => {
                *up_ended = true;
                end(up, section)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn poll_trailers(
        &mut self,
        lines: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Open {
                down: Some(down), ..
            } => poll_trailers(&mut down.stream, lines, cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let streams = &self.connection.streams;
        streams.set(streams.get() - 1);
    }
}

/// Reads a head of HTTP/1 that the edge wrote itself.
fn request_head(bytes: &[u8], takes_trailers: bool) -> Option<Http2Request<()>> {
    let mut space = head::field_space();
    let mut parsed = httparse::Request::new(&mut []);
    parsed.parse_with_uninit_headers(bytes, &mut space).ok()?;
    let mut host = None;
    let mut request = Http2Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    for line in parsed.headers.iter() {
        match line.name {
            "Host" => host = Some(line.value),
            // These frame a message of HTTP/1 (RFC 9113, section 8.2.2).
            "Transfer-Encoding" | "Connection" | "Upgrade" => {}
            name => {
                let (name, value) = fields::pair(name, line.value)?;
                request.headers_mut().append(name, value);
            }
        }
    }
    if takes_trailers {
        let value = HeaderValue::from_static("trailers");
        request.headers_mut().insert(header::TE, value);
    }
    *request.uri_mut() = Uri::builder()
        .scheme("http")
        .authority(host?)
        .path_and_query(parsed.path?)
        .build()
        .ok()?;
    Some(request)
}

/// A stream that was refused, or never seen, may be tried again.
fn no_head(error: &h2::Error) -> NoHead {
    match error.reason() {
        Some(Reason::REFUSED_STREAM | Reason::NO_ERROR) => NoHead::Closed,
        None if error.is_io() => NoHead::Closed,
        _ => NoHead::Because(Cause::AppBadResponse),
    }
}

/// Reads from a stream, and lets the sender send as much more.
pub(crate) fn poll_read(
    stream: &mut RecvStream,
    held: &mut Bytes,
    cx: &mut Context<'_>,
    room: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    while held.is_empty() {
        match ready!(stream.poll_data(cx)) {
            Some(Ok(bytes)) => *held = bytes,
            Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            None => return Poll::Ready(Ok(())),
        }
    }
    let taken = held.split_to(held.len().min(room.remaining()));
    room.put_slice(&taken);
    Poll::Ready(
        stream
            .flow_control()
            .release_capacity(taken.len())
            .map_err(io::Error::other),
    )
}

/// Writes to a stream as much as the receiver takes; `is_last` says of a number of bytes whether
/// the stream ends with them.
pub(crate) fn poll_write(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
    bytes: &[u8],
    is_last: impl FnOnce(usize) -> bool,
) -> Poll<io::Result<usize>> {
    if stream.capacity() == 0 {
        stream.reserve_capacity(bytes.len().min(WRITE_BYTES_MAX));
        // More than one frame's worth may have to come first.
        while stream.capacity() == 0 {
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }
    let length = bytes.len().min(stream.capacity());
    let sent = stream.send_data(Bytes::copy_from_slice(&bytes[..length]), is_last(length));
    Poll::Ready(sent.map(|()| length).map_err(io::Error::other))
}

/// What is reserved of a window at a time, in bytes.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Ends a stream, with these trailers if there are any.
pub(crate) fn end(stream: &mut SendStream<Bytes>, section: &[u8]) -> io::Result<()> {
    let trailers = fields::trailers(section);
    if trailers.is_empty() {
        stream.send_data(Bytes::new(), true)
    } else {
        stream.send_trailers(trailers)
    }
    .map_err(io::Error::other)
}

/// The trailers of a stream whose data has ended, as lines.
pub(crate) fn poll_trailers(
    stream: &mut RecvStream,
    lines: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    Poll::Ready(match ready!(stream.poll_trailers(cx)) {
        // RFC 9113 section 8.2.1: white space around a value is malformed.
        Ok(Some(trailers))
            if trailers
                .values()
                .any(|value| value.as_bytes().trim_ascii() != value.as_bytes()) =>
        {
            Err(io::ErrorKind::InvalidData.into())
        }
        Ok(Some(trailers)) => {
            fields::lines(&trailers, lines);
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) => Err(io::Error::other(error)),
    })
}
