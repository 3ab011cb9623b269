//! Unpacking one layer's archive into a directory that overlayfs can use.
//!
//! A layer is unpacked by itself, whatever lies below it, so that it can be shared between images.
//! What is kept: modes with their set-id bits, owners, modification times, hard links within the
//! layer, `user.*` attributes and `security.capability`. What is not:
//!
//! - other attributes: they belong to the host that made the archive, and `trusted.overlay.*`
//!   would let a layer redirect the kernel;
//! - device nodes: one in a directory named `dev` is left out, because ordinary base images have
//!   them there and an instance gets a `/dev` of its own; one anywhere else refuses the layer.
//!
//! Owners are as in the archive; mounting translates them. Ids from 65536 on have no place in the
//! range an instance has, and refuse the layer.
//!
//! Whiteouts (OCI image specification, "Representing Changes") become what overlayfs has for them
//! (the kernel's overlayfs.rst): a character device 0:0, and `trusted.overlay.opaque`.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, BufRead, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt,
        unix::fs::FileExt,
    },
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fs::{
        self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
        XattrFlags,
    },
    io::Errno,
};

use super::{
    archive::{Archive, ArchiveError, Entry, EntryKind, Modified},
    tree::{EntryPath, Tree, TreeError, make_opaque},
};

/// The first id that an instance's user namespace does not have.
const ID_END: u64 = 65_536;

/// Bytes of an extended attribute's value: Linux's `XATTR_SIZE_MAX`.
const ATTRIBUTE_BYTES_MAX: usize = 64 * 1024;

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_RESERVED: &[u8] = b".wh..wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";

/// What all layers of one image may unpack to together.
#[derive(Debug)]
pub(super) struct UnpackBudget {
    bytes_left: AtomicU64,
    entries_left: AtomicU64,
    bytes_max: u64,
    entries_max: u64,
}

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    /// The layer is to blame; names the entry.
    #[error("{0}")]
    Refused(String),
    /// The image is larger than its bound.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// What the layer comes from failed.
    #[error("failed to read the layer")]
    Read(#[source] io::Error),
    /// This host is to blame.
    #[error("failed to unpack `{entry}`")]
    Write {
        entry: String,
        #[source]
        source: io::Error,
    },
}

impl UnpackBudget {
    pub(super) fn new(bytes_max: u64, entries_max: u64) -> Self {
        Self {
            bytes_left: AtomicU64::new(bytes_max),
            entries_left: AtomicU64::new(entries_max),
            bytes_max,
            entries_max,
        }
    }

    /// Takes `bytes` from what is left.
    pub(super) fn take_bytes(&self, bytes: u64) -> Result<(), UnpackError> {
        take(&self.bytes_left, bytes).ok_or(UnpackError::TooLarge(self.bytes_max))
    }

    fn take_entry(&self) -> Result<(), UnpackError> {
        take(&self.entries_left, 1).ok_or_else(|| {
            UnpackError::Refused(format!(
                "the image has more than {} files, the most that one may have",
                self.entries_max
            ))
        })
    }
}

fn take(left: &AtomicU64, amount: u64) -> Option<()> {
    left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        left.checked_sub(amount)
    })
    .ok()
    .map(drop)
}

impl From<ArchiveError> for UnpackError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Malformed(problem) => Self::Refused(problem),
            ArchiveError::Read(source) => Self::Read(source),
        }
    }
}

/// Unpacks an archive into the empty directory `into`, and reads its source to the end. Blocks.
///
/// The bytes of the archive itself are counted by whoever reads them; only the holes of sparse
/// files are taken from `budget` here. Does not sync.
pub(super) fn unpack(
    source: impl BufRead,
    into: &Path,
    budget: &UnpackBudget,
) -> Result<(), UnpackError> {
    let fail = |source| UnpackError::Write {
        entry: "/".to_owned(),
        source,
    };
    let tree = Tree::open(into).map_err(fail)?;
    let mut unpacker = Unpacker {
        tree,
        budget,
        directories: Vec::new(),
    };
    let mut archive = Archive::new(source);
    while let Some(entry) = archive.next_entry()? {
        budget.take_entry()?;
        unpacker
            .apply(&entry, &mut archive)
            .map_err(|error| error.named(&entry.path))?;
    }
    unpacker.finish()?;
    archive.drain()?;
    Ok(())
}

struct Unpacker<'a> {
    tree: Tree,
    budget: &'a UnpackBudget,
    /// Their times are set last, because filling a directory changes its own.
    directories: Vec<(EntryPath, Modified)>,
}

