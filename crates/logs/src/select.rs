//! Finding the first so many events in some order, in bounded memory.
//!
//! Segments, their blocks, and chunks of journals are looked at in the order of the first event that they
//! can have. Of what is found, the first so many events are kept; the end is when the next piece can only
//! have later ones. A piece is read, looked through and forgotten, so that nothing is held but one block and
//! the page, however much the pieces overlap in time.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
    fs::File,
    io,
    sync::Arc,
};

use memchr::memmem::Finder;

use crate::{
    block::{BlockInfo, BlockReader, Section},
    event::{Event, EventRef},
    file,
    frame::{Frames, Payload},
    journal::Chunk,
    query::{Filter, Streams},
    segment::{Footer, FooterCache, Range, Segment},
};

/// What events are sorted by: smaller is earlier in the order that was asked for.
pub(crate) type Key = (i64, u64);

/// In which order events are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// By time and sequence.
    Forward,
    /// The reverse of that.
    Backward,
    /// By sequence alone.
    Sequence,
}

impl Order {
    pub(crate) fn key(self, time_ms: i64, sequence: u64) -> Key {
        match self {
            Self::Forward => (time_ms, sequence),
            Self::Backward => (!time_ms, !sequence),
            Self::Sequence => (0, sequence),
        }
    }

    /// Time and sequence of a key.
    pub(crate) fn place(self, key: Key) -> (i64, u64) {
        match self {
            Self::Forward | Self::Sequence => key,
            Self::Backward => (!key.0, !key.1),
        }
    }

    /// The smallest key that an event in the range can have.
    fn first(self, range: &Range) -> Key {
        match self {
            Self::Forward => (range.times.0, 0),
            Self::Backward => (!range.times.1, 0),
            Self::Sequence => (0, range.sequences.0),
        }
    }

    /// The largest.
    fn last(self, range: &Range) -> Key {
        match self {
            Self::Forward => (range.times.1, u64::MAX),
            Self::Backward => (!range.times.0, u64::MAX),
            Self::Sequence => (0, range.sequences.1),
        }
    }
}

/// The key before another one.
fn before(key: Key) -> Key {
    match key.1.checked_sub(1) {
        Some(sequence) => (key.0, sequence),
        None => (key.0.saturating_sub(1), u64::MAX),
    }
}

/// What is wanted.
pub(crate) struct Request<'a> {
    pub(crate) order: Order,
    pub(crate) streams: &'a Streams,
    pub(crate) from_ms: i64,
    /// Not included; `None` has no end.
    pub(crate) to_ms: Option<i64>,
    pub(crate) after: Option<Key>,
    pub(crate) filter: Filter<'a>,
    pub(crate) tombstones: &'a HashMap<Arc<str>, u64>,
    pub(crate) events_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) scan_bytes_max: u64,
}

impl Request<'_> {
    /// Whether a range has something of the times and after the place that were asked for.
    fn touches(&self, range: &Range) -> bool {
        range.times.1 >= self.from_ms
            && self.to_ms.is_none_or(|to| range.times.0 < to)
            && self
                .after
                .is_none_or(|after| self.order.last(range) > after)
    }

    /// The last sequence of a stream that is hidden.
    fn hidden_to(&self, stream: &str) -> Option<u64> {
        match self.tombstones.is_empty() {
            true => None,
            false => self.tombstones.get(stream).copied(),
        }
    }

    fn wants(&self, section: &Section) -> bool {
        let hidden = self.order != Order::Sequence
            && self
                .hidden_to(&section.stream)
                .is_some_and(|to| section.sequences.1 <= to);
        !hidden && self.touches(&section_range(section)) && self.streams.has(&section.stream)
    }
}

fn section_range(section: &Section) -> Range {
    Range {
        times: section.times,
        sequences: section.sequences,
    }
}

