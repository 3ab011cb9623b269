//! From a layer's compressed bytes to its archive: decompression, the diff id and the bounds.
//!
//! Decompression runs on a thread of its own, ahead of whoever reads the archive, because on two
//! cores a single large layer would otherwise keep one of them idle.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use ekiden_model::image::Digest;
use sha2::{Digest as _, Sha256};

use super::{
    settings::RATIO_FREE_BYTES,
    unpack::{UnpackBudget, UnpackError},
};

/// Bytes handed from the decompressing thread to the reading one at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// Pieces between the two threads: 2 MiB per layer in work.
const PIECES_AHEAD: usize = 8;

/// The largest zstd window accepted, as a power of two: 128 MiB, what the zstd program itself
/// accepts without being told.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// The bytes that tell compressions apart.
const MAGIC_BYTES: u64 = 4;

/// What reading a layer to its end has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Of the archive, uncompressed.
    pub(super) diff_id: Digest,
    /// Of the archive, uncompressed.
    pub(super) bytes: u64,
}

/// What a layer may unpack to.
#[derive(Clone, Copy)]
pub(super) struct DecodeBounds<'a> {
    pub(super) budget: &'a UnpackBudget,
    /// See [`super::settings::ImageSettings::compression_ratio_max`].
    pub(super) ratio_max: u64,
}

/// Decompresses `source` (gzip, zstd or nothing, told by its first bytes) and gives the archive to
/// `read`, which reads it to the end. Blocks.
///
/// When the layer is to blame for a failure, the rest of `source` is still read, so that whoever
/// computes its digest gets to the end and can say that it is the wrong one.
pub(super) fn decode<S: BufRead + Send>(
    source: S,
    bounds: DecodeBounds<'_>,
    read: impl FnOnce(&mut Archived<'_>) -> Result<(), UnpackError>,
) -> Result<Decoded, UnpackError> {
    let compressed_bytes = AtomicU64::new(0);
    let source = Counted {
        source,
        bytes: &compressed_bytes,
    };
    let abandoned = AtomicBool::new(false);
    thread::scope(|scope| {
        let (full_in, full) = sync_channel(PIECES_AHEAD);
        let (empty_in, empty) = channel();
        let abandoned = &abandoned;
        let builder = thread::Builder::new().name("layer-decode".to_owned());
        builder
            .spawn_scoped(scope, move || run_ahead(source, full_in, &empty, abandoned))
            .map_err(UnpackError::Read)?;
        let mut archived = Archived {
            full,
            empty: empty_in,
            piece: Vec::new(),
            at: 0,
            hash: Sha256::new(),
            bytes: 0,
            compressed_bytes: &compressed_bytes,
            bounds,
        };
        let read = read(&mut archived);
        let Archived { hash, bytes, .. } = archived;
        read.map_err(bound_passed).inspect_err(|error| {
            let to_the_end = matches!(error, UnpackError::Refused(_) | UnpackError::Read(_));
            abandoned.store(!to_the_end, Ordering::Relaxed);
        })?;
        Ok(Decoded {
            diff_id: Digest::from_sha256(hash.finalize().into()),
            bytes,
        })
    })
}

/// The decompressed archive, hashed and counted as it is read.
pub(super) struct Archived<'a> {
    full: Receiver<io::Result<Vec<u8>>>,
    /// Pieces go back to be filled again: fresh memory costs a page fault each 4 KiB.
    empty: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    hash: Sha256,
    bytes: u64,
    compressed_bytes: &'a AtomicU64,
    bounds: DecodeBounds<'a>,
}

