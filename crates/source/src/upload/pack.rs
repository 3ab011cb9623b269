//! The client's side of an upload.
//!
//! What is left out: `.git`, whatever is there; what `.gitignore` and `.ekidenignore` say (gitignore(5)), in a
//! git repository or not; and `node_modules`, `__pycache__` and `.venv`, which are made anew by a build and do
//! not work on another machine. A line such as `!node_modules` in `.ekidenignore` takes them along.
//! `.ekidenignore` has the last word. `.dockerignore` means something else and is not looked at.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, Metadata},
    io::{self, Read, Write},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use ekiden_model::image::Digest;
use ignore::{DirEntry, WalkBuilder};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::{InvalidManifest, Item, ItemKind, MANIFEST_BYTES_MAX, MANIFEST_NAME, Manifest};
use crate::{
    snapshot::{Limits, SnapshotError, shown},
    tar::{self, BLOCK, NUMBER_MAX, Type},
};

/// Ignored unless `.ekidenignore` says otherwise.
const IGNORED: &str = "node_modules/\n__pycache__/\n.venv/\n";

/// The file that has the last word about what is ignored.
const IGNORE_FILE: &str = ".ekidenignore";

/// How hard zstd tries; 3 is its own default. Its window is 2 MiB, a quarter of what a server takes.
const LEVEL: i32 = 3;

const COPY_BYTES: usize = 128 << 10;

/// A folder whose files have been read and hashed.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    manifest: Manifest,
    notes: Vec<String>,
    /// Content that no file has.
    given: HashMap<Digest, Vec<u8>>,
}

