//! One blob from a registry to a reader, verified on its way.

use std::io::{self, BufRead, Read};

use bytes::Bytes;
use ekiden_model::image::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{
    error::ImageError,
    manifest::Descriptor,
    registry::{Registry, Repository},
    settings::ATTEMPTS_MAX,
};

/// Pieces between the network and the reader: each is what one read of a socket gave, at most
/// some 400 KiB.
const PIECES_AHEAD: usize = 16;

/// How often a download may go on after it broke, however far each try came.
const RESUMES_MAX: u32 = 100;

/// How a download ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Downloaded {
    /// All of it, with the right digest.
    Complete,
    /// The reader went away.
    Abandoned,
}

/// The two ends of a download: bytes go in at one and are read, blocking, at the other.
pub(super) fn pipe() -> (mpsc::Sender<Bytes>, PipeReader) {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    (
        sender,
        PipeReader {
            pieces,
            piece: Bytes::new(),
        },
    )
}

/// Downloads a blob into `sink`, going on where a connection broke. `on_bytes` is told the length
/// of each piece that is new.
///
/// # Errors
/// [`ImageError::Corrupt`] when all came and is not what the digest says. Until then the reader
/// has seen bytes that nobody vouches for.
pub(super) async fn download(
    registry: &Registry,
    repository: &Repository,
    blob: &Descriptor,
    sink: mpsc::Sender<Bytes>,
    on_bytes: impl Fn(u64),
) -> Result<Downloaded, ImageError> {
    let mut taken = Taken {
        hash: Sha256::new(),
        bytes: 0,
        blob,
        sink,
        on_bytes,
    };
    let (mut failures, mut resumes) = (0, 0);
    while taken.bytes < blob.size {
        let before = taken.bytes;
        let failure = match follow(registry, repository, &mut taken).await {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) => break,
            Err(failure) => failure,
        };
        failures = if taken.bytes > before {
            1
        } else {
            failures + 1
        };
        resumes += 1;
        if !failure.again || failures == ATTEMPTS_MAX || resumes == RESUMES_MAX {
            return Err(failure.error);
        }
        tokio::time::sleep(registry.delay(failures)).await;
    }
    let actual = Digest::from_sha256(taken.hash.finalize().into());
    if actual != blob.digest {
        let what = format!("layer `{}`", blob.digest.short());
        return Err(ImageError::Corrupt {
            what,
            expected: blob.digest,
            actual,
        });
    }
    Ok(Downloaded::Complete)
}

struct Broken {
    error: ImageError,
    again: bool,
}

/// One connection's worth: `None` when the blob is complete.
async fn follow<F: Fn(u64)>(
    registry: &Registry,
    repository: &Repository,
    taken: &mut Taken<'_, F>,
) -> Result<Option<Downloaded>, Broken> {
    // The registry has used up its own tries by then.
    let last = |error| Broken {
        error,
        again: false,
    };
    let digest = taken.blob.digest;
    let mut blob = registry
        .blob(repository, &digest, taken.bytes)
        .await
        .map_err(last)?;
    let mut skip = taken.bytes - blob.offset;
    while taken.bytes < taken.blob.size {
        let data = registry.next_data(&mut blob).await;
        let data = data.map_err(|error| Broken { error, again: true })?;
        let Some(mut data) = data else {
            return Err(Broken {
                error: ends_early(repository, taken),
                again: true,
            });
        };
        let skipped = data.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
        skip -= skipped as u64;
        let data = data.split_off(skipped);
        if taken.bytes + data.len() as u64 > taken.blob.size {
            return Err(last(too_long(repository, taken)));
        }
        if !data.is_empty() && !taken.take(data).await {
            return Ok(Some(Downloaded::Abandoned));
        }
    }
    Ok(None)
}

fn ends_early<F>(repository: &Repository, taken: &Taken<'_, F>) -> ImageError {
    let (short, bytes, size) = (taken.blob.digest.short(), taken.bytes, taken.blob.size);
    ImageError::Invalid {
        image: repository.image.clone(),
        problem: format!("its registry ends layer `{short}` after {bytes} of {size} bytes"),
    }
}

fn too_long<F>(repository: &Repository, taken: &Taken<'_, F>) -> ImageError {
    let (short, size) = (taken.blob.digest.short(), taken.blob.size);
    ImageError::Invalid {
        image: repository.image.clone(),
        problem: format!("layer `{short}` is longer than the {size} bytes that its manifest says"),
    }
}

/// What has arrived so far.
struct Taken<'a, F> {
    hash: Sha256,
    bytes: u64,
    blob: &'a Descriptor,
    sink: mpsc::Sender<Bytes>,
    on_bytes: F,
}

impl<F: Fn(u64)> Taken<'_, F> {
    /// `false` when nobody reads any more.
    async fn take(&mut self, data: Bytes) -> bool {
        self.hash.update(&data);
        self.bytes += data.len() as u64;
        (self.on_bytes)(data.len() as u64);
        self.sink.send(data).await.is_ok()
    }
}

/// The reading end of [`pipe`]. For a blocking thread; ends when the other end is dropped.
pub(super) struct PipeReader {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => break,
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, length: usize) {
        let _ = self.piece.split_to(length);
    }
}
