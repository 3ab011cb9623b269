//! What a build leaves: lines, and a directory.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::DockerfileError;

/// A longer line is cut into several, in bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// Files in a layout: each layer is one.
const FILES_MAX: usize = 10_000;

/// Puts lines together out of what comes.
#[derive(Default)]
pub(super) struct LineCutter {
    begun: Vec<u8>,
    after_return: bool,
}

impl LineCutter {
    /// The lines that end in `bytes`.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' if self.after_return => {}
                // Progress that is written over itself is a line each time.
                b'\n' | b'\r' => lines.push(self.whole()),
                other => self.begun.push(*other),
            }
            self.after_return = *byte == b'\r';
            if self.begun.len() >= LINE_BYTES_MAX {
                lines.push(self.whole());
            }
        }
        lines
    }

    /// What was begun and not ended.
    pub(super) fn rest(&mut self) -> Option<String> {
        (!self.begun.is_empty()).then(|| self.whole())
    }

    fn whole(&mut self) -> String {
        let line = String::from_utf8_lossy(&self.begun).into_owned();
        self.begun.clear();
        line
    }
}

/// Whether a directory is a layout and nothing else: whoever reads it follows links and waits for pipes.
/// Whether the image in it is right, its reader finds out. Blocks.
pub(super) fn check(layout: &Path) -> Result<(), DockerfileError> {
    let bad = |problem: String| DockerfileError::Output { problem };
    let mut directories = vec![layout.to_owned()];
    let mut files = 0;
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory).map_err(|error| bad(error.to_string()))?;
        for entry in entries {
            let found = entry.and_then(|entry| Ok((entry.metadata()?, entry.path())));
            let (metadata, path) = found.map_err(|error| bad(error.to_string()))?;
            files += 1;
            if files > FILES_MAX {
                return Err(bad(format!("it has more than {FILES_MAX} files")));
            }
            if metadata.is_dir() && path.components().count() <= layout.components().count() + 2 {
                directories.push(path);
            } else if !metadata.is_file() || metadata.nlink() != 1 {
                return Err(bad("it has a file that no image has".to_owned()));
            }
        }
    }
    match layout.join("index.json").is_file() {
        true => Ok(()),
        false => Err(bad("it has no index".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_bounded() {
        let mut cutter = LineCutter::default();
        assert!(cutter.take(b"he").is_empty());
        let lines = cutter.take(b"llo\r\n10%\r20%\n\nx");
        assert_eq!(lines, ["hello", "10%", "20%", ""]);
        assert_eq!(cutter.rest().as_deref(), Some("x"));
        assert_eq!(cutter.rest(), None);
        let lines = cutter.take(&vec![0xff; 3 * LINE_BYTES_MAX]);
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn layout_has_nothing_but_files() {
        let root = tempfile::tempdir().unwrap();
        let layout = root.path().join("layout");
        fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        assert!(check(&layout).is_err());
        fs::write(layout.join("index.json"), "{}").unwrap();
        fs::write(layout.join("blobs/sha256/00"), "x").unwrap();
        check(&layout).unwrap();
        let link = layout.join("blobs/sha256/01");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(check(&layout).is_err());
        fs::remove_file(&link).unwrap();
        fs::hard_link(layout.join("index.json"), &link).unwrap();
        assert!(check(&layout).is_err());
        fs::remove_file(&link).unwrap();
        fs::create_dir_all(layout.join("blobs/sha256/deeper/and")).unwrap();
        assert!(check(&layout).is_err());
    }
}