/// Why a folder cannot be uploaded.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file or directory cannot be read.
    #[error("failed to read `{}`", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory cannot be walked through, or an ignore file not be read.
    #[error("failed to look through the folder")]
    Walk(#[source] Box<ignore::Error>),
    /// The folder has something that no tree may have, or too much.
    #[error(transparent)]
    Refused(#[from] InvalidManifest),
    /// A file was changed after it was hashed.
    #[error("`{}` was changed in the meantime: try again", .path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// The list of files, as it is sent.
    #[error("the folder has too many files: their list is larger than {} MiB", MANIFEST_BYTES_MAX >> 20)]
    TooManyFiles,
    /// Where the archive goes to failed.
    #[error("failed to write the archive")]
    Write(#[source] io::Error),
}

impl Folder {
    /// Looks through a folder and hashes its files. Blocks.
    pub fn scan(root: &Path, limits: &Limits) -> Result<Self, PackError> {
        let ignored = ignored_by_default()?;
        let (mut items, mut notes, mut sum) = (Vec::new(), Vec::new(), 0);
        for found in walk(root, ignored.path())? {
            let found = found.map_err(walk_failed)?;
            if found.depth() == 0 {
                continue;
            }
            let path = relative(root, found.path())?;
            let metadata = fs::symlink_metadata(found.path())
                .map_err(|source| read_failed(found.path(), source))?;
            let Some(kind) = item_kind(&found, &metadata, &path, limits, &mut sum)? else {
                notes.extend(note(&path, &metadata));
                continue;
            };
            items.push(Item {
                path,
                modified: metadata.mtime().clamp(0, NUMBER_MAX as i64) as u64,
                kind,
            });
            let entries_max = limits.entries_max;
            if items.len() > entries_max {
                return Err(refused(SnapshotError::TooMany { entries_max }));
            }
        }
        let manifest = Manifest::new(items);
        manifest.check(limits)?;
        if manifest.to_json().len() as u64 > MANIFEST_BYTES_MAX {
            return Err(PackError::TooManyFiles);
        }
        Ok(Self {
            root: root.to_owned(),
            manifest,
            notes,
            given: HashMap::new(),
        })
    }

    /// Puts content in the place of a file's, or adds a file with it. Only what is uploaded has it; the
    /// folder stays as it is. The newest time of the tree does not change.
    pub fn put(&mut self, path: &str, content: Vec<u8>, limits: &Limits) -> Result<(), PackError> {
        let digest = Digest::from_sha256(Sha256::digest(&content).into());
        let mut items = std::mem::replace(&mut self.manifest, Manifest::new(Vec::new())).items;
        let newest = items.iter().map(|item| item.modified).max();
        let before = items.iter().position(|item| item.path == path);
        let before = before.map(|index| items.remove(index).modified);
        items.push(Item {
            path: path.to_owned(),
            modified: before.or(newest).unwrap_or_default(),
            kind: ItemKind::File {
                executable: false,
                bytes: content.len() as u64,
                digest,
            },
        });
        self.manifest = Manifest::new(items);
        self.manifest.check(limits)?;
        self.given.insert(digest, content);
        Ok(())
    }

    /// What is sent first.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What was left out that the user may not expect, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Writes the archive with the content that the server lacks. Blocks.
    pub fn pack<W: Write>(&self, wanted: &[Digest], out: W) -> Result<W, PackError> {
        let mut encoder = zstd::Encoder::new(out, LEVEL).map_err(PackError::Write)?;
        let mut put = |bytes: &[u8]| encoder.write_all(bytes).map_err(PackError::Write);
        let json = self.manifest.to_json();
        let bytes = json.len() as u64;
        put(&tar::header(Type::File, MANIFEST_NAME, "", 0o644, bytes, 0))?;
        put(&json)?;
        put(&[0; BLOCK][..tar::padding(bytes)])?;
        let mut wanted: HashSet<Digest> = wanted.iter().copied().collect();
        for (digest, (path, bytes)) in self.contents() {
            if !wanted.remove(&digest) {
                continue;
            }
            let name = digest.hex();
            put(&tar::header(Type::File, &name, "", 0o644, bytes, 0))?;
            if let Some(content) = self.given.get(&digest) {
                put(content)?;
            } else {
                let path = self.root.join(path);
                // Never more than the header says, though the file may grow.
                let read = copy(&path, bytes, &mut put)?;
                if read != (digest, bytes) {
                    return Err(PackError::Changed { path });
                }
            }
            put(&[0; BLOCK][..tar::padding(bytes)])?;
        }
        put(&[0; 2 * BLOCK])?;
        encoder.finish().map_err(PackError::Write)
    }

    fn contents(&self) -> HashMap<Digest, (&str, u64)> {
        let files = self
            .manifest
            .items
            .iter()
            .filter_map(|item| match item.kind {
                ItemKind::File { digest, bytes, .. } => Some((digest, (item.path.as_str(), bytes))),
                ItemKind::Link { .. } => None,
            });
        files.collect()
    }
}

/// A file of rules with less weight than all others: the `ignore` crate takes such rules from files only.
fn ignored_by_default() -> Result<NamedTempFile, PackError> {
    let file = NamedTempFile::new().and_then(|mut file| {
        file.write_all(IGNORED.as_bytes())?;
        Ok(file)
    });
    file.map_err(PackError::Write)
}

fn walk(root: &Path, ignored: &Path) -> Result<ignore::Walk, PackError> {
    let root = root
        .canonicalize()
        .map_err(|source| read_failed(root, source))?;
    // Rules of the directories above count inside a repository, as for git; else a `.gitignore` in somebody's
    // home would.
    let in_repository = root.ancestors().any(|above| above.join(".git").exists());
    let mut builder = WalkBuilder::new(&root);
    builder
        .standard_filters(false)
        .git_ignore(true)
        .git_exclude(true)
        .require_git(in_repository)
        .parents(in_repository)
        .add_custom_ignore_filename(IGNORE_FILE)
        .filter_entry(|entry| {
            entry.depth() == 0 || !entry.file_name().eq_ignore_ascii_case(".git")
        });
    match builder.add_ignore(ignored) {
        Some(error) => Err(walk_failed(error)),
        None => Ok(builder.build()),
    }
}

fn relative(root: &Path, path: &Path) -> Result<String, PackError> {
    let canonical = root
        .canonicalize()
        .map_err(|source| read_failed(root, source))?;
    let path = path.strip_prefix(&canonical).unwrap_or(path);
    path.to_str().map(str::to_owned).ok_or_else(|| {
        refused(SnapshotError::refused(
            &path.to_string_lossy(),
            "its name is not UTF-8",
        ))
    })
}

/// `None` for directories, which are there because of what they hold, and for what is no file at all.
fn item_kind(
    found: &DirEntry,
    metadata: &Metadata,
    path: &str,
    limits: &Limits,
    sum: &mut u64,
) -> Result<Option<ItemKind>, PackError> {
    if metadata.is_symlink() {
        let target = fs::read_link(found.path());
        let target = target.map_err(|source| read_failed(found.path(), source))?;
        let target = target.into_os_string().into_string().map_err(|_| {
            refused(SnapshotError::refused(
                path,
                "it is a link whose target is not UTF-8",
            ))
        })?;
        return Ok(Some(ItemKind::Link { target }));
    }
    if !metadata.is_file() {
        return Ok(None);
    }
    limits.add(path, metadata.len(), sum).map_err(refused)?;
    let (digest, bytes) = copy(found.path(), limits.file_bytes_max, |_| Ok(()))?;
    Ok(Some(ItemKind::File {
        // What git looks at, too.
        executable: metadata.mode() & 0o100 != 0,
        bytes,
        digest,
    }))
}

fn note(path: &str, metadata: &Metadata) -> Option<String> {
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_dir() => return None,
        () if kind.is_socket() => "a socket",
        () if kind.is_fifo() => "a named pipe",
        () => "a device",
    };
    Some(format!("`{}` is {what} and is left out", shown(path)))
}

/// Gives at most so many bytes of a file to `take`; their digest and number.
fn copy(
    path: &Path,
    bytes_max: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), PackError>,
) -> Result<(Digest, u64), PackError> {
    let file = File::open(path).map_err(|source| read_failed(path, source))?;
    let mut file = file.take(bytes_max);
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let length = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(read_failed(path, source)),
        };
        hasher.update(&buffer[..length]);
        take(&buffer[..length])?;
        bytes += length as u64;
    }
    Ok((Digest::from_sha256(hasher.finalize().into()), bytes))
}

fn read_failed(path: &Path, source: io::Error) -> PackError {
    PackError::Read {
        path: path.to_owned(),
        source,
    }
}

fn refused(error: SnapshotError) -> PackError {
    InvalidManifest::Tree(error).into()
}

/// Names the directory that cannot be read, when the error does.
fn walk_failed(error: ignore::Error) -> PackError {
    match error {
        ignore::Error::WithDepth { err, .. } => walk_failed(*err),
        ignore::Error::WithPath { path, err } => match *err {
            ignore::Error::Io(source) => PackError::Read { path, source },
            err => PackError::Walk(Box::new(ignore::Error::WithPath {
                path,
                err: Box::new(err),
            })),
        },
        other => PackError::Walk(Box::new(other)),
    }
}
