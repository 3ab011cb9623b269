//! Journals: where lines are written first, in frames, uncompressed.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use crate::{
    block::Line,
    file,
    frame::{Frames, Payload},
    segment::Range,
};

/// Frames are indexed together until they have this many bytes.
const CHUNK_BYTES: u64 = 64 * 1024;

/// The longest journal that is read. One is rotated when it has reached its bound, so it is longer by less
/// than a frame.
const READ_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Frames that lie together.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) range: Range,
    pub(crate) lines: u64,
    pub(crate) text_bytes: u64,
    /// Places among the journal's names.
    pub(crate) streams: Vec<u32>,
}

/// Lines that were written in one frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written<'a> {
    pub(crate) from: u64,
    pub(crate) end: u64,
    pub(crate) stream: &'a str,
    pub(crate) range: Range,
    pub(crate) lines: u64,
    pub(crate) text_bytes: u64,
}

/// What is in a journal, without the text.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) path: PathBuf,
    pub(crate) salt: u32,
    /// Where the next frame goes.
    pub(crate) bytes: u64,
    pub(crate) begun_ms: i64,
    pub(crate) names: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u32>,
    pub(crate) chunks: Vec<Chunk>,
    /// Whether something was written and not synced.
    pub(crate) dirty: AtomicBool,
    /// Whether a thread is sealing it.
    pub(crate) sealing: AtomicBool,
}

impl Journal {
    pub(crate) fn new(path: PathBuf, salt: u32, bytes: u64, begun_ms: i64) -> Self {
        Self {
            path,
            salt,
            bytes,
            begun_ms,
            names: Vec::new(),
            places: HashMap::new(),
            chunks: Vec::new(),
            dirty: AtomicBool::new(false),
            sealing: AtomicBool::new(false),
        }
    }

    /// From when to when its lines are; `None` without lines.
    pub(crate) fn range(&self) -> Option<Range> {
        self.chunks.iter().map(|chunk| chunk.range).reduce(join)
    }

    /// Adds lines to the index.
    pub(crate) fn add(&mut self, written: Written<'_>) {
        self.bytes = written.end;
        if written.lines == 0 {
            return;
        }
        let place = self.place(written.stream);
        if let Some(last) = self.chunks.last_mut()
            && written.end - last.offset <= CHUNK_BYTES
        {
            last.bytes = written.end - last.offset;
            last.range = join(last.range, written.range);
            last.lines += written.lines;
            last.text_bytes += written.text_bytes;
            if !last.streams.contains(&place) {
                last.streams.push(place);
            }
            return;
        }
        self.chunks.push(Chunk {
            offset: written.from,
            bytes: written.end - written.from,
            range: written.range,
            lines: written.lines,
            text_bytes: written.text_bytes,
            streams: vec![place],
        });
    }

    fn place(&mut self, stream: &str) -> u32 {
        if let Some(place) = self.places.get(stream) {
            return *place;
        }
        let place = self.names.len() as u32;
        let name: Arc<str> = stream.into();
        self.names.push(Arc::clone(&name));
        self.places.insert(name, place);
        place
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Of the disk; not found when it was removed meanwhile.
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(&self.path)?;
        file::read_at(
            &file,
            0,
            self.bytes.min(READ_BYTES_MAX) as usize,
            &mut bytes,
        )?;
        Ok(bytes)
    }

    /// The lines in the bytes of the file.
    pub(crate) fn lines<'a>(&self, bytes: &'a [u8]) -> Vec<Line<'a>> {
        let mut lines = Vec::new();
        for frame in Frames::new(bytes, file::HEAD_BYTES, Some(self.salt)) {
            let Payload::Lines(frame) = frame.payload else {
                continue;
            };
            let Some(stream) = self.places.get(frame.stream) else {
                continue; // without lines
            };
            for (sequence, (time_ms, text)) in (frame.first_sequence..).zip(frame.events()) {
                lines.push(Line {
                    stream: *stream,
                    time_ms,
                    sequence,
                    ingestion_ms: frame.ingestion_ms,
                    text,
                });
            }
        }
        lines
    }
}

/// A range with both.
pub(crate) fn join(a: Range, b: Range) -> Range {
    Range {
        times: (a.times.0.min(b.times.0), a.times.1.max(b.times.1)),
        sequences: (
            a.sequences.0.min(b.sequences.0),
            a.sequences.1.max(b.sequences.1),
        ),
    }
}

/// A journal as it was found.
pub(crate) struct Found {
    pub(crate) journal: Journal,
    /// Places where it cannot be read, apart from its end.
    pub(crate) damaged: u64,
    /// Whether its head is good, so that it can be gone on with.
    pub(crate) head: bool,
    /// The length of its file. What is longer than the journal is a torn tail.
    pub(crate) file_bytes: u64,
}

/// Reads a journal from its file and says what is in it, frame by frame.
///
/// # Errors
/// Of the disk.
pub(crate) fn load(path: PathBuf, mut each: impl FnMut(&Payload<'_>)) -> io::Result<Found> {
    let file = File::open(&path)?;
    let file_bytes = file.metadata()?.len();
    let mut bytes = Vec::new();
    file::read_at(
        &file,
        0,
        file_bytes.min(READ_BYTES_MAX) as usize,
        &mut bytes,
    )?;
    let salt = file::head(&bytes, file::JOURNAL);
    let mut journal = Journal::new(path, salt.unwrap_or_default(), 0, 0);
    let mut frames = Frames::new(&bytes, file::HEAD_BYTES.min(bytes.len()), salt);
    let mut state = false;
    for frame in frames.by_ref() {
        match &frame.payload {
            Payload::Lines(lines) => {
                let mut written = Written {
                    from: frame.from as u64,
                    end: frame.end as u64,
                    stream: lines.stream,
                    range: Range {
                        times: (i64::MAX, i64::MIN),
                        sequences: (
                            lines.first_sequence,
                            (lines.first_sequence + lines.count).saturating_sub(1),
                        ),
                    },
                    lines: 0,
                    text_bytes: 0,
                };
                for (time, text) in lines.events() {
                    let times = written.range.times;
                    written.range.times = (times.0.min(time), times.1.max(time));
                    written.lines += 1;
                    written.text_bytes += text.len() as u64;
                }
                journal.add(written);
            }
            Payload::State(found) => {
                state = true;
                journal.begun_ms = found.begun_ms;
            }
            Payload::Created { .. } | Payload::Deleted { .. } => {}
        }
        each(&frame.payload);
    }
    journal.bytes = frames.good_end as u64;
    if salt.is_none() {
        journal.salt = frames.salt().unwrap_or_default();
    }
    let damaged = frames.damaged + u64::from(salt.is_none());
    Ok(Found {
        journal,
        damaged,
        head: state && damaged == 0,
        file_bytes,
    })
}