/// An [`UnpackError`] before it is known which entry it is about.
enum EntryError {
    Refused(String),
    Io(io::Error),
    Whole(UnpackError),
}

impl EntryError {
    fn named(self, path: &[u8]) -> UnpackError {
        // Bounded and without control characters: it is shown to people.
        let entry: String = String::from_utf8_lossy(path)
            .chars()
            .take(200)
            .flat_map(|c| c.escape_debug().collect::<Vec<_>>())
            .collect();
        match self {
            Self::Refused(problem) => UnpackError::Refused(format!("entry `{entry}`: {problem}")),
            Self::Io(source) => UnpackError::Write { entry, source },
            Self::Whole(error) => error,
        }
    }
}

impl From<TreeError> for EntryError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Refused(problem) => Self::Refused(problem.to_owned()),
            TreeError::Io(error) => Self::Io(error),
        }
    }
}

impl From<io::Error> for EntryError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for EntryError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

impl From<ArchiveError> for EntryError {
    fn from(error: ArchiveError) -> Self {
        Self::Whole(error.into())
    }
}

impl From<UnpackError> for EntryError {
    fn from(error: UnpackError) -> Self {
        Self::Whole(error)
    }
}

fn refused<T>(problem: impl Into<String>) -> Result<T, EntryError> {
    Err(EntryError::Refused(problem.into()))
}

