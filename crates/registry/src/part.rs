//! A part of a blob on its way to a client.

use std::{
    fs::File,
    io::{self, Read},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body::{Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{blobs::READ_BYTES, error::Refusal};

/// A part of a blob (RFC 9110, section 14.2): one range; several are answered with the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Range {
    pub(crate) fn read(headers: &HeaderMap, size: u64) -> Result<Option<Self>, Refusal> {
        let text = headers
            .get(header::RANGE)
            .and_then(|value| value.to_str().ok());
        let Some(text) = text.and_then(|text| text.strip_prefix("bytes=")) else {
            return Ok(None);
        };
        let Some((first, last)) = text.split_once('-') else {
            return Ok(None);
        };
        let (first, last) = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) if first > last => return Ok(None),
            (Ok(first), Ok(last)) => (first, last.min(size.saturating_sub(1))),
            (Ok(first), Err(_)) if last.is_empty() => (first, size.saturating_sub(1)),
            (Err(_), Ok(suffix)) if first.is_empty() && suffix > 0 => {
                (size.saturating_sub(suffix), size.saturating_sub(1))
            }
            _ => return Ok(None),
        };
        if first >= size {
            return Err(Refusal::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "SIZE_INVALID",
                format!("the blob has {size} bytes"),
            ));
        }
        Ok(Some(Self { first, last }))
    }

    pub(crate) const fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

/// A file on its way to a client: the next piece is read while one is sent, and none before that.
pub(crate) struct FileBody {
    next: Option<JoinHandle<io::Result<(File, Bytes)>>>,
    left: u64,
}

impl FileBody {
    pub(crate) fn new(file: File, length: u64) -> Self {
        let next = (length > 0).then(|| spawn_blocking(move || read_piece(file, length)));
        Self { next, left: length }
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(next) = &mut self.next else {
            return Poll::Ready(None);
        };
        let read = match Pin::new(next).poll(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(read) => read.unwrap_or_else(|error| Err(io::Error::other(error))),
        };
        self.next = None;
        Poll::Ready(Some(read.map(|(file, piece)| {
            self.left = self.left.saturating_sub(piece.len() as u64);
            let left = self.left;
            self.next = (left > 0).then(|| spawn_blocking(move || read_piece(file, left)));
            Frame::data(piece)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Blocks.
fn read_piece(mut file: File, left: u64) -> io::Result<(File, Bytes)> {
    let length = READ_BYTES.min(usize::try_from(left).unwrap_or(READ_BYTES));
    let mut piece = vec![0; length];
    file.read_exact(&mut piece)?;
    Ok((file, piece.into()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_range_is_what_there_is_of_it() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static(text));
            Range::read(&headers, 10)
                .map(|range| range.map(|range| (range.first, range.last)))
                .map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!(read("bytes=0-3"), Ok(Some((0, 3))));
        assert_eq!(read("bytes=5-"), Ok(Some((5, 9))));
        assert_eq!(read("bytes=8-99"), Ok(Some((8, 9))));
        assert_eq!(read("bytes=-3"), Ok(Some((7, 9))));
        assert_eq!(read("bytes=10-"), Err(416));
        assert_eq!(read("bytes=3-1"), Ok(None));
        assert_eq!(read("bytes=0-1,3-4"), Ok(None));
        assert_eq!(read("lines=1-2"), Ok(None));
    }
}
