//! Compression, away from the threads that answer.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;
use tokio::task::spawn_blocking;

use crate::{drain::SendError, target::ArchiveFormat};

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// By gzip. The same bytes become the same bytes: there is no time in it.
pub(crate) async fn gzip(raw: Vec<u8>) -> Result<Bytes, SendError> {
    archive(ArchiveFormat::Gz, raw).await
}

/// By what objects in storage are compressed with.
pub(crate) async fn archive(format: ArchiveFormat, raw: Vec<u8>) -> Result<Bytes, SendError> {
    let compressed = spawn_blocking(move || match format {
        ArchiveFormat::Gz => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&raw)?;
            encoder.finish()
        }
        ArchiveFormat::Zst => zstd::bulk::compress(&raw, ZSTD_LEVEL),
    })
    .await
    .unwrap_or_else(|error| Err(io::Error::other(error)));
    compressed
        .map(Bytes::from)
        .map_err(|error| SendError::retry(format!("cannot compress: {error}")))
}
