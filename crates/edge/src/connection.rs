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
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};

use crate::{
    access_log::{Completion, REQUEST_LINE_BYTES_MAX, Stages},
    answer::{Asked, write_answer},
    cause::Cause,
    config::{LINGER_BYTES, LINGER_TIME, STALE_RETRIES_MAX, UNREPEATABLE_IDLE_MAX},
    exchange::{self, Delivered, Failed},
    forward,
    head::{self, Framing, Method, Version},
    link::{self, Link},
    queue::Place,
    routes::{NoSlot, Service, Slot},
    scratch::Scratch,
    watch::{Moment, Watch},
    worker::Worker,
};

/// A client's connection.
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) stream: TcpStream,
    pub(crate) watch: Watch,
    /// The client has closed its sending half, and is owed an answer all the same.
    pub(crate) half_closed: bool,
    peer: SocketAddr,
    /// `X-Forwarded-For` and its like, ready to append.
    fields: Box<[u8]>,
}

/// What is remembered of a request once its head has been written anew.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    /// The length of the head in `to_app`, so that it can be sent again.
    pub(crate) head_bytes: usize,
    id: [u8; 32],
    /// When waiting for an instance ends; set by the first wait.
    give_up_at: Option<Moment>,
    /// Whether an instance was chosen and could not be reached.
    unreachable: bool,
    pub(crate) stages: Option<Stages>,
    /// The status that the client was sent, once it was.
    pub(crate) status: Option<u16>,
    /// Bytes of the request's and the response's body that were passed on.
    pub(crate) body_bytes: (u64, u64),
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
    /// Close it so that the client cannot take what it got for a whole response.
    Reset,
}

/// How reading a head ended.
enum HeadRead {
    Head(usize),
    Closed,
    Refused(Cause),
}

/// How a request was not delivered.
enum Undelivered {
    /// No byte of a response was sent: the edge answers.
    Answer(Cause),
    /// The response has begun, or nobody is there to take one.
    Abort(Cause),
}

/// Serves a client until its connection closes.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
) {
    // Refused only on a socket that is closed already, which the first read will tell.
    let _ = stream.set_nodelay(true);
    let watch = Watch::over_this_task(Rc::clone(&worker.clock)).await;
    let fields = forward::connection_fields(peer, local);
    let mut connection = Connection {
        worker,
        stream,
        watch,
        half_closed: false,
        peer,
        fields,
    };
    connection.run().await;
}

impl Connection {
    async fn run(&mut self) {
        self.watch.arm(self.worker.bounds.head_time);
        loop {
            if !self.wait_for_bytes().await {
                return;
            }
            let mut scratch = self.worker.borrow_scratch();
            let next = self.serve_requests(&mut scratch).await;
            self.worker.return_scratch(scratch);
            match next {
                Next::Idle | Next::Request => self.watch.arm(self.worker.bounds.keep_alive_idle),
                Next::Close => return,
                Next::Linger => return self.linger().await,
                Next::Reset => {
                    // An error leaves an ordinary close, which most clients notice as well.
                    let _ = self.stream.set_zero_linger();
                    return;
                }
            }
        }
    }

