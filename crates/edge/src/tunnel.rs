//! After a change of protocol: bytes both ways, unread, until both sides have ended.
//!
//! The request stays in flight all the while: a WebSocket holds its slot, and an instance drains
//! only when its tunnels have ended or the drain limit has passed.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    buffer::Input,
    cause::Cause,
    client::Client,
    dispatch::Request,
    exchange::{Delivered, Failed, Idle},
    link::Link,
    scratch::Scratch,
    stream::poll_shutdown,
};

/// What a tunnel reads at most at a time, in bytes.
const TUNNEL_BYTES: usize = 32 * 1024;

/// One direction of a tunnel.
#[derive(Debug, Default)]
struct Direction {
    moved: u64,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Moving,
    /// The source has ended, and the sink is to be told.
    Ending,
    Ended,
}

impl Direction {
    /// Moves what there is; ready when the direction has ended. An error on either side ends it.
    fn poll(
        &mut self,
        source: &mut (impl AsyncRead + Unpin),
        held: &mut Input,
        sink: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            match self.state {
                State::Ended => return Poll::Ready(()),
                State::Ending => {
                    ready!(poll_shutdown(sink, cx));
                    self.state = State::Ended;
                }
                State::Moving if held.is_empty() => {
                    if ready!(Pin::new(&mut *sink).poll_flush(cx)).is_err() {
                        self.state = State::Ended;
                        continue;
                    }
                    let read = ready!(held.poll_fill(source, TUNNEL_BYTES, cx));
                    self.state = match read {
                        Ok(1..) => State::Moving,
                        Ok(0) | Err(_) => State::Ending,
                    };
                }
                State::Moving => match ready!(Pin::new(&mut *sink).poll_write(cx, held.held())) {
                    Ok(written @ 1..) => {
                        held.consume(written);
                        self.moved += written as u64;
                    }
                    Ok(0) | Err(_) => self.state = State::Ended,
                },
            }
        }
    }
}

/// Passes bytes both ways until both sides have ended, or nothing has moved for too long.
pub(crate) async fn tunnel<C: Client>(
    client: &mut C,
    scratch: &mut Scratch,
    link: &mut Link,
    request: &mut Request,
) -> Result<Delivered, Failed> {
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let mut idle = Idle::until(request.deadline);
    let time = request.idle;
    let outcome = poll_fn(|cx| {
        // The head of the response goes first.
        match scratch.to_client.poll_flush(client, cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Failed::Abort(Cause::ClientLeft))),
            Poll::Pending => {
                return match idle.is_over(client, 0, time, Cause::ClientLeft) {
                    Some(cause) => Poll::Ready(Err(Failed::Abort(cause))),
                    None => Poll::Pending,
                };
            }
        }
        let ended = (
            up.poll(client, &mut scratch.from_client, link, cx),
            down.poll(link, &mut scratch.from_app, client, cx),
        );
        // An application that is done is done, whatever the client still says.
        if ended.1.is_ready() {
            return Poll::Ready(Ok(()));
        }
        match idle.is_over(client, up.moved + down.moved, time, Cause::AppTimedOut) {
            Some(_) => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    })
    .await;
    request.body_bytes = (up.moved, down.moved);
    scratch.from_client.clear();
    scratch.from_app.clear();
    scratch.to_client.clear();
    outcome.map(|()| Delivered {
        keep_alive: false,
        request_read: true,
        link_is_reusable: false,
    })
}
