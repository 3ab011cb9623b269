//! Immutable files of points: one resolution, one stretch of time, all series.
//!
//! `{minutes of a point}-{stretch}-{number}.block`. The number says which journals are contained: those below it. A
//! file is frames of up to [`GROUP_SERIES`] series, sorted and compressed, and at the end an index of them, so that a
//! series is found with two reads. When the index is damaged all frames are looked at.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::codec::{
    FRAME_BYTES_MAX, Frames, Point, Reader, frame_at, put_bytes, put_compressed, put_frame,
    put_key, put_points, put_uint, starting_at, take_compressed, take_key, take_points,
};

/// Series of a group.
const GROUP_SERIES: usize = 64;
/// Bytes of a group before it is compressed after which the next one begins.
const GROUP_BYTES: usize = 256 << 10;
const LEVEL: i32 = 3;
/// What the last bytes are, after where the index begins.
const TRAILER: &[u8; 4] = b"EKMX";
const TRAILER_BYTES: usize = 12;
const GROUP: u8 = 0;
const INDEX: u8 = 1;

/// A resolution that is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tier {
    /// Minutes of a point.
    pub(crate) minutes: u32,
    /// Minutes of a file.
    pub(crate) span: u32,
}

/// 1 minute in files of 3 hours, 5 minutes in files of a day, 1 hour in files of 10 days.
pub(crate) const TIERS: [Tier; 3] = [
    Tier {
        minutes: 1,
        span: 180,
    },
    Tier {
        minutes: 5,
        span: 1440,
    },
    Tier {
        minutes: 60,
        span: 14_400,
    },
];

/// Which file: the tier and the stretch since 1970.
pub(crate) type BlockId = (usize, u32);

pub(crate) fn name(id: BlockId, number: u64) -> String {
    format!("{:02}-{:08}-{number:012}.block", TIERS[id.0].minutes, id.1)
}

pub(crate) fn parse_name(name: &str) -> Option<(BlockId, u64)> {
    let mut parts = name.strip_suffix(".block")?.splitn(3, '-');
    let minutes: u32 = parts.next()?.parse().ok()?;
    let tier = TIERS.iter().position(|tier| tier.minutes == minutes)?;
    let span = parts.next()?.parse().ok()?;
    Some(((tier, span), parts.next()?.parse().ok()?))
}

/// Points put into those of a tier, by time.
pub(crate) fn rolled_up(points: &[Point], tier: usize) -> Vec<Point> {
    let minutes = TIERS[tier].minutes;
    if minutes == 1 {
        return points.to_vec();
    }
    let mut out: Vec<Point> = Vec::new();
    for (minute, datum) in points {
        let minute = minute - minute % minutes;
        match out.last_mut() {
            Some(last) if last.0 == minute => last.1.merge(datum),
            _ => out.push((minute, datum.clone())),
        }
    }
    for (_, datum) in &mut out {
        datum.distribution = datum.distribution.take().map(|all| all.rolled_up());
    }
    out
}

/// Points of both by time; those of the same minute become one.
pub(crate) fn merged(mut ours: Vec<Point>, theirs: Vec<Point>) -> Vec<Point> {
    ours.extend(theirs);
    ours.sort_by_key(|(minute, _)| *minute);
    ours.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1.merge(&next.1);
        }
        same
    });
    ours
}

/// A series' points in a group, not yet read.
struct Entry {
    key: Vec<u8>,
    last_minute: u32,
    points: Vec<u8>,
}

fn entries_of(payload: &[u8]) -> Option<Vec<Entry>> {
    let (kind, compressed) = payload.split_first()?;
    if *kind != GROUP {
        return None;
    }
    let raw = take_compressed(&mut Reader(compressed))?;
    let mut reader = Reader(&raw);
    let count = reader
        .uint()
        .filter(|count| *count <= GROUP_SERIES as u64)?;
    let mut key = Vec::new();
    let mut entries = Vec::new();
    for _ in 0..count {
        take_key(&mut reader, &mut key)?;
        entries.push(Entry {
            key: key.clone(),
            last_minute: reader.minute()?,
            points: reader.bytes()?.to_vec(),
        });
    }
    Some(entries)
}

