//! Reading from a snapshot's tar file.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use ekiden_model::image::Digest;
use sha2::{Digest as _, Sha256};

use super::{Entry, Kind, Limits, SUBSET_EPOCH, Snapshot, SnapshotError, Writer, compare, shown};

/// Links that are followed for one path: Linux's `MAXSYMLINKS`.
const LINKS_MAX: usize = 40;

/// The files of a snapshot, or of one directory of it.
///
/// Paths are relative to that directory; an empty one or `.` is the directory itself. Links are followed, as
/// long as they stay inside it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SnapshotFiles {
    /// Sorted by [`compare`].
    entries: Arc<[Entry]>,
    epoch: u64,
    tar: Arc<File>,
    tar_path: Arc<PathBuf>,
}

/// What a directory holds: see [`SnapshotFiles::list`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listed {
    /// A file, or a link to anything.
    File(String),
    /// A directory.
    Directory(String),
}

impl SnapshotFiles {
    /// Opens the tar file of a snapshot. Blocks.
    ///
    /// Of the file only the size is checked here; the content of each file is when it is read.
    pub fn open(snapshot: Snapshot, tar: &Path) -> Result<Self, SnapshotError> {
        let open = File::open(tar).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (bytes, file) = open.map_err(|source| SnapshotError::Tar {
            action: "open",
            path: tar.to_owned(),
            source,
        })?;
        if bytes != snapshot.bytes {
            return Err(SnapshotError::Damaged(
                "its tar file has another size than its index says",
            ));
        }
        let mut pairs = snapshot.entries.windows(2);
        if !pairs.all(|pair| compare(&pair[0].path, &pair[1].path).is_lt()) {
            return Err(SnapshotError::Damaged("its index is not in order"));
        }
        Ok(Self {
            entries: snapshot.entries.into(),
            epoch: snapshot.epoch,
            tar: Arc::new(file),
            tar_path: Arc::new(tar.to_owned()),
        })
    }

    /// All files and links, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The snapshot's time, in seconds.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether there is a file, or a link that leads to one.
    pub fn is_file(&self, path: &str) -> bool {
        self.file(path).is_some()
    }

    /// Whether there is a directory, or a link that leads to one.
    pub fn is_directory(&self, path: &str) -> bool {
        self.resolve(path)
            .is_some_and(|path| !self.below_directory(&path).is_empty())
    }

