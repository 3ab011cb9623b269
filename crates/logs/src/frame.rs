//! Frames: what a journal is made of.
//!
//! A frame is `EKJF`, the salt of its file, the length of its payload, a check of the payload, a check of the
//! sixteen bytes before, all of four bytes, and the payload. A frame whose payload is damaged is stepped over
//! by its length; one whose head is damaged, by looking for the next one.

use memchr::memmem;

use crate::{
    append::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX},
    varint::{self, Reader},
};

/// The length of what comes before the payload.
const HEAD_BYTES: usize = 20;

/// The longest payload: a full batch with the longest names and numbers.
const PAYLOAD_BYTES_MAX: usize = BATCH_BYTES_MAX + BATCH_EVENTS_MAX * 16 + 64 * 1024;

const MAGIC: &[u8; 4] = b"EKJF";

const STATE: u8 = 1;
const LINES: u8 = 2;
const CREATED: u8 = 3;
const DELETED: u8 = 4;

/// Appends a frame whose payload `put` appends.
pub(crate) fn put(out: &mut Vec<u8>, salt: u32, put: impl FnOnce(&mut Vec<u8>)) {
    let from = out.len();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&salt.to_le_bytes());
    out.extend_from_slice(&[0; 12]);
    put(out);
    let payload = &out[from + HEAD_BYTES..];
    let (length, check) = (payload.len() as u32, crc32fast::hash(payload));
    out[from + 8..from + 12].copy_from_slice(&length.to_le_bytes());
    out[from + 12..from + 16].copy_from_slice(&check.to_le_bytes());
    let check = crc32fast::hash(&out[from..from + 16]);
    out[from + 16..from + 20].copy_from_slice(&check.to_le_bytes());
}

/// What a frame says.
#[derive(Debug)]
pub(crate) enum Payload<'a> {
    /// The streams of the group when the journal began, or some of them.
    State(State<'a>),
    /// Lines of a stream.
    Lines(Lines<'a>),
    /// A stream was created.
    Created { stream: &'a str, created_ms: i64 },
    /// A stream was deleted; its lines up to this sequence are not given any more.
    Deleted { stream: &'a str, up_to: u64 },
}

impl<'a> Payload<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let mut reader = Reader::new(rest);
        Some(match *kind {
            STATE => Self::State(State {
                first: reader.number()? == 0,
                next_sequence: reader.number()?,
                begun_ms: reader.signed()?,
                reader,
            }),
            LINES => Self::Lines(Lines::parse(reader)?),
            CREATED => Self::Created {
                stream: reader.text()?,
                created_ms: reader.signed()?,
            },
            DELETED => Self::Deleted {
                stream: reader.text()?,
                up_to: reader.number()?,
            },
            _ => return None,
        })
    }
}

/// Part of the streams of a group.
#[derive(Debug)]
pub(crate) struct State<'a> {
    /// Whether it is the first part, before which nothing is known.
    pub(crate) first: bool,
    pub(crate) next_sequence: u64,
    pub(crate) begun_ms: i64,
    /// What [`crate::streams`] put.
    pub(crate) reader: Reader<'a>,
}

/// Appends the payload of a state up to the part that [`crate::streams`] puts.
pub(crate) fn put_state(out: &mut Vec<u8>, part: u64, next_sequence: u64, begun_ms: i64) {
    out.push(STATE);
    varint::put(out, part);
    varint::put(out, next_sequence);
    varint::put_signed(out, begun_ms);
}

/// Appends the payload of a created stream.
pub(crate) fn put_created(out: &mut Vec<u8>, stream: &str, created_ms: i64) {
    out.push(CREATED);
    varint::put_bytes(out, stream.as_bytes());
    varint::put_signed(out, created_ms);
}

/// Appends the payload of a deleted stream.
pub(crate) fn put_deleted(out: &mut Vec<u8>, stream: &str, up_to: u64) {
    out.push(DELETED);
    varint::put_bytes(out, stream.as_bytes());
    varint::put(out, up_to);
}

/// Lines of one stream with sequences that follow each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines<'a> {
    pub(crate) stream: &'a str,
    pub(crate) first_sequence: u64,
    pub(crate) ingestion_ms: i64,
    pub(crate) position: Option<&'a [u8]>,
    pub(crate) count: u64,
    events: Reader<'a>,
}

impl<'a> Lines<'a> {
    fn parse(mut reader: Reader<'a>) -> Option<Self> {
        let stream = reader.text()?;
        let first_sequence = reader.number()?;
        let ingestion_ms = reader.signed()?;
        let position = match reader.number()? {
            0 => None,
            _ => Some(reader.bytes()?),
        };
        let count = reader.number()?;
        first_sequence.checked_add(count)?;
        Some(Self {
            stream,
            first_sequence,
            ingestion_ms,
            position,
            count,
            events: reader,
        })
    }

