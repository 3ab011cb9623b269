//! Layers made of what an instance has left in its upper directory.
//!
//! The directory becomes the layer: nothing is copied. Owners are shifted back, times that are newer than
//! the build's are set to it, and what belongs to a running instance only is left out. The layer's digest
//! is that of the archive that it would be, written in the order of names, so that the same files have the
//! same digest wherever and whenever they were built.
//!
//! The tree may be hostile, but nobody changes it any more: its instance has ended. Links are never
//! followed, and depth and number are bounded.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File, Metadata},
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown},
    },
    path::{Path, PathBuf},
};

use ekiden_model::image::Digest;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::{config::UIDS, tree};

/// What a running instance has for itself: its own files in `/etc`, and where things are that last no
/// longer than it does.
const NOT_KEPT: [&str; 8] = [
    "dev",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "proc",
    "run",
    "sys",
    "tmp",
];

/// A longer path, in bytes, could not be named: `PATH_MAX` (limits.h) less the store's own part.
const PATH_BYTES_MAX: usize = 3072;

/// The mark of a directory that hides what lies below it (kernel's filesystems/overlayfs.rst).
const OPAQUE: &str = "trusted.overlay.opaque";

/// What else overlayfs notes on files of an upper directory.
const NOTES: &str = "trusted.overlay.";

/// How whiteouts are written in archives (OCI image layer specification, "Whiteouts").
const WHITEOUT: &str = ".wh.";
const WHITEOUT_OPAQUE: &str = ".wh..wh..opq";

/// How a tree is sealed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The host's id of root inside.
    pub(super) uid_base: u32,
    /// The newest time, in seconds since the Unix epoch.
    pub(super) epoch: u64,
    pub(super) bytes_max: u64,
    pub(super) entries_max: u64,
}

/// A sealed tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) diff_id: Digest,
    /// Of its archive.
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// Why a tree was not sealed.
#[derive(Debug)]
pub(super) enum SealError {
    /// What is in it.
    Refused(String),
    /// It has more bytes than it may.
    TooLarge,
    /// The file system.
    Host { path: PathBuf, source: io::Error },
}

