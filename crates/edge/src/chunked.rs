//! Strict reading of the chunked coding (RFC 9112, section 7.1): a pure state machine.
//!
//! Extensions are checked for their bounds and then dropped: what is forwarded is chunked anew.
//! Trailers are given out as they stand, to be read as fields.

/// The longest extension of one chunk, in bytes.
pub const EXTENSION_BYTES_MAX: u32 = 256;

/// The longest trailer section, in bytes.
pub const TRAILER_BYTES_MAX: u32 = 8 * 1024;

/// The most digits of a chunk's size; fits 60 bits.
const SIZE_DIGITS_MAX: u32 = 15;

/// Bytes that are not the chunked coding, or exceed its bounds here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body breaks the chunked coding")]
pub struct ChunkError;

/// Where in a chunked body the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes left of the current chunk; while in its size, the size so far.
    remaining: u64,
    /// Digits, extension bytes or trailer bytes seen, each against its bound.
    count: u32,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes of framing, to be skipped; ask again with the rest.
    Framing(usize),
    /// So many bytes of the body, at the start of what was given.
    Data(usize),
    /// So many bytes of trailer lines, each with its `\r\n`, without the empty line that ends them.
    Trailers(usize),
    /// The body has ended with the byte before; nothing was taken.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    /// Within a quoted string of an extension, where nothing but a quote ends it.
    Quoted,
    /// After a backslash in one.
    QuotedPair,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the empty line that ends the body.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self {
            state: State::Size,
            remaining: 0,
            count: 0,
        }
    }
}

