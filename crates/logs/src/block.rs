//! Blocks: what a segment is made of.
//!
//! A block has lines of one stream, or of several that have few, each stream's by time and then sequence. Its
//! text lies apart from what is said about the lines and has a newline after each, so that a word can be
//! looked for in all of it at once.
//!
//! On disk: a head of 36 bytes (`EKLB`, the salt of the file, the lengths of the three parts, their checks,
//! a check of the head), the summary (what streams it has, from when to when), the compressed columns
//! (times, sequences, lengths) and the compressed text.

use std::{fs::File, io, sync::Arc};

use crate::{
    event::EVENT_BYTES_MAX,
    file,
    varint::{self, Reader},
};

/// A block is closed when its text has reached this. Larger ones compress better and cost more to read.
pub(crate) const BLOCK_TEXT_BYTES: usize = 512 * 1024;

/// The longest text of a block.
const TEXT_BYTES_MAX: usize = BLOCK_TEXT_BYTES + EVENT_BYTES_MAX + 1;

/// The longest columns of a block, decompressed: 40 bytes for lines that have none.
const COLUMNS_BYTES_MAX: usize = TEXT_BYTES_MAX * 40;

/// The longest part of a block on disk.
const PART_BYTES_MAX: usize = COLUMNS_BYTES_MAX + 64 * 1024;

pub(crate) const HEAD_BYTES: usize = 36;

const MAGIC: &[u8; 4] = b"EKLB";

/// A line that is to be sealed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// The stream's place among the names.
    pub(crate) stream: u32,
    pub(crate) time_ms: i64,
    pub(crate) sequence: u64,
    pub(crate) ingestion_ms: i64,
    pub(crate) text: &'a [u8],
}

/// The lines of one stream in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) stream: Arc<str>,
    pub(crate) times: (i64, i64),
    pub(crate) sequences: (u64, u64),
    pub(crate) count: usize,
    /// Bytes of text, newlines included.
    pub(crate) text_bytes: usize,
}

/// What is known of a block without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockInfo {
    /// Where the columns begin in the file; the text follows them.
    pub(crate) offset: u64,
    columns: Part,
    text: Part,
    pub(crate) sections: Vec<Section>,
}

/// A compressed part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    bytes: usize,
    check: u32,
    raw_bytes: usize,
}

impl BlockInfo {
    /// Bytes of text, newlines included.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text.raw_bytes
    }

    pub(crate) fn lines(&self) -> usize {
        self.sections.iter().map(|section| section.count).sum()
    }

    /// Bytes on disk after the summary.
    pub(crate) fn body_bytes(&self) -> usize {
        self.columns.bytes + self.text.bytes
    }

    /// Reads a head and a summary, the latter from `rest`, of a block whose head is at `at`.
    pub(crate) fn parse(
        head: &[u8],
        rest: &[u8],
        at: u64,
        salt: Option<u32>,
        intern: &mut dyn FnMut(&str) -> Arc<str>,
    ) -> Option<Self> {
        let head = parse_head(head, salt)?;
        let summary = rest.get(..head.summary_bytes)?;
        if crc32fast::hash(summary) != head.summary_check {
            return None;
        }
        let mut reader = Reader::new(summary);
        let columns_raw = reader.count(COLUMNS_BYTES_MAX)?;
        let text_raw = reader.count(TEXT_BYTES_MAX)?;
        let mut sections = Vec::new();
        let (mut lines, mut bytes) = (0usize, 0usize);
        while !reader.is_empty() {
            let section = Section {
                stream: intern(reader.text()?),
                times: (reader.signed()?, reader.signed()?),
                sequences: (reader.number()?, reader.number()?),
                count: reader.count(text_raw)?,
                text_bytes: reader.count(text_raw)?,
            };
            lines += section.count;
            bytes += section.text_bytes;
            sections.push(section);
        }
        let good = bytes == text_raw && lines <= text_raw && !sections.is_empty();
        good.then_some(Self {
            offset: at + (HEAD_BYTES + head.summary_bytes) as u64,
            columns: Part {
                bytes: head.columns_bytes,
                check: head.columns_check,
                raw_bytes: columns_raw,
            },
            text: Part {
                bytes: head.text_bytes,
                check: head.text_check,
                raw_bytes: text_raw,
            },
            sections,
        })
    }
}

/// What the head of a block says.
pub(crate) struct Head {
    pub(crate) salt: u32,
    pub(crate) summary_bytes: usize,
    columns_bytes: usize,
    text_bytes: usize,
    summary_check: u32,
    columns_check: u32,
    text_check: u32,
}