    /// Time and text of each line.
    pub(crate) fn events(&self) -> impl Iterator<Item = (i64, &'a [u8])> + use<'a> {
        let mut reader = self.events;
        let mut time = 0i64;
        (0..self.count).map_while(move |_| {
            time = time.wrapping_add(reader.signed()?);
            Some((time, reader.bytes()?))
        })
    }
}

/// Appends the payload of lines.
pub(crate) fn put_lines<'a>(
    out: &mut Vec<u8>,
    stream: &str,
    first_sequence: u64,
    ingestion_ms: i64,
    position: Option<&[u8]>,
    events: impl ExactSizeIterator<Item = (i64, &'a [u8])>,
) {
    out.push(LINES);
    varint::put_bytes(out, stream.as_bytes());
    varint::put(out, first_sequence);
    varint::put_signed(out, ingestion_ms);
    varint::put(out, u64::from(position.is_some()));
    if let Some(position) = position {
        varint::put_bytes(out, position);
    }
    varint::put(out, events.len() as u64);
    let mut before = 0i64;
    for (time, text) in events {
        varint::put_signed(out, time.wrapping_sub(before));
        varint::put_bytes(out, text);
        before = time;
    }
}

/// The frames in a piece of a journal that begins with one.
#[derive(Debug)]
pub(crate) struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    salt: Option<u32>,
    /// Places where something could not be read.
    pub(crate) damaged: u64,
    /// Where the last good frame ended.
    pub(crate) good_end: usize,
}

/// A frame and where it is.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) from: usize,
    pub(crate) end: usize,
    pub(crate) payload: Payload<'a>,
}

impl<'a> Frames<'a> {
    /// Frames from `at` on; without a salt, those of the first salt that is found.
    pub(crate) fn new(bytes: &'a [u8], at: usize, salt: Option<u32>) -> Self {
        Self {
            bytes,
            at,
            salt,
            damaged: 0,
            good_end: at,
        }
    }

    /// The salt that the frames have; `None` when none was found.
    pub(crate) fn salt(&self) -> Option<u32> {
        self.salt
    }

    /// The payload's length and check of a frame at `at`, if there is the head of one.
    fn head(&self, at: usize) -> Option<(usize, u32, u32)> {
        let head = self.bytes.get(at..at + HEAD_BYTES)?;
        let mut reader = Reader::new(head.strip_prefix(MAGIC)?);
        let (salt, length) = (reader.u32()?, reader.u32()? as usize);
        let (check, head_check) = (reader.u32()?, reader.u32()?);
        let good = self.salt.is_none_or(|ours| ours == salt)
            && length <= PAYLOAD_BYTES_MAX
            && crc32fast::hash(&head[..16]) == head_check;
        good.then_some((length, check, salt))
    }

    fn next_head(&self, from: usize) -> Option<usize> {
        memmem::find_iter(self.bytes.get(from..)?, MAGIC)
            .map(|found| from + found)
            .find(|at| self.head(*at).is_some())
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        while self.at < self.bytes.len() {
            let from = self.at;
            let Some((length, check, salt)) = self.head(from) else {
                let next = self.next_head(from + 1);
                // What follows the last frame is a torn tail, which the one who opens the journal cuts.
                self.damaged += u64::from(next.is_some());
                self.at = next.unwrap_or(self.bytes.len());
                continue;
            };
            self.salt = Some(salt);
            let end = from + HEAD_BYTES + length;
            let Some(payload) = self.bytes.get(from + HEAD_BYTES..end) else {
                self.at = self.next_head(from + 1).unwrap_or(self.bytes.len());
                self.damaged += u64::from(self.at < self.bytes.len());
                continue;
            };
            self.at = end;
            let good = crc32fast::hash(payload) == check;
            match Payload::parse(payload).filter(|_| good) {
                Some(payload) => {
                    self.good_end = end;
                    return Some(Frame { from, end, payload });
                }
                None => self.damaged += u64::from(end < self.bytes.len()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> (Vec<u8>, Vec<usize>) {
        let (mut out, mut starts) = (Vec::new(), Vec::new());
        for number in 0..10u64 {
            starts.push(out.len());
            let text = format!("line {number}");
            put(&mut out, 7, |out| {
                let events = [(number as i64, text.as_bytes())];
                put_lines(out, "s", number, 0, None, events.into_iter());
            });
        }
        starts.push(out.len());
        (out, starts)
    }

    fn read(bytes: &[u8]) -> (Vec<u64>, u64, usize) {
        let mut frames = Frames::new(bytes, 0, Some(7));
        let mut found = Vec::new();
        for frame in &mut frames {
            let Payload::Lines(lines) = frame.payload else {
                panic!("not lines")
            };
            assert_eq!(lines.events().count(), 1);
            found.push(lines.first_sequence);
        }
        (found, frames.damaged, frames.good_end)
    }

    #[test]
    fn a_flipped_bit_costs_one_frame() {
        let (bytes, starts) = journal();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let hit = starts.partition_point(|start| *start <= bit / 8) as u64 - 1;
            let want: Vec<u64> = (0..10).filter(|number| *number != hit).collect();
            let (found, damaged, _) = read(&bytes);
            assert_eq!(found, want, "bit {bit}");
            assert_eq!(damaged, u64::from(hit < 9));
        }
    }

    #[test]
    fn a_cut_costs_what_is_after_it() {
        let (bytes, starts) = journal();
        for cut in 0..bytes.len() {
            let whole = starts.iter().filter(|start| **start <= cut).count() - 1;
            let (found, _, end) = read(&bytes[..cut]);
            assert_eq!(found.len(), whole);
            assert_eq!(end, starts[whole]);
        }
    }

    #[test]
    fn a_frame_within_a_line_is_none() {
        let mut forged = Vec::new();
        put(&mut forged, 8, |out| put_created(out, "forged", 0));
        let mut bytes = Vec::new();
        put(&mut bytes, 7, |out| {
            put_lines(out, "s", 0, 0, None, [(0, &forged[..])].into_iter());
        });
        bytes[0] ^= 1;
        assert_eq!(read(&bytes).0, Vec::<u64>::new());
    }
}
