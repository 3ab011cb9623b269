//! HTTP/2 from clients (RFC 9113): one task for the connection, one for each stream.
//!
//! A stream's request is written as a head of HTTP/1 and read by the one strict parser there is, so
//! that nothing is well-formed here that would not be there: a line feed in a value, a second
//! `host`, a length that is none. The lengths of bodies are checked against their data by `h2`.

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    ext::Protocol,
    server::{Builder, SendResponse},
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    task::spawn_local,
};

use crate::{
    answer::{Asked, Composed, Reply, compose, write_answer},
    body::{Sink, Source},
    cause::Cause,
    client::Client,
    client_address::Origin,
    config::{
        H2_FIELDS_BYTES_MAX, H2_LOCAL_RESETS_MAX, H2_PENDING_RESETS_MAX, H2_REMEMBERED_RESETS_MAX,
        H2_SEND_BUFFER_BYTES, H2_STREAMS_MAX,
    },
    dispatch::{self, Instead, Request, Undelivered},
    fields,
    forward::{ClientSide, field},
    gather::gather,
    h2c,
    head::{self, Framing, ResponseHead, Version},
    scratch::Scratch,
    stream::Ahead,
    watch::Watch,
    worker::Worker,
};

/// What a client may send on one stream before it has to wait, in bytes.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// The same on one connection.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// The largest frame taken, in bytes: the protocol's least, so that streams take turns.
pub(crate) const FRAME_BYTES: u32 = 16 * 1024;

/// What every connection of HTTP/2 begins with (RFC 9113, section 3.4), as far as it looks like the
/// head of a request.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// What the streams of one connection share.
struct Shared {
    worker: Rc<Worker>,
    origin: Origin,
    streams: Cell<usize>,
    /// Told when the last stream has ended.
    quiet: Notify,
}

