//! Reading tar, from senders who may mean harm.
//!
//! A reader of its own, because the libraries hold an extended header in memory whatever its size
//! and leave sparse maps unbounded. It knows the formats that image tools write: v7, ustar
//! (POSIX.1-1988), pax (POSIX.1-2001, "pax Interchange Format") and GNU (the tar manual, "Basic
//! Tar Format"), with long names and GNU sparse files. Pax sparse files are refused, as the OCI
//! image specification discourages them ("Image Layer Filesystem Changeset").
//!
//! What an entry means for a file system is not decided here; see [`super::unpack`].

use std::io::{self, BufRead};

/// Bytes of a path or a link's target: Linux's `PATH_MAX`.
pub(super) const PATH_BYTES_MAX: usize = 4096;

/// Bytes of one extended header: a file's extended attributes fit, which Linux bounds to 64 KiB.
const EXTENDED_BYTES_MAX: u64 = 1 << 20;

/// Data segments of one sparse file.
const SPARSE_SEGMENTS_MAX: usize = 100_000;

const BLOCK: usize = 512;

/// Entries of a tar stream, one after the other, and the data of the newest.
pub(super) struct Archive<R> {
    source: R,
    /// Data of the current entry that has not been read.
    data_left: u64,
    /// Zeros that fill up its last block.
    padding: u64,
    /// Bytes taken from the source.
    position: u64,
}

/// What an archive says of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// As written, neither checked nor cleaned.
    pub(super) path: Vec<u8>,
    pub(super) kind: EntryKind,
    /// Permission bits with set-id and sticky bits; higher bits are dropped.
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) modified: Modified,
    /// Name and value of each extended attribute (`SCHILY.xattr.*`).
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of data in the archive.
    pub(super) data_bytes: u64,
}

/// A modification time since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Modified {
    pub(super) seconds: i64,
    /// 0 to 999,999,999, forward from `seconds`.
    pub(super) nanoseconds: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    /// A file with holes: data segments as offset and length, in order, and the size of it all.
    SparseFile {
        segments: Vec<(u64, u64)>,
        file_bytes: u64,
    },
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    HardLink {
        target: Vec<u8>,
    },
    Fifo,
    /// A character or block device.
    Device,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    /// The archive makes no sense, or too much of it.
    #[error("{0}")]
    Malformed(String),
    /// What the archive comes from failed.
    #[error("failed to read the archive")]
    Read(#[source] io::Error),
}

