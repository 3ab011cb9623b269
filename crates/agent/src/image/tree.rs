//! A layer's directory while it is filled, and how names in an archive become places in it.
//!
//! Whatever an archive names is looked up by the kernel with the layer's directory as its root
//! (openat2(2), `RESOLVE_IN_ROOT`), so that no symbolic link leads out of it, not even an absolute
//! one or one with `..`. Parents are followed through links, because archives rightly have
//! `lib -> usr/lib` and later `lib/x`; the last component never is.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags},
    io::Errno,
};

use super::archive::PATH_BYTES_MAX;

/// Levels of directories in a layer. Removing a tree holds one descriptor per level.
pub(super) const DEPTH_MAX: usize = 256;

/// Links that lead nowhere yet and are followed to make what they lead to. Each may add
/// [`DEPTH_MAX`] levels of recursion, so they are few.
const DANGLING_LINKS_MAX: usize = 4;

/// The kernel gives up resolving `..` when anything is renamed meanwhile, and asks to try again.
const RESOLVE_TRIES_MAX: usize = 1000;

/// Bytes of one component, as most file systems bound it (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;

/// A directory that is being filled by one thread and read by nobody.
pub(super) struct Tree {
    root: OwnedFd,
    /// The parent used last, because archives list a directory's files one after the other.
    newest: Option<(PathBuf, Rc<OwnedFd>)>,
}

/// A name in an archive, checked: no `..`, no empty component, bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntryPath {
    /// The layer's own directory.
    Root,
    /// `name` in the directory `parent`, which is empty for the root.
    Below { parent: PathBuf, name: OsString },
}

/// Why a name is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum TreeError {
    #[error("{0}")]
    Refused(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

const TOO_DEEP: TreeError = TreeError::Refused("it is more than 256 directories deep");

impl From<Errno> for TreeError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

impl EntryPath {
    /// Names are relative to the root whether they begin with a slash or not.
    pub(super) fn parse(name: &[u8]) -> Result<Self, TreeError> {
        if name.len() > PATH_BYTES_MAX {
            return Err(TreeError::Refused("its name is longer than 4096 bytes"));
        }
        if name.is_empty() || name.contains(&0) {
            return Err(TreeError::Refused(
                "its name is empty or contains a zero byte",
            ));
        }
        let mut components = Vec::new();
        for component in name.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(TreeError::Refused("its name contains `..`")),
                _ if component.len() > NAME_BYTES_MAX => {
                    return Err(TreeError::Refused(
                        "a part of its name is longer than 255 bytes",
                    ));
                }
                _ => components.push(OsStr::from_bytes(component)),
            }
        }
        if components.len() > DEPTH_MAX {
            return Err(TOO_DEEP);
        }
        let Some(name) = components.pop() else {
            return Ok(Self::Root);
        };
        Ok(Self::Below {
            parent: components.iter().collect(),
            name: name.to_owned(),
        })
    }

    /// Every component, from the top.
    pub(super) fn components(&self) -> impl Iterator<Item = &[u8]> {
        let (parent, name) = match self {
            Self::Root => (None, None),
            Self::Below { parent, name } => (Some(parent), Some(name)),
        };
        let parents = parent.into_iter().flat_map(|parent| parent.iter());
        parents
            .map(OsStr::as_bytes)
            .chain(name.map(|name| name.as_bytes()))
    }
}

