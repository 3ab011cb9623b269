//! Files and directories that are not complete yet, all in one directory.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Gives out names that nothing has.
#[derive(Debug)]
pub(super) struct Drafts {
    dir: PathBuf,
    next: AtomicU64,
}

/// Something unfinished; removed, with all in it, when dropped.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
}

impl Drafts {
    /// Makes the directory, and removes what a process that crashed has left in it. Blocks.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        make_private_directory(&dir)?;
        for leftover in fs::read_dir(&dir)? {
            remove(&leftover?.path())?;
        }
        Ok(Self {
            dir,
            // No number that a process before may still be writing to.
            next: AtomicU64::new(super::store::now().as_millis() << 20),
        })
    }

    /// The same, in a directory whose own name others may pass through.
    pub(super) fn open_to_others(dir: PathBuf) -> io::Result<Self> {
        let drafts = Self::open(dir)?;
        fs::set_permissions(&drafts.dir, fs::Permissions::from_mode(0o711))?;
        Ok(drafts)
    }

    /// An empty directory.
    pub(super) fn directory(&self) -> io::Result<Draft> {
        let draft = self.name();
        fs::create_dir(&draft.path)?;
        // What an image's root directory has when the image says nothing; without the umask.
        fs::set_permissions(&draft.path, fs::Permissions::from_mode(0o755))?;
        Ok(draft)
    }

    /// An empty file, for writing and reading.
    pub(super) fn file(&self) -> io::Result<(Draft, File)> {
        let draft = self.name();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&draft.path)?;
        Ok((draft, file))
    }

    /// Takes something away from its place, so that it can be removed at leisure.
    pub(super) fn bury(&self, path: &Path) -> io::Result<Draft> {
        let draft = self.name();
        fs::rename(path, &draft.path)?;
        Ok(draft)
    }

    fn name(&self) -> Draft {
        Draft {
            path: self
                .dir
                .join(self.next.fetch_add(1, Ordering::Relaxed).to_string()),
        }
    }
}

impl Draft {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it to its place, where nothing may be. Nothing is synced.
    pub(super) fn finish(self, place: &Path) -> io::Result<()> {
        fs::rename(&self.path, place)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What cannot be removed now is removed when the store is opened next.
        match remove(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "temporary file stays");
            }
            _ => {}
        }
    }
}

/// A directory for root alone; it may exist.
pub(super) fn make_private_directory(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}

/// Never follows a link.
fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}