/// Where events may be.
pub(crate) enum Source {
    Segment(Arc<Segment>),
    Block {
        segment: Arc<Segment>,
        footer: Arc<Footer>,
        index: usize,
    },
    Chunk {
        file: Arc<File>,
        salt: u32,
        chunk: Chunk,
    },
}

struct Piece {
    first: Key,
    source: Source,
}

impl PartialEq for Piece {
    fn eq(&self, other: &Self) -> bool {
        self.first == other.first
    }
}
impl Eq for Piece {}
impl PartialOrd for Piece {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Piece {
    /// Reversed, so that the heap has the first on top.
    fn cmp(&self, other: &Self) -> Ordering {
        other.first.cmp(&self.first)
    }
}

struct Kept {
    key: Key,
    event: Event,
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl Eq for Kept {}
impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Kept {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) events: Vec<Event>,
    /// The key after which there may be more; `None` when there are none.
    pub(crate) next: Option<Key>,
    pub(crate) scanned_bytes: u64,
    /// Places that could not be read, and the lines that were in them.
    pub(crate) damaged: u64,
    pub(crate) damaged_lines: u64,
    /// Runs of sequences that were passed over because their stream was deleted, in the order by sequence
    /// only: first and last.
    pub(crate) hidden: Vec<(u64, u64)>,
}

/// A search.
pub(crate) struct Selection<'a> {
    request: &'a Request<'a>,
    cache: &'a FooterCache,
    pieces: BinaryHeap<Piece>,
    kept: BinaryHeap<Kept>,
    kept_bytes: usize,
    /// The first key that has no room.
    limit: Option<Key>,
    /// The stream name that was used last, to be shared by the next event.
    name: Option<Arc<str>>,
    found: Found,
}

impl<'a> Selection<'a> {
    pub(crate) fn new(request: &'a Request<'a>, cache: &'a FooterCache) -> Self {
        Self {
            request,
            cache,
            pieces: BinaryHeap::new(),
            kept: BinaryHeap::new(),
            kept_bytes: 0,
            limit: None,
            name: None,
            found: Found::default(),
        }
    }

