//! Blobs of imported images, byte for byte as they came, named by their digests.
//!
//! Kept so that an import can be exported again exactly; what was pulled is still in its registry,
//! and its blobs are not kept.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufRead, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ekiden_model::image::Digest;
use sha2::{Digest as _, Sha256};

use super::{
    draft::{Draft, Drafts, make_private_directory},
    holds::{Hold, Holds},
};

/// Bytes copied at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// The directory of blobs.
pub(super) struct Blobs {
    dir: PathBuf,
    drafts: Arc<Drafts>,
    holds: Holds,
    /// Taken to move a blob in or out.
    moving: Mutex<()>,
}

/// A blob that was just stored, and stays until this is dropped or the catalogue names it.
pub(super) struct Stored {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    _hold: Hold,
}

impl Blobs {
    /// Removes whatever is not in `known`. Blocks.
    pub(super) fn open(
        dir: PathBuf,
        drafts: Arc<Drafts>,
        known: &BTreeSet<Digest>,
    ) -> io::Result<Self> {
        make_private_directory(&dir)?;
        let blobs = Self {
            dir,
            drafts,
            holds: Holds::default(),
            moving: Mutex::new(()),
        };
        blobs.sweep(known)?;
        Ok(blobs)
    }

    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    /// Keeps a blob, whether it is there or not.
    pub(super) fn hold(&self, digest: Digest) -> Hold {
        self.holds.hold(digest)
    }

    /// Stores a small blob. Blocks.
    pub(super) fn add(&self, bytes: &[u8]) -> io::Result<Stored> {
        let mut copy = self.copy(bytes)?;
        io::copy(&mut copy, &mut io::sink())?;
        self.finish(copy)
    }

    /// Reads `source` while copying it; [`Self::finish`] stores what was read.
    pub(super) fn copy<R: Read>(&self, source: R) -> io::Result<Copy<R>> {
        let (draft, file) = self.drafts.file()?;
        let (hash, piece) = (Sha256::new(), Vec::new());
        Ok(Copy {
            source,
            draft,
            file,
            hash,
            bytes: 0,
            piece,
            at: 0,
        })
    }

    /// Stores what was copied, under its own digest.
    pub(super) fn finish<R>(&self, copy: Copy<R>) -> io::Result<Stored> {
        let digest = Digest::from_sha256(copy.hash.finalize().into());
        let hold = self.holds.hold(digest);
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        copy.draft.finish(&self.path(&digest))?;
        Ok(Stored {
            digest,
            bytes: copy.bytes,
            _hold: hold,
        })
    }

    /// Removes every blob that is neither in `used` nor held. Blocks.
    pub(super) fn sweep(&self, used: &BTreeSet<Digest>) -> io::Result<()> {
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let stays = digest_of(&path)
                .is_some_and(|digest| used.contains(&digest) || self.holds.count(&digest) > 0);
            if !stays {
                drop(self.drafts.bury(&path)?);
            }
        }
        Ok(())
    }
}

/// A reader that leaves a copy of what it reads.
pub(super) struct Copy<R> {
    source: R,
    draft: Draft,
    file: File,
    hash: Sha256,
    pub(super) bytes: u64,
    piece: Vec<u8>,
    at: usize,
}

impl<R: Read> Read for Copy<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Copy<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.piece.len() {
            self.piece.clear();
            self.at = 0;
            self.source
                .by_ref()
                .take(PIECE_BYTES as u64)
                .read_to_end(&mut self.piece)?;
            self.hash.update(&self.piece);
            self.bytes += self.piece.len() as u64;
            self.file.write_all(&self.piece)?;
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, length: usize) {
        self.at += length;
    }
}

fn digest_of(path: &Path) -> Option<Digest> {
    format!("sha256:{}", path.file_name()?.to_str()?)
        .parse()
        .ok()
}