impl<R: BufRead> Archive<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            data_left: 0,
            padding: 0,
            position: 0,
        }
    }

    /// The next entry; what was left of the one before is skipped.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let mut extended = Extended::default();
        loop {
            self.skip(self.data_left + self.padding)?;
            (self.data_left, self.padding) = (0, 0);
            let Some(header) = self.read_header()? else {
                return match extended == Extended::default() {
                    true => Ok(None),
                    false => Err(malformed("it ends after an extended header")),
                };
            };
            match header.kind() {
                b'x' | b'X' => {
                    let records = self.read_extended(header.size()?)?;
                    extended.add_pax(&records)?;
                }
                // Defaults for all that follow: tools write only remarks there.
                b'g' => drop(self.read_extended(header.size()?)?),
                b'L' => extended.long_path = Some(self.read_long_name(header.size()?)?),
                b'K' => extended.long_target = Some(self.read_long_name(header.size()?)?),
                _ => return self.entry(&header, extended).map(Some),
            }
        }
    }

    /// Where in the source the current entry's unread data begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Gives the next piece of the current entry's data to `take`; `false` when there is none left.
    pub(super) fn next_data<E: From<ArchiveError>>(
        &mut self,
        take: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        if self.data_left == 0 {
            return Ok(false);
        }
        let buffer = self.source.fill_buf().map_err(ArchiveError::Read)?;
        if buffer.is_empty() {
            return Err(E::from(malformed("it ends in the middle of a file")));
        }
        let length = buffer
            .len()
            .min(usize::try_from(self.data_left).unwrap_or(usize::MAX));
        take(&buffer[..length])?;
        self.consume(length);
        self.data_left -= length as u64;
        Ok(true)
    }

    /// Reads to the end of the source, because the digest of a layer covers what follows the
    /// archive's own end.
    pub(super) fn drain(mut self) -> Result<(), ArchiveError> {
        loop {
            let length = self.source.fill_buf().map_err(ArchiveError::Read)?.len();
            if length == 0 {
                return Ok(());
            }
            self.consume(length);
        }
    }

    fn consume(&mut self, length: usize) {
        self.source.consume(length);
        self.position += length as u64;
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), ArchiveError> {
        self.source.read_exact(bytes).map_err(ends_early)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// The next header; `None` at the end, which is two blocks of zeros, or one, or simply where
    /// the source ends: writers differ.
    fn read_header(&mut self) -> Result<Option<Header>, ArchiveError> {
        for _ in 0..2 {
            let Some(block) = self.read_block()? else {
                return Ok(None);
            };
            if block.iter().any(|&byte| byte != 0) {
                let header = Header(block);
                header.verify()?;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        let mut block = [0; BLOCK];
        if self
            .source
            .fill_buf()
            .map_err(ArchiveError::Read)?
            .is_empty()
        {
            return Ok(None);
        }
        self.read_exact(&mut block)?;
        Ok(Some(block))
    }

    fn read_extended(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > EXTENDED_BYTES_MAX {
            return Err(malformed("an extended header is longer than 1 MiB"));
        }
        let mut bytes = vec![0; size as usize];
        self.read_exact(&mut bytes)?;
        self.skip(padding(size))?;
        Ok(bytes)
    }

    fn read_long_name(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > PATH_BYTES_MAX as u64 + 1 {
            return Err(malformed("a name is longer than 4096 bytes"));
        }
        let name = self.read_extended(size)?;
        Ok(until_zero(&name).to_vec())
    }

    fn skip(&mut self, mut length: u64) -> Result<(), ArchiveError> {
        while length > 0 {
            let available = self.source.fill_buf().map_err(ArchiveError::Read)?.len();
            if available == 0 {
                return Err(malformed("it ends in the middle of a file"));
            }
            let step = available.min(usize::try_from(length).unwrap_or(usize::MAX));
            self.consume(step);
            length -= step as u64;
        }
        Ok(())
    }

    fn entry(&mut self, header: &Header, extended: Extended) -> Result<Entry, ArchiveError> {
        let path = extended
            .pax_path
            .or(extended.long_path)
            .unwrap_or_else(|| header.path());
        let target = extended
            .pax_target
            .or(extended.long_target)
            .unwrap_or_else(|| header.target());
        if path.len() > PATH_BYTES_MAX || target.len() > PATH_BYTES_MAX {
            return Err(malformed("a name is longer than 4096 bytes"));
        }
        let kind = match header.kind() {
            // Before ustar, a directory was a name with a slash at its end.
            0 | b'0' if path.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' => EntryKind::File,
            b'1' => EntryKind::HardLink { target },
            b'2' => EntryKind::Symlink { target },
            b'3' | b'4' => EntryKind::Device,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            b'S' => self.sparse(header)?,
            other => {
                return Err(malformed(format!(
                    "it has an entry of the unknown type {other:#04x}"
                )));
            }
        };
        // Only files have data; some writers give a link the size of what it points to.
        let data_bytes = match kind {
            EntryKind::File | EntryKind::SparseFile { .. } => {
                extended.size.map_or_else(|| header.size(), Ok)?
            }
            _ => 0,
        };
        if let EntryKind::SparseFile { segments, .. } = &kind {
            check_sparse_data(segments, data_bytes)?;
        }
        (self.data_left, self.padding) = (data_bytes, padding(data_bytes));
        Ok(Entry {
            path,
            kind,
            mode: (header.number(100..108)? & 0o7777) as u32,
            uid: extended.uid.map_or_else(|| header.id(108..116), Ok)?,
            gid: extended.gid.map_or_else(|| header.id(116..124), Ok)?,
            modified: extended.modified.map_or_else(|| header.modified(), Ok)?,
            attributes: extended.attributes,
            data_bytes,
        })
    }

    /// The map of an old GNU sparse file: four segments in the header, 21 in each block after it.
    fn sparse(&mut self, header: &Header) -> Result<EntryKind, ArchiveError> {
        let mut segments = Vec::new();
        add_segments(&header.0[386..482], &mut segments)?;
        let mut goes_on = header.0[482] != 0;
        while goes_on {
            let block = self
                .read_block()?
                .ok_or_else(|| malformed("it ends in a sparse map"))?;
            add_segments(&block[..504], &mut segments)?;
            goes_on = block[504] != 0;
        }
        let file_bytes = unsigned(parse_number(&header.0[483..495])?)?;
        let end = segments
            .last()
            .map_or(0, |(offset, length)| offset + length);
        if end > file_bytes {
            return Err(malformed("a sparse file's data lies behind its end"));
        }
        Ok(EntryKind::SparseFile {
            segments,
            file_bytes,
        })
    }
}

fn add_segments(table: &[u8], segments: &mut Vec<(u64, u64)>) -> Result<(), ArchiveError> {
    for pair in table.chunks_exact(24) {
        if pair[0] == 0 || pair[12] == 0 {
            return Ok(());
        }
        let offset = unsigned(parse_number(&pair[..12])?)?;
        let length = unsigned(parse_number(&pair[12..])?)?;
        let before = segments
            .last()
            .map_or(0, |(offset, length)| offset + length);
        if offset < before
            || offset
                .checked_add(length)
                .is_none_or(|end| end > i64::MAX as u64)
        {
            return Err(malformed("a sparse file's data overlaps"));
        }
        if segments.len() == SPARSE_SEGMENTS_MAX {
            return Err(malformed("a sparse file has more than 100000 pieces"));
        }
        segments.push((offset, length));
    }
    Ok(())
}

fn check_sparse_data(segments: &[(u64, u64)], data_bytes: u64) -> Result<(), ArchiveError> {
    let mapped: u64 = segments.iter().map(|(_, length)| length).sum();
    if mapped != data_bytes {
        return Err(malformed(
            "a sparse file's map and its data differ in length",
        ));
    }
    Ok(())
}

/// What extended headers say of the entry that follows them.
#[derive(Default, PartialEq, Eq)]
struct Extended {
    long_path: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
    pax_path: Option<Vec<u8>>,
    pax_target: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<Modified>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Extended {
    /// Records are `length keyword=value\n`, the length counting all of it.
    fn add_pax(&mut self, mut records: &[u8]) -> Result<(), ArchiveError> {
        let broken = || malformed("a pax header is broken");
        while !records.is_empty() {
            let space = records
                .iter()
                .position(|&byte| byte == b' ')
                .ok_or_else(broken)?;
            let length = decimal(&records[..space]).ok_or_else(broken)?;
            let length = usize::try_from(length).map_err(|_| broken())?;
            if length <= space + 1 || length > records.len() {
                return Err(broken());
            }
            let (record, rest) = records.split_at(length);
            let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(broken)?;
            let equals = record
                .iter()
                .position(|&byte| byte == b'=')
                .ok_or_else(broken)?;
            self.add_record(&record[..equals], &record[equals + 1..])?;
            records = rest;
        }
        Ok(())
    }

    fn add_record(&mut self, keyword: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        let number =
            || decimal(value).ok_or_else(|| malformed("a pax header has a number that is none"));
        match keyword {
            b"path" => self.pax_path = Some(value.to_vec()),
            b"linkpath" => self.pax_target = Some(value.to_vec()),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.modified = Some(parse_modified(value)?),
            _ if keyword.starts_with(b"GNU.sparse.") => {
                return Err(malformed(
                    "it has a pax sparse file, which OCI images should not have: \
                     write the archive with `--format=gnu` or without `--sparse`",
                ));
            }
            _ => {
                if let Some(name) = keyword.strip_prefix(b"SCHILY.xattr.") {
                    self.attributes.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// Seconds with an optional fraction, maybe negative.
fn parse_modified(text: &[u8]) -> Result<Modified, ArchiveError> {
    let broken = || malformed("a pax header has a time that is none");
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |&byte| byte == b'.');
    let whole = parts.next().and_then(decimal).ok_or_else(broken)?;
    let whole = i64::try_from(whole).map_err(|_| broken())?;
    let mut nanoseconds = 0;
    let mut place = 100_000_000;
    for digit in parts.next().unwrap_or_default() {
        if !digit.is_ascii_digit() {
            return Err(broken());
        }
        nanoseconds += u32::from(digit - b'0') * place;
        place /= 10;
    }
    Ok(match (negative, nanoseconds) {
        (false, _) => Modified {
            seconds: whole,
            nanoseconds,
        },
        (true, 0) => Modified {
            seconds: -whole,
            nanoseconds: 0,
        },
        (true, _) => Modified {
            seconds: (-whole).saturating_sub(1),
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// The 512 bytes before an entry. Field positions are those of POSIX `ustar`.
struct Header([u8; BLOCK]);

impl Header {
    /// The sum of all bytes, those of the sum itself taken as spaces.
    fn verify(&self) -> Result<(), ArchiveError> {
        let own = 148..156;
        let bytes = self.0.iter().enumerate();
        let sum: i64 = bytes
            .map(|(at, &b)| i64::from(if own.contains(&at) { b' ' } else { b }))
            .sum();
        if self.number(own).ok() != Some(sum) {
            return Err(malformed(
                "a header's checksum is wrong: it is not a tar archive, or damaged",
            ));
        }
        Ok(())
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    fn number(&self, field: std::ops::Range<usize>) -> Result<i64, ArchiveError> {
        parse_number(&self.0[field])
    }

    fn id(&self, field: std::ops::Range<usize>) -> Result<u64, ArchiveError> {
        unsigned(self.number(field)?)
    }

    fn size(&self) -> Result<u64, ArchiveError> {
        unsigned(self.number(124..136)?)
    }

    fn modified(&self) -> Result<Modified, ArchiveError> {
        Ok(Modified {
            seconds: self.number(136..148)?,
            nanoseconds: 0,
        })
    }

    fn path(&self) -> Vec<u8> {
        let name = until_zero(&self.0[..100]);
        let prefix = until_zero(&self.0[345..500]);
        // GNU headers have other fields where ustar has the prefix.
        if &self.0[257..263] == b"ustar\0" && !prefix.is_empty() {
            return [prefix, b"/", name].concat();
        }
        name.to_vec()
    }

    fn target(&self) -> Vec<u8> {
        until_zero(&self.0[157..257]).to_vec()
    }
}

/// Octal digits among spaces and zeros, or a binary number when the first bit is set (GNU,
/// "base-256"). An empty field is 0.
fn parse_number(field: &[u8]) -> Result<i64, ArchiveError> {
    let broken = || malformed("a header has a number that is none");
    if field[0] & 0x80 != 0 {
        return parse_binary(field).ok_or_else(broken);
    }
    let text = until_zero(field).trim_ascii();
    let mut number: i64 = 0;
    for digit in text {
        if !(b'0'..=b'7').contains(digit) {
            return Err(broken());
        }
        number = number.checked_mul(8).ok_or_else(broken)? + i64::from(digit - b'0');
    }
    Ok(number)
}

/// Two's complement, big-endian, the first bit being only a mark and the second the sign.
fn parse_binary(field: &[u8]) -> Option<i64> {
    let first = field[0] & 0x7f;
    let mut number: i64 = if first & 0x40 != 0 {
        i64::from(first) - 0x80
    } else {
        i64::from(first)
    };
    for &byte in &field[1..] {
        number = number.checked_mul(256)?.checked_add(i64::from(byte))?;
    }
    Some(number)
}

fn unsigned(number: i64) -> Result<u64, ArchiveError> {
    u64::try_from(number).map_err(|_| malformed("a header has a negative number"))
}

fn decimal(text: &[u8]) -> Option<u64> {
    // `parse` takes a sign, which no number here may have.
    let text = std::str::from_utf8(text)
        .ok()
        .filter(|text| !text.starts_with('+'))?;
    text.parse::<u64>()
        .ok()
        .filter(|&number| number <= i64::MAX as u64)
}

fn until_zero(field: &[u8]) -> &[u8] {
    let end = field
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(field.len());
    &field[..end]
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn malformed(problem: impl Into<String>) -> ArchiveError {
    ArchiveError::Malformed(format!("the archive is refused: {}", problem.into()))
}

fn ends_early(error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => malformed("it ends in the middle of a header"),
        _ => ArchiveError::Read(error),
    }
}

#[cfg(test)]
mod tests;
