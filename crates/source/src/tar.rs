//! Headers of tar archives (POSIX.1-1988 `ustar`, with `pax` of POSIX.1-2001 for long names).
//!
//! Written here rather than by a library, because the digest of a snapshot is made of these bytes: a newer
//! release of a library must not change it. What is read back is only what [`crate::upload`] writes.

/// Bytes of a block; headers have one, and content is filled up to whole ones.
pub(crate) const BLOCK: usize = 512;

/// The largest number that eleven octal digits hold.
pub(crate) const NUMBER_MAX: u64 = 0o777_7777_7777;

const NAME_BYTES_MAX: usize = 100;
const PREFIX_BYTES_MAX: usize = 155;

/// What an entry is, in the header's `typeflag`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    File,
    Link,
    Directory,
    Extended,
}

impl Type {
    fn flag(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::Link => b'2',
            Self::Directory => b'5',
            Self::Extended => b'x',
        }
    }
}

/// The header of an entry, with an extended one before it when a name is too long.
pub(crate) fn header(
    kind: Type,
    path: &str,
    target: &str,
    mode: u32,
    bytes: u64,
    time: u64,
) -> Vec<u8> {
    let mut records = Vec::new();
    let (prefix, name) = split(path).unwrap_or_else(|| {
        records.extend(record("path", path));
        ("", head(path))
    });
    if target.len() > NAME_BYTES_MAX {
        records.extend(record("linkpath", target));
    }
    let mut written = Vec::new();
    if !records.is_empty() {
        let bytes = records.len() as u64;
        let block = ustar(Type::Extended, "", "pax", "", 0o644, bytes, time);
        written.extend(block);
        written.extend(records);
        written.resize(written.len() + padding(bytes), 0);
    }
    written.extend(ustar(kind, prefix, name, head(target), mode, bytes, time));
    written
}

/// Zeros that fill up the last block of so much content.
pub(crate) fn padding(bytes: u64) -> usize {
    (bytes.wrapping_neg() % BLOCK as u64) as usize
}

/// A path as `ustar` has it: at most 155 bytes, a slash that is not written, at most 100 bytes.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= NAME_BYTES_MAX {
        return Some(("", path));
    }
    // A directory's own slash at the end stays with its name.
    let inner = path.strip_suffix('/').unwrap_or(path);
    let mut slashes = inner.match_indices('/').map(|(at, _)| at);
    let at = slashes.find(|at| path.len() - at - 1 <= NAME_BYTES_MAX)?;
    (at <= PREFIX_BYTES_MAX).then(|| (&path[..at], &path[at + 1..]))
}

/// As much of a long name as fits, for readers that know no extended headers.
fn head(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

/// `length keyword=value\n`, the length counting all of it.
fn record(keyword: &str, value: &str) -> Vec<u8> {
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {keyword}={value}\n").into_bytes()
}

fn ustar(
    kind: Type,
    prefix: &str,
    name: &str,
    target: &str,
    mode: u32,
    bytes: u64,
    time: u64,
) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, field: &[u8]| block[at..at + field.len()].copy_from_slice(field);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", bytes.min(NUMBER_MAX)).as_bytes());
    put(136, format!("{:011o}\0", time.min(NUMBER_MAX)).as_bytes());
    put(156, &[kind.flag()]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum = format!("{:06o}\0 ", checksum(&block));
    block[148..156].copy_from_slice(sum.as_bytes());
    block
}

/// The sum of all bytes, those of the sum itself taken as spaces.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let own = 148..156;
    let bytes = block.iter().enumerate();
    bytes
        .map(|(at, &byte)| u32::from(if own.contains(&at) { b' ' } else { byte }))
        .sum()
}

/// A header that was read: an ordinary file's name and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// Reads a header as [`header`] writes it for a file with a short name; anything else is `None`.
pub(crate) fn read(block: &[u8; BLOCK]) -> Option<Named> {
    if number(&block[148..156])? != u64::from(checksum(block))
        || block[156] != b'0'
        || block[345] != 0
    {
        return None;
    }
    let name = block[..NAME_BYTES_MAX].split(|&byte| byte == 0).next()?;
    Some(Named {
        name: std::str::from_utf8(name).ok()?.to_owned(),
        bytes: number(&block[124..136])?,
    })
}

fn number(field: &[u8]) -> Option<u64> {
    let digits = field.split(|&byte| byte == 0).next()?.trim_ascii();
    if digits.is_empty() || !digits.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_a_damaged_one_does_not() {
        let written = header(Type::File, "manifest.json", "", 0o644, 123, 7);
        let mut block: [u8; BLOCK] = written.try_into().unwrap();
        let want = Named {
            name: "manifest.json".to_owned(),
            bytes: 123,
        };
        assert_eq!(read(&block), Some(want));
        block[3] ^= 1;
        assert_eq!(read(&block), None);
        assert_eq!(read(&[0; BLOCK]), None);
    }

    #[test]
    fn long_paths_are_split_where_they_can_be() {
        let name = "n".repeat(90);
        assert_eq!(split("a/b"), Some(("", "a/b")));
        let path = format!("dir/{name}/x");
        assert_eq!(
            split(&format!("aaaaaaaa/{path}")),
            Some(("aaaaaaaa", &*path))
        );
        assert_eq!(split(&"n".repeat(101)), None);
        let directory = format!("{}/{}/", "d".repeat(60), "e".repeat(60));
        let (prefix, name) = split(&directory).unwrap();
        assert_eq!((prefix.len(), name.len()), (60, 61));
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for bytes in [
            1, 3, 80, 84, 85, 86, 87, 88, 89, 90, 91, 92, 980, 987, 988, 989, 990, 991,
        ] {
            let record = record("path", &"x".repeat(bytes));
            let text = String::from_utf8(record.clone()).unwrap();
            let length: usize = text.split_once(' ').unwrap().0.parse().unwrap();
            assert_eq!(length, record.len(), "{bytes}");
        }
    }
}