impl Tree {
    /// Fills an existing, empty directory.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self {
            root: fs::open(path, flags, Mode::empty())?,
            newest: None,
        })
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens a directory by its name in the archive, making what is missing (root's, mode 0755).
    pub(super) fn directory(&mut self, path: &Path) -> Result<Rc<OwnedFd>, TreeError> {
        if let Some((newest, fd)) = &self.newest
            && newest == path
        {
            return Ok(Rc::clone(fd));
        }
        let fd = Rc::new(self.resolve_or_make(path)?);
        self.newest = Some((path.to_owned(), Rc::clone(&fd)));
        Ok(fd)
    }

    /// Opens an existing directory by its name in the archive.
    pub(super) fn existing_directory(&self, path: &Path) -> Result<OwnedFd, TreeError> {
        if path.as_os_str().is_empty() {
            return Ok(self.root.try_clone()?);
        }
        Ok(self.resolve(path)?)
    }

    /// Removes whatever `name` is, with all below it; nothing there is success.
    pub(super) fn remove(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), TreeError> {
        // Directories opened before may not be what their names mean any more.
        self.newest = None;
        match fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => {
                // The kernel's name for a directory that has no fixed one.
                let here = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd()));
                Ok(std::fs::remove_dir_all(here.join(name))?)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn resolve_or_make(&self, path: &Path) -> Result<OwnedFd, TreeError> {
        if path.as_os_str().is_empty() {
            return Ok(self.root.try_clone()?);
        }
        // Most parents have no links in them, and then the name tells the depth.
        let plain = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        if let Ok(fd) = fs::openat2(&self.root, path, flags, Mode::empty(), plain) {
            return Ok(fd);
        }
        let fd = self.make(path, &mut 0)?;
        self.check_depth(fd.as_fd())?;
        Ok(fd)
    }

    fn resolve(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RESOLVE_TRIES_MAX {
            match fs::openat2(&self.root, path, flags, Mode::empty(), within) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Makes a directory and those above it. `links` counts dangling links gone through.
    fn make(&self, path: &Path, links: &mut usize) -> Result<OwnedFd, TreeError> {
        match self.resolve(path) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(Errno::LOOP) => return Err(TreeError::Refused("its links go round in a circle")),
            Err(error) => return Err(error.into()),
        }
        if path.components().count() > DEPTH_MAX {
            return Err(TOO_DEEP);
        }
        let (Some(parent_path), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(TreeError::Refused(
                "it lies below a link that leads nowhere",
            ));
        };
        let parent = match parent_path.as_os_str().is_empty() || parent_path == Path::new("/") {
            true => self.root.try_clone()?,
            false => self.make(parent_path, links)?,
        };
        match fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => return self.made(parent.as_fd(), name),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let stat = fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => open_directory(parent.as_fd(), name),
            FileType::Symlink => {
                *links += 1;
                if *links > DANGLING_LINKS_MAX {
                    return Err(TreeError::Refused("too many of its links lead nowhere"));
                }
                let target = fs::readlinkat(&parent, name, Vec::new())?.into_bytes();
                self.make(&parent_path.join(OsString::from_vec(target)), links)
            }
            // What the layer hides, it now shows anew: nothing of the layers below shines through.
            FileType::CharacterDevice => {
                fs::unlinkat(&parent, name, AtFlags::empty())?;
                fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                let made = self.made(parent.as_fd(), name)?;
                make_opaque(made.as_fd())?;
                Ok(made)
            }
            _ => Err(TreeError::Refused("what it lies in is not a directory")),
        }
    }

    /// Opens a directory that was just made, or removes it again when it is too deep.
    fn made(&self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, TreeError> {
        let made = open_directory(parent, name)?;
        // The process's umask may have taken bits away.
        fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
        if let Err(error) = self.check_depth(made.as_fd()) {
            fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
            return Err(error);
        }
        Ok(made)
    }

    /// Links can lead deeper than any name is long, so ask the kernel where the directory is.
    fn check_depth(&self, directory: BorrowedFd<'_>) -> Result<(), TreeError> {
        let depth = |fd: BorrowedFd<'_>| match fs::readlink(
            format!("/proc/self/fd/{}", fd.as_raw_fd()),
            Vec::new(),
        ) {
            Ok(path) => Ok(Some(path.as_bytes().split(|&byte| byte == b'/').count())),
            Err(Errno::NAMETOOLONG) => Ok(None),
            Err(error) => Err(TreeError::from(error)),
        };
        match (depth(self.root.as_fd())?, depth(directory)?) {
            (Some(root), Some(own)) if own - root.min(own) < DEPTH_MAX => Ok(()),
            _ => Err(TOO_DEEP),
        }
    }
}

/// Marks a directory as hiding what layers below have under its name (the kernel's overlayfs.rst,
/// "whiteouts and opaque directories").
pub(super) fn make_opaque(directory: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fs::fsetxattr(
        directory,
        "trusted.overlay.opaque",
        b"y",
        XattrFlags::empty(),
    )?)
}

fn open_directory(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, TreeError> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(parent, name, flags, Mode::empty())?)
}
