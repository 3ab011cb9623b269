//! Frames: how Ekiden's roles put messages on a stream.
//!
//! A frame is a length, 4 bytes big-endian, and that many bytes of JSON. Each protocol begins with
//! a version in both directions, so that roles of different releases can tell and fall back.

use std::io;

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest frame accepted: a table of 100,000 routes fits.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Reads one frame; `None` when the peer has closed between frames.
///
/// Not cancel-safe: give it a task or a future of its own.
///
/// # Errors
/// Whatever the stream fails with, and `InvalidData` for a frame that is too long or is not the
/// message expected.
pub async fn read_frame<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "frame is longer than 64 MiB",
        ));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let message = serde_json::from_slice(&body)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some(message))
}

/// Writes one frame with one write.
///
/// # Errors
/// Whatever the stream fails with, and `InvalidData` for a message that is too long.
pub async fn write_frame<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> io::Result<()> {
    let frame = encode_frame(message)?;
    stream.write_all(&frame).await
}

/// One frame as bytes, for writers that are not asynchronous.
///
/// # Errors
/// `InvalidData` for a message that is too long or cannot be written as JSON.
pub fn encode_frame<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let length = frame.len() - 4;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "frame is longer than 64 MiB",
        ));
    }
    frame[..4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(frame)
}
