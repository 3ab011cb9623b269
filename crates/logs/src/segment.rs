//! Segments: sealed journals.
//!
//! A head, blocks, and a footer: the heads and summaries of all blocks, compressed, then 24 bytes that say
//! how long it is and check it. A damaged footer is made again from the blocks.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use crate::{
    block::{self, BLOCK_TEXT_BYTES, BlockInfo, BlockWriter, Line},
    file,
    varint::{self, Reader},
};

const TRAILER_BYTES: usize = 24;

/// The longest footer, decompressed.
const FOOTER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The longest segment of which a damaged footer is made again.
const REBUILD_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The memory that footers take in all, more or less; those read first go first.
const FOOTERS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How hard text is compressed. In blocks of 512 KiB, 3 is at about 300 MB/s; 1 is faster, and 5 % smaller on
/// generated lines full of random ids but 2 % larger on this machine's package logs; 5 is four times slower
/// for 3 to 6 %.
pub(crate) const LEVEL: i32 = 3;

/// From when to when the lines of a segment are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) times: (i64, i64),
    pub(crate) sequences: (u64, u64),
}

/// The blocks of a segment.
#[derive(Debug, Default)]
pub(crate) struct Footer {
    pub(crate) blocks: Vec<BlockInfo>,
    /// Whether something of the segment cannot be read.
    pub(crate) damaged: bool,
}

impl Footer {
    /// `None` for a segment without lines.
    fn range(&self) -> Option<Range> {
        self.blocks
            .iter()
            .flat_map(|block| &block.sections)
            .map(|section| Range {
                times: section.times,
                sequences: section.sequences,
            })
            .reduce(|a, b| Range {
                times: (a.times.0.min(b.times.0), a.times.1.max(b.times.1)),
                sequences: (
                    a.sequences.0.min(b.sequences.0),
                    a.sequences.1.max(b.sequences.1),
                ),
            })
    }

    fn memory(&self) -> usize {
        let sections: usize = self.blocks.iter().map(|block| block.sections.len()).sum();
        self.blocks.len() * size_of::<BlockInfo>() + sections * 128
    }
}

/// Makes the bytes of a segment. Sorts the lines.
///
/// # Errors
/// Of the compressor, when there is no memory.
pub(crate) fn build(names: &[Arc<str>], lines: &mut [Line<'_>], level: i32) -> io::Result<Vec<u8>> {
    // Streams by name, so that those of one kind lie together.
    let mut order: Vec<u32> = (0..names.len() as u32).collect();
    order.sort_unstable_by_key(|stream| &names[*stream as usize]);
    let mut rank = vec![0u32; names.len()];
    for (place, stream) in order.iter().enumerate() {
        rank[*stream as usize] = place as u32;
    }
    lines.sort_unstable_by_key(|line| (rank[line.stream as usize], line.time_ms, line.sequence));
    let salt = file::salt();
    let mut out = Vec::new();
    file::put_head(&mut out, file::SEGMENT, salt);
    let mut writer = BlockWriter::new(salt, level)?;
    let mut rest = &*lines;
    let mut footer = Vec::new();
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let mut bytes = 0;
        let full = rest.iter().position(|line| {
            bytes += line.text.len() + 1;
            bytes >= BLOCK_TEXT_BYTES
        });
        let (block, after) = rest.split_at(full.map_or(rest.len(), |last| last + 1));
        blocks.push(out.len());
        writer.put(&mut out, names, block)?;
        rest = after;
    }
    for at in blocks {
        let summary =
            block::parse_head(&out[at..], Some(salt)).map_or(0, |head| head.summary_bytes);
        varint::put(&mut footer, at as u64);
        footer.extend_from_slice(&out[at..at + block::HEAD_BYTES + summary]);
    }
    let compressed = zstd::bulk::compress(&footer, level)?;
    out.extend_from_slice(&compressed);
    let from = out.len();
    out.extend_from_slice(&(compressed.len() as u32).to_le_bytes());
    out.extend_from_slice(&(footer.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&compressed).to_le_bytes());
    let check = crc32fast::hash(&out[from..]);
    out.extend_from_slice(&check.to_le_bytes());
    out.extend_from_slice(file::SEGMENT);
    Ok(out)
}

/// A sealed segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    range: OnceLock<Option<Range>>,
    footer: Mutex<Option<Arc<Footer>>>,
}

impl Segment {
    pub(crate) fn new(path: PathBuf, bytes: u64) -> Self {
        Self {
            path,
            bytes,
            range: OnceLock::new(),
            footer: Mutex::new(None),
        }
    }

    /// Its lines' range; `None` when none can be read. Reads the footer the first time.
    ///
    /// # Errors
    /// Of the disk; not found when the segment was removed meanwhile.
    pub(crate) fn range(self: &Arc<Self>, cache: &FooterCache) -> io::Result<Option<Range>> {
        match self.range.get() {
            Some(range) => Ok(*range),
            None => self
                .footer(cache)
                .map(|_| self.range.get().copied().flatten()),
        }
    }

