//! Writing a snapshot's tar file.

use std::{
    cmp::Ordering,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use ekiden_model::image::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::{
    Entry, Kind, Limits, PREFIX, Snapshot, SnapshotError, check_link, check_path, compare,
};
use crate::tar::{self, BLOCK, NUMBER_MAX, Type};

/// Bytes that are copied at a time.
const COPY_BYTES: usize = 128 << 10;

/// Writes a canonical tar file, entry by entry in order, and hashes it as it goes. Blocks.
///
/// The file has a temporary name until [`Writer::finish`]; what was begun and not finished is removed.
#[derive(Debug)]
pub struct Writer {
    into: PathBuf,
    out: BufWriter<NamedTempFile>,
    hasher: Sha256,
    limits: Limits,
    epoch: u64,
    /// Bytes written.
    bytes: u64,
    /// Directories that have been written.
    directories: usize,
    entries: Vec<Entry>,
}

impl Writer {
    /// Begins a file that will be at `into`, whose entries all have the time `epoch`.
    pub fn create(into: &Path, epoch: u64, limits: Limits) -> Result<Self, SnapshotError> {
        let beside = into.parent().unwrap_or(Path::new("."));
        let file = NamedTempFile::new_in(beside).map_err(|source| SnapshotError::Tar {
            action: "create",
            path: into.to_owned(),
            source,
        })?;
        let mut writer = Self {
            into: into.to_owned(),
            out: BufWriter::with_capacity(COPY_BYTES, file),
            hasher: Sha256::new(),
            limits,
            epoch: epoch.min(NUMBER_MAX),
            bytes: 0,
            directories: 0,
            entries: Vec::new(),
        };
        writer.directory(PREFIX)?;
        Ok(writer)
    }

    /// Writes a file whose size is known before; `content` must have exactly that many bytes.
    pub fn file(
        &mut self,
        path: &str,
        executable: bool,
        bytes: u64,
        content: &mut dyn Read,
    ) -> Result<Digest, SnapshotError> {
        self.begin(path)?;
        self.limits.add(path, bytes, &mut 0)?;
        let mode = if executable { 0o755 } else { 0o644 };
        self.header(Type::File, path, "", mode, bytes)?;
        let offset = self.bytes;
        let digest = self.copy(path, bytes, content)?;
        self.write(&[0; BLOCK][..tar::padding(bytes)])?;
        self.entries.push(Entry {
            path: path.to_owned(),
            kind: Kind::File {
                executable,
                bytes,
                digest,
                offset,
            },
        });
        Ok(digest)
    }

    /// Writes a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<(), SnapshotError> {
        self.begin(path)?;
        check_link(path, target, self.limits.path_bytes_max)
            .map_err(|problem| SnapshotError::refused(path, problem))?;
        self.header(Type::Link, path, target, 0o777, 0)?;
        self.entries.push(Entry {
            path: path.to_owned(),
            kind: Kind::Link {
                target: target.to_owned(),
            },
        });
        Ok(())
    }

    /// Ends the file, brings it onto the disk and gives it its name.
    pub fn finish(mut self) -> Result<Snapshot, SnapshotError> {
        self.write(&[0; 2 * BLOCK])?;
        let path = self.into;
        let fail = |action| {
            let path = path.clone();
            move |source| SnapshotError::Tar {
                action,
                path,
                source,
            }
        };
        let file = self.out.into_inner().map_err(|error| error.into_error());
        let file = file.map_err(fail("write"))?;
        file.as_file().sync_all().map_err(fail("write"))?;
        file.persist(&path)
            .map_err(|error| fail("name")(error.error))?;
        Ok(Snapshot {
            digest: Digest::from_sha256(self.hasher.finalize().into()),
            bytes: self.bytes,
            epoch: self.epoch,
            entries: self.entries,
        })
    }

    /// Checks the path of the next entry, and writes the directories that it is the first in.
    fn begin(&mut self, path: &str) -> Result<(), SnapshotError> {
        let refuse = |problem| SnapshotError::refused(path, problem);
        check_path(path, self.limits.path_bytes_max).map_err(refuse)?;
        let last = self.entries.last().map_or("", |entry| &entry.path);
        match compare(last, path) {
            Ordering::Less => {}
            Ordering::Equal => return Err(refuse("it is there twice")),
            Ordering::Greater => return Err(refuse("it is not in the order of a snapshot")),
        }
        // Whatever is below a file follows it at once.
        if is_below(path, last) {
            return Err(refuse("it is below something that is no directory"));
        }
        let last = last.to_owned();
        for (at, _) in path.match_indices('/') {
            if !is_below(&last, &path[..at]) {
                self.directory(&format!("{PREFIX}{}/", &path[..at]))?;
            }
        }
        self.count()
    }

    fn directory(&mut self, path: &str) -> Result<(), SnapshotError> {
        self.count()?;
        self.directories += 1;
        let header = tar::header(Type::Directory, path, "", 0o755, 0, self.epoch);
        self.write(&header)
    }

    fn count(&self) -> Result<(), SnapshotError> {
        let entries_max = self.limits.entries_max;
        match self.entries.len() + self.directories >= entries_max {
            true => Err(SnapshotError::TooMany { entries_max }),
            false => Ok(()),
        }
    }

    fn header(
        &mut self,
        kind: Type,
        path: &str,
        target: &str,
        mode: u32,
        bytes: u64,
    ) -> Result<(), SnapshotError> {
        let path = format!("{PREFIX}{path}");
        let header = tar::header(kind, &path, target, mode, bytes, self.epoch);
        self.write(&header)
    }

    fn copy(
        &mut self,
        path: &str,
        bytes: u64,
        content: &mut dyn Read,
    ) -> Result<Digest, SnapshotError> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(bytes).unwrap_or(COPY_BYTES))];
        let mut left = bytes;
        while left > 0 {
            let room = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let length = match content.read(&mut buffer[..room]) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(SnapshotError::Read {
                        path: super::shown(path),
                        source,
                    });
                }
            };
            if length == 0 {
                return Err(SnapshotError::refused(path, "it is shorter than was said"));
            }
            hasher.update(&buffer[..length]);
            self.write(&buffer[..length])?;
            left -= length as u64;
        }
        Ok(Digest::from_sha256(hasher.finalize().into()))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let bytes_max = self.limits.bytes_max;
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.bytes > bytes_max {
            return Err(SnapshotError::TooLarge { bytes_max });
        }
        self.hasher.update(bytes);
        self.out
            .write_all(bytes)
            .map_err(|source| SnapshotError::Tar {
                action: "write",
                path: self.into.clone(),
                source,
            })
    }
}

fn is_below(path: &str, directory: &str) -> bool {
    !directory.is_empty()
        && path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.starts_with('/'))
}
