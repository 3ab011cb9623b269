//! The server's side of an upload.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use ekiden_model::image::Digest;
use sha2::{Digest as _, Sha256};

use super::{InvalidManifest, ItemKind, MANIFEST_BYTES_MAX, MANIFEST_NAME, Manifest};
use crate::{
    snapshot::{Entry, Limits, Snapshot, SnapshotError, SnapshotFiles, Writer, shown},
    tar::{self, BLOCK},
};

/// The largest window of a zstd frame, as a power of two: 8 MiB, the least that decoders should support (RFC
/// 8878, 3.1.1.1.2). It is how much memory decompression takes.
const WINDOW_LOG_MAX: u32 = 23;

/// Bytes that are copied at a time.
const COPY_BYTES: usize = 128 << 10;

/// Why an upload has become no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The archive makes no sense; the client is to blame.
    #[error("the archive is refused: {0}")]
    Malformed(String),
    /// The archive ends too early: worth another try.
    #[error("the archive is cut off")]
    Truncated,
    /// What the archive comes from failed.
    #[error("failed to read the archive")]
    Read(#[source] io::Error),
    /// The manifest in it is refused.
    #[error(transparent)]
    Manifest(#[from] InvalidManifest),
    /// Content is neither in the archive nor in the previous snapshot: ask again what is missing.
    #[error("the content of {count} files was not sent")]
    Missing {
        /// How many contents.
        count: usize,
    },
    /// The tree is refused, or this host is to blame.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// This host is to blame.
    #[error("failed to keep the content of an upload")]
    Keep(#[source] io::Error),
}

/// Contents of a manifest that the previous snapshot does not have, sorted.
pub fn missing(manifest: &Manifest, previous: Option<&SnapshotFiles>) -> Vec<Digest> {
    let mut wanted = manifest.contents();
    for (digest, bytes, _) in previous.into_iter().flat_map(SnapshotFiles::contents) {
        if wanted.get(&digest) == Some(&bytes) {
            wanted.remove(&digest);
        }
    }
    let mut missing: Vec<Digest> = wanted.into_keys().collect();
    missing.sort();
    missing
}

/// Makes the snapshot at `into` of an archive and of what the previous snapshot has. Blocks.
///
/// What came is kept in a nameless file beside `into` until the snapshot is whole, because files come in any
/// order and a snapshot has one. The archive is not read behind its end.
pub fn assemble(
    archive: impl Read,
    previous: Option<&SnapshotFiles>,
    into: &Path,
    limits: Limits,
) -> Result<Snapshot, UploadError> {
    let mut decoder = zstd::Decoder::new(archive).map_err(UploadError::Read)?;
    decoder
        .window_log_max(WINDOW_LOG_MAX)
        .map_err(UploadError::Read)?;
    let mut source = Source(BufReader::new(decoder.single_frame()));
    let manifest = source.manifest(&limits)?;
    let received = Received::read(&mut source, &manifest, into)?;
    let mut old: HashMap<Digest, (&SnapshotFiles, &Entry)> = HashMap::new();
    if let Some(files) = previous {
        old.extend(
            files
                .contents()
                .map(|(digest, _, entry)| (digest, (files, entry))),
        );
    }
    let known = |digest: &Digest| received.places.contains_key(digest) || old.contains_key(digest);
    let contents = manifest.contents();
    let count = contents.keys().filter(|digest| !known(digest)).count();
    if count > 0 {
        return Err(UploadError::Missing { count });
    }
    let mut writer = Writer::create(into, manifest.epoch(), limits)?;
    for item in &manifest.items {
        match &item.kind {
            ItemKind::Link { target } => writer.link(&item.path, target)?,
            ItemKind::File {
                executable,
                bytes,
                digest,
            } => {
                let mut file =
                    |content: &mut dyn Read| writer.file(&item.path, *executable, *bytes, content);
                let written = match (received.content(digest), old.get(digest)) {
                    (Some(mut content), _) => file(&mut content)?,
                    (None, Some((files, entry))) => file(&mut files.content(entry))?,
                    (None, None) => return Err(UploadError::Missing { count: 1 }),
                };
                if written != *digest {
                    return Err(SnapshotError::Damaged("a file is not what its index says").into());
                }
            }
        }
    }
    Ok(writer.finish()?)
}

/// The tar stream inside of an archive.
struct Source<R>(R);

impl<R: Read> Source<R> {
    fn manifest(&mut self, limits: &Limits) -> Result<Manifest, UploadError> {
        let first = self.next()?.filter(|entry| entry.name == MANIFEST_NAME);
        let first = first.ok_or_else(|| malformed("it does not begin with a manifest"))?;
        if first.bytes > MANIFEST_BYTES_MAX {
            return Err(InvalidManifest::TooLarge.into());
        }
        let mut json = Vec::new();
        (&mut self.0)
            .take(first.bytes)
            .read_to_end(&mut json)
            .map_err(read_failed)?;
        if json.len() as u64 != first.bytes {
            return Err(UploadError::Truncated);
        }
        self.skip_padding(first.bytes)?;
        Ok(Manifest::read(&json, limits)?)
    }

    /// The next header; `None` at the two blocks of zeros that end a tar file.
    fn next(&mut self) -> Result<Option<tar::Named>, UploadError> {
        let mut block = [0; BLOCK];
        self.exactly(&mut block)?;
        if block == [0; BLOCK] {
            self.exactly(&mut block)?;
            return match block == [0; BLOCK] {
                true => Ok(None),
                false => Err(malformed("it goes on behind its end")),
            };
        }
        let named = tar::read(&block);
        let named = named.ok_or_else(|| malformed("it has an entry that is no ordinary file"))?;
        Ok(Some(named))
    }

    fn skip_padding(&mut self, bytes: u64) -> Result<(), UploadError> {
        let mut block = [0; BLOCK];
        self.exactly(&mut block[..tar::padding(bytes)])
    }

    fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), UploadError> {
        self.0.read_exact(bytes).map_err(read_failed)
    }
}

/// Content that came, one after the other in a file without a name.
struct Received {
    file: File,
    /// Offset and bytes of each.
    places: HashMap<Digest, (u64, u64)>,
}

impl Received {
    /// Takes each content of the manifest at most once, so that there is no more than the manifest has.
    fn read<R: Read>(
        source: &mut Source<R>,
        manifest: &Manifest,
        into: &Path,
    ) -> Result<Self, UploadError> {
        let mut wanted = manifest.contents();
        let beside = into.parent().unwrap_or(Path::new("."));
        let file = tempfile::tempfile_in(beside).map_err(UploadError::Keep)?;
        let mut out = BufWriter::with_capacity(COPY_BYTES, &file);
        let (mut places, mut offset) = (HashMap::new(), 0);
        while let Some(entry) = source.next()? {
            let digest = format!("sha256:{}", entry.name).parse::<Digest>();
            let digest = digest.map_err(|_| malformed("an entry is not named by a digest"))?;
            let bytes = wanted.remove(&digest).ok_or_else(|| {
                malformed(format!("{digest} is there twice, or not in the manifest"))
            })?;
            if bytes != entry.bytes {
                return Err(malformed(format!(
                    "{digest} has {} bytes, and the manifest says {bytes}",
                    entry.bytes
                )));
            }
            if copy(&mut source.0, bytes, &mut out)? != digest {
                return Err(malformed(format!("the content of {digest} is another")));
            }
            source.skip_padding(bytes)?;
            places.insert(digest, (offset, bytes));
            offset += bytes;
        }
        out.flush().map_err(UploadError::Keep)?;
        drop(out);
        Ok(Self { file, places })
    }

    fn content(&self, digest: &Digest) -> Option<impl Read> {
        let (offset, bytes) = *self.places.get(digest)?;
        let content = At {
            file: &self.file,
            offset,
        };
        Some(content.take(bytes))
    }
}

/// Copies exactly so many bytes, and says what their digest is.
fn copy(source: &mut impl Read, bytes: u64, out: &mut impl Write) -> Result<Digest, UploadError> {
    let (mut hasher, mut left) = (Sha256::new(), bytes);
    let mut buffer = vec![0; COPY_BYTES];
    while left > 0 {
        let room = COPY_BYTES.min(usize::try_from(left).unwrap_or(COPY_BYTES));
        let length = match source.read(&mut buffer[..room]) {
            Ok(0) => return Err(UploadError::Truncated),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_failed(error)),
        };
        hasher.update(&buffer[..length]);
        out.write_all(&buffer[..length])
            .map_err(UploadError::Keep)?;
        left -= length as u64;
    }
    Ok(Digest::from_sha256(hasher.finalize().into()))
}

/// A file from an offset on.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.offset)?;
        self.offset += length as u64;
        Ok(length)
    }
}

fn malformed(problem: impl Into<String>) -> UploadError {
    UploadError::Malformed(problem.into())
}

/// The decoder speaks of damage with an error of the kind `Other`, and of an early end with its own.
fn read_failed(error: io::Error) -> UploadError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => UploadError::Truncated,
        io::ErrorKind::Other | io::ErrorKind::InvalidData => malformed(format!(
            "it is not good zstd: {}",
            shown(&error.to_string())
        )),
        _ => UploadError::Read(error),
    }
}