    /// Adds where to look.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn add(&mut self, source: Source) -> io::Result<()> {
        let range = match &source {
            Source::Segment(segment) => match segment.range(self.cache) {
                Ok(range) => range,
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            },
            Source::Block { footer, index, .. } => footer.blocks[*index]
                .sections
                .iter()
                .filter(|section| self.request.wants(section))
                .map(section_range)
                .reduce(crate::journal::join),
            Source::Chunk { chunk, .. } => Some(chunk.range),
        };
        if let Some(range) = range.filter(|range| self.request.touches(range)) {
            let first = self.request.order.first(&range);
            self.pieces.push(Piece { first, source });
        }
        Ok(())
    }

    /// Looks.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn run(mut self) -> io::Result<Found> {
        let mut blocks = BlockReader::new()?;
        let mut bytes = Vec::new();
        let mut open: Option<(Arc<Segment>, File)> = None;
        let finder = self
            .request
            .filter
            .literal
            .filter(|literal| !literal.is_empty());
        let finder = finder.map(Finder::new);
        let mut bound = None;
        while let Some(piece) = self.pieces.pop() {
            if self.limit.is_some_and(|limit| piece.first >= limit) {
                break;
            }
            let comes_on = self
                .request
                .after
                .is_none_or(|after| before(piece.first) > after)
                && self.found.scanned_bytes > 0;
            if self.found.scanned_bytes >= self.request.scan_bytes_max && comes_on {
                bound = Some(piece.first);
                break;
            }
            match piece.source {
                Source::Segment(segment) => self.expand(&segment)?,
                Source::Block {
                    segment,
                    footer,
                    index,
                } => {
                    if !open
                        .as_ref()
                        .is_some_and(|(known, _)| Arc::ptr_eq(known, &segment))
                    {
                        open = match File::open(&segment.path) {
                            Ok(file) => Some((segment, file)),
                            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                            Err(error) => return Err(error),
                        };
                    }
                    if let Some((_, file)) = &open {
                        self.block(&mut blocks, file, &footer.blocks[index], finder.as_ref());
                    }
                }
                Source::Chunk { file, salt, chunk } => {
                    self.found.scanned_bytes += chunk.text_bytes;
                    if file::read_at(&file, chunk.offset, chunk.bytes as usize, &mut bytes).is_ok()
                    {
                        self.chunk(&bytes, salt, &chunk, finder.as_ref());
                    } else {
                        self.damage(chunk.lines);
                    }
                }
            }
        }
        Ok(self.finish(bound))
    }

    fn finish(mut self, bound: Option<Key>) -> Found {
        let limit = [self.limit, bound].into_iter().flatten().min();
        let mut kept = self.kept.into_sorted_vec();
        if let Some(limit) = limit {
            kept.truncate(kept.partition_point(|kept| kept.key < limit));
        }
        self.found.next = match (limit, kept.last()) {
            (None, _) => None,
            // Between the last event and what had no room there is nothing.
            (Some(limit), Some(last)) if self.limit == Some(limit) => Some(last.key),
            (Some(limit), _) => Some(before(limit)),
        };
        self.found.events = kept.into_iter().map(|kept| kept.event).collect();
        self.found
    }

    fn damage(&mut self, lines: u64) {
        self.found.damaged += 1;
        self.found.damaged_lines += lines;
    }

    fn expand(&mut self, segment: &Arc<Segment>) -> io::Result<()> {
        let footer = match segment.footer(self.cache) {
            Ok(footer) => footer,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        self.found.damaged += u64::from(footer.damaged);
        for index in 0..footer.blocks.len() {
            self.add(Source::Block {
                segment: Arc::clone(segment),
                footer: Arc::clone(&footer),
                index,
            })?;
        }
        Ok(())
    }

    fn block(
        &mut self,
        blocks: &mut BlockReader,
        file: &File,
        info: &BlockInfo,
        finder: Option<&Finder<'_>>,
    ) {
        self.found.scanned_bytes += info.text_bytes() as u64;
        if !blocks.read_text(file, info) {
            return self.damage(info.lines() as u64);
        }
        if finder.is_some_and(|finder| finder.find(&blocks.text).is_none()) {
            return;
        }
        if !blocks.read_columns(info) {
            return self.damage(info.lines() as u64);
        }
        let mut from = 0;
        for section in &info.sections {
            let lines = from..from + section.count;
            from = lines.end;
            if self.request.wants(section) {
                self.section(blocks, &section.stream, lines, finder);
            }
        }
    }

    fn section(
        &mut self,
        blocks: &BlockReader,
        stream: &Arc<str>,
        lines: std::ops::Range<usize>,
        finder: Option<&Finder<'_>>,
    ) {
        let columns = &blocks.columns;
        let times = &columns.times[lines.clone()];
        let from = lines.start + times.partition_point(|time| *time < self.request.from_ms);
        let to = match self.request.to_ms {
            None => lines.end,
            Some(to) => lines.start + times.partition_point(|time| *time < to),
        };
        if from >= to {
            return;
        }
        match finder {
            Some(finder) => {
                let mut hits = hits(blocks, from..to, finder);
                if self.request.order == Order::Backward {
                    hits.reverse();
                }
                self.lines(blocks, stream, hits.into_iter());
            }
            None if self.request.order == Order::Backward => {
                self.lines(blocks, stream, (from..to).rev());
            }
            None => self.lines(blocks, stream, from..to),
        }
    }

    fn lines(
        &mut self,
        blocks: &BlockReader,
        stream: &Arc<str>,
        lines: impl Iterator<Item = usize>,
    ) {
        let columns = &blocks.columns;
        self.name = Some(Arc::clone(stream));
        for line in lines {
            let event = EventRef {
                time_ms: columns.times[line],
                ingestion_ms: columns.ingestions[line],
                sequence: columns.sequences[line],
                stream,
                text: columns.text(&blocks.text, line),
            };
            let key = self.request.order.key(event.time_ms, event.sequence);
            if self.limit.is_some_and(|limit| key >= limit) && self.request.order != Order::Sequence
            {
                return; // the lines that follow are later still
            }
            self.offer(key, &event);
        }
    }

    fn chunk(&mut self, bytes: &[u8], salt: u32, chunk: &Chunk, finder: Option<&Finder<'_>>) {
        let mut frames = Frames::new(bytes, 0, Some(salt));
        let mut lines = 0;
        let literal = finder.is_none_or(|finder| finder.find(bytes).is_some());
        for frame in &mut frames {
            let Payload::Lines(frame) = frame.payload else {
                continue;
            };
            lines += frame.count;
            if !literal || !self.request.streams.has(frame.stream) {
                continue;
            }
            for (sequence, (time_ms, text)) in (frame.first_sequence..).zip(frame.events()) {
                let wanted = time_ms >= self.request.from_ms
                    && self.request.to_ms.is_none_or(|to| time_ms < to)
                    && finder.is_none_or(|finder| finder.find(text).is_some());
                if wanted {
                    let event = EventRef {
                        time_ms,
                        ingestion_ms: frame.ingestion_ms,
                        sequence,
                        stream: frame.stream,
                        text,
                    };
                    self.offer(self.request.order.key(time_ms, sequence), &event);
                }
            }
        }
        if lines < chunk.lines {
            self.damage(chunk.lines - lines);
        }
    }

    /// Keeps an event if it is wanted and among the first.
    fn offer(&mut self, key: Key, event: &EventRef<'_>) {
        if self.request.after.is_some_and(|after| key <= after)
            || self.limit.is_some_and(|limit| key >= limit)
        {
            return;
        }
        if self
            .request
            .hidden_to(event.stream)
            .is_some_and(|to| event.sequence <= to)
        {
            if self.request.order == Order::Sequence {
                self.hide(event.sequence);
            }
            return;
        }
        if !(self.request.filter.matches)(event) {
            return;
        }
        let stream = match &self.name {
            Some(name) if **name == *event.stream => Arc::clone(name),
            _ => Arc::from(event.stream),
        };
        self.name = Some(Arc::clone(&stream));
        self.kept_bytes += event.text.len();
        self.kept.push(Kept {
            key,
            event: Event {
                time_ms: event.time_ms,
                ingestion_ms: event.ingestion_ms,
                sequence: event.sequence,
                stream,
                text: event.text.to_vec(),
            },
        });
        while self.kept.len() > 1
            && (self.kept.len() > self.request.events_max
                || self.kept_bytes > self.request.bytes_max)
            && let Some(last) = self.kept.pop()
        {
            self.kept_bytes -= last.event.text.len();
            self.limit = Some(last.key);
        }
    }

    fn hide(&mut self, sequence: u64) {
        match self.found.hidden.last_mut() {
            Some(run) if run.1 + 1 == sequence => run.1 = sequence,
            _ => self.found.hidden.push((sequence, sequence)),
        }
    }
}

/// The lines of a block that have a text.
fn hits(blocks: &BlockReader, lines: std::ops::Range<usize>, finder: &Finder<'_>) -> Vec<usize> {
    let ends = &blocks.columns.ends;
    let length = finder.needle().len();
    let mut hits = Vec::new();
    let mut at = match lines.start {
        0 => 0,
        first => ends[first - 1] + 1,
    };
    let end = ends[lines.end - 1];
    while at < end
        && let Some(found) = finder.find(&blocks.text[at..end])
    {
        let line = ends.partition_point(|end| *end < at + found);
        // One that goes on over the newline is in neither line.
        if at + found + length <= ends[line] {
            hits.push(line);
        }
        at = ends[line] + 1;
    }
    hits
}