/// Reads the head of a block.
pub(crate) fn parse_head(head: &[u8], salt: Option<u32>) -> Option<Head> {
    let head = head.get(..HEAD_BYTES)?;
    let mut reader = Reader::new(head.strip_prefix(MAGIC)?);
    let parsed = Head {
        salt: reader.u32()?,
        summary_bytes: reader.u32()? as usize,
        columns_bytes: reader.u32()? as usize,
        text_bytes: reader.u32()? as usize,
        summary_check: reader.u32()?,
        columns_check: reader.u32()?,
        text_check: reader.u32()?,
    };
    let good = reader.u32()? == crc32fast::hash(&head[..HEAD_BYTES - 4])
        && salt.is_none_or(|salt| salt == parsed.salt)
        && parsed.columns_bytes <= PART_BYTES_MAX
        && parsed.text_bytes <= PART_BYTES_MAX;
    good.then_some(parsed)
}

/// Where the next head of a block may be, from `from` on.
pub(crate) fn find_head(bytes: &[u8], from: usize, salt: Option<u32>) -> Option<usize> {
    memchr::memmem::find_iter(bytes.get(from..)?, MAGIC)
        .map(|found| from + found)
        .find(|at| parse_head(&bytes[*at..], salt).is_some())
}

/// Makes blocks.
pub(crate) struct BlockWriter {
    salt: u32,
    compressor: zstd::bulk::Compressor<'static>,
    summary: Vec<u8>,
    columns: Vec<u8>,
    text: Vec<u8>,
    compressed: [Vec<u8>; 2],
}

impl BlockWriter {
    pub(crate) fn new(salt: u32, level: i32) -> io::Result<Self> {
        Ok(Self {
            salt,
            compressor: zstd::bulk::Compressor::new(level)?,
            summary: Vec::new(),
            columns: Vec::new(),
            text: Vec::new(),
            compressed: [Vec::new(), Vec::new()],
        })
    }

    /// Appends a block of lines that are sorted by stream, time and sequence.
    pub(crate) fn put(
        &mut self,
        out: &mut Vec<u8>,
        names: &[Arc<str>],
        lines: &[Line<'_>],
    ) -> io::Result<()> {
        self.columns.clear();
        self.text.clear();
        let mut sections = Vec::new();
        for section in lines.chunk_by(|a, b| a.stream == b.stream) {
            let before = self.text.len();
            self.put_section(section);
            put_section(&mut sections, names, section, self.text.len() - before);
        }
        self.summary.clear();
        varint::put(&mut self.summary, self.columns.len() as u64);
        varint::put(&mut self.summary, self.text.len() as u64);
        self.summary.extend_from_slice(&sections);
        for (raw, compressed) in [&self.columns, &self.text]
            .into_iter()
            .zip(&mut self.compressed)
        {
            compressed.clear();
            compressed.reserve(zstd::zstd_safe::compress_bound(raw.len()));
            self.compressor.compress_to_buffer(raw, compressed)?;
        }
        let [columns, text] = &self.compressed;
        let from = out.len();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.salt.to_le_bytes());
        for part in [&self.summary, columns, text] {
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        }
        for part in [&self.summary, columns, text] {
            out.extend_from_slice(&crc32fast::hash(part).to_le_bytes());
        }
        let check = crc32fast::hash(&out[from..]);
        out.extend_from_slice(&check.to_le_bytes());
        for part in [&self.summary, columns, text] {
            out.extend_from_slice(part);
        }
        Ok(())
    }

