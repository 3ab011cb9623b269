//! Moving one body from one connection to another, with back-pressure: nothing is read while what
//! was read before has not been written.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::{
    buffer::{INPUT_BYTES_BULK, Input, Output},
    chunked::{ChunkError, ChunkedDecoder, Piece},
    compression::Encoder,
    forward::{chunk_size, field},
    head::{Framing, may_trail},
};

/// The most fields of a trailer section; one with more is refused.
const TRAILERS_MAX: usize = 64;

/// Where a body comes from.
pub(crate) trait Source: AsyncRead + Unpin {
    /// The trailers after a body that has ended, appended as lines. In HTTP/1 they are within the
    /// body's coding, and there is nothing more.
    fn poll_trailers(&mut self, _: &mut Vec<u8>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Where a body goes.
pub(crate) trait Sink: AsyncWrite + Unpin {
    /// All of the body has been written, and these are the trailers, as lines. In HTTP/1 they are
    /// within the body's coding, and there is nothing more to do.
    ///
    /// # Errors
    /// The receiver has left.
    fn end(&mut self, _trailers: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

impl Source for TcpStream {}
impl Sink for TcpStream {}

/// What is left of a body to be read.
#[derive(Debug, Clone, Copy)]
enum Rest {
    Done,
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
}

/// One body on its way.
#[derive(Debug)]
pub(crate) struct Pump {
    rest: Rest,
    /// Whether it is written in the chunked coding.
    chunked: bool,
    /// What it is compressed by, until that has ended.
    encoder: Option<Box<Encoder>>,
    /// Whether the receiver knows that it has ended.
    ended: bool,
    last_read: usize,
    /// Lines of the trailer section.
    trailers: Vec<u8>,
    /// Bytes of the body moved so far, the coding not counted.
    pub(crate) bytes: u64,
}

/// Why a body did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PumpError {
    /// The sending side closed or failed before the body's end.
    Source,
    /// The body is not the chunked coding that it claims to be.
    Malformed,
    /// The receiving side closed or failed.
    Sink,
}

impl From<ChunkError> for PumpError {
    fn from(_: ChunkError) -> Self {
        Self::Malformed
    }
}

impl Pump {
    pub(crate) fn new(framing: Framing, chunked: bool) -> Self {
        let rest = match framing {
            Framing::Empty => Rest::Done,
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(ChunkedDecoder::default()),
            Framing::UntilClose => Rest::UntilClose,
        };
        Self {
            rest,
            chunked,
            encoder: None,
            ended: false,
            last_read: 0,
            trailers: Vec::new(),
            bytes: 0,
        }
    }

    /// A body of a length that only its end tells, from a source that is not coded.
    pub(crate) fn uncoded(chunked: bool) -> Self {
        Self::new(Framing::UntilClose, chunked)
    }

    /// Has the body compressed on its way.
    pub(crate) fn compressed(mut self, encoder: Encoder) -> Self {
        self.encoder = Some(Box::new(encoder));
        self
    }

    /// Whether all of it has been read; some may still have to be written.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self.rest, Rest::Done)
    }

    /// Moves what `input` holds of the body to `output`, coded as the receiver needs it.
    pub(crate) fn transfer(
        &mut self,
        input: &mut Input,
        output: &mut Vec<u8>,
    ) -> Result<(), ChunkError> {
        while !input.is_empty() {
            match &mut self.rest {
                Rest::Done => break,
                Rest::Chunked(decoder) => match decoder.next(input.held())? {
                    Piece::Framing(length) => input.consume(length),
                    Piece::Data(length) => self.append(length, input, output)?,
                    Piece::Trailers(length) => {
                        self.trailers.extend_from_slice(&input.held()[..length]);
                        input.consume(length);
                    }
                    Piece::End => {}
                },
                Rest::Length(_) | Rest::UntilClose => {
                    let length = self.direct(input.held().len());
                    self.append(length, input, output)?;
                    self.advance(length, output)?;
                }
            }
            if matches!(&self.rest, Rest::Chunked(decoder) if decoder.is_done()) {
                self.end(output)?;
            }
        }
        Ok(())
    }

    /// Moves the body until its end has been written.
    pub(crate) fn poll(
        &mut self,
        source: &mut impl Source,
        input: &mut Input,
        output: &mut Output,
        sink: &mut impl Sink,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            ready!(output.poll_flush(sink, cx)).map_err(|_| PumpError::Sink)?;
            if self.is_read() {
                if !self.ended {
                    self.ended = true;
                    sink.end(&self.trailers).map_err(|_| PumpError::Sink)?;
                }
                return Poll::Ready(Ok(()));
            }
            if input.is_empty() {
                output.clear();
                input.grow_for_bulk(self.last_read);
                let read = input.poll_fill(source, INPUT_BYTES_BULK, cx);
                if read.is_pending() && self.flush_encoder(output.bytes())? {
                    continue;
                }
                self.last_read = ready!(read).map_err(|_| PumpError::Source)?;
                if self.last_read == 0 {
                    if matches!(self.rest, Rest::UntilClose) {
                        ready!(source.poll_trailers(&mut self.trailers, cx))
                            .map_err(|_| PumpError::Source)?;
                    }
                    self.source_ended(output.bytes())?;
                }
            } else if self.writes_directly() {
                let written = ready!(self.poll_write(input, sink, cx));
                let written = written.map_err(|_| PumpError::Sink)?;
                self.advance(written, output.bytes())?;
            } else {
                output.clear();
                self.transfer(input, output.bytes())?;
            }
        }
    }

    /// Whether body bytes are written as they were read.
    fn writes_directly(&self) -> bool {
        !self.chunked
            && self.encoder.is_none()
            && matches!(self.rest, Rest::Length(_) | Rest::UntilClose)
    }

    fn poll_write(
        &mut self,
        input: &mut Input,
        sink: &mut impl Sink,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let length = self.direct(input.held().len());
        let written = ready!(Pin::new(sink).poll_write(cx, &input.held()[..length]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        input.consume(written);
        self.bytes += written as u64;
        Poll::Ready(Ok(written))
    }

    /// How many of so many bytes held belong to an undecoded body.
    fn direct(&self, held: usize) -> usize {
        match self.rest {
            Rest::Length(length) => held.min(usize::try_from(length).unwrap_or(usize::MAX)),
            _ => held,
        }
    }

    /// Counts bytes of an undecoded body as read.
    fn advance(&mut self, length: usize, output: &mut Vec<u8>) -> Result<(), ChunkError> {
        if let Rest::Length(left) = &mut self.rest {
            *left -= length as u64;
            if *left == 0 {
                self.rest = Rest::Done;
                // Its own length says where it ends, unless it was given another coding.
                if self.encoder.is_some() {
                    self.end(output)?;
                }
            }
        }
        Ok(())
    }

    fn append(
        &mut self,
        length: usize,
        input: &mut Input,
        output: &mut Vec<u8>,
    ) -> Result<(), ChunkError> {
        let bytes = &input.held()[..length];
        match &mut self.encoder {
            None => write_data(self.chunked, bytes, output),
            Some(encoder) => {
                let mut coded = Vec::new();
                encoder.push(bytes, &mut coded).map_err(|_| ChunkError)?;
                write_data(self.chunked, &coded, output);
            }
        }
        input.consume(length);
        self.bytes += length as u64;
        Ok(())
    }

    /// Writes what the encoder holds, before more is waited for; says whether it held anything.
    fn flush_encoder(&mut self, output: &mut Vec<u8>) -> Result<bool, ChunkError> {
        let Some(encoder) = &mut self.encoder else {
            return Ok(false);
        };
        let mut coded = Vec::new();
        encoder.flush(&mut coded).map_err(|_| ChunkError)?;
        write_data(self.chunked, &coded, output);
        Ok(!coded.is_empty())
    }

    /// The body has ended where it should.
    ///
    /// # Errors
    /// What stands after it is no trailer section.
    fn end(&mut self, output: &mut Vec<u8>) -> Result<(), ChunkError> {
        self.rest = Rest::Done;
        if let Some(encoder) = self.encoder.take() {
            let mut coded = Vec::new();
            encoder.finish(&mut coded).map_err(|_| ChunkError)?;
            write_data(self.chunked, &coded, output);
        }
        if self.chunked {
            output.extend_from_slice(b"0\r\n");
        }
        if !self.trailers.is_empty() {
            self.trailers.extend_from_slice(b"\r\n");
            let chunked = self.chunked;
            for_each_trailer(&self.trailers, |name, value| {
                if chunked {
                    field(output, name, value);
                }
            })?;
        }
        if self.chunked {
            output.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    fn source_ended(&mut self, output: &mut Vec<u8>) -> Result<(), PumpError> {
        match self.rest {
            Rest::UntilClose => {
                self.end(output)?;
                Ok(())
            }
            _ => Err(PumpError::Source),
        }
    }
}

/// Appends bytes of a body, as a chunk if it is chunked. No bytes are no chunk: an empty one is the
/// last.
fn write_data(chunked: bool, bytes: &[u8], output: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    if chunked {
        chunk_size(output, bytes.len());
    }
    output.extend_from_slice(bytes);
    if chunked {
        output.extend_from_slice(b"\r\n");
    }
}

/// Calls `take` with every trailer that may be passed on, in order. `section` is lines and the
/// empty line that ends them.
///
/// # Errors
/// It is no section of fields, or one with more than [`TRAILERS_MAX`].
pub(crate) fn for_each_trailer(
    section: &[u8],
    mut take: impl FnMut(&str, &[u8]),
) -> Result<(), ChunkError> {
    let mut space = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    match httparse::parse_headers(section, &mut space) {
        Ok(httparse::Status::Complete((length, fields))) if length == section.len() => {
            fields
                .iter()
                .filter(|field| may_trail(field.name))
                .for_each(|field| take(field.name, field.value));
            Ok(())
        }
        _ => Err(ChunkError),
    }
}