    /// What blocks it has.
    ///
    /// # Errors
    /// Of the disk; not found when the segment was removed meanwhile.
    pub(crate) fn footer(self: &Arc<Self>, cache: &FooterCache) -> io::Result<Arc<Footer>> {
        let mut known = self.footer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(footer) = &*known {
            return Ok(Arc::clone(footer));
        }
        let footer = Arc::new(read_footer(&File::open(&self.path)?)?);
        let _ = self.range.set(footer.range());
        *known = Some(Arc::clone(&footer));
        drop(known); // the cache forgets others under its own lock
        cache.add(self, footer.memory());
        Ok(footer)
    }

    fn forget_footer(&self) {
        *self.footer.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Which segments have their footers in memory.
#[derive(Debug, Default)]
pub(crate) struct FooterCache {
    known: Mutex<Known>,
}

/// With the memory of each, and of all.
#[derive(Debug, Default)]
struct Known {
    footers: VecDeque<(Weak<Segment>, usize)>,
    memory: usize,
}

impl FooterCache {
    fn add(&self, segment: &Arc<Segment>, memory: usize) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.footers.push_back((Arc::downgrade(segment), memory));
        known.memory += memory;
        while known.memory > FOOTERS_BYTES_MAX
            && known.footers.len() > 1
            && let Some((oldest, memory)) = known.footers.pop_front()
        {
            known.memory -= memory;
            if let Some(oldest) = oldest.upgrade() {
                oldest.forget_footer();
            }
        }
    }
}

/// Gives the same allocation for the same name.
fn interner() -> impl FnMut(&str) -> Arc<str> {
    let mut names = HashSet::<Arc<str>>::new();
    move |name| {
        if let Some(known) = names.get(name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = name.into();
        names.insert(Arc::clone(&new));
        new
    }
}

fn read_footer(file: &File) -> io::Result<Footer> {
    let length = file.metadata()?.len();
    match good_footer(file, length) {
        Some(blocks) => Ok(Footer {
            blocks,
            damaged: false,
        }),
        None => rebuild(file, length),
    }
}

/// `None` when the footer is damaged.
fn good_footer(file: &File, length: u64) -> Option<Vec<BlockInfo>> {
    let mut bytes = Vec::new();
    let trailer_at = length.checked_sub(TRAILER_BYTES as u64)?;
    file::read_at(file, trailer_at, TRAILER_BYTES, &mut bytes).ok()?;
    let mut reader = Reader::new(&bytes);
    let (compressed, raw) = (reader.u32()? as usize, reader.u32()? as usize);
    let (check, trailer_check) = (reader.u32()?, reader.u32()?);
    if trailer_check != crc32fast::hash(&bytes[..12])
        || !bytes.ends_with(file::SEGMENT)
        || raw > FOOTER_BYTES_MAX
    {
        return None;
    }
    let at = trailer_at.checked_sub(compressed as u64)?;
    file::read_at(file, at, compressed, &mut bytes).ok()?;
    if crc32fast::hash(&bytes) != check {
        return None;
    }
    let footer = zstd::bulk::decompress(&bytes, raw).ok()?;
    let mut reader = Reader::new(&footer);
    let mut intern = interner();
    let mut blocks = Vec::new();
    while !reader.is_empty() {
        let at = reader.number().filter(|at| *at < length)?;
        let head = reader.take(block::HEAD_BYTES)?;
        let summary = reader.take(block::parse_head(head, None)?.summary_bytes)?;
        blocks.push(BlockInfo::parse(head, summary, at, None, &mut intern)?);
    }
    Some(blocks)
}

/// Finds the blocks by looking through the whole segment.
fn rebuild(file: &File, length: u64) -> io::Result<Footer> {
    let mut bytes = Vec::new();
    file::read_at(file, 0, length.min(REBUILD_BYTES_MAX) as usize, &mut bytes)?;
    let mut salt = file::head(&bytes, file::SEGMENT);
    let mut intern = interner();
    let mut blocks = HashMap::new();
    let mut at = 0;
    while let Some(found) = block::find_head(&bytes, at, salt) {
        at = found + 4;
        let (head, rest) = bytes[found..].split_at(block::HEAD_BYTES);
        if let Some(info) = BlockInfo::parse(head, rest, found as u64, salt, &mut intern) {
            salt = block::parse_head(head, salt).map(|head| head.salt);
            at = (info.offset as usize).saturating_add(info.body_bytes());
            blocks.insert(info.offset, info);
        }
    }
    let mut blocks: Vec<BlockInfo> = blocks.into_values().collect();
    blocks.sort_unstable_by_key(|block| block.offset);
    Ok(Footer {
        blocks,
        damaged: true,
    })
}
