//! Trees of files that belonged to an instance: measuring and removing what may be hostile.
//!
//! An instance can nest directories as deep as it likes. Nothing here recurses or holds more than a
//! few descriptors, whatever it finds; links are never followed.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The most files that are looked at to measure one tree.
const MEASURED_FILES_MAX: usize = 1_000_000;

/// Bytes that a tree occupies on disk; names that cannot be read count nothing. Blocks.
pub(crate) fn measure(top: &Path) -> u64 {
    let mut bytes = 0;
    let mut files = 0;
    let mut directories = vec![top.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            // 512 whatever the file system's own block is (stat(2))
            bytes += metadata.blocks() * 512;
            files += 1;
            if files >= MEASURED_FILES_MAX {
                return bytes;
            }
            if metadata.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    bytes
}

/// Removes a tree. Blocks. Idempotent.
///
/// A directory within a directory is first moved up to the top, so that no path gets longer than
/// three names and depth costs nothing.
///
/// # Errors
/// What the file system says.
pub(crate) fn remove(top: &Path) -> io::Result<()> {
    let mut moved = 0u64;
    loop {
        let entries = match fs::read_dir(top) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut is_empty = true;
        for entry in entries {
            let entry = entry?;
            is_empty = false;
            match entry.file_type()?.is_dir() {
                true => empty(&entry.path(), top, &mut moved)?,
                false => fs::remove_file(entry.path())?,
            }
        }
        if is_empty {
            return fs::remove_dir(top);
        }
    }
}

/// Removes a directory's files, moves its directories to `top`, and removes it.
fn empty(directory: &Path, top: &Path, moved: &mut u64) -> io::Result<()> {
    if fs::remove_dir(directory).is_ok() {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::rename(entry.path(), unused(top, moved))?,
            false => fs::remove_file(entry.path())?,
        }
    }
    fs::remove_dir(directory)
}

fn unused(top: &Path, moved: &mut u64) -> PathBuf {
    loop {
        *moved += 1;
        let name = top.join(format!(".ekiden-removed-{moved}"));
        if fs::symlink_metadata(&name).is_err() {
            return name;
        }
    }
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
