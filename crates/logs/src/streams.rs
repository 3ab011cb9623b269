//! The streams of a group: what is known of each, and how a journal's beginning says it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    frame::{self, Lines, Payload, State},
    varint::{self, Reader},
};

/// Streams in one frame, so that no frame is longer than it may be.
const STREAMS_IN_FRAME: usize = 1000;

const STREAM: u8 = 0;
const TOMBSTONE: u8 = 1;

/// What is known of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) created_ms: i64,
    /// First and last time of its events.
    pub(crate) times: Option<(i64, i64)>,
    /// When the last event was stored, and its sequence.
    pub(crate) last: Option<(i64, u64)>,
    pub(crate) bytes: u64,
    pub(crate) position: Option<Box<[u8]>>,
}

impl Stream {
    fn put(&self, out: &mut Vec<u8>) {
        varint::put_signed(out, self.created_ms);
        varint::put(out, u64::from(self.times.is_some()));
        if let Some((first, last)) = self.times {
            varint::put_signed(out, first);
            varint::put_signed(out, last);
        }
        varint::put(out, u64::from(self.last.is_some()));
        if let Some((ingestion_ms, sequence)) = self.last {
            varint::put_signed(out, ingestion_ms);
            varint::put(out, sequence);
        }
        varint::put(out, self.bytes);
        varint::put(out, u64::from(self.position.is_some()));
        if let Some(position) = &self.position {
            varint::put_bytes(out, position);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            created_ms: reader.signed()?,
            times: match reader.number()? {
                0 => None,
                _ => Some((reader.signed()?, reader.signed()?)),
            },
            last: match reader.number()? {
                0 => None,
                _ => Some((reader.signed()?, reader.number()?)),
            },
            bytes: reader.number()?,
            position: match reader.number()? {
                0 => None,
                _ => Some(reader.bytes()?.into()),
            },
        })
    }

    /// Takes in that events between two times are there.
    pub(crate) fn widen(&mut self, first: i64, last: i64) {
        self.times = Some(match self.times {
            None => (first, last),
            Some((old_first, old_last)) => (old_first.min(first), old_last.max(last)),
        });
    }
}

/// All streams of a group.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamTable {
    /// The sequence of the group's next line.
    pub(crate) next_sequence: u64,
    pub(crate) streams: BTreeMap<Arc<str>, Stream>,
    /// The last hidden sequence of streams that were deleted.
    pub(crate) tombstones: HashMap<Arc<str>, u64>,
}

impl StreamTable {
    /// Appends the frames that a journal begins with.
    pub(crate) fn put(&self, out: &mut Vec<u8>, salt: u32, begun_ms: i64) {
        let mut part = 0;
        let mut streams = self.streams.iter().peekable();
        let mut tombstones = self.tombstones.iter().peekable();
        while part == 0 || streams.peek().is_some() || tombstones.peek().is_some() {
            frame::put(out, salt, |out| {
                frame::put_state(out, part, self.next_sequence, begun_ms);
                for (name, stream) in streams.by_ref().take(STREAMS_IN_FRAME) {
                    out.push(STREAM);
                    varint::put_bytes(out, name.as_bytes());
                    stream.put(out);
                }
                for (name, up_to) in tombstones.by_ref().take(STREAMS_IN_FRAME) {
                    out.push(TOMBSTONE);
                    varint::put_bytes(out, name.as_bytes());
                    varint::put(out, *up_to);
                }
            });
            part += 1;
        }
    }

    /// Takes in a part of a state; what cannot be read of it is left out.
    fn take(&mut self, state: &State<'_>) {
        if state.first {
            *self = Self::default();
        }
        self.next_sequence = self.next_sequence.max(state.next_sequence);
        let mut reader = state.reader;
        while let Some(kind) = reader.number() {
            let Some(name) = reader.text() else { return };
            if kind == u64::from(STREAM) {
                let Some(stream) = Stream::read(&mut reader) else {
                    return;
                };
                self.streams.insert(name.into(), stream);
            } else {
                let Some(up_to) = reader.number() else { return };
                self.tombstones.insert(name.into(), up_to);
            }
        }
    }

    /// Takes in what a frame says.
    pub(crate) fn apply(&mut self, payload: &Payload<'_>) {
        match payload {
            Payload::State(state) => self.take(state),
            Payload::Lines(lines) => self.apply_lines(lines),
            Payload::Created { stream, created_ms } => {
                let new = Stream {
                    created_ms: *created_ms,
                    ..Stream::default()
                };
                self.streams.entry((*stream).into()).or_insert(new);
            }
            Payload::Deleted { stream, up_to } => {
                self.streams.remove(*stream);
                self.tombstones.insert((*stream).into(), *up_to);
            }
        }
    }

    fn apply_lines(&mut self, lines: &Lines<'_>) {
        let (mut times, mut bytes) = (None::<(i64, i64)>, 0);
        for (time, text) in lines.events() {
            times = Some(times.map_or((time, time), |(a, b)| (a.min(time), b.max(time))));
            bytes += text.len() as u64;
        }
        self.add(
            lines.stream,
            lines.first_sequence,
            lines.count,
            lines.ingestion_ms,
            times,
            bytes,
        );
        if let Some(position) = lines.position
            && let Some(stream) = self.streams.get_mut(lines.stream)
        {
            stream.position = Some(position.into());
        }
    }

    /// Takes in that lines were stored.
    pub(crate) fn add(
        &mut self,
        name: &str,
        first_sequence: u64,
        count: u64,
        ingestion_ms: i64,
        times: Option<(i64, i64)>,
        bytes: u64,
    ) {
        if !self.streams.contains_key(name) {
            let new = Stream {
                created_ms: ingestion_ms,
                ..Stream::default()
            };
            self.streams.insert(name.into(), new);
        }
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        if let Some((first, last)) = times {
            stream.widen(first, last);
            stream.last = Some((ingestion_ms, (first_sequence + count).saturating_sub(1)));
        }
        stream.bytes = stream.bytes.saturating_add(bytes);
        self.next_sequence = self.next_sequence.max(first_sequence + count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frames;

    #[test]
    fn a_table_is_read_as_it_was_put_also_in_parts() {
        let mut table = StreamTable {
            next_sequence: 77,
            ..StreamTable::default()
        };
        for number in 0..2500i64 {
            let stream = Stream {
                created_ms: number,
                times: (number % 2 == 0).then_some((-number, number)),
                last: (number % 3 == 0).then_some((number, 5)),
                bytes: 9,
                position: (number % 5 == 0).then(|| Box::from(&b"position"[..])),
            };
            table.streams.insert(format!("s{number}").into(), stream);
        }
        table.tombstones.insert("gone".into(), 3);
        let mut out = Vec::new();
        table.put(&mut out, 1, 0);
        let mut read = StreamTable::default();
        read.streams.insert("before".into(), Stream::default());
        let mut frames = 0;
        for frame in Frames::new(&out, 0, Some(1)) {
            read.apply(&frame.payload);
            frames += 1;
        }
        assert_eq!(frames, 3);
        assert_eq!(read.streams, table.streams);
        assert_eq!(read.tombstones, table.tombstones);
        assert_eq!(read.next_sequence, 77);
    }
}
