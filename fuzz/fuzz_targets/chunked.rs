//! Bodies in the chunked coding: read alike however they arrive.

#![no_main]

use ekiden_edge::chunked::{ChunkError, ChunkedDecoder, Piece};
use libfuzzer_sys::fuzz_target;

/// The body and the trailers, and how much was read; given to the decoder in pieces of `step`.
fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>, usize), ChunkError> {
    let mut decoder = ChunkedDecoder::default();
    let (mut body, mut trailers, mut read, mut fed) = (Vec::new(), Vec::new(), 0, 0);
    while !decoder.is_done() {
        if read == fed {
            fed = (fed + step).min(input.len());
        }
        let held = &input[read..fed];
        if held.is_empty() {
            break;
        }
        read += match decoder.next(held)? {
            Piece::Framing(length) => length,
            Piece::Data(length) => {
                body.extend_from_slice(&held[..length]);
                length
            }
            Piece::Trailers(length) => {
                trailers.extend_from_slice(&held[..length]);
                length
            }
            Piece::End => 0,
        };
    }
    Ok((body, trailers, read))
}

fuzz_target!(|data: &[u8]| {
    let whole = decode(data, data.len().max(1));
    for step in [1, 2, 7] {
        assert_eq!(decode(data, step), whole, "step {step}");
    }
});