impl ChunkedDecoder {
    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::End
    }

    /// What `input` starts with; never empty unless the body has ended. At most a chunk's rest or
    /// a run of framing is taken at a time.
    ///
    /// # Errors
    /// [`ChunkError`]; the body cannot be read on after it.
    pub fn next(&mut self, input: &[u8]) -> Result<Piece, ChunkError> {
        match self.state {
            State::End => Ok(Piece::End),
            State::Data => {
                let length = input
                    .len()
                    .min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
                self.remaining -= length as u64;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                }
                Ok(Piece::Data(length))
            }
            State::TrailerStart if input.first() != Some(&b'\r') => self.trailers(input),
            State::Trailer | State::TrailerLf => self.trailers(input),
            _ => self.skip_framing(input),
        }
    }

    /// Takes trailer lines, up to the empty one.
    fn trailers(&mut self, input: &[u8]) -> Result<Piece, ChunkError> {
        for (index, byte) in input.iter().enumerate() {
            if self.state == State::TrailerStart && *byte == b'\r' {
                return Ok(Piece::Trailers(index));
            }
            self.state = self.after(*byte)?;
        }
        Ok(Piece::Trailers(input.len()))
    }

    fn skip_framing(&mut self, input: &[u8]) -> Result<Piece, ChunkError> {
        for (index, byte) in input.iter().enumerate() {
            let ends = match self.state {
                State::Data | State::End => true,
                State::TrailerStart => *byte != b'\r',
                _ => false,
            };
            if ends {
                return Ok(Piece::Framing(index));
            }
            self.state = self.after(*byte)?;
        }
        Ok(Piece::Framing(input.len()))
    }

    /// The state after one byte of framing.
    fn after(&mut self, byte: u8) -> Result<State, ChunkError> {
        Ok(match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.count(SIZE_DIGITS_MAX)?;
                let digit = (byte as char).to_digit(16).ok_or(ChunkError)?;
                self.remaining = self.remaining << 4 | u64::from(digit);
                State::Size
            }
            (State::Size, b'\r') if self.count > 0 => State::SizeLf,
            (State::Size, b';') if self.count > 0 => {
                self.count = 0;
                State::Extension
            }
            (State::Extension, b'\r') => State::SizeLf,
            (
                State::Extension | State::Quoted | State::QuotedPair,
                b'\t' | b' '..=b'~' | 0x80..,
            ) => {
                self.count(EXTENSION_BYTES_MAX)?;
                match (self.state, byte) {
                    (State::Extension, b'"') => State::Quoted,
                    (State::Extension, _) | (State::Quoted, b'"') => State::Extension,
                    (State::Quoted, b'\\') => State::QuotedPair,
                    _ => State::Quoted,
                }
            }
            (State::SizeLf, b'\n') => {
                self.count = 0;
                if self.remaining == 0 {
                    State::TrailerStart
                } else {
                    State::Data
                }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::TrailerStart, b'\r') => State::EndLf,
            // A trailer line begins with a field name; a space would fold it into the line before.
            (State::TrailerStart, b'!'..=b'~') | (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count(TRAILER_BYTES_MAX)?;
                State::Trailer
            }
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::End,
            _ => return Err(ChunkError),
        })
    }

    fn count(&mut self, max: u32) -> Result<(), ChunkError> {
        self.count += 1;
        if self.count > max {
            Err(ChunkError)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The body of `input`, with its trailers, and what stands after it, given to the decoder in
    /// pieces of `step`.
    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>, bool), ChunkError> {
        let mut decoder = ChunkedDecoder::default();
        let (mut body, mut held, mut fed) = (Vec::new(), Vec::new(), 0);
        loop {
            if held.is_empty() && fed < input.len() {
                let end = (fed + step).min(input.len());
                held.extend_from_slice(&input[fed..end]);
                fed = end;
            }
            if held.is_empty() || decoder.is_done() {
                held.extend_from_slice(&input[fed..]);
                return Ok((body, held, decoder.is_done()));
            }
            match decoder.next(&held)? {
                Piece::Framing(length) => drop(held.drain(..length)),
                Piece::Data(length) | Piece::Trailers(length) => {
                    body.extend(held.drain(..length));
                }
                Piece::End => {}
            }
        }
    }

    #[track_caller]
    fn check(input: &str, body: &str, after: &str) {
        for step in [1, 2, 3, 7, 1000] {
            let want = (body.as_bytes().to_vec(), after.as_bytes().to_vec(), true);
            assert_eq!(decode(input.as_bytes(), step), Ok(want), "step {step}");
        }
    }

    #[track_caller]
    fn refused(input: &str) {
        for step in [1, 5, 1000] {
            assert_eq!(
                decode(input.as_bytes(), step),
                Err(ChunkError),
                "step {step}: {input:?}"
            );
        }
    }

    #[test]
    fn bodies_are_decoded_and_what_follows_is_left() {
        check("0\r\n\r\n", "", "");
        check("5\r\nhello\r\n0\r\n\r\nGET", "hello", "GET");
        check("5;a=b;c=\"d\\\"\"\r\nhello\r\n00\r\n\r\n", "hello", "");
        check(
            "A\r\n0123456789\r\n1\r\n\n\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n\r\n",
            "0123456789\nX-Sum: 1\r\nY: 2\r\n",
            "\r\n",
        );
    }

    #[test]
    fn broken_framing_is_refused() {
        for input in [
            "\r\n",
            "g\r\n",
            " 5\r\nhello\r\n",
            "5 \r\nhello\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "-1\r\n",
            "+5\r\nhello\r\n",
            "0x5\r\nhello\r\n",
            "5\r\nhelloo\r\n",
            "5\r\nhello\n0\r\n\r\n",
            ";a\r\n",
            "5;a=\"\r\nhello\r\n0\r\n\r\n",
            "5;a=\"b\\\"\r\nhello\r\n0\r\n\r\n",
            "5;a\nhello\r\n",
            "5;\0\r\nhello\r\n",
            "5\r\rhello",
            "0\r\n X: folded\r\n\r\n",
            "0\r\nX: 1\n\r\n",
            "0\r\n\n",
            "0\r\n\rX",
            "1000000000000000\r\n",
            "0\r\nX: \0\r\n\r\n",
        ] {
            refused(input);
        }
        refused(&format!("5;{}\r\nhello\r\n", "a".repeat(257)));
        refused(&format!("0\r\nX: {}\r\n\r\n", "a".repeat(9000)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused_alike_however_they_arrive(
            input in proptest::collection::vec(
                prop_oneof![
                    Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'1'), Just(b'a'), Just(b';'), any::<u8>()
                ],
                0..200,
            ),
            step in 1_usize..50,
        ) {
            prop_assert_eq!(decode(&input, step), decode(&input, 1000));
        }

        #[test]
        fn what_is_chunked_is_read_back(chunks in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 1..300), 0..8), step in 1_usize..64) {
            let mut input = Vec::new();
            for chunk in &chunks {
                input.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                input.extend_from_slice(chunk);
                input.extend_from_slice(b"\r\n");
            }
            input.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(decode(&input, step), Ok((chunks.concat(), Vec::new(), true)));
        }
    }
}