/// Serves a client until its connection closes.
pub(crate) async fn serve(worker: Rc<Worker>, stream: Ahead<'_>, watch: &Watch, origin: Origin) {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_header_list_size(H2_FIELDS_BYTES_MAX)
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_concurrent_reset_streams(H2_REMEMBERED_RESETS_MAX)
        .max_pending_accept_reset_streams(H2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(H2_LOCAL_RESETS_MAX))
        .max_send_buffer_size(H2_SEND_BUFFER_BYTES)
        .enable_connect_protocol();
    watch.arm(worker.bounds.head_time);
    let (stream, gathered) = gather(stream);
    let mut handshake = Box::pin(builder.handshake::<_, Bytes>(stream));
    let shaken = poll_fn(|cx| match Pin::new(&mut handshake).poll(cx) {
        Poll::Ready(shaken) => Poll::Ready(shaken.ok()),
        Poll::Pending if watch.expired() || has_failed(gathered.poll_send(cx)) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await;
    drop(handshake);
    let Some(mut connection) = shaken else { return };
    let shared = Rc::new(Shared {
        worker,
        origin,
        streams: Cell::new(0),
        quiet: Notify::new(),
    });
    watch.arm(shared.worker.bounds.keep_alive_idle);
    let mut leaving = false;
    loop {
        let mut quiet = std::pin::pin!(shared.quiet.notified());
        let accepted = poll_fn(|cx| {
            if shared.worker.stopping.get() && !leaving {
                leaving = true;
                connection.graceful_shutdown();
            }
            if let Poll::Ready(accepted) = connection.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
            if quiet.as_mut().poll(cx).is_ready() {
                quiet.set(shared.quiet.notified());
                let _ = quiet.as_mut().poll(cx);
                watch.arm(shared.worker.bounds.keep_alive_idle);
                gathered.rest();
            }
            if shared.streams.get() == 0 && watch.expired() {
                if leaving {
                    return Poll::Ready(None);
                }
                leaving = true;
                connection.graceful_shutdown();
                watch.arm(shared.worker.bounds.drain_idle);
                if let Poll::Ready(accepted) = connection.poll_accept(cx) {
                    return Poll::Ready(accepted);
                }
            }
            // Every stream that was ready has written.
            match has_failed(gathered.poll_send(cx)) {
                true => Poll::Ready(None),
                false => Poll::Pending,
            }
        })
        .await;
        // An error is told by the protocol itself; there is nobody else to tell.
        let Some(Ok((request, respond))) = accepted else {
            break;
        };
        // Until the last stream has ended.
        watch.disarm();
        spawn_local(Stream::serve(Rc::clone(&shared), request, respond));
    }
}

fn has_failed(sent: Poll<io::Result<()>>) -> bool {
    matches!(sent, Poll::Ready(Err(_)))
}

/// One request and its response.
struct Stream {
    shared: Rc<Shared>,
    watch: Watch,
    up: RecvStream,
    /// What was received of the body and not yet taken.
    held: Bytes,
    respond: SendResponse<Bytes>,
    down: Down,
}

/// How far the response is.
enum Down {
    New,
    /// Its head is sent, and so many bytes are still to come, if that is known.
    Body(SendStream<Bytes>, Option<u64>),
    Ended,
}

impl Stream {
    async fn serve(
        shared: Rc<Shared>,
        request: http::Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) {
        let _counted = Counted::new(&shared);
        let watch = Watch::new(Rc::clone(&shared.worker.clock));
        watch.begin().await;
        let (parts, up) = request.into_parts();
        let mut scratch = shared.worker.borrow_scratch();
        let mut stream = Self {
            shared: Rc::clone(&shared),
            watch,
            up,
            held: Bytes::new(),
            respond,
            down: Down::New,
        };
        stream.run(&parts, &mut scratch).await;
        shared.worker.return_scratch(scratch);
    }

    async fn run(&mut self, parts: &Parts, scratch: &mut Scratch) {
        let mut request = loop {
            match self.begin(parts, scratch) {
                Ok(request) => break request,
                Err(Instead::Wait) => {
                    let worker = Rc::clone(&self.shared.worker);
                    Box::pin(async move { worker.told().await }).await;
                }
                Err(Instead::KeyAuthorization(_)) => {
                    // Authorities ask over HTTP/1.
                    let reply = Reply::to_nobody(Cause::NoSuchHost, SystemTime::now());
                    return Box::pin(self.answer(scratch, &compose(&reply), false)).await;
                }
                Err(Instead::Refuse(cause)) => {
                    let status = Some(cause.status());
                    let Shared { worker, origin, .. } = &*self.shared;
                    worker.note_refused(origin, status, cause);
                    let reply = Reply::to_nobody(cause, SystemTime::now());
                    let head_only = parts.method == Method::HEAD;
                    return Box::pin(self.answer(scratch, &compose(&reply), head_only)).await;
                }
            }
        };
        let mut slot = None;
        let is_empty = request.framing == Framing::Empty && !request.upgrade;
        let forwarded = match is_empty && !self.up.is_end_stream() && !self.ends_empty().await {
            true => Err(Undelivered::Answer(Cause::BadBody)),
            false => dispatch::forward(self, scratch, &mut request, &mut slot).await,
        };
        match forwarded {
            Ok(delivered) => {
                dispatch::note(self, scratch, &request, slot.as_ref(), None);
                if !delivered.request_read {
                    // RFC 9113 section 8.1: the response is whole, and the rest is not wanted.
                    self.respond.send_reset(Reason::NO_ERROR);
                }
            }
            Err(how @ Undelivered::Answer(cause)) => {
                dispatch::note(self, scratch, &request, slot.as_ref(), Some(how));
                drop(slot);
                let head_only = request.method == head::Method::Head;
                let mut head = std::mem::take(&mut scratch.to_app);
                let reply = request.reply(cause, head.bytes());
                Box::pin(self.answer(scratch, &compose(&reply), head_only)).await;
                scratch.to_app = head;
            }
            Err(how @ Undelivered::Abort(cause)) => {
                dispatch::note(self, scratch, &request, slot.as_ref(), Some(how));
                self.reset(match cause {
                    Cause::ClientLeft => Reason::CANCEL,
                    _ => Reason::INTERNAL_ERROR,
                });
            }
        }
    }

    /// Whether a body that is said to be empty is: the end may come in a frame of its own.
    #[cold]
    fn ends_empty(&mut self) -> Pin<Box<dyn Future<Output = bool> + '_>> {
        self.watch.arm(self.shared.worker.bounds.body_idle);
        Box::pin(poll_fn(|cx| {
            loop {
                return Poll::Ready(match self.up.poll_data(cx) {
                    Poll::Ready(None) => true,
                    Poll::Ready(Some(Ok(data))) if data.is_empty() => continue,
                    Poll::Ready(Some(_)) => false,
                    Poll::Pending if self.watch.expired() => false,
                    Poll::Pending => return Poll::Pending,
                });
            }
        }))
    }

    /// Writes the request's head as HTTP/1 does, and reads it.
    fn begin(&self, parts: &Parts, scratch: &mut Scratch) -> Result<Request, Instead> {
        let worker = &self.shared.worker;
        let mut head = std::mem::take(&mut scratch.canonical);
        head.clear();
        let written = write_head(
            parts,
            self.up.is_end_stream(),
            self.shared.origin.client.scheme.name(),
            &mut head,
        );
        if written.is_ok() {
            scratch.from_client.put(&head);
        }
        scratch.canonical = head;
        let (length, tunnels) = (scratch.canonical.len(), written?);
        let begun = dispatch::begin(worker, scratch, length, &self.shared.origin, false);
        scratch.from_client.clear();
        let mut request = begun?;
        if tunnels && !request.upgrade {
            return Err(Cause::UpgradeNotSupported.into());
        }
        // A stream that has ended with its head has no body, whatever its length was said to be.
        if self.up.is_end_stream() && request.framing != Framing::Empty {
            return Err(Cause::BadRequest.into());
        }
        if tunnels {
            request.keep_alive = false;
        }
        Ok(request)
    }

    /// Answers in the application's place. In a box where it is called: streams are made for every
    /// request, and few need this.
    async fn answer(&mut self, scratch: &mut Scratch, composed: &Composed<'_>, head_only: bool) {
        if !matches!(self.down, Down::New) {
            return self.reset(Reason::INTERNAL_ERROR);
        }
        let asked = Asked {
            version: Version::Http11,
            head_only: false,
            keep_alive: true,
        };
        let mut answer = std::mem::take(&mut scratch.canonical);
        answer.clear();
        write_answer(&mut answer, composed, asked);
        let sent = self.send_answer(&answer, composed.cause, head_only).await;
        scratch.canonical = answer;
        if sent.is_none() {
            self.reset(Reason::INTERNAL_ERROR);
        } else if !self.up.is_end_stream() {
            self.respond.send_reset(Reason::NO_ERROR);
        }
    }

    async fn send_answer(&mut self, answer: &[u8], cause: Cause, head_only: bool) -> Option<()> {
        let end = head::find_end(answer, 0).ok()??;
        let response = response_of_edge(&answer[..end], cause)?;
        let mut body = if head_only { &[] } else { &answer[end..] };
        let sent = self.respond.send_response(response, body.is_empty()).ok()?;
        self.down = match body.is_empty() {
            true => Down::Ended,
            false => Down::Body(sent, Some(body.len() as u64)),
        };
        self.watch.arm(self.shared.worker.bounds.client_write_idle);
        poll_fn(|cx| {
            while !body.is_empty() {
                match Pin::new(&mut *self).poll_write(cx, body) {
                    Poll::Ready(Ok(written)) => body = &body[written..],
                    Poll::Ready(Err(_)) => return Poll::Ready(None),
                    Poll::Pending if self.watch.expired() => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Some(()))
        })
        .await
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.down {
            Down::New => self.respond.send_reset(reason),
            Down::Body(stream, _) => stream.send_reset(reason),
            Down::Ended => {}
        }
    }
}

/// Writes the head of a request as HTTP/1 does; says whether it asks for a tunnel.
fn write_head(parts: &Parts, ended: bool, scheme: &str, out: &mut Vec<u8>) -> Result<bool, Cause> {
    let protocol = parts.extensions.get::<Protocol>();
    let tunnels = match (&parts.method, protocol) {
        (&Method::CONNECT, None) => return Err(Cause::MethodNotSupported),
        // RFC 8441: a WebSocket over a stream.
        (&Method::CONNECT, Some(protocol)) if protocol.as_str() != "websocket" => {
            return Err(Cause::UpgradeNotSupported);
        }
        (_, protocol) => protocol.is_some(),
    };
    // RFC 9113 section 8.3.1: it says which scheme was meant, and this is no gateway to another.
    if parts.uri.scheme_str().is_some_and(|other| {
        !other.eq_ignore_ascii_case(scheme) && !other.eq_ignore_ascii_case("https")
    }) {
        return Err(Cause::BadRequest);
    }
    let method = if tunnels {
        "GET"
    } else {
        parts.method.as_str()
    };
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    let target = parts.uri.path_and_query().ok_or(Cause::BadRequest)?;
    out.extend_from_slice(target.as_str().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    host(parts, out)?;
    let mut cookies = parts.headers.get_all(header::COOKIE).iter().peekable();
    if cookies.peek().is_some() {
        // RFC 9113 section 8.2.3: one field, before it leaves HTTP/2.
        out.extend_from_slice(b"cookie: ");
        while let Some(cookie) = cookies.next() {
            out.extend_from_slice(cookie.as_bytes());
            if cookies.peek().is_some() {
                out.extend_from_slice(b"; ");
            }
        }
        out.extend_from_slice(b"\r\n");
    }
    for (name, value) in &parts.headers {
        // RFC 9113 section 8.2.1: white space around a value is malformed, not to be trimmed.
        if value.as_bytes().trim_ascii() != value.as_bytes() {
            return Err(Cause::BadRequest);
        }
        if !matches!(*name, header::HOST | header::COOKIE) {
            field(out, name.as_str(), value.as_bytes());
        }
    }
    if tunnels {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
        // Required of HTTP/1 (RFC 6455, section 4.1) and meaningless in HTTP/2; the answer to it
        // is not passed on.
        out.extend_from_slice(b"sec-websocket-key: ZWtpZGVuIHRvIGFwcC4uLg==\r\n");
    } else if !ended && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(tunnels)
}

/// The host, which has two places and may not differ between them.
fn host(parts: &Parts, out: &mut Vec<u8>) -> Result<(), Cause> {
    let mut named = parts.headers.get_all(header::HOST).iter();
    let (named, another) = (named.next(), named.next());
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    let host = match (authority, named, another) {
        (_, _, Some(_)) | (None, None, None) => return Err(Cause::BadRequest),
        (Some(authority), None, None) => authority.as_bytes(),
        (None, Some(named), None) => named.as_bytes(),
        (Some(authority), Some(named), None) => {
            if !named.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) {
                return Err(Cause::BadRequest);
            }
            authority.as_bytes()
        }
    };
    field(out, "host", host);
    Ok(())
}

/// A response's head, as HTTP/2 has it.
fn response_of(head: &ResponseHead<'_, '_>) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).ok()?;
    let fields: &mut HeaderMap = response.headers_mut();
    fields.reserve(head.fields.len() + 1);
    for (index, line) in head.fields.iter().enumerate() {
        if head.kept.contains(index) {
            let (name, value) = fields::pair(line.name, line.value)?;
            fields.append(name, value);
        }
    }
    if let (Some(length), false) = (head.content_length, head.status == 204) {
        fields.insert(header::CONTENT_LENGTH, length.into());
    }
    Some(response)
}

