//! One request for one response, on one connection to an instance.
//!
//! Both bodies may be on their way at once: an application may answer before it has read the
//! request, or while it does. Neither direction waits for the other, and each is read only as fast
//! as it is written. Trailers go along in both directions.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ekiden_model::ingress::Coding;

use crate::{
    body::{Pump, PumpError},
    cause::Cause,
    client::Client,
    compression::{self, Encoder},
    config::INFORMATIONAL_MAX,
    dispatch::Request,
    forward::{ClientSide, field},
    head::{self, Framing, ResponseHead},
    link::{Link, NoHead},
    scratch::Scratch,
    tunnel,
    watch::Moment,
};

/// A response that was passed on whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivered {
    /// Whether the client's connection can take the next request.
    pub(crate) keep_alive: bool,
    /// Whether the request was read to its end; if not, more of it may come.
    pub(crate) request_read: bool,
    /// Whether the connection to the instance can.
    pub(crate) link_is_reusable: bool,
}

/// Why there is no whole response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The instance closed the connection before the first byte of a response.
    Closed,
    /// Something went wrong before the client was sent anything.
    Answer(Cause),
    /// Something went wrong with the response on its way, or the client has left.
    Abort(Cause),
}

/// The request's body on its way, and whether it still is.
struct Upload {
    pump: Pump,
    state: UploadState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UploadState {
    Moving,
    Done,
    /// The instance takes no more; it may have answered all the same.
    Refused,
}

/// How the response is read and passed on.
struct Answer {
    status: u16,
    framing: Framing,
    /// What it is compressed by.
    coding: Option<Coding>,
    link_keep_alive: bool,
    side: ClientSide,
}

/// Sends the request and passes the response on.
pub(crate) async fn exchange<C: Client>(
    client: &mut C,
    scratch: &mut Scratch,
    link: &mut Link,
    request: &mut Request,
) -> Result<Delivered, Failed> {
    scratch.from_app.clear();
    scratch.to_app.rewind(request.head_bytes);
    let chunked = request.framing == Framing::Chunked && link.is_coded();
    let mut upload = Upload {
        pump: match request.is_coded {
            true => Pump::new(request.framing, chunked),
            false => match request.framing {
                Framing::Chunked => Pump::uncoded(chunked),
                framing => Pump::new(framing, chunked),
            },
        },
        state: UploadState::Moving,
    };
    link.begin(scratch, request)?;
    // What has arrived of the body goes out with the head, in one write.
    upload
        .pump
        .transfer(&mut scratch.from_client, scratch.to_app.bytes())
        .map_err(|_| Failed::Answer(Cause::BadBody))?;

    let mut informational = 0;
    let (answer, informational_bytes) = loop {
        let length = match response_head(client, scratch, link, request, &mut upload).await {
            // What has begun to answer has seen the request.
            Err(Failed::Closed) if informational > 0 => {
                return Err(Failed::Answer(Cause::AppClosedEarly));
            }
            length => length?,
        };
        let answered = scratch.to_client.bytes().len();
        request.stages.first_byte.get_or_insert_with(Instant::now);
        let answer = begin_answer(client, scratch, link, request, &upload, length)?;
        scratch.from_app.consume(length);
        match answer {
            Some(answer) => break (answer, answered),
            None if informational == INFORMATIONAL_MAX => {
                return Err(Failed::Answer(Cause::AppBadResponse));
            }
            None => informational += 1,
        }
    };
    if answer.status == 101 {
        request.status = Some(101);
        return Box::pin(tunnel::tunnel(client, scratch, link, request)).await;
    }
    let mut download = Pump::new(answer.framing, answer.side.chunked);
    if let Some(coding) = answer.coding {
        let encoder = Encoder::new(coding).map_err(|_| Failed::Abort(Cause::AppBadResponse))?;
        download = download.compressed(encoder);
    }
    if download
        .transfer(&mut scratch.from_app, scratch.to_client.bytes())
        .is_err()
    {
        if client.has_responded() {
            return Err(Failed::Abort(Cause::AppBadResponse));
        }
        // None of the response has been sent: it is still time for an answer in its place.
        scratch.to_client.bytes().truncate(informational_bytes);
        return Err(Failed::Answer(Cause::AppBadResponse));
    }
    request.status = Some(answer.status);
    let passed_on = response_body(client, scratch, link, request, &mut upload, &mut download).await;
    request.body_bytes = (upload.pump.bytes, download.bytes);
    passed_on?;
    scratch.to_client.clear();

    let request_read = upload.pump.is_read();
    Ok(Delivered {
        keep_alive: answer.side.keep_alive && request_read,
        request_read,
        // Bytes after the response belong to nothing: such a connection is out of step.
        link_is_reusable: answer.link_keep_alive
            && upload.state == UploadState::Done
            && scratch.from_app.is_empty(),
    })
}

/// Sends the request until the head of a response is in `from_app`; gives its length.
async fn response_head<C: Client>(
    client: &mut C,
    scratch: &mut Scratch,
    link: &mut Link,
    request: &Request,
    upload: &mut Upload,
) -> Result<usize, Failed> {
    let bytes_max = client.worker().bounds.response_head_bytes;
    let mut scanned = 0;
    let mut idle = Idle::until(request.deadline);
    poll_fn(|cx| {
        // An informational response that the client has not taken yet.
        if matches!(
            scratch.to_client.poll_flush(client, cx),
            Poll::Ready(Err(_))
        ) {
            return Poll::Ready(Err(Failed::Abort(Cause::ClientLeft)));
        }
        upload.poll(client, scratch, link, request, cx)?;
        match link.poll_head(&mut scratch.from_app, &mut scanned, bytes_max, cx) {
            Poll::Ready(Ok(length)) => return Poll::Ready(Ok(length)),
            Poll::Ready(Err(NoHead::Closed)) => return Poll::Ready(Err(Failed::Closed)),
            Poll::Ready(Err(NoHead::Because(cause))) => {
                return Poll::Ready(Err(Failed::Answer(cause)));
            }
            Poll::Pending => {}
        }
        let bounds = &client.worker().bounds;
        // Only a client that owes bytes can be too slow; otherwise it is the application's turn.
        let (time, cause) = if upload.waits_for_client(scratch) {
            (bounds.body_idle, Cause::BodyTooSlow)
        } else {
            (request.idle, Cause::AppTimedOut)
        };
        let moved = upload.pump.bytes + scanned as u64;
        match idle.is_over(client, moved, time, cause) {
            Some(cause) => Poll::Ready(Err(Failed::Answer(cause))),
            None => Poll::Pending,
        }
    })
    .await
}

/// Reads the response's head and has the client's side written anew; `None` when it was an
/// informational one.
fn begin_answer<C: Client>(
    client: &mut C,
    scratch: &mut Scratch,
    link: &Link,
    request: &mut Request,
    upload: &Upload,
    length: usize,
) -> Result<Option<Answer>, Failed> {
    let mut space = head::field_space();
    let mut head = head::parse_response(
        &scratch.from_app.held()[..length],
        &mut space,
        request.method,
    )
    .map_err(Failed::Answer)?;
    let out = scratch.to_client.bytes();
    let left = |_| Failed::Abort(Cause::ClientLeft);
    match head.status {
        101 if request.upgrade && upload.pump.is_read() => {}
        // No change of protocol was asked for.
        101 => return Err(Failed::Answer(Cause::AppBadResponse)),
        100..=199 => {
            client.inform(&head, request, out).map_err(left)?;
            return Ok(None);
        }
        _ => {}
    }
    if head.framing == Framing::UntilClose && link.has_ended() {
        head.framing = Framing::Empty;
        head.content_length = Some(0);
    }
    let framing = head.framing;
    let coding = compress(&mut head, request);
    let side = client
        .respond(&head, request, upload.pump.is_read(), out)
        .map_err(left)?;
    Ok(Some(Answer {
        status: head.status,
        framing,
        coding,
        link_keep_alive: head.keep_alive,
        side,
    }))
}

/// Makes the head that of a compressed response, if it is to be one.
fn compress(head: &mut ResponseHead<'_, '_>, request: &mut Request) -> Option<Coding> {
    let coding = request.coding?;
    if !compression::is_compressible(head) {
        return None;
    }
    // Whoever keeps the response has to know that others would have got it otherwise.
    field(&mut request.added, "Vary", b"Accept-Encoding");
    let coding = coding?;
    compression::change_head(head, coding, &mut request.added);
    Some(coding)
}

/// Passes the response on until its end has been written, and what is left of the request.
async fn response_body<C: Client>(
    client: &mut C,
    scratch: &mut Scratch,
    link: &mut Link,
    request: &Request,
    upload: &mut Upload,
    download: &mut Pump,
) -> Result<(), Failed> {
    let mut idle = Idle::until(request.deadline);
    poll_fn(|cx| {
        let moved = download.poll(
            link,
            &mut scratch.from_app,
            &mut scratch.to_client,
            client,
            cx,
        );
        match moved {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => {
                let cause = match error {
                    PumpError::Source => Cause::AppClosedEarly,
                    PumpError::Malformed => Cause::AppBadResponse,
                    PumpError::Sink => Cause::ClientLeft,
                };
                return Poll::Ready(Err(Failed::Abort(cause)));
            }
            Poll::Pending => {}
        }
        if let Err(Failed::Answer(cause) | Failed::Abort(cause)) =
            upload.poll(client, scratch, link, request, cx)
        {
            return Poll::Ready(Err(Failed::Abort(cause)));
        }
        let bounds = &client.worker().bounds;
        let (time, cause) = if scratch.to_client.is_empty() && scratch.from_app.is_empty() {
            (request.idle, Cause::AppTimedOut)
        } else {
            (bounds.client_write_idle, Cause::ClientLeft)
        };
        match idle.is_over(client, upload.pump.bytes + download.bytes, time, cause) {
            Some(cause) => Poll::Ready(Err(Failed::Abort(cause))),
            None => Poll::Pending,
        }
    })
    .await
}

impl Upload {
    /// Sends what can be sent, and notices a client that has left.
    fn poll<C: Client>(
        &mut self,
        client: &mut C,
        scratch: &mut Scratch,
        link: &mut Link,
        request: &Request,
        cx: &mut Context<'_>,
    ) -> Result<(), Failed> {
        if self.state == UploadState::Moving {
            let moved = self.pump.poll(
                client,
                &mut scratch.from_client,
                &mut scratch.to_app,
                link,
                cx,
            );
            match moved {
                Poll::Ready(Ok(())) => self.state = UploadState::Done,
                Poll::Ready(Err(PumpError::Source)) => {
                    return Err(Failed::Abort(Cause::ClientLeft));
                }
                Poll::Ready(Err(PumpError::Malformed)) => {
                    return Err(Failed::Answer(Cause::BadBody));
                }
                Poll::Ready(Err(PumpError::Sink)) => self.state = UploadState::Refused,
                Poll::Pending => return Ok(()),
            }
        }
        // With part of the body unread nothing can be told from what the client sends.
        if self.state == UploadState::Done && client.poll_left(scratch, request, cx).is_ready() {
            return Err(Failed::Abort(Cause::ClientLeft));
        }
        Ok(())
    }