/// Takes away what no image has. Blocks.
///
/// # Errors
/// What the file system says.
pub(super) fn prune(upper: &Path) -> io::Result<()> {
    for name in NOT_KEPT {
        // Only below directories that are really there: a link could lead anywhere.
        let path = upper.join(name);
        let is_reached = path.parent().is_some_and(|parent| {
            fs::symlink_metadata(parent).is_ok_and(|metadata| metadata.is_dir())
        });
        match fs::symlink_metadata(&path) {
            Ok(metadata) if is_reached && metadata.is_dir() => tree::remove(&path)?,
            Ok(_) if is_reached => fs::remove_file(&path)?,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    // `/etc` is there for the instance's own files in any case.
    let _ = fs::remove_dir(upper.join("etc"));
    Ok(())
}

/// Files with several names that were given their owners, by device and inode, and those owners: seen by
/// another name, they have them already.
pub(super) type Seen = HashMap<(u64, u64), (u32, u32)>;

/// Makes a tree what a layer of the store is, and says which. Blocks.
///
/// # Errors
/// [`SealError`]; the tree is then of no use.
pub(super) fn seal(top: &Path, rules: &Rules, seen: &mut Seen) -> Result<Sealed, SealError> {
    let mut sealing = Sealing {
        top,
        rules,
        seen,
        archive: Builder::new(Sum {
            hash: Sha256::new(),
            bytes: 0,
        }),
        entries: 0,
    };
    let metadata = stat(top)?;
    let owner = sealing.owner(&metadata);
    sealing.own(top, &metadata, owner)?;
    sealing.directory(PathBuf::new())?;
    let entries = sealing.entries;
    let sum = sealing.archive.into_inner().map_err(|e| host(top, e))?;
    Ok(Sealed {
        diff_id: Digest::from_sha256(sum.hash.finalize().into()),
        bytes: sum.bytes,
        entries,
    })
}

struct Sealing<'a> {
    top: &'a Path,
    rules: &'a Rules,
    seen: &'a mut Seen,
    archive: Builder<Sum>,
    entries: u64,
}

impl Sealing<'_> {
    /// Everything below a directory, in the order of names, each directory before what it holds.
    fn directory(&mut self, first: PathBuf) -> Result<(), SealError> {
        let mut waiting = vec![first];
        while let Some(directory) = waiting.pop() {
            let inside = self.top.join(&directory);
            if !directory.as_os_str().is_empty() {
                self.entry(&directory)?;
            }
            if !is_directory(&inside)? {
                continue;
            }
            let mut names = Vec::new();
            for entry in fs::read_dir(&inside).map_err(|e| host(&inside, e))? {
                names.push(entry.map_err(|e| host(&inside, e))?.file_name());
                if names.len() as u64 > self.rules.entries_max {
                    return Err(self.too_many());
                }
            }
            // The last is taken first.
            names.sort_unstable_by(|one, other| other.cmp(one));
            waiting.extend(names.iter().map(|name| directory.join(name)));
        }
        Ok(())
    }

    fn too_many(&self) -> SealError {
        let entries_max = self.rules.entries_max;
        SealError::Refused(format!("it has more than {entries_max} files"))
    }

    fn entry(&mut self, path: &Path) -> Result<(), SealError> {
        if self.entries >= self.rules.entries_max {
            return Err(self.too_many());
        }
        if path.as_os_str().len() > PATH_BYTES_MAX {
            let start: String = path.to_string_lossy().chars().take(100).collect();
            return Err(SealError::Refused(format!(
                "its path `{start}...` is longer than {PATH_BYTES_MAX} bytes"
            )));
        }
        let inside = self.top.join(path);
        let metadata = stat(&inside)?;
        let kind = metadata.file_type();
        if kind.is_char_device() && metadata.rdev() == 0 {
            self.entries += 1;
            return self.empty(&beside(path, WHITEOUT, path.file_name()));
        }
        if !(kind.is_dir() || kind.is_file() || kind.is_symlink()) {
            // A socket or a pipe without its program is nothing.
            return fs::remove_file(&inside).map_err(|e| host(&inside, e));
        }
        if is_reserved(path.file_name()) {
            return Err(SealError::Refused(format!(
                "`{}` has a name that image layers reserve",
                path.display()
            )));
        }
        self.entries += 1;
        let owner = self.owner(&metadata);
        self.own(&inside, &metadata, owner)?;
        let mut header = self.header(&metadata, owner);
        let appended = if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            self.archive.append_data(&mut header, path, io::empty())
        } else if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            let target = fs::read_link(&inside).map_err(|e| host(&inside, e))?;
            self.archive.append_link(&mut header, path, target)
        } else {
            header.set_entry_type(EntryType::Regular);
            header.set_size(metadata.len());
            self.check_room(metadata.len())?;
            let file = open(&inside).map_err(|e| host(&inside, e))?;
            let exactly = file.take(metadata.len());
            self.archive.append_data(&mut header, path, exactly)
        };
        appended.map_err(|e| host(&inside, e))?;
        self.check_room(0)?;
        let is_opaque = kind.is_dir() && xattr::get(&inside, OPAQUE).ok().flatten().is_some();
        match is_opaque {
            true => self.empty(&path.join(WHITEOUT_OPAQUE)),
            false => Ok(()),
        }
    }

    fn check_room(&self, more: u64) -> Result<(), SealError> {
        match self.archive.get_ref().bytes.saturating_add(more) > self.rules.bytes_max {
            true => Err(SealError::TooLarge),
            false => Ok(()),
        }
    }

    fn header(&self, metadata: &Metadata, (uid, gid): (u32, u32)) -> Header {
        let mut header = Header::new_gnu();
        header.set_mode(metadata.mode() & 0o7777);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_mtime(self.time(metadata));
        header.set_size(0);
        header
    }

    /// A file that stands for something else.
    fn empty(&mut self, path: &Path) -> Result<(), SealError> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(0);
        self.archive
            .append_data(&mut header, path, io::empty())
            .map_err(|e| host(path, e))
    }

    /// Gives a file the owner and the times that it has in an image.
    fn own(
        &self,
        path: &Path,
        metadata: &Metadata,
        (uid, gid): (u32, u32),
    ) -> Result<(), SealError> {
        let owned = || -> io::Result<()> {
            for name in xattr::list(path)? {
                let is_note = name.as_bytes().starts_with(NOTES.as_bytes());
                if is_note && name != OPAQUE {
                    xattr::remove(path, &name)?;
                }
            }
            lchown(path, Some(uid), Some(gid))?;
            // A change of owner takes these away (chown(2)).
            if !metadata.is_symlink() && metadata.mode() & 0o6000 != 0 {
                let mode = metadata.mode() & 0o7777;
                fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            }
            let time = Timespec {
                tv_sec: self.time(metadata) as i64,
                tv_nsec: 0,
            };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
        };
        owned().map_err(|error| host(path, error))
    }

    /// Who owns a file in the image.
    fn owner(&mut self, metadata: &Metadata) -> (u32, u32) {
        let owner = (self.id(metadata.uid()), self.id(metadata.gid()));
        match metadata.nlink() > 1 && !metadata.is_dir() {
            true => *self
                .seen
                .entry((metadata.dev(), metadata.ino()))
                .or_insert(owner),
            false => owner,
        }
    }

    /// An id inside; what is none, which no instance can have made, is root's.
    fn id(&self, id: u32) -> u32 {
        id.checked_sub(self.rules.uid_base)
            .filter(|id| *id < UIDS)
            .unwrap_or(0)
    }

    fn time(&self, metadata: &Metadata) -> u64 {
        (metadata.mtime().max(0) as u64).min(self.rules.epoch)
    }
}

