//! Byte buffers that are filled at one end and emptied at the other.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a buffer for input begins with: the head of nearly every request, and a small response.
const INPUT_BYTES_MIN: usize = 8 * 1024;

/// What a buffer for input grows to when a body comes faster than it fits.
pub(crate) const INPUT_BYTES_BULK: usize = 128 * 1024;

/// The largest output buffer that is kept for the next request.
const OUTPUT_BYTES_KEPT: usize = 16 * 1024;

/// Bytes read and not yet used.
#[derive(Debug)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            bytes: vec![0; INPUT_BYTES_MIN],
            start: 0,
            end: 0,
        }
    }
}

impl Input {
    /// The bytes held.
    pub(crate) fn held(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether more can be read without growing the buffer beyond the usual.
    pub(crate) fn has_room(&self) -> bool {
        self.end - self.start < INPUT_BYTES_MIN
    }

    /// Whether [`Input::poll_fill`] would have to grow the buffer.
    fn is_full(&self) -> bool {
        self.end - self.start == self.bytes.len()
    }

    /// Forgets the first `length` bytes held.
    pub(crate) fn consume(&mut self, length: usize) {
        self.start += length;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Takes bytes in after those held.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let end = self.end + bytes.len();
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        self.bytes[self.end..end].copy_from_slice(bytes);
        self.end = end;
    }

    /// Gives memory beyond the usual back.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.len() > INPUT_BYTES_MIN {
            *self = Self::default();
        }
        self.clear();
    }

    /// Reads once; zero is the end of the stream. A full buffer is doubled first, up to
    /// `bytes_max`; the caller does not read into a buffer that holds so much already.
    pub(crate) fn poll_fill(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.start > 0 && self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.is_full() {
            let length = (self.bytes.len() * 2).min(bytes_max.max(self.bytes.len() + 1));
            self.bytes.resize(length, 0);
        }
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(Pin::new(stream).poll_read(cx, &mut room))?;
        let read = room.filled().len();
        self.end += read;
        Poll::Ready(Ok(read))
    }

    /// Makes room for bulk transfer when the last read filled the buffer. Only while it is empty.
    pub(crate) fn grow_for_bulk(&mut self, last_read: usize) {
        if self.is_empty() && last_read == self.bytes.len() && last_read < INPUT_BYTES_BULK {
            self.bytes.resize((last_read * 4).min(INPUT_BYTES_BULK), 0);
        }
    }
}

/// Bytes to be written.
#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    written: usize,
}

impl Output {
    /// Where to append.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
    }

    /// Keeps the first `length` bytes, to be written from the start.
    pub(crate) fn rewind(&mut self, length: usize) {
        self.bytes.truncate(length);
        self.written = 0;
    }

    /// Gives memory beyond the usual back.
    pub(crate) fn shrink(&mut self) {
        self.clear();
        if self.bytes.capacity() > OUTPUT_BYTES_KEPT {
            self.bytes = Vec::new();
        }
    }

    /// Writes everything. What was written stays in memory, for [`Output::rewind`].
    pub(crate) fn poll_flush(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            let written =
                ready!(Pin::new(&mut *stream).poll_write(cx, &self.bytes[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        // TLS may hold records that the socket has not taken.
        Pin::new(stream).poll_flush(cx)
    }

    /// Leaves the first `length` bytes out of what is to be written.
    pub(crate) fn skip(&mut self, length: usize) {
        self.written = length;
    }
}