/// An open file.
pub(crate) struct Block {
    file: File,
    /// Each group's first key, where it begins and its length.
    index: Vec<(Vec<u8>, u64, u64)>,
    /// Pieces that could not be read.
    pub(crate) damaged: u64,
}

impl Block {
    /// Reads the index, or makes it from what can be read.
    pub(crate) fn open(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut block = Self {
            file,
            index: Vec::new(),
            damaged: 0,
        };
        match block.read_index(length) {
            Some(index) => block.index = index,
            None => block.make_index(length)?,
        }
        Ok(block)
    }

    fn read_index(&self, length: u64) -> Option<Vec<(Vec<u8>, u64, u64)>> {
        let end = length.checked_sub(TRAILER_BYTES as u64)?;
        let trailer = self.read(end, TRAILER_BYTES as u64)?;
        let at = u64::from_le_bytes(trailer[..8].try_into().ok()?);
        if &trailer[8..] != TRAILER || at > end {
            return None;
        }
        let frame = self.read(at, end - at)?;
        let (kind, compressed) = frame_at(&frame)?.split_first()?;
        if *kind != INDEX {
            return None;
        }
        let raw = take_compressed(&mut Reader(compressed))?;
        let mut reader = Reader(&raw);
        let (mut index, mut key) = (Vec::new(), Vec::new());
        for _ in 0..reader.uint()? {
            take_key(&mut reader, &mut key)?;
            index.push((key.clone(), reader.uint()?, reader.uint()?));
        }
        Some(index)
    }

    fn make_index(&mut self, length: u64) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut bytes, 0)?;
        let start = bytes.as_ptr() as usize;
        let mut frames = Frames::new(&bytes);
        for payload in frames.by_ref() {
            if let Some(first) = entries_of(payload).and_then(|entries| entries.into_iter().next())
            {
                // The frame's head, before the payload, is 12 bytes.
                let at = (payload.as_ptr() as usize - start) as u64 - 12;
                self.index.push((first.key, at, payload.len() as u64 + 12));
            }
        }
        self.index.sort();
        self.damaged += 1;
        Ok(())
    }

    fn read(&self, at: u64, length: u64) -> Option<Vec<u8>> {
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= 2 * FRAME_BYTES_MAX)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }

    fn group(&mut self, number: usize) -> Vec<Entry> {
        let (_, at, length) = self.index[number];
        let frame = self.read(at, length);
        let entries = frame.as_deref().and_then(frame_at).and_then(entries_of);
        if entries.is_none() {
            self.damaged += 1;
        }
        entries.unwrap_or_default()
    }

    /// The points of all series whose keys are one of these and one byte (the unit): `found` is called for each with
    /// which of these it is. The prefixes are sorted.
    pub(crate) fn find(
        &mut self,
        prefixes: &BTreeMap<Vec<u8>, Vec<usize>>,
        mut found: impl FnMut(&[usize], u8, &[Point]),
    ) {
        for number in 0..self.index.len() {
            let first = &self.index[number].0;
            let next = self.index.get(number + 1).map(|next| &next.0);
            // A key is its prefix and one byte: a prefix at or after the next group's first key is in that.
            let from = &first[..first.len().saturating_sub(1)];
            let mut range = prefixes.range::<[u8], _>(starting_at(from));
            let has = range
                .next()
                .is_some_and(|(prefix, _)| next.is_none_or(|next| prefix < next));
            if !has {
                continue;
            }
            for entry in self.group(number) {
                let Some((unit, prefix)) = entry.key.split_last() else {
                    continue;
                };
                let Some(wanted) = prefixes.get(prefix) else {
                    continue;
                };
                match take_points(&mut Reader(&entry.points)) {
                    Some(points) => found(wanted, *unit, &points),
                    None => self.damaged += 1,
                }
            }
        }
    }

    /// Every series' key and its last point's minute.
    pub(crate) fn keys(&mut self, mut found: impl FnMut(Vec<u8>, u32)) {
        for number in 0..self.index.len() {
            for entry in self.group(number) {
                found(entry.key, entry.last_minute);
            }
        }
    }
}