    /// Whether the exchange waits for the client's bytes.
    fn waits_for_client(&self, scratch: &Scratch) -> bool {
        self.state == UploadState::Moving
            && scratch.to_app.is_empty()
            && scratch.from_client.is_empty()
    }
}

/// Notices that nothing has moved for too long, or that the request as a whole takes too long.
pub(crate) struct Idle {
    seen: Option<(u64, Cause)>,
    deadline: Option<Moment>,
}

impl Idle {
    /// Nothing seen yet, of a request that has to be over then.
    pub(crate) fn until(deadline: Option<Moment>) -> Self {
        Self {
            seen: None,
            deadline,
        }
    }

    /// Sets the deadline anew whenever something has moved, or something else is waited for; says
    /// for which cause to give up when it has passed.
    pub(crate) fn is_over<C: Client>(
        &mut self,
        client: &C,
        moved: u64,
        time: Duration,
        waiting: Cause,
    ) -> Option<Cause> {
        let clock = &client.worker().clock;
        if self
            .deadline
            .is_some_and(|deadline| clock.has_come(deadline))
        {
            return Some(Cause::RequestTimedOut);
        }
        if self.seen != Some((moved, waiting)) {
            self.seen = Some((moved, waiting));
            let idle = clock.after(time);
            let until = self.deadline.map_or(idle, |deadline| deadline.min(idle));
            client.watch().arm_at(until);
            return None;
        }
        client.watch().expired().then_some(waiting)
    }
}