/// What is written is summed up, and nothing else.
struct Sum {
    hash: Sha256,
    bytes: u64,
}

impl Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn beside(path: &Path, prefix: &str, name: Option<&OsStr>) -> PathBuf {
    let mut marked = std::ffi::OsString::from(prefix);
    marked.push(name.unwrap_or_default());
    path.with_file_name(marked)
}

fn is_reserved(name: Option<&OsStr>) -> bool {
    name.is_some_and(|name| name.as_bytes().starts_with(WHITEOUT.as_bytes()))
}

fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    File::options().read(true).custom_flags(flags).open(path)
}

fn stat(path: &Path) -> Result<Metadata, SealError> {
    fs::symlink_metadata(path).map_err(|error| host(path, error))
}

fn is_directory(path: &Path) -> Result<bool, SealError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.is_dir()),
        // A socket, which is gone by now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(host(path, error)),
    }
}

fn host(path: &Path, source: io::Error) -> SealError {
    SealError::Host {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    const RULES: Rules = Rules {
        uid_base: 0,
        epoch: 1_000_000_000,
        bytes_max: 1 << 20,
        entries_max: 100,
    };

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let top = root.path();
        fs::create_dir_all(top.join("app/lib")).unwrap();
        fs::write(top.join("app/lib/one"), "1").unwrap();
        fs::write(top.join("app/two"), "22").unwrap();
        symlink("/nowhere", top.join("app/link")).unwrap();
        fs::create_dir_all(top.join("run/ekiden")).unwrap();
        fs::create_dir_all(top.join("etc")).unwrap();
        fs::write(top.join("etc/hosts"), "x").unwrap();
        root
    }

    fn rules(uid_base: u32) -> Rules {
        Rules { uid_base, ..RULES }
    }

    fn own_uid() -> u32 {
        rustix::process::getuid().as_raw()
    }

    #[test]
    fn the_same_files_have_the_same_digest_and_only_what_is_kept_counts() {
        let (one, other) = (tree(), tree());
        let _socket = UnixListener::bind(other.path().join("app/socket")).unwrap();
        fs::write(other.path().join("etc/resolv.conf"), "y").unwrap();
        let sealed = |root: &tempfile::TempDir| {
            prune(root.path()).unwrap();
            seal(root.path(), &rules(own_uid()), &mut Seen::default()).unwrap()
        };
        let sealed = [sealed(&one), sealed(&other)];
        assert_eq!(sealed[0], sealed[1]);
        assert_eq!(sealed[0].entries, 5);
        let names = fs::read_dir(one.path()).unwrap().flatten();
        assert_eq!(names.map(|e| e.file_name()).collect::<Vec<_>>(), ["app"]);
        let metadata = fs::metadata(one.path().join("app/two")).unwrap();
        assert_eq!(metadata.mtime(), RULES.epoch as i64);
    }

    #[test]
    fn a_content_or_a_mode_that_differs_shows() {
        let digest = |change: &dyn Fn(&Path)| {
            let root = tree();
            change(root.path());
            prune(root.path()).unwrap();
            seal(root.path(), &rules(own_uid()), &mut Seen::default())
                .unwrap()
                .diff_id
        };
        let plain = digest(&|_| {});
        let content = digest(&|top| fs::write(top.join("app/two"), "23").unwrap());
        let mode = digest(&|top| {
            let executable = fs::Permissions::from_mode(0o4755);
            fs::set_permissions(top.join("app/two"), executable).unwrap();
        });
        assert!(plain != content && plain != mode && content != mode);
    }

    #[test]
    fn what_is_too_much_or_reserved_is_refused() {
        let check = |rules: Rules, change: &dyn Fn(&Path)| {
            let root = tree();
            change(root.path());
            match seal(root.path(), &rules, &mut Seen::default()) {
                Ok(_) => "sealed".to_owned(),
                Err(SealError::Refused(problem)) => problem,
                Err(SealError::TooLarge) => "too large".to_owned(),
                Err(SealError::Host { source, .. }) => source.to_string(),
            }
        };
        let base = rules(own_uid());
        let few = Rules {
            entries_max: 3,
            ..base
        };
        let small = Rules {
            bytes_max: 4000,
            ..base
        };
        assert_eq!(check(few, &|_| {}), "it has more than 3 files");
        assert_eq!(
            check(small, &|top| fs::write(top.join("big"), [0; 5000]).unwrap()),
            "too large"
        );
        let reserved = check(base, &|top| fs::write(top.join(".wh.app"), "").unwrap());
        assert!(reserved.contains("`.wh.app`"), "{reserved}");
    }
}