/// Writes what a file has, if there is one, and more points into a new one, and syncs it. Returns its length and
/// how many pieces of the old one were damaged.
pub(crate) fn write(
    path: &Path,
    old: Option<Block>,
    more: &BTreeMap<Arc<[u8]>, Vec<&[Point]>>,
    tier: usize,
) -> io::Result<(u64, u64)> {
    let mut writer = BlockWriter::create(path)?;
    let mut more = more.iter().peekable();
    let new_points = |pieces: &[&[Point]]| {
        let pieces = pieces.iter().map(|piece| rolled_up(piece, tier));
        pieces.reduce(merged).unwrap_or_default()
    };
    let mut damaged = 0;
    if let Some(mut old) = old {
        for number in 0..old.index.len() {
            for entry in old.group(number) {
                while let Some((key, pieces)) = more.next_if(|(key, _)| ***key < *entry.key) {
                    writer.series(key, &new_points(pieces))?;
                }
                match more.next_if(|(key, _)| ***key == *entry.key) {
                    Some((key, pieces)) => {
                        let ours = take_points(&mut Reader(&entry.points)).unwrap_or_default();
                        writer.series(key, &merged(ours, new_points(pieces)))?;
                    }
                    None => writer.entry(&entry.key, entry.last_minute, &entry.points)?,
                }
            }
        }
        damaged = old.damaged;
    }
    for (key, pieces) in more {
        writer.series(key, &new_points(pieces))?;
    }
    Ok((writer.finish()?, damaged))
}

struct BlockWriter {
    file: BufWriter<File>,
    path: PathBuf,
    at: u64,
    group: Vec<u8>,
    group_series: usize,
    first: Vec<u8>,
    before: Vec<u8>,
    index: Vec<(Vec<u8>, u64, u64)>,
}

impl BlockWriter {
    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::new(File::create(path)?),
            path: path.to_owned(),
            at: 0,
            group: Vec::new(),
            group_series: 0,
            first: Vec::new(),
            before: Vec::new(),
            index: Vec::new(),
        })
    }

    fn series(&mut self, key: &[u8], points: &[Point]) -> io::Result<()> {
        let mut bytes = Vec::new();
        put_points(&mut bytes, points);
        let last_minute = points.last().map_or(0, |(minute, _)| *minute);
        self.entry(key, last_minute, &bytes)
    }

    fn entry(&mut self, key: &[u8], last_minute: u32, points: &[u8]) -> io::Result<()> {
        if self.group_series == 0 {
            self.first = key.to_vec();
        }
        put_key(&mut self.group, key, &self.before);
        put_uint(&mut self.group, u64::from(last_minute));
        put_bytes(&mut self.group, points);
        self.before = key.to_vec();
        self.group_series += 1;
        if self.group_series == GROUP_SERIES || self.group.len() >= GROUP_BYTES {
            self.end_group()?;
        }
        Ok(())
    }

    fn end_group(&mut self) -> io::Result<()> {
        if self.group_series == 0 {
            return Ok(());
        }
        let mut raw = Vec::with_capacity(self.group.len() + 2);
        put_uint(&mut raw, self.group_series as u64);
        raw.append(&mut self.group);
        let (at, length) = self.frame(GROUP, &raw)?;
        self.index
            .push((std::mem::take(&mut self.first), at, length));
        self.group_series = 0;
        self.before.clear();
        Ok(())
    }

    fn frame(&mut self, kind: u8, raw: &[u8]) -> io::Result<(u64, u64)> {
        let mut payload = vec![kind];
        put_compressed(&mut payload, raw, LEVEL)?;
        let mut frame = Vec::with_capacity(payload.len() + 12);
        put_frame(&mut frame, &payload);
        self.file.write_all(&frame)?;
        let at = self.at;
        self.at += frame.len() as u64;
        Ok((at, frame.len() as u64))
    }

    fn finish(mut self) -> io::Result<u64> {
        self.end_group()?;
        let mut raw = Vec::new();
        put_uint(&mut raw, self.index.len() as u64);
        let mut before: &[u8] = &[];
        for (key, at, length) in &self.index {
            put_key(&mut raw, key, before);
            put_uint(&mut raw, *at);
            put_uint(&mut raw, *length);
            before = key;
        }
        let (at, _) = self.frame(INDEX, &raw)?;
        self.file.write_all(&at.to_le_bytes())?;
        self.file.write_all(TRAILER)?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(fs::metadata(&self.path)?.len())
    }
}
