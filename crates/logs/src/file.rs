//! Files of the store: their heads, their names, and how they come to be.

use std::{
    fs::{self, File},
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// The length of a file's head: what it is, its salt, and a check of both.
pub(crate) const HEAD_BYTES: usize = 16;

/// What a file is, at its beginning.
pub(crate) const JOURNAL: &[u8; 8] = b"EKIDENJ1";
/// What a file is, at its beginning and its end.
pub(crate) const SEGMENT: &[u8; 8] = b"EKIDENS1";

/// What a temporary file's name ends with.
pub(crate) const TEMPORARY: &str = ".tmp";

/// The file about a group.
pub(crate) const GROUP: &str = "group.json";

/// The kind of a numbered file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Journal,
    Segment,
}

/// The path of a numbered file.
pub(crate) fn path(directory: &Path, kind: Kind, number: u64) -> PathBuf {
    match kind {
        Kind::Journal => directory.join(format!("JOURNAL-{number}")),
        Kind::Segment => directory.join(format!("SEGMENT-{number}")),
    }
}

/// The kind and number of a file's name; `None` for other files.
pub(crate) fn parse(name: &str) -> Option<(Kind, u64)> {
    let (kind, number) = name.split_once('-')?;
    let kind = match kind {
        "JOURNAL" => Kind::Journal,
        "SEGMENT" => Kind::Segment,
        _ => return None,
    };
    // Only as we write it, so that no two names are the same file to us.
    let parsed: u64 = number.parse().ok()?;
    (parsed.to_string() == number && parsed < u64::MAX).then_some((kind, parsed))
}

/// A number that nobody can know before. What lines contain cannot be taken for a frame or a block, since
/// those have the salt of their file.
pub(crate) fn salt() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

/// Appends a head.
pub(crate) fn put_head(out: &mut Vec<u8>, what: &[u8; 8], salt: u32) {
    let from = out.len();
    out.extend_from_slice(what);
    out.extend_from_slice(&salt.to_le_bytes());
    let check = crc32fast::hash(&out[from..]);
    out.extend_from_slice(&check.to_le_bytes());
}

/// The salt of a file; `None` when the head is damaged.
pub(crate) fn head(bytes: &[u8], what: &[u8; 8]) -> Option<u32> {
    let head = bytes.first_chunk::<HEAD_BYTES>()?;
    let check = u32::from_le_bytes(*head.last_chunk()?);
    let good = head.starts_with(what) && crc32fast::hash(&head[..12]) == check;
    good.then(|| u32::from_le_bytes([head[8], head[9], head[10], head[11]]))
}

/// Writes a file whole or not at all: under a temporary name, synced, then renamed.
///
/// # Errors
/// Of the disk; the temporary file is gone then, unless that failed as well.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    let temporary = PathBuf::from(name);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_data()
    });
    written
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
}

/// Syncs a directory, so that what was renamed in it is so after the power went.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Reads `length` bytes at `offset` into `out`, whose former content goes.
pub(crate) fn read_at(
    file: &File,
    offset: u64,
    length: usize,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    // Not cleared first: what is there is overwritten.
    out.resize(length, 0);
    file.read_exact_at(out, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_write_are_ours() {
        assert_eq!(parse("JOURNAL-12"), Some((Kind::Journal, 12)));
        assert_eq!(parse("SEGMENT-0"), Some((Kind::Segment, 0)));
        for name in [
            "SEGMENT-01",
            "SEGMENT-+1",
            "SEGMENT-1.tmp",
            "SEGMENT-",
            "x-1",
            "group.json",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
