//! A file as the body of a request.

use std::{
    fs::File,
    io::{self, Read, Seek},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 128 << 10;

/// All that a file had when the request was made. Reading it may block for the disk.
#[derive(Debug)]
pub(super) struct FileBody {
    file: File,
    left: u64,
}

impl FileBody {
    pub(super) fn new(mut file: File) -> io::Result<Self> {
        let left = file.metadata()?.len();
        file.rewind()?;
        Ok(Self { file, left })
    }

    fn read(&mut self) -> io::Result<Bytes> {
        let room = CHUNK_BYTES.min(usize::try_from(self.left).unwrap_or(CHUNK_BYTES));
        let mut chunk = vec![0; room];
        let length = self.file.read(&mut chunk)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        chunk.truncate(length);
        self.left -= length as u64;
        Ok(chunk.into())
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match self.left {
            0 => None,
            _ => Some(self.read().map(Frame::data)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
