//! A client's connection as bytes: plain, or within TLS.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::client_address::Protocol;

/// Bytes from and to a client.
#[derive(Debug)]
pub(crate) enum ClientStream {
    /// As they are.
    Plain(TcpStream),
    /// Within TLS. In a box, so that a connection without TLS does not pay for its state.
    Tls(Box<TlsStream<TcpStream>>),
}

impl ClientStream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// What was agreed upon.
    pub(crate) fn protocol(&self) -> Protocol {
        let tls = match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Some(match stream.get_ref().1.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
                _ => "1.2",
            }),
        };
        let name = match self.speaks_http2() {
            true => "h2",
            false => "http/1.1",
        };
        Protocol { name, tls }
    }

    /// Whether HTTP/2 was agreed upon (ALPN, RFC 7301).
    pub(crate) fn speaks_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Ready when a read may give something, an end or a failure; takes nothing, and needs no
    /// buffer.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Self::Tls(stream) = self {
            let session = stream.get_mut().1;
            let state = session
                .process_new_packets()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if state.plaintext_bytes_to_read() > 0 || state.peer_has_closed() {
                return Poll::Ready(Ok(()));
            }
        }
        self.socket().poll_read_ready(cx)
    }

    /// Has the event loop find out whether a new connection is readable: until it was asked, it takes
    /// every one for so, and a client that says nothing would be lent buffers to read nothing into.
    pub(crate) async fn settle(&mut self) {
        let Self::Plain(stream) = self else { return };
        poll_fn(|cx| {
            let mut byte = [0];
            // What there is to say, the first read says.
            let _ = stream.poll_peek(cx, &mut ReadBuf::new(&mut byte));
            Poll::Ready(())
        })
        .await;
    }

    /// Has the connection reset when it is closed, so that nobody takes what was sent for whole.
    pub(crate) fn reset_on_close(&self) {
        // An error leaves an ordinary close, which most clients notice as well.
        let _ = self.socket().set_zero_linger();
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, room),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, room),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

/// A stream of which some was read already.
#[derive(Debug)]
pub(crate) struct Ahead<'s> {
    held: Vec<u8>,
    taken: usize,
    stream: &'s mut ClientStream,
}

impl<'s> Ahead<'s> {
    pub(crate) fn new(held: Vec<u8>, stream: &'s mut ClientStream) -> Self {
        Self {
            held,
            taken: 0,
            stream,
        }
    }
}

impl AsyncRead for Ahead<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.held.is_empty() {
            return Pin::new(&mut *this.stream).poll_read(cx, room);
        }
        let left = &this.held[this.taken..];
        let length = left.len().min(room.remaining());
        room.put_slice(&left[..length]);
        this.taken += length;
        if this.taken == this.held.len() {
            this.held = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ahead<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Shuts the sending half down; ready when the other side has been told.
pub(crate) fn poll_shutdown(
    stream: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
) -> Poll<bool> {
    Poll::Ready(ready!(Pin::new(stream).poll_shutdown(cx)).is_ok())
}
