//! One client's connection: request after request, in one task.
//!
//! The task holds no buffers while it waits for a request. A request is read, answered or
//! forwarded, and its response written, before the next one that may already have arrived is
//! looked at: pipelining is served in sequence.
//!
//! A client that closes its sending half after a request has *left* when it had asked to keep the
//! connection (its request is cancelled at once), and is merely *half-closed* when it had announced
//! its last request (`Connection: close`, HTTP/1.0) or had sent more requests behind this one.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::SystemTime,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    acme,
    answer::{Asked, Reply, compose, write_answer},
    body::{Sink, Source},
    cause::Cause,
    client::Client,
    client_address::Origin,
    config::{LINGER_BYTES, LINGER_TIME},
    dispatch::{self, Instead, Request, Undelivered},
    exchange::Delivered,
    forward::{self, ClientSide},
    head::{self, Framing, Method, ResponseHead, Version},
    http2,
    scratch::Scratch,
    stream::{Ahead, ClientStream, poll_shutdown},
    watch::Watch,
    worker::{Counted, Worker},
};

/// A client's connection.
pub(crate) struct Connection {
    worker: Rc<Worker>,
    /// What it counts as, until it ends.
    _counted: Counted,
    stream: ClientStream,
    watch: Watch,
    /// The client has closed its sending half, and is owed an answer all the same.
    half_closed: bool,
    origin: Origin,
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The next request, which may be there already.
    Request,
    /// Nothing is there: wait without buffers.
    Idle,
    /// Close it: nothing more is expected from the client.
    Close,
    /// Close it after reading what the client still sends.
    Linger,
    /// Go on in HTTP/2.
    Http2,
    /// Close it so that the client cannot take what it got for a whole response.
    Reset,
}

/// How reading a head ended.
enum HeadRead {
    Head(usize),
    /// The client has begun to speak HTTP/2, by prior knowledge.
    Http2,
    Closed,
    Refused(Cause),
}

impl Connection {
    pub(crate) fn new(counted: Counted, stream: ClientStream, origin: Origin) -> Self {
        let worker = Rc::clone(counted.worker());
        Self {
            watch: Watch::new(Rc::clone(&worker.clock)),
            worker,
            _counted: counted,
            stream,
            half_closed: false,
            origin,
        }
    }