    /// The content of a file; `None` when there is no file or it has more than `bytes_max` bytes. Blocks.
    pub fn read(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, SnapshotError> {
        let Some(entry) = self.file(path) else {
            return Ok(None);
        };
        let Kind::File { bytes, digest, .. } = entry.kind else {
            return Ok(None);
        };
        if bytes > bytes_max {
            return Ok(None);
        }
        let mut content = Vec::new();
        self.content(entry)
            .read_to_end(&mut content)
            .map_err(|source| SnapshotError::Read {
                path: shown(path),
                source,
            })?;
        if Digest::from_sha256(Sha256::digest(&content).into()) != digest {
            return Err(SnapshotError::Damaged("a file is not what its index says"));
        }
        Ok(Some(content))
    }

    /// What is in a directory, sorted; nothing if there is no such directory.
    pub fn list(&self, directory: &str) -> Vec<Listed> {
        let Some(directory) = self.resolve(directory) else {
            return Vec::new();
        };
        let inner = self.below_directory(&directory).iter().map(|entry| {
            let rest = match directory.is_empty() {
                true => &entry.path,
                false => &entry.path[directory.len() + 1..],
            };
            match rest.split_once('/') {
                Some((name, _)) => Listed::Directory(name.to_owned()),
                None => Listed::File(rest.to_owned()),
            }
        });
        inner.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The files of one directory, as a tree of its own; `None` if there is no such directory.
    pub fn below(&self, directory: &str) -> Option<Self> {
        let directory = self.resolve(directory)?;
        if directory.is_empty() {
            return Some(self.clone());
        }
        let inner = self.below_directory(&directory);
        let entries: Arc<[Entry]> = inner
            .iter()
            .map(|entry| Entry {
                path: entry.path[directory.len() + 1..].to_owned(),
                kind: entry.kind.clone(),
            })
            .collect();
        (!entries.is_empty()).then(|| Self {
            entries,
            ..self.clone()
        })
    }

    /// Writes all files as a snapshot of their own, with the time of this one. Blocks.
    pub fn write(&self, into: &Path, limits: Limits) -> Result<Snapshot, SnapshotError> {
        let mut writer = Writer::create(into, self.epoch, limits)?;
        for entry in self.entries.iter() {
            self.copy(entry, &entry.path, &mut writer)?;
        }
        writer.finish()
    }

    /// Writes only some files as a snapshot of their own, whose digest depends on their paths and content and
    /// on nothing else. Blocks.
    ///
    /// Where a path leads over a link, the snapshot has the file itself in its place. What there is no file
    /// for is left out.
    pub fn subset(&self, paths: &[&str], into: &Path) -> Result<Snapshot, SnapshotError> {
        let mut paths: Vec<String> = paths.iter().filter_map(|path| plain(path)).collect();
        paths.sort_by(|a, b| compare(a, b));
        paths.dedup();
        let mut writer = Writer::create(into, SUBSET_EPOCH, Limits::default())?;
        for path in &paths {
            if let Some(entry) = self.file(path) {
                self.copy(entry, path, &mut writer)?;
            }
        }
        writer.finish()
    }

    /// Where each content is, by its digest and size.
    pub(crate) fn contents(&self) -> impl Iterator<Item = (Digest, u64, &Entry)> {
        self.entries.iter().filter_map(|entry| match entry.kind {
            Kind::File { digest, bytes, .. } => Some((digest, bytes, entry)),
            Kind::Link { .. } => None,
        })
    }

    /// The content of an entry of this snapshot; empty for a link.
    pub(crate) fn content(&self, entry: &Entry) -> impl Read {
        let (offset, left) = match entry.kind {
            Kind::File { offset, bytes, .. } => (offset, bytes),
            Kind::Link { .. } => (0, 0),
        };
        Content {
            tar: &self.tar,
            offset,
            left,
        }
    }

    fn copy(&self, entry: &Entry, path: &str, writer: &mut Writer) -> Result<(), SnapshotError> {
        match &entry.kind {
            Kind::Link { target } => writer.link(path, target),
            Kind::File {
                executable,
                bytes,
                digest,
                ..
            } => {
                let mut content = self.content(entry);
                match writer.file(path, *executable, *bytes, &mut content)? == *digest {
                    true => Ok(()),
                    false => Err(SnapshotError::Damaged("a file is not what its index says")),
                }
            }
        }
    }

    fn file(&self, path: &str) -> Option<&Entry> {
        let path = self.resolve(path)?;
        let entry = self.entry(&path)?;
        matches!(entry.kind, Kind::File { .. }).then_some(entry)
    }

    fn entry(&self, path: &str) -> Option<&Entry> {
        let at = self
            .entries
            .binary_search_by(|entry| compare(&entry.path, path));
        at.ok().map(|at| &self.entries[at])
    }

    /// Everything below a directory, itself without links.
    fn below_directory(&self, directory: &str) -> &[Entry] {
        if directory.is_empty() {
            return &self.entries;
        }
        let first = format!("{directory}/");
        let from = self
            .entries
            .partition_point(|entry| compare(&entry.path, &first).is_lt());
        let length = self.entries[from..].partition_point(|entry| entry.path.starts_with(&first));
        &self.entries[from..from + length]
    }

    /// The path without links, whether or not there is something; `None` if it leaves the tree.
    fn resolve(&self, path: &str) -> Option<String> {
        let mut done: Vec<String> = Vec::new();
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => drop(done.pop()?),
                _ => done.push(part),
            }
            let Some(entry) = self.entry(&done.join("/")) else {
                continue;
            };
            if let Kind::Link { target } = &entry.kind {
                links += 1;
                if links > LINKS_MAX {
                    return None;
                }
                done.pop();
                todo.extend(target.split('/').rev().map(str::to_owned));
            }
        }
        Some(done.join("/"))
    }

    /// Where the tar file is.
    pub fn tar_path(&self) -> &Path {
        &self.tar_path
    }
}

/// A path without `.` and empty parts; `None` if it is empty or has a `..`.
fn plain(path: &str) -> Option<String> {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    (!parts.is_empty() && !parts.contains(&"..")).then(|| parts.join("/"))
}

/// A part of a tar file. Reads by position, so that any number can be open at a time.
struct Content<'a> {
    tar: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.tar.read_at(&mut buffer[..room], self.offset)?;
        self.offset += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}