    /// Waits for the first bytes of a request; false when there will be none.
    async fn wait_for_bytes(&mut self) -> bool {
        let mut stopping = false;
        poll_fn(|cx| {
            if let Poll::Ready(ready) = self.stream.poll_read_ready(cx) {
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
        let mut request = match self.begin(scratch, length) {
            Ok(request) => request,
            Err(cause) => return self.refuse(scratch, cause).await,
        };
        scratch.from_client.consume(length);
        let mut slot = None;
        match self.forward(scratch, &mut request, &mut slot).await {
            Ok(delivered) => {
                self.log(scratch, &request, slot.as_ref(), None);
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
            Err(Undelivered::Answer(cause)) => {
                self.log(scratch, &request, slot.as_ref(), Some(cause));
                drop(slot);
                self.answer(scratch, &request, cause).await
            }
            Err(Undelivered::Abort(cause)) => {
                self.log(scratch, &request, slot.as_ref(), Some(cause));
                Next::Reset
            }
        }
    }

    /// Reads the head and writes it anew. No reference into the buffer survives.
    fn begin(&self, scratch: &mut Scratch, length: usize) -> Result<Request, Cause> {
        let mut space = head::field_space();
        let head = head::parse_request(
            &scratch.from_client.held()[..length],
            &mut space,
            self.worker.bounds.target_bytes,
        )?;
        head::host_name(head.host, &mut scratch.host);
        let id = self.worker.request_ids.next();
        scratch.to_app.clear();
        forward::request_head(&head, &self.fields, &id, scratch.to_app.bytes());
        let stages = self.worker.log.as_ref().map(|_| {
            scratch.request_line.clear();
            scratch
                .request_line
                .extend_from_slice(head.method_name.as_bytes());
            scratch.request_line.push(b' ');
            scratch
                .request_line
                .extend_from_slice(head.target.as_bytes());
            scratch.request_line.truncate(REQUEST_LINE_BYTES_MAX);
            Stages::begin()
        });
        Ok(Request {
            method: head.method,
            version: head.version,
            framing: head.framing,
            keep_alive: head.keep_alive,
            head_bytes: scratch.to_app.bytes().len(),
            id,
            give_up_at: None,
            unreachable: false,
            stages,
            status: None,
            body_bytes: (0, 0),
        })
    }

    /// Finds an instance for the request and exchanges it for a response, as often as is safe.
    ///
    /// `slot` is left with the last one taken, so that its instance can be named; it is free again
    /// when the caller drops it.
    async fn forward(
        &mut self,
        scratch: &mut Scratch,
        request: &mut Request,
        slot: &mut Option<Slot>,
    ) -> Result<Delivered, Undelivered> {
        let mut stale_retries = 0;
        loop {
            let taken = match slot.take() {
                Some(taken) => taken,
                None => self.take_slot(scratch, request).await?,
            };
            let taken = slot.insert(taken);
            if let Some(stages) = &mut request.stages {
                stages.slot = Some(Instant::now());
            }
            // After one kept connection was found closed, the others are suspect.
            let kept = if stale_retries == 0 {
                self.kept_link(taken, request)
            } else {
                None
            };
            let mut link = match kept {
                Some(link) => link,
                None => match Box::pin(self.connect(scratch, request, taken)).await? {
                    Some(link) => link,
                    None => {
                        request.unreachable = true;
                        *slot = None;
                        continue;
                    }
                },
            };
            if let Some(stages) = &mut request.stages {
                stages.connected = Some(Instant::now());
            }
            match exchange::exchange(self, scratch, &mut link, request).await {
                Ok(delivered) => {
                    taken.upstream.instance.succeeded();
                    if delivered.link_is_reusable {
                        self.keep_link(taken, link);
                    }
                    return Ok(delivered);
                }
                Err(Failed::Closed)
                    if link.reused
                        && request.method.is_idempotent()
                        && request.framing == Framing::Empty
                        && stale_retries < STALE_RETRIES_MAX =>
                {
                    stale_retries += 1;
                }
                Err(Failed::Closed) => return Err(Undelivered::Answer(Cause::AppClosedEarly)),
                Err(Failed::Answer(cause)) => return Err(Undelivered::Answer(cause)),
                Err(Failed::Abort(cause)) => return Err(Undelivered::Abort(cause)),
            }
        }
    }

    /// A slot, at once if there is one and nobody waits.
    async fn take_slot(
        &mut self,
        scratch: &mut Scratch,
        request: &mut Request,
    ) -> Result<Slot, Undelivered> {
        let service = self.service(scratch).map_err(Undelivered::Answer)?;
        if !request.unreachable
            && service.shared.queue.is_empty()
            && let Ok(slot) = service.take_slot()
        {
            return Ok(slot);
        }
        Box::pin(self.wait_for_slot(scratch, request, service)).await
    }

    fn service(&self, scratch: &Scratch) -> Result<Rc<Service>, Cause> {
        self.worker.routes.borrow().find(&scratch.host)
    }

    /// Waits in the service's queue.
    async fn wait_for_slot(
        &mut self,
        scratch: &mut Scratch,
        request: &mut Request,
        service: Rc<Service>,
    ) -> Result<Slot, Undelivered> {
        let queue_time = self.worker.bounds.queue_time;
        let give_up_at = *request
            .give_up_at
            .get_or_insert(self.worker.clock.after(queue_time));
        self.watch.arm_at(give_up_at);
        let mut place = self.enter(&service, request.unreachable)?;
        drop(service);
        let mut pause = pin!(tokio::time::sleep(Duration::ZERO));
        poll_fn(|cx| {
            if self.poll_left(scratch, request, cx).is_ready() {
                return Poll::Ready(Err(Undelivered::Abort(Cause::ClientLeft)));
            }
            // Whatever woke it, the table may be another one now, and the host another service's.
            let service = self.service(scratch).map_err(Undelivered::Answer)?;
            if !place.is_in(&service.shared.queue) {
                place = self.enter(&service, false)?;
            }
            while place.is_first() {
                match service.take_slot() {
                    Ok(slot) => return Poll::Ready(Ok(slot)),
                    Err(NoSlot::Full) => break,
                    Err(NoSlot::PassedOver(time)) => {
                        pause.as_mut().reset(tokio::time::Instant::now() + time);
                        if pause.as_mut().poll(cx).is_pending() {
                            break;
                        }
                    }
                }
            }
            match self.watch.expired() {
                true if request.unreachable => {
                    Poll::Ready(Err(Undelivered::Answer(Cause::AppUnreachable)))
                }
                true => Poll::Ready(Err(Undelivered::Answer(Cause::NoCapacityInTime))),
                false => Poll::Pending,
            }
        })
        .await
    }

    fn enter(&self, service: &Service, in_front: bool) -> Result<Place, Undelivered> {
        let queue = &service.shared.queue;
        if in_front {
            return Ok(queue.enter_front(self.watch.task()));
        }
        queue
            .enter(self.watch.task(), self.worker.bounds.queue_requests)
            .ok_or(Undelivered::Answer(Cause::QueueFull))
    }

    fn kept_link(&self, slot: &Slot, request: &Request) -> Option<Link> {
        let repeatable = request.method.is_idempotent() && request.framing == Framing::Empty;
        slot.upstream
            .idle
            .borrow_mut()
            .take(&self.worker.clock, repeatable)
    }

    fn keep_link(&self, slot: &Slot, link: Link) {
        let bounds = &self.worker.bounds;
        slot.upstream.idle.borrow_mut().put(
            link,
            self.worker.clock.after(bounds.upstream_idle),
            self.worker.clock.after(UNREPEATABLE_IDLE_MAX),
            bounds.idle_upstreams_per_instance,
        );
    }

    /// Connects to the slot's instance; `None` when it cannot be reached, and is now passed over.
    async fn connect(
        &mut self,
        scratch: &mut Scratch,
        request: &Request,
        slot: &Slot,
    ) -> Result<Option<Link>, Undelivered> {
        self.watch.arm(self.worker.bounds.connect_time);
        let mut connecting = pin!(TcpStream::connect(slot.upstream.address));
        let connected = poll_fn(|cx| {
            if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
                return Poll::Ready(Ok(connected));
            }
            if self.poll_left(scratch, request, cx).is_ready() {
                return Poll::Ready(Err(Undelivered::Abort(Cause::ClientLeft)));
            }
            match self.watch.expired() {
                true => Poll::Ready(Ok(Err(io::ErrorKind::TimedOut.into()))),
                false => Poll::Pending,
            }
        })
        .await?;
        match connected.and_then(link::prepare) {
            Ok(stream) => Ok(Some(Link {
                stream,
                reused: false,
            })),
            Err(error) => {
                let upstream = &slot.upstream;
                tracing::debug!(instance = %upstream.instance.id, upstream = %upstream.address, %error, "instance cannot be reached");
                upstream.instance.failed();
                Ok(None)
            }
        }
    }

    /// Ready when the client has left while its request is being worked on.
    ///
    /// What it sends ahead is kept, as long as it fits.
    pub(crate) fn poll_left(
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
        self.write_answer(scratch, cause, asked).await
    }

    /// Answers what could not be read as a request.
    async fn refuse(&mut self, scratch: &mut Scratch, cause: Cause) -> Next {
        self.log_refused(cause);
        let asked = Asked {
            version: Version::Http11,
            head_only: false,
            keep_alive: false,
        };
        self.write_answer(scratch, cause, asked).await
    }

    async fn write_answer(&mut self, scratch: &mut Scratch, cause: Cause, asked: Asked) -> Next {
        // Informational responses that were not taken yet stay in front.
        write_answer(scratch.to_client.bytes(), cause, asked, SystemTime::now());
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
        if self.stream.shutdown().await.is_err() {
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

    /// The one place where all that is known of a finished request comes together.
    fn log(&self, scratch: &Scratch, request: &Request, slot: Option<&Slot>, cause: Option<Cause>) {
        let (Some(log), Some(stages)) = (&self.worker.log, &request.stages) else {
            return;
        };
        log.record(&Completion {
            request_id: &request.id,
            client: self.peer.ip().to_canonical(),
            host: &scratch.host,
            request_line: &scratch.request_line,
            slot,
            status: request
                .status
                .or(cause.map(Cause::status))
                .unwrap_or_default(),
            cause,
            body_bytes: request.body_bytes,
            stages,
        });
    }

    /// The same for what could not be read as a request.
    fn log_refused(&self, cause: Cause) {
        let Some(log) = &self.worker.log else { return };
        log.record(&Completion {
            request_id: b"",
            client: self.peer.ip().to_canonical(),
            host: b"",
            request_line: b"",
            slot: None,
            status: cause.status(),
            cause: Some(cause),
            body_bytes: (0, 0),
            stages: &Stages::begin(),
        });
    }
}
