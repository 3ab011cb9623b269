//! Trees of files that belonged to an instance: measuring and removing what may be hostile.
//!
//! An instance can nest directories as deep as it likes, and one that runs can put links where directories
//! were. Nothing here recurses or holds more than a few descriptors, whatever it finds; what is removed is
//! reached from a directory that is held, name by name, and links are never followed.

use std::{
    ffi::CStr,
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, renameat, unlinkat},
    io::Errno,
};

/// The most files that are looked at to measure one tree.
const MEASURED_FILES_MAX: usize = 1_000_000;

/// Bytes that a tree occupies on disk; names that cannot be read count nothing. Blocks.
pub(crate) fn measure(top: &Path) -> u64 {
    look(top).bytes
}

/// Whether a tree occupies more than so many bytes, or has more in it than can be measured. Blocks.
pub(crate) fn exceeds(top: &Path, bytes_max: u64) -> bool {
    let size = look(top);
    size.bytes > bytes_max || !size.is_whole
}

struct Size {
    bytes: u64,
    /// Whether all of it was looked at.
    is_whole: bool,
}

fn look(top: &Path) -> Size {
    let mut size = Size {
        bytes: 0,
        is_whole: true,
    };
    let mut files = 0;
    let mut directories = vec![top.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) => {
                size.is_whole &= error.kind() == io::ErrorKind::NotFound;
                continue;
            }
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            // 512 whatever the file system's own block is (stat(2))
            size.bytes += metadata.blocks() * 512;
            files += 1;
            if files >= MEASURED_FILES_MAX {
                size.is_whole = false;
                return size;
            }
            if metadata.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    size
}

/// Removes a tree. Blocks. Idempotent.
///
/// A directory within a directory is first moved up to the top, so that no path gets longer than
/// two names and depth costs nothing.
///
/// # Errors
/// What the file system says.
pub(crate) fn remove(top: &Path) -> io::Result<()> {
    let Some(held) = open(CWD, top)? else {
        return Ok(());
    };
    let mut moved = 0u64;
    loop {
        let mut is_empty = true;
        for entry in Dir::read_from(&held)? {
            let entry = entry?;
            let name = entry.file_name();
            if is_itself(name) {
                continue;
            }
            is_empty = false;
            if !unlink(&held, name)? {
                empty(&held, name, &mut moved)?;
            }
        }
        if is_empty {
            return match fs::remove_dir(top) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
    }
}

/// Removes a directory's files, moves its directories to `top`, and removes it.
fn empty(top: &OwnedFd, directory: &CStr, moved: &mut u64) -> io::Result<()> {
    match unlinkat(top, directory, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(_) => {}
    }
    let Some(held) = open(top, directory)? else {
        return Ok(());
    };
    for entry in Dir::read_from(&held)? {
        let entry = entry?;
        let name = entry.file_name();
        if !is_itself(name) && !unlink(&held, name)? {
            move_up(&held, name, top, moved)?;
        }
    }
    match unlinkat(top, directory, AtFlags::REMOVEDIR) {
        // Whoever still writes there is looked at again.
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes what is no directory; false when it is one.
fn unlink(directory: &OwnedFd, name: &CStr) -> io::Result<bool> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        // Linux says the first, POSIX the second (unlink(2)).
        Err(Errno::ISDIR | Errno::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens a directory, never through a link; `None` when there is none.
fn open<P: rustix::path::Arg>(at: impl std::os::fd::AsFd, path: P) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(at, path, flags, Mode::empty()) {
        Ok(held) => Ok(Some(held)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn move_up(from: &OwnedFd, name: &CStr, top: &OwnedFd, moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        let to = format!(".ekiden-removed-{moved}");
        match renameat(from, name, top, to) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // There is one of that name.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_itself(name: &CStr) -> bool {
    [c".", c".."].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_tree_is_removed_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let outside = root.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        let top = root.path().join("top");
        fs::create_dir(&top).unwrap();
        // Built from the inside out, because a path of this depth is too long to name.
        let spare = root.path().join("spare");
        for _ in 0..3000 {
            let inner = root.path().join("inner");
            fs::create_dir(&inner).unwrap();
            if spare.exists() {
                fs::rename(&spare, inner.join("d")).unwrap();
            }
            fs::rename(&inner, &spare).unwrap();
        }
        fs::rename(&spare, top.join("deep")).unwrap();
        fs::write(top.join("deep/file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, top.join("deep/link")).unwrap();
        remove(&top).unwrap();
        assert!(!top.exists() && outside.join("kept").exists());
        remove(&top).unwrap();
    }

    #[test]
    fn measure_counts_what_is_on_disk() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/b/c"), vec![1; 100_000]).unwrap();
        assert!(measure(root.path()) >= 100_000);
    }
}