impl Archived<'_> {
    fn next_piece(&mut self) -> io::Result<()> {
        let Ok(piece) = self.full.recv() else {
            // The other side has ended.
            self.piece.clear();
            self.at = 0;
            return Ok(());
        };
        let old = std::mem::replace(&mut self.piece, piece?);
        // Nobody takes it when all is decompressed already.
        let _ = self.empty.send(old);
        self.at = 0;
        self.hash.update(&self.piece);
        self.count(self.piece.len() as u64)
            .map_err(io::Error::other)
    }

    fn count(&mut self, length: u64) -> Result<(), BoundPassed> {
        self.bytes += length;
        self.bounds.budget.take_bytes(length).map_err(BoundPassed)?;
        let compressed = self.compressed_bytes.load(Ordering::Relaxed).max(1);
        if self.bytes > RATIO_FREE_BYTES && self.bytes / compressed > self.bounds.ratio_max {
            return Err(BoundPassed(UnpackError::Refused(format!(
                "it unpacks to more than {} times its size, as no honest layer does",
                self.bounds.ratio_max
            ))));
        }
        Ok(())
    }
}

impl Read for Archived<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Archived<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.piece.len() {
            self.next_piece()?;
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, length: usize) {
        self.at += length;
    }
}

/// An [`UnpackError`] on its way through `io::Error`.
#[derive(Debug)]
struct BoundPassed(UnpackError);

impl fmt::Display for BoundPassed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for BoundPassed {}

/// Takes back out what [`Archived::count`] sent through a reader's error.
fn bound_passed(error: UnpackError) -> UnpackError {
    match error {
        UnpackError::Read(error) => match error.downcast::<BoundPassed>() {
            Ok(BoundPassed(inner)) => inner,
            Err(error) => UnpackError::Read(error),
        },
        error => error,
    }
}

/// The decompressing thread.
fn run_ahead<S: BufRead>(
    mut source: S,
    full: SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
    abandoned: &AtomicBool,
) {
    if let Err(error) = decompress(&mut source, &full, empty) {
        // A reader that has gone has its own reason to tell.
        let _ = full.send(Err(error));
    }
    // The reader must not wait for what follows, which only the digest is about.
    drop(full);
    while !abandoned.load(Ordering::Relaxed) {
        match source.fill_buf().map(<[u8]>::len) {
            Ok(0) | Err(_) => return,
            Ok(length) => source.consume(length),
        }
    }
}

fn decompress<S: BufRead>(
    source: &mut S,
    full: &SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut start = Vec::new();
    source.by_ref().take(MAGIC_BYTES).read_to_end(&mut start)?;
    let compression = Compression::of(&start);
    let source = io::Cursor::new(start).chain(source);
    match compression {
        Compression::None => forward(source, full, empty),
        Compression::Gzip => forward(flate2::bufread::MultiGzDecoder::new(source), full, empty),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            forward(decoder, full, empty)
        }
    }
}

fn forward(
    mut source: impl Read,
    full: &SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let mut piece = empty.try_recv().unwrap_or_default();
        piece.clear();
        piece.reserve_exact(PIECE_BYTES);
        source
            .by_ref()
            .take(PIECE_BYTES as u64)
            .read_to_end(&mut piece)?;
        if piece.is_empty() || full.send(Ok(piece)).is_err() {
            return Ok(());
        }
    }
}

/// How bytes are compressed; told by the bytes, because media types are often wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the magic numbers of RFC 1952 and RFC 8878.
    pub(super) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A zstd stream may begin with a skippable frame.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Decompresses a whole file that is not a layer: an archive that holds an image.
pub(super) fn decompressed(source: File) -> io::Result<Box<dyn Read>> {
    let mut source = BufReader::with_capacity(PIECE_BYTES, source);
    Ok(match Compression::of(source.fill_buf()?) {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

/// Counts what is consumed.
struct Counted<'a, S> {
    source: S,
    bytes: &'a AtomicU64,
}

impl<S: BufRead> Read for Counted<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.bytes.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

impl<S: BufRead> BufRead for Counted<'_, S> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.source.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        self.bytes.fetch_add(length as u64, Ordering::Relaxed);
        self.source.consume(length);
    }
}