/// The head of an answer of the edge's own, as HTTP/2 has it.
fn response_of_edge(head: &[u8], cause: Cause) -> Option<Response<()>> {
    let mut space = head::field_space();
    let parsed = head::parse_response(head, &mut space, head::Method::Other).ok()?;
    let mut response = response_of(&parsed)?;
    // The parser takes it away, because an application may not say it.
    let name = HeaderValue::from_static(cause.name());
    response.headers_mut().insert("x-ekiden-cause", name);
    Some(response)
}

fn broken() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl Client for Stream {
    fn worker(&self) -> &Rc<Worker> {
        &self.shared.worker
    }

    fn watch(&self) -> &Watch {
        &self.watch
    }

    fn origin(&self) -> &Origin {
        &self.shared.origin
    }

    fn poll_left(&mut self, _: &mut Scratch, _: &Request, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.down {
            Down::New => self.respond.poll_reset(cx),
            Down::Body(stream, _) => stream.poll_reset(cx),
            Down::Ended => return Poll::Pending,
        };
        reset.map(drop)
    }

    fn inform(
        &mut self,
        head: &ResponseHead<'_, '_>,
        _: &Request,
        _: &mut Vec<u8>,
    ) -> io::Result<()> {
        let response = response_of(head).ok_or_else(broken)?;
        self.respond
            .send_informational(response)
            .map_err(io::Error::other)
    }

    fn respond(
        &mut self,
        head: &ResponseHead<'_, '_>,
        request: &Request,
        _: bool,
        _: &mut Vec<u8>,
    ) -> io::Result<ClientSide> {
        let mut response = response_of(head).ok_or_else(broken)?;
        fields::read_lines(&request.added, response.headers_mut());
        let mut length = match head.framing {
            Framing::Empty => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        if head.status == 101 {
            // RFC 8441 section 5: a tunnel is had with 200.
            *response.status_mut() = StatusCode::OK;
            response.headers_mut().remove("sec-websocket-accept");
            length = None;
        }
        let ends = length == Some(0);
        let sent = self
            .respond
            .send_response(response, ends)
            .map_err(io::Error::other)?;
        self.down = match ends {
            true => Down::Ended,
            false => Down::Body(sent, length),
        };
        Ok(ClientSide {
            version: Version::Http11,
            keep_alive: true,
            chunked: false,
        })
    }

    fn has_responded(&self) -> bool {
        !matches!(self.down, Down::New)
    }
}

impl Source for Stream {
    fn poll_trailers(&mut self, lines: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        h2c::poll_trailers(&mut self.up, lines, cx)
    }
}

impl Sink for Stream {
    fn end(&mut self, section: &[u8]) -> io::Result<()> {
        match std::mem::replace(&mut self.down, Down::Ended) {
            Down::New => Err(broken()),
            Down::Body(mut stream, _) => h2c::end(&mut stream, section),
            Down::Ended => Ok(()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        h2c::poll_read(&mut this.up, &mut this.held, cx, room)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Down::Body(stream, left) = &mut this.down else {
            return Poll::Ready(Err(broken()));
        };
        let is_last = |length: usize| *left == Some(length as u64);
        let written = h2c::poll_write(stream, cx, bytes, is_last);
        if let (Poll::Ready(Ok(length)), Some(left)) = (&written, left) {
            *left = left.saturating_sub(*length as u64);
            if *left == 0 {
                this.down = Down::Ended;
            }
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the connection's task writes
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().end(&[]))
    }
}

/// A stream, counted among its connection's.
struct Counted(Rc<Shared>);

impl Counted {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.streams.set(shared.streams.get() + 1);
        Self(Rc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let left = self.0.streams.get() - 1;
        self.0.streams.set(left);
        if left == 0 {
            self.0.quiet.notify_one();
        }
    }
}
