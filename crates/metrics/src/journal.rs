//! The journal: what was acknowledged and is not in a file of points yet.
//!
//! `{number}.journal`, frames of data with their series' names, each readable without the others. A journal is
//! written by one process and never continued by the next.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    codec::{
        Frames, Reader, put_compressed, put_datum, put_frame, put_key, put_uint, take_compressed,
        take_datum, take_key,
    },
    datum::Datum,
};

/// Bytes of a frame before it is compressed after which the next one begins.
pub(crate) const RECORD_BYTES: usize = 8 << 20;
const LEVEL: i32 = 1;
/// Smaller frames are not compressed.
const COMPRESS_FROM: usize = 512;

pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    synced: u64,
}

pub(crate) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:012}.journal"))
}

pub(crate) fn parse_name(name: &str) -> Option<u64> {
    name.strip_suffix(".journal")?.parse().ok()
}

impl Journal {
    pub(crate) fn create(directory: &Path, number: u64) -> io::Result<Self> {
        let path = path(directory, number);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)?;
        File::open(directory)?.sync_all()?;
        Ok(Self {
            path,
            file,
            number,
            bytes: 0,
            synced: 0,
        })
    }

    /// Appends frames, all or none.
    pub(crate) fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(frames) {
            // Should this fail too, the half frame is passed over when the journal is read.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += frames.len() as u64;
        Ok(())
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.synced == self.bytes
    }

    /// What [`Self::append`] wrote so far, to be synced without holding a lock.
    pub(crate) fn handle(&self) -> io::Result<(File, u64)> {
        Ok((self.file.try_clone()?, self.bytes))
    }

    pub(crate) fn synced_to(&mut self, bytes: u64) {
        self.synced = self.synced.max(bytes);
    }

    pub(crate) fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// Puts data into a frame.
#[derive(Default)]
pub(crate) struct RecordWriter {
    raw: Vec<u8>,
    before: Vec<u8>,
}

impl RecordWriter {
    pub(crate) fn put(&mut self, key: &[u8], minute: u32, datum: &Datum) {
        put_key(&mut self.raw, key, &self.before);
        put_uint(&mut self.raw, u64::from(minute));
        put_datum(&mut self.raw, datum);
        self.before.clear();
        self.before.extend_from_slice(key);
    }

    pub(crate) fn len(&self) -> usize {
        self.raw.len()
    }

    /// The frame of what was put.
    pub(crate) fn finish(&self) -> io::Result<Vec<u8>> {
        let mut payload = Vec::with_capacity(self.raw.len() + 1);
        if self.raw.len() < COMPRESS_FROM {
            payload.push(0);
            payload.extend_from_slice(&self.raw);
        } else {
            payload.push(1);
            put_compressed(&mut payload, &self.raw, LEVEL)?;
        }
        let mut frame = Vec::with_capacity(payload.len() + 12);
        put_frame(&mut frame, &payload);
        Ok(frame)
    }
}

/// Reads a journal. Returns how many pieces were damaged, a torn end being one.
pub(crate) fn read(path: &Path, mut found: impl FnMut(&[u8], u32, Datum)) -> io::Result<u64> {
    let bytes = fs::read(path)?;
    let mut frames = Frames::new(&bytes);
    let mut unread = 0;
    for payload in frames.by_ref() {
        if read_record(payload, &mut found).is_none() {
            unread += 1;
        }
    }
    Ok(frames.damaged + unread)
}

fn read_record(payload: &[u8], found: &mut impl FnMut(&[u8], u32, Datum)) -> Option<()> {
    let (kind, rest) = payload.split_first()?;
    let raw = match kind {
        0 => rest.to_vec(),
        _ => take_compressed(&mut Reader(rest))?,
    };
    let mut reader = Reader(&raw);
    let mut key = Vec::new();
    while !reader.0.is_empty() {
        take_key(&mut reader, &mut key)?;
        let minute = reader.minute()?;
        found(&key, minute, take_datum(&mut reader)?);
    }
    Some(())
}
