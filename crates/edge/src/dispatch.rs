//! A request's way from its head to its response, whichever protocol its client speaks: finding
//! the service, waiting for an instance with room, connecting to it, and trying again where that
//! is safe.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ekiden_model::{
    ingress::{Coding, Ingress, RequestIdPolicy},
    span::{QueueSpan, RequestSpan},
};
use tokio::net::TcpStream;

use crate::{
    access_log::{Completion, FIELD_BYTES_MAX, REQUEST_LINE_BYTES_MAX, Stages},
    acme,
    answer::Reply,
    cause::Cause,
    client::Client,
    client_address::{self, Origin, Told},
    compression,
    config::{STALE_RETRIES_MAX, TICK, UNREPEATABLE_IDLE_MAX},
    exchange::{self, Delivered, Failed},
    forward,
    head::{self, Framing, HOST_BYTES_MAX, Method, RequestHead, Version},
    ingress::{Redirect, RequestView, Verdict},
    link::{self, Link, LinkKind},
    queue::Place,
    request_id::RequestId,
    routes::{NoSlot, Service, Slot},
    scratch::Scratch,
    sticky::Sessions,
    trace_context::{self, TraceContext},
    watch::{Moment, Watch},
    worker::Worker,
};

/// The most of a request's method that is in its span, in bytes.
const SPAN_METHOD_BYTES_MAX: usize = 32;

/// The most of a request's path that is in its span, in bytes.
const SPAN_PATH_BYTES_MAX: usize = 256;

/// What is remembered of a request once its head has been written anew.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) framing: Framing,
    /// Whether the body arrives in HTTP/1's coding; otherwise its end is its source's end.
    pub(crate) is_coded: bool,
    pub(crate) keep_alive: bool,
    /// Whether the client wants to change the protocol.
    pub(crate) upgrade: bool,
    /// Whether the client takes trailers.
    pub(crate) takes_trailers: bool,
    /// The length of the head in `to_app`, so that it can be sent again.
    pub(crate) head_bytes: usize,
    pub(crate) id: RequestId,
    /// The service that it is for, as its head was read.
    service: Option<Rc<Service>>,
    /// Why it goes no further.
    refused: Option<Cause>,
    /// Where its client is sent instead.
    redirect: Option<Box<Redirect>>,
    /// Its client, if a trusted proxy has told of one.
    told: Option<Box<Told>>,
    /// How long nothing may move.
    pub(crate) idle: Duration,
    /// When it has to be over.
    pub(crate) deadline: Option<Moment>,
    /// The coding that its response may be compressed by, if the client takes one; absent when
    /// responses of the service are not compressed.
    pub(crate) coding: Option<Option<Coding>>,
    /// Lines that the edge adds to the response's head.
    pub(crate) added: Vec<u8>,
    /// When waiting for an instance ends; set by the first wait.
    give_up_at: Option<Moment>,
    /// Whether an instance was chosen and could not be reached.
    unreachable: bool,
    pub(crate) stages: Stages,
    /// Its place in its trace.
    pub(crate) trace: TraceContext,
    /// The status that the client was sent, once it was.
    pub(crate) status: Option<u16>,
    /// Bytes of the request's and the response's body that were passed on.
    pub(crate) body_bytes: (u64, u64),
}

/// Why a request goes no further than the edge.
#[derive(Debug)]
pub(crate) enum Instead {
    /// It is refused.
    Refuse(Cause),
    /// A certificate authority gets what it looks for.
    KeyAuthorization(Arc<str>),
    /// It is looked at again after [`Worker::told`].
    Wait,
}

impl From<Cause> for Instead {
    fn from(cause: Cause) -> Self {
        Self::Refuse(cause)
    }
}

/// How a request was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undelivered {
    /// No byte of a response was sent: the edge answers.
    Answer(Cause),
    /// The response has begun, or nobody is there to take one.
    Abort(Cause),
}