impl Unpacker<'_> {
    fn apply<R: BufRead>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), EntryError> {
        let path = EntryPath::parse(&entry.path)?;
        let (parent_path, name) = match &path {
            EntryPath::Root => return self.apply_root(entry),
            EntryPath::Below { parent, name } => (parent.as_path(), name.as_os_str()),
        };
        if name.as_bytes().starts_with(WHITEOUT) {
            return self.apply_whiteout(parent_path, name);
        }
        // What aufs kept for itself; the specification reserves the names.
        if path
            .components()
            .any(|component| component.starts_with(WHITEOUT_RESERVED))
        {
            return Ok(());
        }
        check_owner(entry)?;
        let parent = self.tree.directory(parent_path)?;
        let place = Place {
            parent: parent.as_fd(),
            name,
        };
        match &entry.kind {
            EntryKind::Directory => {
                self.make_directory(place, entry)?;
                self.directories.push((path, entry.modified));
                Ok(())
            }
            EntryKind::File => {
                let file = self.anew(place, Place::create)?;
                write_file(file, entry, archive)
            }
            EntryKind::SparseFile {
                segments,
                file_bytes,
            } => {
                self.budget.take_bytes(file_bytes - entry.data_bytes)?;
                let file = self.anew(place, Place::create)?;
                write_sparse_file(&file, entry, segments, *file_bytes, archive)
            }
            EntryKind::Symlink { target } => {
                let target = check_target(target)?;
                self.anew(place, |place| {
                    fs::symlinkat(target, place.parent, place.name)
                })?;
                finish_node(place, entry)
            }
            EntryKind::HardLink { target } => self.make_hard_link(place, target),
            EntryKind::Fifo => {
                self.anew(place, Place::create_fifo)?;
                let mode = Mode::from_raw_mode(entry.mode);
                finish_node(place, entry)?;
                // Follows links, but this is the pipe just made and nobody else writes here.
                Ok(fs::chmodat(place.parent, name, mode, AtFlags::empty())?)
            }
            EntryKind::Device => skip_device(parent_path),
        }
    }

    fn apply_root(&mut self, entry: &Entry) -> Result<(), EntryError> {
        if entry.kind != EntryKind::Directory {
            return refused("the root of a layer must be a directory");
        }
        check_owner(entry)?;
        set_owner_and_mode(self.tree.root(), entry)?;
        self.directories.push((EntryPath::Root, entry.modified));
        Ok(())
    }

    fn apply_whiteout(&mut self, parent_path: &Path, name: &OsStr) -> Result<(), EntryError> {
        let name = name.as_bytes();
        if name == WHITEOUT_OPAQUE {
            let parent = self.tree.directory(parent_path)?;
            return Ok(make_opaque(parent.as_fd())?);
        }
        if name.starts_with(WHITEOUT_RESERVED) {
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return refused("it hides nothing: a whiteout has a name after `.wh.`");
        }
        let parent = self.tree.directory(parent_path)?;
        let hidden = Place {
            parent: parent.as_fd(),
            name: OsStr::from_bytes(hidden),
        };
        // A whiteout is about the layers below, never about this one, whatever their order.
        match hidden.kind()? {
            None => Ok(fs::mknodat(
                hidden.parent,
                hidden.name,
                FileType::CharacterDevice,
                Mode::empty(),
                0,
            )?),
            Some(FileType::Directory) => Ok(make_opaque(hidden.open_directory()?.as_fd())?),
            Some(_) => Ok(()),
        }
    }

    /// Makes something in a place, after removing what is there. Mostly nothing is, so that is not
    /// looked for.
    fn anew<'p, T>(
        &mut self,
        place: Place<'p>,
        make: impl Fn(Place<'p>) -> Result<T, Errno>,
    ) -> Result<T, EntryError> {
        match make(place) {
            Err(Errno::EXIST) => {
                self.tree.remove(place.parent, place.name)?;
                Ok(make(place)?)
            }
            made => Ok(made?),
        }
    }

    fn make_directory(&mut self, place: Place<'_>, entry: &Entry) -> Result<(), EntryError> {
        let was = place.kind()?;
        if was != Some(FileType::Directory) {
            let mode = Mode::from_raw_mode(0o700);
            self.anew(place, |place| fs::mkdirat(place.parent, place.name, mode))?;
        }
        let directory = place.open_directory()?;
        // Only whiteouts are devices here: what was hidden and is a directory now, is a new one.
        if was == Some(FileType::CharacterDevice) {
            make_opaque(directory.as_fd())?;
        }
        set_owner_and_mode(directory.as_fd(), entry)
    }

    fn make_hard_link(&mut self, place: Place<'_>, target: &[u8]) -> Result<(), EntryError> {
        let EntryPath::Below { parent, name } = EntryPath::parse(target)? else {
            return refused("it is a hard link to the root");
        };
        let missing = "it is a hard link to a file that is not in the layer before it";
        let target_parent = match self.tree.existing_directory(&parent) {
            Ok(parent) => parent,
            Err(TreeError::Io(_)) => return refused(missing),
            Err(error) => return Err(error.into()),
        };
        let target = Place {
            parent: target_parent.as_fd(),
            name: &name,
        };
        let (Some(stat), own) = (target.stat()?, place.stat()?) else {
            return refused(missing);
        };
        if own.is_some_and(|own| (own.st_dev, own.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return refused("it is a hard link to a directory");
        }
        self.tree.remove(place.parent, place.name)?;
        // Without AT_SYMLINK_FOLLOW a link to a symbolic link is to the link itself.
        match fs::linkat(
            target.parent,
            target.name,
            place.parent,
            place.name,
            AtFlags::empty(),
        ) {
            // Removing the old one may have removed the target with it.
            Err(Errno::NOENT) => refused(missing),
            other => Ok(other?),
        }
    }

    fn finish(&mut self) -> Result<(), UnpackError> {
        for (path, modified) in std::mem::take(&mut self.directories) {
            let set = self.set_directory_time(&path, modified);
            set.map_err(|source| UnpackError::Write {
                entry: "directory times".to_owned(),
                source,
            })?;
        }
        Ok(())
    }

    /// Sets a time, unless a later entry has made something else of the directory.
    fn set_directory_time(&self, path: &EntryPath, modified: Modified) -> io::Result<()> {
        let gone = |error: Errno| matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP);
        let result = match path {
            EntryPath::Root => fs::futimens(self.tree.root(), &times(modified)),
            EntryPath::Below { parent, name } => match self.tree.existing_directory(parent) {
                Ok(parent) => {
                    let place = Place {
                        parent: parent.as_fd(),
                        name,
                    };
                    place
                        .open_directory()
                        .and_then(|fd| fs::futimens(fd, &times(modified)))
                }
                Err(_) => return Ok(()),
            },
        };
        match result {
            Err(error) if !gone(error) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// A name in an open directory.
#[derive(Clone, Copy)]
struct Place<'a> {
    parent: BorrowedFd<'a>,
    name: &'a OsStr,
}

impl Place<'_> {
    fn stat(self) -> Result<Option<fs::Stat>, Errno> {
        match fs::statat(self.parent, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn kind(self) -> Result<Option<FileType>, Errno> {
        Ok(self
            .stat()?
            .map(|stat| FileType::from_raw_mode(stat.st_mode)))
    }

    fn open_directory(self) -> Result<rustix::fd::OwnedFd, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(self.parent, self.name, flags, Mode::empty())
    }

    fn create_fifo(self) -> Result<(), Errno> {
        fs::mknodat(
            self.parent,
            self.name,
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
    }

    /// Creates a file that was not there; nothing is followed or truncated.
    fn create(self) -> Result<File, Errno> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        Ok(File::from(fs::openat(self.parent, self.name, flags, mode)?))
    }
}

fn write_file<R: BufRead>(
    mut file: File,
    entry: &Entry,
    archive: &mut Archive<R>,
) -> Result<(), EntryError> {
    while archive.next_data(|data| file.write_all(data).map_err(EntryError::Io))? {}
    finish_file(&file, entry)
}

/// Writes the data segments and leaves holes between them.
fn write_sparse_file<R: BufRead>(
    file: &File,
    entry: &Entry,
    segments: &[(u64, u64)],
    file_bytes: u64,
    archive: &mut Archive<R>,
) -> Result<(), EntryError> {
    file.set_len(file_bytes)?;
    let mut segments = segments.iter().copied().filter(|&(_, length)| length > 0);
    let mut segment = segments.next();
    let mut write = |mut data: &[u8], segment: &mut Option<(u64, u64)>| {
        while let Some((offset, left)) = *segment
            && !data.is_empty()
        {
            let (now, later) =
                data.split_at(data.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            file.write_all_at(now, offset)?;
            data = later;
            let step = now.len() as u64;
            *segment = if step == left {
                None
            } else {
                Some((offset + step, left - step))
            };
            if segment.is_none() {
                *segment = segments.next();
            }
        }
        Ok::<_, EntryError>(())
    };
    while archive.next_data(|data| write(data, &mut segment))? {}
    finish_file(file, entry)
}

fn finish_file(file: &File, entry: &Entry) -> Result<(), EntryError> {
    set_owner_and_mode(file.as_fd(), entry)?;
    fs::futimens(file, &times(entry.modified))?;
    Ok(())
}

/// The order matters: changing the owner takes away set-id bits and `security.capability`.
fn set_owner_and_mode(fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), EntryError> {
    let (uid, gid) = owner(entry);
    fs::fchown(fd, Some(uid), Some(gid))?;
    fs::fchmod(fd, Mode::from_raw_mode(entry.mode))?;
    for (name, value) in &entry.attributes {
        set_attribute(fd, name, value)?;
    }
    Ok(())
}

fn set_attribute(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<(), EntryError> {
    let kept = name == b"security.capability"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."));
    if !kept {
        return Ok(());
    }
    if name.len() > 255 || name.contains(&0) || value.len() > ATTRIBUTE_BYTES_MAX {
        return refused("an extended attribute of it is too long");
    }
    match fs::fsetxattr(fd, OsStr::from_bytes(name), value, XattrFlags::empty()) {
        // The file system has no room for such attributes, or none at all; only a capability is
        // something the program needs.
        Err(Errno::NOTSUP) if name != b"security.capability" => Ok(()),
        Err(Errno::INVAL) => refused("an extended attribute of it is malformed"),
        other => Ok(other?),
    }
}

/// 4096 bytes with the terminating zero is what symlink(2) takes.
fn check_target(target: &[u8]) -> Result<&OsStr, EntryError> {
    if target.is_empty() || target.contains(&0) || target.len() > 4095 {
        return refused("it is a symbolic link with an empty or too long target");
    }
    Ok(OsStr::from_bytes(target))
}

/// Owner and time of what cannot be opened.
fn finish_node(place: Place<'_>, entry: &Entry) -> Result<(), EntryError> {
    let (uid, gid) = owner(entry);
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    fs::chownat(place.parent, place.name, Some(uid), Some(gid), flags)?;
    fs::utimensat(place.parent, place.name, &times(entry.modified), flags)?;
    Ok(())
}

fn skip_device(parent: &Path) -> Result<(), EntryError> {
    if parent.file_name() == Some(OsStr::new("dev"))
        || parent.iter().next() == Some(OsStr::new("dev"))
    {
        return Ok(());
    }
    refused("it is a device node, which an image may only have under `dev`")
}

fn check_owner(entry: &Entry) -> Result<(), EntryError> {
    for (id, what) in [(entry.uid, "user"), (entry.gid, "group")] {
        if id >= ID_END {
            return refused(format!(
                "it belongs to {what} {id}, but an instance has the ids 0 to 65535: \
                 change its owner when building the image"
            ));
        }
    }
    Ok(())
}

fn owner(entry: &Entry) -> (Uid, Gid) {
    // Below 65536, as `check_owner` has seen to.
    (
        Uid::from_raw(entry.uid as u32),
        Gid::from_raw(entry.gid as u32),
    )
}

fn times(modified: Modified) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: modified.seconds,
            tv_nsec: i64::from(modified.nanoseconds),
        },
    }
}

#[cfg(test)]
mod tests;