    /// Serves the client until the connection closes.
    #[expect(
        clippy::manual_async_fn,
        reason = "it would keep what it is given beside what it makes of it, and an idle connection \
                  is as large as this"
    )]
    pub(crate) fn serve(mut self) -> impl Future<Output = ()> {
        async move { self.serve_in_place().await }
    }

    async fn serve_in_place(&mut self) {
        self.watch.begin().await;
        if self.stream.speaks_http2() {
            return self.serve_http2(Vec::new()).await;
        }
        if let Some(held) = self.run().await {
            self.origin.goes_on_in_http2();
            self.serve_http2(held).await;
        }
    }

    async fn serve_http2(&mut self, held: Vec<u8>) {
        let stream = Ahead::new(held, &mut self.stream);
        let (worker, origin) = (Rc::clone(&self.worker), self.origin.clone());
        Box::pin(http2::serve(worker, stream, &self.watch, origin)).await;
    }

    /// Serves requests until the connection is to be closed. A client that turns out to speak
    /// HTTP/2 is given back with the bytes that were read.
    async fn run(&mut self) -> Option<Vec<u8>> {
        self.watch.arm(self.worker.bounds.head_time);
        self.stream.settle().await;
        loop {
            if !self.wait_for_bytes().await {
                return None;
            }
            let mut scratch = self.worker.borrow_scratch();
            // In a box, so that an idle connection is no larger than it has to be.
            let next = Box::pin(self.serve_requests(&mut scratch)).await;
            let held = match next {
                Next::Http2 => Some(scratch.from_client.held().to_vec()),
                _ => None,
            };
            self.worker.return_scratch(scratch);
            match next {
                Next::Idle | Next::Request => self.watch.arm(self.worker.bounds.keep_alive_idle),
                Next::Close => return None,
                Next::Http2 => return held,
                Next::Linger => {
                    Box::pin(self.linger()).await;
                    return None;
                }
                Next::Reset => {
                    self.stream.reset_on_close();
                    return None;
                }
            }
        }
    }

    /// Waits for the first bytes of a request; false when there will be none.
    async fn wait_for_bytes(&mut self) -> bool {
        let mut stopping = false;
        poll_fn(|cx| {
            if let Poll::Ready(ready) = self.stream.poll_readable(cx) {
                return Poll::Ready(ready.is_ok());
            }
            if self.worker.stopping.get() && !stopping {
                stopping = true;
                self.watch.arm(self.worker.bounds.drain_idle);
            }
            if self.watch.expired() {
                Poll::Ready(false)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// Serves requests until none is left in the buffer or the connection is to be closed.
    async fn serve_requests(&mut self, scratch: &mut Scratch) -> Next {
        loop {
            let next = match self.read_head(scratch).await {
                HeadRead::Head(length) => self.serve_request(scratch, length).await,
                HeadRead::Closed => Next::Close,
                HeadRead::Http2 => Next::Http2,
                HeadRead::Refused(cause) => self.refuse(scratch, cause).await,
            };
            match next {
                Next::Request if self.half_closed && scratch.from_client.is_empty() => {
                    return Next::Close;
                }
                Next::Request if scratch.from_client.is_empty() => return Next::Idle,
                Next::Request => {}
                _ => return next,
            }
        }
    }

    /// Reads until a whole head is in the buffer.
    async fn read_head(&mut self, scratch: &mut Scratch) -> HeadRead {
        let bytes_max = self.worker.bounds.request_head_bytes;
        let input = &mut scratch.from_client;
        let mut scanned = 0;
        self.watch.arm(self.worker.bounds.head_time);
        loop {
            let held = input.held();
            match head::find_end(held, scanned) {
                Ok(Some(end)) if &held[..end] == http2::PREFACE => return HeadRead::Http2,
                Ok(Some(end)) if end <= bytes_max => return HeadRead::Head(end),
                Ok(None) if held.len() < bytes_max => scanned = held.len(),
                Ok(_) if !held.contains(&b'\n') => return HeadRead::Refused(Cause::TargetTooLong),
                Ok(_) => return HeadRead::Refused(Cause::HeadTooLarge),
                Err(_) => return HeadRead::Refused(Cause::BadRequest),
            }
            // No method begins so: a client that speaks something else need not wait for the answer.
            if held
                .first()
                .is_some_and(|byte| !byte.is_ascii_graphic() && *byte != b'\r')
            {
                return HeadRead::Refused(Cause::BadRequest);
            }
            let read = poll_fn(|cx| {
                if let Poll::Ready(read) = input.poll_fill(&mut self.stream, bytes_max, cx) {
                    return Poll::Ready(Some(read));
                }
                if self.watch.expired() {
                    Poll::Ready(None)
                } else {
                    Poll::Pending
                }
            })
            .await;
            match read {
                Some(Ok(1..)) => {}
                Some(Ok(0) | Err(_)) => return HeadRead::Closed,
                None if input.is_empty() => return HeadRead::Closed,
                None => return HeadRead::Refused(Cause::HeadTooSlow),
            }
        }
    }

    /// Forwards or answers the request whose head is in the buffer.
    async fn serve_request(&mut self, scratch: &mut Scratch, length: usize) -> Next {
        let mut request = loop {
            match dispatch::begin(&self.worker, scratch, length, &self.origin, true) {
                Ok(request) => break request,
                Err(Instead::Wait) => Box::pin(self.worker.told()).await,
                Err(Instead::Refuse(cause)) => return self.refuse(scratch, cause).await,
                Err(Instead::KeyAuthorization(text)) => {
                    let asked = Asked {
                        version: Version::Http11,
                        head_only: false,
                        keep_alive: false,
                    };
                    acme::write_key_authorization(scratch.to_client.bytes(), &text, asked);
                    return self.send_answer(scratch, asked).await;
                }
            }
        };
        scratch.from_client.consume(length);
        let mut slot = None;
        match dispatch::forward(self, scratch, &mut request, &mut slot).await {
            Ok(delivered) => {
                dispatch::note(self, scratch, &request, slot.as_ref(), None);
                match delivered {
                    Delivered {
                        keep_alive: true, ..
                    } => Next::Request,
                    Delivered {
                        request_read: true, ..
                    } if scratch.from_client.is_empty() => Next::Close,
                    _ => Next::Linger,
                }
            }
            Err(how @ Undelivered::Answer(cause)) => {
                dispatch::note(self, scratch, &request, slot.as_ref(), Some(how));
                drop(slot);
                self.answer(scratch, &request, cause).await
            }
            Err(how @ Undelivered::Abort(_)) => {
                dispatch::note(self, scratch, &request, slot.as_ref(), Some(how));
                Next::Reset
            }
        }
    }

    /// Answers a request that was not forwarded.
    async fn answer(&mut self, scratch: &mut Scratch, request: &Request, cause: Cause) -> Next {
        let asked = Asked {
            version: request.version,
            head_only: request.method == Method::Head,
            // What is left of a body would be taken for the next request.
            keep_alive: request.keep_alive
                && request.framing == Framing::Empty
                && !self.worker.stopping.get(),
        };
        // Informational responses that were not taken yet stay in front.
        let Scratch {
            to_app, to_client, ..
        } = scratch;
        let reply = request.reply(cause, to_app.bytes());
        write_answer(to_client.bytes(), &compose(&reply), asked);
        self.send_answer(scratch, asked).await
    }

    /// Answers what could not be read as a request.
    async fn refuse(&mut self, scratch: &mut Scratch, cause: Cause) -> Next {
        self.worker
            .note_refused(&self.origin, Some(cause.status()), cause);
        let asked = Asked {
            version: Version::Http11,
            head_only: false,
            keep_alive: false,
        };
        let reply = Reply::to_nobody(cause, SystemTime::now());
        write_answer(scratch.to_client.bytes(), &compose(&reply), asked);
        self.send_answer(scratch, asked).await
    }

    async fn send_answer(&mut self, scratch: &mut Scratch, asked: Asked) -> Next {
        self.watch.arm(self.worker.bounds.client_write_idle);
        let written = poll_fn(|cx| {
            if let Poll::Ready(written) = scratch.to_client.poll_flush(&mut self.stream, cx) {
                return Poll::Ready(written.is_ok());
            }
            if self.watch.expired() {
                Poll::Ready(false)
            } else {
                Poll::Pending
            }
        })
        .await;
        scratch.to_client.clear();
        match (written, asked.keep_alive) {
            (true, true) => Next::Request,
            (true, false) => Next::Linger,
            (false, _) => Next::Reset,
        }
    }

    /// Ends the sending half and reads the rest away, so that the kernel does not answer bytes that
    /// nobody read with a reset, which would take the answer with it.
    async fn linger(&mut self) {
        if !poll_fn(|cx| poll_shutdown(&mut self.stream, cx)).await {
            return;
        }
        self.watch.arm(LINGER_TIME);
        let mut discarded = vec![0; 4096];
        let mut left = LINGER_BYTES;
        poll_fn(|cx| {
            while left > 0 && !self.watch.expired() {
                let mut room = ReadBuf::new(&mut discarded);
                match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room)) {
                    Ok(()) if !room.filled().is_empty() => {
                        left = left.saturating_sub(room.filled().len());
                    }
                    _ => break,
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl Client for Connection {
    fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    fn watch(&self) -> &Watch {
        &self.watch
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What it sends ahead is kept, as long as it fits.
    fn poll_left(
        &mut self,
        scratch: &mut Scratch,
        request: &Request,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let input = &mut scratch.from_client;
        while !self.half_closed && input.has_room() {
            let sent_ahead = !input.is_empty() && request.framing == Framing::Empty;
            match ready!(input.poll_fill(&mut self.stream, 0, cx)) {
                Ok(0) if request.keep_alive && !sent_ahead => return Poll::Ready(()),
                Ok(0) => self.half_closed = true,
                Ok(_) => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    fn inform(
        &mut self,
        head: &ResponseHead<'_, '_>,
        request: &Request,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        // RFC 9110 section 15.2: never to an HTTP/1.0 client.
        if request.version == Version::Http11 {
            forward::informational_head(head, out);
        }
        Ok(())
    }

    fn respond(
        &mut self,
        head: &ResponseHead<'_, '_>,
        request: &Request,
        read: bool,
        out: &mut Vec<u8>,
    ) -> io::Result<ClientSide> {
        if head.status == 101 {
            forward::upgrade_head(head, out);
            return Ok(ClientSide {
                version: request.version,
                keep_alive: false,
                chunked: false,
            });
        }
        let delimited = head.framing != Framing::Chunked && head.framing != Framing::UntilClose;
        let chunked = !delimited && request.version == Version::Http11;
        let side = ClientSide {
            version: request.version,
            // Of an answer that comes early it is not known whether the client will send the rest.
            keep_alive: request.keep_alive
                && read
                && (delimited || chunked)
                && !self.worker.stopping.get(),
            chunked,
        };
        forward::response_head(head, side, &request.added, out);
        Ok(side)
    }

    fn has_responded(&self) -> bool {
        false // it is in the buffer
    }
}

impl Source for Connection {}
impl Sink for Connection {}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, room)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