/// Reads the head of `length` bytes in `from_client` and writes it anew. No reference into the
/// buffer survives.
///
/// `origin` says who asked; `is_coded` whether the body will arrive in HTTP/1's coding.
pub(crate) fn begin(
    worker: &Worker,
    scratch: &mut Scratch,
    length: usize,
    origin: &Origin,
    is_coded: bool,
) -> Result<Request, Instead> {
    let mut space = head::field_space();
    let head = head::parse_request(
        &scratch.from_client.held()[..length],
        &mut space,
        worker.bounds.target_bytes,
    )?;
    if let Some(token) = acme::token(head.target)
        && let Some(text) = worker.tls.http01(head.host, token)
    {
        return Err(Instead::KeyAuthorization(text));
    }
    head::host_name(head.host, &mut scratch.host);
    let found = worker
        .routes
        .borrow()
        .service(&scratch.host, origin.door)
        .cloned();
    if worker.is_unsure()
        && let Err(_) | Ok(Err(_)) = found.as_ref().map(|service| service.takes_requests())
    {
        return Err(Instead::Wait);
    }
    let told = origin.told_of(head.fields, &worker.trusted);
    let client = told.as_ref().map_or(origin.client, |told| told.client);
    let fields = told.as_ref().map_or(&origin.fields, |told| &told.fields);
    let ingress = found.as_ref().map(|service| &*service.shared.route.ingress);
    let kept_id = match ingress.map(|ingress| ingress.request_id) {
        Ok(RequestIdPolicy::Keep) => single(head.fields, "x-request-id").and_then(RequestId::kept),
        Ok(RequestIdPolicy::Make) | Err(_) => None,
    };
    let id = kept_id.unwrap_or_else(|| worker.request_ids.next());
    let told_of = ingress
        .is_ok_and(|ingress| ingress.forwarded)
        .then_some(&client);
    scratch.to_app.clear();
    let out = scratch.to_app.bytes();
    let trace = worker.tracer.begin(trace_context::begun(&head));
    forward::request_head(&head, fields, told_of, id.as_bytes(), &trace, out);
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let idle = ingress.ok().and_then(|ingress| ingress.idle_seconds);
    let total = ingress
        .ok()
        .and_then(|ingress| ingress.request_total_seconds);
    let coding = ingress.ok().and_then(|ingress| coding(ingress, &head));
    let (refused, redirect) = match &found {
        Err(cause) => (Some(*cause), None),
        Ok(service) => admit(service, &head, &scratch.host, client),
    };
    if worker.log.is_some() || worker.tracer.exports() {
        let line = &mut scratch.request_line;
        line.clear();
        line.extend_from_slice(head.method_name.as_bytes());
        line.push(b' ');
        line.extend_from_slice(head.target.as_bytes());
        line.truncate(REQUEST_LINE_BYTES_MAX);
    }
    if worker.log.is_some() {
        keep(head.fields, "user-agent", &mut scratch.user_agent);
        keep(head.fields, "referer", &mut scratch.referer);
    }
    Ok(Request {
        method: head.method,
        version: head.version,
        framing: head.framing,
        is_coded,
        keep_alive: head.keep_alive,
        upgrade: head.upgrade.is_some(),
        takes_trailers: head.takes_trailers,
        head_bytes: scratch.to_app.bytes().len(),
        id,
        service: found.ok(),
        refused,
        redirect: redirect.map(Box::new),
        told: told.map(Box::new),
        idle: idle.map_or(worker.bounds.response_idle, seconds),
        deadline: total.map(|total| worker.clock.after(seconds(total))),
        coding,
        added: Vec::new(),
        give_up_at: None,
        unreachable: false,
        stages: Stages::begin(),
        trace,
        status: None,
        body_bytes: (0, 0),
    })
}

/// Whether a service takes a request: why not, and where its client is sent instead.
fn admit(
    service: &Service,
    head: &RequestHead<'_, '_>,
    host: &[u8],
    client: client_address::Client,
) -> (Option<Cause>, Option<Redirect>) {
    let rules = &service.shared.rules;
    if rules.any() {
        let view = RequestView {
            scheme: client.scheme,
            host,
            target: head.target.as_bytes(),
            client: client.address,
            authorization: single(head.fields, "authorization"),
        };
        match rules.check(&view) {
            Verdict::Pass => {}
            Verdict::Refuse(cause) => return (Some(cause), None),
            Verdict::Redirect(redirect) => return (Some(redirect.cause), Some(redirect)),
        }
    }
    (service.takes_requests().err(), None)
}

fn coding(ingress: &Ingress, head: &RequestHead<'_, '_>) -> Option<Option<Coding>> {
    // A compressed response is chunked, and a response to `HEAD` has nothing to compress.
    if ingress.compression.is_empty()
        || head.version == Version::Http10
        || head.method == Method::Head
    {
        return None;
    }
    let values = client_address::field_values(head.fields, "accept-encoding");
    Some(compression::choose(&ingress.compression, values))
}

