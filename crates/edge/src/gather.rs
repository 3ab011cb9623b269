//! Many small writes as one: HTTP/2 writes each frame by itself, and a batch of streams that answer
//! at the same time would cost two system calls each.
//!
//! What is written is held until [`Gathered::poll_send`], which the connection's task calls whenever
//! it has nothing more to write for now; only what exceeds [`GATHERED_BYTES_MAX`] goes out before.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes held: what a socket's buffer takes at once.
const GATHERED_BYTES_MAX: usize = 64 * 1024;

/// The stream that a connection of HTTP/2 is given.
#[derive(Debug)]
pub(crate) struct Gather<S>(Rc<RefCell<Inner<S>>>);

/// What it has gathered, in the hands of the connection's task.
#[derive(Debug)]
pub(crate) struct Gathered<S>(Rc<RefCell<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    stream: S,
    held: Vec<u8>,
    /// So many bytes of them are sent.
    sent: usize,
}

/// Gathers what is written to a stream.
pub(crate) fn gather<S>(stream: S) -> (Gather<S>, Gathered<S>) {
    let inner = Rc::new(RefCell::new(Inner {
        stream,
        held: Vec::new(),
        sent: 0,
    }));
    (Gather(Rc::clone(&inner)), Gathered(inner))
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Sends what is held.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_send(cx)
    }

    /// Gives the memory back until there is something to write again.
    pub(crate) fn rest(&self) {
        let mut inner = self.0.borrow_mut();
        if inner.held.is_empty() {
            inner.held = Vec::new();
        }
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.held.len() {
            let left = &self.held[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        self.held.clear();
        self.sent = 0;
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, room)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        if inner.held.len() >= GATHERED_BYTES_MAX {
            ready!(inner.poll_send(cx))?;
        }
        let length = bytes.len().min(GATHERED_BYTES_MAX - inner.held.len());
        inner.held.extend_from_slice(&bytes[..length]);
        Poll::Ready(Ok(length))
    }

    /// Sends nothing: the connection's task does, when there is nothing more to gather.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_send(cx))?;
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_sent_at_once_and_in_order() {
        let (ours, mut theirs) = duplex(4 * GATHERED_BYTES_MAX);
        let (mut gather, gathered) = gather(ours);
        for byte in 0..3 {
            gather.write_all(&[byte; 1000]).await.unwrap();
            gather.flush().await.unwrap();
        }
        let mut read = [0; 3000];
        let mut room = ReadBuf::new(&mut read);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut theirs).poll_read(cx, &mut room).is_pending());
        assert!(gathered.poll_send(cx).is_ready());
        theirs.read_exact(&mut read).await.unwrap();
        assert!(
            read.chunks(1000)
                .zip(0..)
                .all(|(part, byte)| part == [byte; 1000])
        );
        gathered.rest();
        assert_eq!(gathered.0.borrow().held.capacity(), 0);
    }

    #[tokio::test]
    async fn a_reader_that_is_slow_bounds_what_is_held() {
        let (ours, mut theirs) = duplex(1000);
        let (mut gather, gathered) = gather(ours);
        let cx = &mut Context::from_waker(Waker::noop());
        let mut taken = 0;
        while let Poll::Ready(written) = Pin::new(&mut gather).poll_write(cx, &[7; 5000]) {
            taken += written.unwrap();
        }
        assert_eq!(taken, GATHERED_BYTES_MAX);
        assert!(gathered.poll_send(cx).is_pending());
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).await.unwrap();
            all
        });
        gather.shutdown().await.unwrap();
        drop((gather, gathered));
        assert_eq!(reader.await.unwrap(), vec![7; taken]);
    }
}