    /// Times as differences; sequences as runs that have been stored at once; lengths; text.
    fn put_section(&mut self, lines: &[Line<'_>]) {
        let mut before = 0i64;
        for line in lines {
            varint::put_signed(&mut self.columns, line.time_ms.wrapping_sub(before));
            before = line.time_ms;
        }
        let follows = |a: &Line<'_>, b: &Line<'_>| {
            a.sequence + 1 == b.sequence && a.ingestion_ms == b.ingestion_ms
        };
        let (mut sequence, mut ingestion) = (0u64, 0i64);
        for run in lines.chunk_by(follows) {
            varint::put_signed(
                &mut self.columns,
                run[0].sequence.wrapping_sub(sequence) as i64,
            );
            varint::put(&mut self.columns, run.len() as u64);
            varint::put_signed(
                &mut self.columns,
                run[0].ingestion_ms.wrapping_sub(ingestion),
            );
            sequence = run[0].sequence + run.len() as u64;
            ingestion = run[0].ingestion_ms;
        }
        for line in lines {
            varint::put(&mut self.columns, line.text.len() as u64);
        }
        for line in lines {
            self.text.extend_from_slice(line.text);
            self.text.push(b'\n');
        }
    }
}

fn put_section(out: &mut Vec<u8>, names: &[Arc<str>], lines: &[Line<'_>], text_bytes: usize) {
    let (Some(first), Some(last)) = (lines.first(), lines.last()) else {
        return;
    };
    let (mut low, mut high) = (first.sequence, first.sequence);
    for line in lines {
        low = low.min(line.sequence);
        high = high.max(line.sequence);
    }
    varint::put_bytes(out, names[first.stream as usize].as_bytes());
    varint::put_signed(out, first.time_ms);
    varint::put_signed(out, last.time_ms);
    varint::put(out, low);
    varint::put(out, high);
    varint::put(out, lines.len() as u64);
    varint::put(out, text_bytes as u64);
}

/// What is said about each line of a block.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    pub(crate) times: Vec<i64>,
    pub(crate) sequences: Vec<u64>,
    pub(crate) ingestions: Vec<i64>,
    /// Where each line's text ends, at its newline.
    pub(crate) ends: Vec<usize>,
}

impl Columns {
    fn parse(&mut self, raw: &[u8], info: &BlockInfo) -> Option<()> {
        self.times.clear();
        self.sequences.clear();
        self.ingestions.clear();
        self.ends.clear();
        let mut reader = Reader::new(raw);
        let mut at = 0usize;
        for section in &info.sections {
            let mut time = 0i64;
            for _ in 0..section.count {
                time = time.wrapping_add(reader.signed()?);
                self.times.push(time);
            }
            let (mut sequence, mut ingestion, mut left) = (0u64, 0i64, section.count);
            while left > 0 {
                sequence = sequence.wrapping_add(reader.signed()? as u64);
                let run = reader.count(left)?;
                ingestion = ingestion.wrapping_add(reader.signed()?);
                for _ in 0..run {
                    self.sequences.push(sequence);
                    self.ingestions.push(ingestion);
                    sequence = sequence.wrapping_add(1);
                }
                // A run of none would never end.
                left = left.checked_sub(run).filter(|_| run > 0)?;
            }
            for _ in 0..section.count {
                at += reader.count(TEXT_BYTES_MAX)?;
                self.ends.push(at);
                at += 1;
            }
        }
        (at == info.text.raw_bytes && reader.is_empty()).then_some(())
    }

    /// The text of a line.
    pub(crate) fn text<'a>(&self, text: &'a [u8], line: usize) -> &'a [u8] {
        let from = match line {
            0 => 0,
            _ => self.ends[line - 1] + 1,
        };
        &text[from..self.ends[line]]
    }
}

/// Reads blocks, one after the other into the same memory.
pub(crate) struct BlockReader {
    decompressor: zstd::bulk::Decompressor<'static>,
    body: Vec<u8>,
    raw_columns: Vec<u8>,
    /// The text of the block that was read last.
    pub(crate) text: Vec<u8>,
    /// Its columns, when they were asked for.
    pub(crate) columns: Columns,
}

impl BlockReader {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            decompressor: zstd::bulk::Decompressor::new()?,
            body: Vec::new(),
            raw_columns: Vec::new(),
            text: Vec::new(),
            columns: Columns::default(),
        })
    }

    /// Reads the text of a block; `false` when it is damaged.
    pub(crate) fn read_text(&mut self, file: &File, info: &BlockInfo) -> bool {
        file::read_at(file, info.offset, info.body_bytes(), &mut self.body).is_ok()
            && decompress(
                &mut self.decompressor,
                &self.body[info.columns.bytes..],
                &info.text,
                &mut self.text,
            )
    }

    /// Reads the columns of the block whose text was read; `false` when they are damaged.
    pub(crate) fn read_columns(&mut self, info: &BlockInfo) -> bool {
        decompress(
            &mut self.decompressor,
            &self.body[..info.columns.bytes],
            &info.columns,
            &mut self.raw_columns,
        ) && self.columns.parse(&self.raw_columns, info).is_some()
    }
}

fn decompress(
    decompressor: &mut zstd::bulk::Decompressor<'static>,
    bytes: &[u8],
    part: &Part,
    out: &mut Vec<u8>,
) -> bool {
    if crc32fast::hash(bytes) != part.check {
        return false;
    }
    out.clear();
    out.reserve(part.raw_bytes);
    decompressor.decompress_to_buffer(bytes, out).is_ok() && out.len() == part.raw_bytes
}