/// Keeps the first value of a field for the access log.
pub(crate) fn keep(fields: &[httparse::Header<'_>], name: &'static str, kept: &mut Vec<u8>) {
    kept.clear();
    if let Some(value) = client_address::field_values(fields, name).next() {
        kept.extend_from_slice(&value[..value.len().min(FIELD_BYTES_MAX)]);
    }
}

/// The value of a field that is there once.
fn single<'h>(fields: &'h [httparse::Header<'_>], name: &'static str) -> Option<&'h [u8]> {
    let mut values = client_address::field_values(fields, name);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

impl Request {
    /// What is answered in the application's place; `head` is the request's, as it was written anew.
    pub(crate) fn reply<'r>(&'r self, cause: Cause, head: &'r [u8]) -> Reply<'r> {
        let redirect = self.redirect.as_ref();
        let head = head.get(..self.head_bytes).unwrap_or_default();
        Reply {
            cause,
            redirect: redirect.map(|redirect| (redirect.status, redirect.location.as_slice())),
            ingress: self
                .service
                .as_ref()
                .map(|service| &*service.shared.route.ingress),
            request_id: Some(self.id.as_bytes()),
            accept: forward::values_in(head, "Accept").next(),
            now: SystemTime::now(),
        }
    }
}

/// Finds an instance for the request and exchanges it for a response, as often as is safe.
///
/// `slot` is left with the last one taken, so that its instance can be named; it is free again
/// when the caller drops it.
pub(crate) async fn forward<C: Client>(
    client: &mut C,
    scratch: &mut Scratch,
    request: &mut Request,
    slot: &mut Option<Slot>,
) -> Result<Delivered, Undelivered> {
    if let Some(cause) = request.refused {
        return Err(Undelivered::Answer(cause));
    }
    let mut stale_retries = 0;
    loop {
        let taken = match slot.take() {
            Some(taken) => taken,
            None => take_slot(client, scratch, request).await?,
        };
        let taken = slot.insert(taken);
        if taken.service.shared.sessions.is_some() {
            stay(client.origin(), scratch, request, taken);
        }
        request.stages.slot = Some(Instant::now());
        // After one kept connection was found closed, the others are suspect.
        let kept = match stale_retries {
            0 => kept_link(client.worker(), taken, request),
            _ => None,
        };
        let mut link = match kept {
            Some(link) => link,
            None => match Box::pin(connect(client, scratch, request, taken)).await? {
                Some(link) => link,
                None => {
                    request.unreachable = true;
                    *slot = None;
                    continue;
                }
            },
        };
        request.stages.connected = Some(Instant::now());
        match exchange::exchange(client, scratch, &mut link, request).await {
            Ok(delivered) => {
                taken.upstream.instance.succeeded();
                if delivered.link_is_reusable {
                    keep_link(client.worker(), taken, link);
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
async fn take_slot<C: Client>(
    client: &mut C,
    scratch: &mut Scratch,
    request: &mut Request,
) -> Result<Slot, Undelivered> {
    // The first time nothing was waited for since the head was read, and the table is the same.
    let service = match (&request.service, request.unreachable) {
        (Some(service), false) => Rc::clone(service),
        _ => service(client, scratch).map_err(Undelivered::Answer)?,
    };
    if !request.unreachable && service.shared.queue.is_empty() {
        let kept = match &service.shared.sessions {
            None => None,
            Some(sessions) => {
                place(sessions, scratch, request).and_then(|at| service.take_slot_at(at))
            }
        };
        if let Some(slot) = kept.or_else(|| service.take_slot().ok()) {
            return Ok(slot);
        }
    }
    let (since, cold) = (Instant::now(), service.is_cold());
    let slot = Box::pin(wait_for_slot(client, scratch, request, service)).await;
    if !matches!(slot, Err(Undelivered::Answer(Cause::QueueFull))) {
        request.stages.waited(since, cold);
    }
    slot
}

fn service<C: Client>(client: &C, scratch: &Scratch) -> Result<Rc<Service>, Cause> {
    let routes = client.worker().routes.borrow();
    routes.find(&scratch.host, client.origin().door)
}

/// Where in the route the instance is that a request's session stays with.
fn place(sessions: &Sessions, scratch: &mut Scratch, request: &Request) -> Option<usize> {
    let head = scratch.to_app.bytes().get(..request.head_bytes)?;
    sessions.place(forward::values_in(head, "Cookie"))
}

/// Has a client that is new, or whose instance is gone, stay with the instance that was found.
#[cold]
fn stay(origin: &Origin, scratch: &mut Scratch, request: &mut Request, slot: &Slot) {
    let Some(sessions) = &slot.service.shared.sessions else {
        return;
    };
    request.added.clear();
    if place(sessions, scratch, request).is_none()
        && let Some(place) = slot.place()
    {
        let client = request
            .told
            .as_ref()
            .map_or(&origin.client, |told| &told.client);
        request.added.extend_from_slice(b"Set-Cookie: ");
        sessions.set_cookie(place, client.scheme, &mut request.added);
        request.added.extend_from_slice(b"\r\n");
    }
}

/// Waits in the service's queue.
async fn wait_for_slot<C: Client>(
    client: &mut C,
    scratch: &mut Scratch,
    request: &mut Request,
    service_now: Rc<Service>,
) -> Result<Slot, Undelivered> {
    let worker = Rc::clone(client.worker());
    let bounds = &service_now.shared.route.ingress.queue;
    let queue_time = match bounds.seconds {
        Some(seconds) => Duration::from_secs(seconds.into()),
        None => worker.bounds.queue_time,
    };
    let queue_until = worker.clock.after(queue_time);
    let until = request
        .deadline
        .map_or(queue_until, |deadline| deadline.min(queue_until));
    let give_up_at = *request.give_up_at.get_or_insert(until);
    client.watch().arm_at(give_up_at);
    let mut place = enter(&worker, client.watch(), &service_now, request.unreachable)?;
    drop(service_now);
    let mut pause = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|cx| {
        if client.poll_left(scratch, request, cx).is_ready() {
            return Poll::Ready(Err(Undelivered::Abort(Cause::ClientLeft)));
        }
        // Whatever woke it, the table may be another one now, and the host another service's.
        let service = service(client, scratch).map_err(Undelivered::Answer)?;
        if !place.is_in(&service.shared.queue) {
            place = enter(&worker, client.watch(), &service, false)?;
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
        match client.watch().expired() {
            true if request.unreachable => {
                Poll::Ready(Err(Undelivered::Answer(Cause::AppUnreachable)))
            }
            true => Poll::Ready(Err(Undelivered::Answer(Cause::NoCapacityInTime))),
            false => Poll::Pending,
        }
    })
    .await
}

fn enter(
    worker: &Worker,
    watch: &Watch,
    service: &Service,
    in_front: bool,
) -> Result<Place, Undelivered> {
    let queue = &service.shared.queue;
    if in_front {
        return Ok(queue.enter_front(watch.task()));
    }
    let own_bound = service.shared.route.ingress.queue.requests;
    let requests_max = own_bound.map_or(worker.bounds.queue_requests, |bound| bound as usize);
    queue
        .enter(watch.task(), requests_max)
        .ok_or(Undelivered::Answer(Cause::QueueFull))
}

fn kept_link(worker: &Worker, slot: &Slot, request: &Request) -> Option<Link> {
    if let Some(shared) = slot.h2c() {
        return Some(Link {
            kind: LinkKind::H2c(shared.take()?),
            reused: true,
        });
    }
    let repeatable = request.method.is_idempotent() && request.framing == Framing::Empty;
    let mut idle = slot.upstream.idle.borrow_mut();
    idle.take(&worker.clock, repeatable)
}

fn keep_link(worker: &Worker, slot: &Slot, link: Link) {
    let bounds = &worker.bounds;
    slot.upstream.idle.borrow_mut().put(
        link,
        worker.clock.after(bounds.upstream_idle),
        worker.clock.after(UNREPEATABLE_IDLE_MAX),
        bounds.idle_upstreams_per_instance,
    );
}

/// Connects to the slot's instance; `None` when it cannot be reached, and is now passed over.
async fn connect<C: Client>(
    client: &mut C,
    scratch: &mut Scratch,
    request: &Request,
    slot: &Slot,
) -> Result<Option<Link>, Undelivered> {
    let clock = Rc::clone(&client.worker().clock);
    let give_up_at = clock.after(client.worker().bounds.connect_time);
    client.watch().arm(TICK);
    let mut connecting = pin!(open(slot));
    let connected = poll_fn(|cx| {
        if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
            return Poll::Ready(Ok(connected));
        }
        if client.poll_left(scratch, request, cx).is_ready() {
            return Poll::Ready(Err(Undelivered::Abort(Cause::ClientLeft)));
        }
        if !client.watch().expired() {
            return Poll::Pending;
        }
        // Nobody refuses a connection to an instance that is not there any more.
        if clock.has_come(give_up_at) || slot.upstream.instance.is_retired() {
            return Poll::Ready(Ok(Err(io::ErrorKind::TimedOut.into())));
        }
        client.watch().arm(TICK);
        Poll::Pending
    })
    .await?;
    match connected {
        Ok(kind) => Ok(Some(Link {
            kind,
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

/// A new connection, in the service's protocol.
async fn open(slot: &Slot) -> io::Result<LinkKind> {
    let stream = link::prepare(TcpStream::connect(slot.upstream.address).await?)?;
    let Some(shared) = slot.h2c() else {
        return Ok(LinkKind::Http1(stream));
    };
    let mut exchange = shared.open(stream).await.map_err(io::Error::other)?;
    exchange.ready().await.map_err(io::Error::other)?;
    Ok(LinkKind::H2c(exchange))
}

/// The one place where all that is known of a finished request comes together: it is counted, and
/// logged. `undelivered` says how it ended if not with its application's response.
pub(crate) fn note<C: Client>(
    client: &C,
    scratch: &Scratch,
    request: &Request,
    slot: Option<&Slot>,
    undelivered: Option<Undelivered>,
) {
    let worker = client.worker();
    let (own_status, cause) = match undelivered {
        None => (None, None),
        Some(Undelivered::Answer(cause)) => {
            let redirect = request.redirect.as_ref();
            let status = redirect.map_or(cause.status(), |redirect| redirect.status);
            (Some(status), Some(cause))
        }
        Some(Undelivered::Abort(cause)) => (None, Some(cause)),
    };
    let sent = request.status.or(own_status);
    let counters = match &request.service {
        Some(service) => &service.shared.counters,
        None => &worker.unrouted,
    };
    let stages = &request.stages;
    let total = stages.started.elapsed();
    // What follows a change of protocol is no request any more.
    let took = match (request.status, stages.first_byte) {
        (Some(101), Some(answered)) => answered.duration_since(stages.started),
        _ => total,
    };
    counters.time(took, stages.wait.map(|(_, waited)| waited));
    counters.count(sent, cause);
    if request.trace.sampled && worker.tracer.exports() {
        let status = sent.or(cause.map(Cause::status)).unwrap_or_default();
        let span = span(worker, scratch, request, slot, (status, cause), total);
        worker.tracer.hand_over(span);
    }
    let Some(log) = &worker.log else { return };
    log.record(&Completion {
        connection: match &request.told {
            Some(told) => &told.log_text,
            None => &client.origin().log_text,
        },
        request_id: request.id.as_bytes(),
        host: &scratch.host,
        request_line: &scratch.request_line,
        user_agent: &scratch.user_agent,
        referer: &scratch.referer,
        trace: Some(&request.trace),
        service: request.service.as_ref().map(|service| &*service.shared),
        slot,
        status: sent.or(cause.map(Cause::status)).unwrap_or_default(),
        cause,
        body_bytes: request.body_bytes,
        stages,
        total,
    });
}

/// What is exported of a request that is over.
#[cold]
fn span(
    worker: &Worker,
    scratch: &Scratch,
    request: &Request,
    slot: Option<&Slot>,
    (status, cause): (u16, Option<Cause>),
    total: Duration,
) -> RequestSpan {
    let micros = |time: Duration| time.as_micros() as u64;
    let stages = &request.stages;
    let since = |at: Instant| micros(at.duration_since(stages.started));
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut words = scratch.request_line.splitn(2, |byte| *byte == b' ');
    let text = |word: Option<&[u8]>, bytes_max: usize| {
        let word = word.unwrap_or_default();
        String::from_utf8_lossy(&word[..word.len().min(bytes_max)]).into_owned()
    };
    let method = text(words.next(), SPAN_METHOD_BYTES_MAX);
    let path = words.next().unwrap_or_default();
    let path = path.split(|byte| *byte == b'?').next();
    RequestSpan {
        trace: request.trace.trace,
        span: request.trace.span,
        parent: request.trace.parent,
        service: request
            .service
            .as_ref()
            .map(|service| service.shared.route.service),
        instance: slot.map(|slot| slot.upstream.instance.id),
        method,
        host: text(Some(&scratch.host), HOST_BYTES_MAX),
        path: text(path, SPAN_PATH_BYTES_MAX),
        status,
        cause: cause.map(|cause| cause.name().to_owned()),
        started_us: micros(now.unwrap_or_default().saturating_sub(total)),
        queue: stages.wait.map(|(began, waited)| QueueSpan {
            span: worker.tracer.span(),
            began_us: since(began),
            waited_us: micros(waited.time),
            cold: waited.cold,
        }),
        connected_us: stages.connected.map(since),
        first_byte_us: stages.first_byte.map(since),
        total_us: micros(total),
        request_body_bytes: request.body_bytes.0,
        response_body_bytes: request.body_bytes.1,
    }
}
