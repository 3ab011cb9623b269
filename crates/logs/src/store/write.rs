//! Storing lines.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::{
    append::{
        Append, Appended, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, DropCause, Missing,
        POSITION_BYTES_MAX, Times,
    },
    error::LogError,
    event::EVENT_BYTES_MAX,
    frame,
    group::{Group, Hindrance, Open},
    group_info::NewGroup,
    journal::Written,
    name,
    segment::Range,
    shared::{Counters, Shared, lock},
    stats::Dropped,
    streams::Stream,
};

use super::{LogStore, STREAMS_MAX};

/// Streams of which it is remembered that lines were dropped. Of more it is counted and not said.
const NOTES_MAX: usize = 10_000;

/// How often something is made room for, or sealed, before an append gives up; each time something goes.
const TRIES_MAX: usize = 10_000;

impl LogStore {
    /// Stores events: all of them when it succeeds, none when it fails. They survive that the process ends.
    ///
    /// # Errors
    /// [`LogError::NoGroup`], [`LogError::NoStream`] or those of creating what is missing;
    /// [`LogError::TooLong`] for a text, batch or position over its bound; [`LogError::DiskFull`] when the
    /// disk or the budget has no room; [`LogError::Busy`] when sealing does not keep up;
    /// [`LogError::Io`] when the disk failed.
    pub fn append(&self, append: &Append<'_>) -> Result<Appended, LogError> {
        let shared = &self.inner.shared;
        let text_bytes = check(append)?;
        shared.now_ms.store(append.now_ms, Relaxed);
        let result = self.append_checked(append);
        match &result {
            Ok(_) => {
                Counters::add(&shared.counters.lines, append.events.len() as u64);
                Counters::add(&shared.counters.bytes, text_bytes);
                shared.notify();
            }
            Err(LogError::DiskFull) => Counters::add(&shared.counters.refused_disk_full, 1),
            Err(LogError::Busy) => Counters::add(&shared.counters.refused_busy, 1),
            Err(_) => {}
        }
        result
    }

    fn append_checked(&self, append: &Append<'_>) -> Result<Appended, LogError> {
        let shared = &self.inner.shared;
        shared.disk.check_free()?;
        let group = match self.find(append.group) {
            Err(LogError::NoGroup { .. }) if append.missing == Missing::CreateGroup => {
                self.create_missing_group(append)?
            }
            group => group?,
        };
        let note = shared.take_note(append.group, append.stream);
        let mark = note.map(|(dropped, cause)| {
            format!(
                "[Ekiden] {} lines ({} bytes) were dropped here: {}",
                dropped.lines,
                dropped.bytes,
                cause.as_str(),
            )
        });
        let result = self.retry(&group, || {
            group.with(shared, |open| {
                append_to(shared, &group, open, append, mark.as_deref())
            })
        });
        if result.is_err()
            && let Some((dropped, cause)) = note
        {
            self.keep_note(append.group, append.stream, dropped, cause);
        }
        result
    }

    fn create_missing_group(&self, append: &Append<'_>) -> Result<Arc<Group>, LogError> {
        let new = NewGroup {
            name: append.group.to_owned(),
            created_ms: append.now_ms,
            ..NewGroup::default()
        };
        match self.create_group(&new) {
            Ok(()) | Err(LogError::GroupExists { .. }) => self.find(append.group),
            Err(error) => Err(error),
        }
    }

    /// Takes a step, and clears what hinders it, until it could be taken.
    pub(super) fn retry<T>(
        &self,
        group: &Arc<Group>,
        mut step: impl FnMut() -> Result<T, Hindrance>,
    ) -> Result<T, LogError> {
        let shared = &self.inner.shared;
        for _ in 0..TRIES_MAX {
            match step() {
                Ok(done) => return Ok(done),
                Err(Hindrance::Error(error)) => return Err(error),
                Err(Hindrance::NoRoom(over)) => shared.make_room(group, over)?,
                Err(Hindrance::Unsealed) => {
                    group.catch_up(shared, |over| shared.make_room(group, over))?;
                }
            }
        }
        Err(LogError::Busy)
    }

    /// Says that lines were dropped: they are counted, and the next append to the stream begins with a line
    /// that says so.
    pub fn note_dropped(
        &self,
        group: &str,
        stream: &str,
        lines: u64,
        bytes: u64,
        cause: DropCause,
    ) {
        let dropped = Dropped { lines, bytes };
        let mut counted = lock(&self.inner.shared.dropped);
        add(counted.entry(cause).or_default(), dropped);
        drop(counted);
        self.keep_note(group, stream, dropped, cause);
    }

    fn keep_note(&self, group: &str, stream: &str, dropped: Dropped, cause: DropCause) {
        let mut notes = lock(&self.inner.shared.notes);
        let key = (group.to_owned(), stream.to_owned());
        if notes.len() < NOTES_MAX || notes.contains_key(&key) {
            let note = notes.entry(key).or_insert((Dropped::default(), cause));
            add(&mut note.0, dropped);
            note.1 = cause;
        }
    }

    /// How far the source of a stream had come with what is stored; `None` when none was ever given.
    ///
    /// # Errors
    /// [`LogError::NoGroup`], [`LogError::NoStream`], and of the disk when the group is first read.
    pub fn source_position(&self, group: &str, stream: &str) -> Result<Option<Vec<u8>>, LogError> {
        let group = self.find(group)?;
        group.with(&self.inner.shared, |open| {
            let stream = open
                .table
                .streams
                .get(stream)
                .ok_or_else(|| no_stream(&group, stream))?;
            Ok(stream.position.as_deref().map(<[u8]>::to_vec))
        })
    }

    /// Creates a stream.
    ///
    /// # Errors
    /// [`LogError::NoGroup`], [`LogError::StreamExists`], [`LogError::TooManyStreams`],
    /// [`LogError::Invalid`] for the name, and those of [`Self::append`].
    pub fn create_stream(&self, group: &str, stream: &str, now_ms: i64) -> Result<(), LogError> {
        name::check_stream(stream)?;
        let shared = &self.inner.shared;
        let group = self.find(group)?;
        shared.disk.check_free()?;
        self.retry(&group, || {
            group.with(shared, |open| {
                if open.table.streams.contains_key(stream) {
                    return Err(Hindrance::Error(LogError::StreamExists {
                        group: group.name.clone(),
                        stream: stream.to_owned(),
                    }));
                }
                room_for_stream(shared, &group, open)?;
                write_frame(shared, &group, open, now_ms, |out| {
                    frame::put_created(out, stream, now_ms);
                })?;
                let new = Stream {
                    created_ms: now_ms,
                    ..Stream::default()
                };
                open.table.streams.insert(stream.into(), new);
                Ok(())
            })
        })
    }

    /// Deletes a stream. Its lines are no longer given; their space goes with their segments.
    ///
    /// # Errors
    /// [`LogError::NoGroup`], [`LogError::NoStream`], [`LogError::TooManyStreams`] when so many deleted ones
    /// still have lines, and those of [`Self::append`].
    pub fn delete_stream(&self, group: &str, stream: &str) -> Result<(), LogError> {
        let shared = &self.inner.shared;
        let group = self.find(group)?;
        self.retry(&group, || {
            group.with(shared, |open| {
                let Some(known) = open.table.streams.get(stream) else {
                    return Err(Hindrance::Error(no_stream(&group, stream)));
                };
                let up_to = known.last.map_or(0, |(_, sequence)| sequence);
                if open.table.tombstones.len() >= STREAMS_MAX
                    && !open.table.tombstones.contains_key(stream)
                {
                    return Err(Hindrance::Error(too_many(&group)));
                }
                let now_ms = shared.now_ms.load(Relaxed);
                // What was hidden before stays so, also of a stream that had no lines since.
                let up_to = open
                    .table
                    .tombstones
                    .get(stream)
                    .map_or(up_to, |old| up_to.max(*old));
                write_frame(shared, &group, open, now_ms, |out| {
                    frame::put_deleted(out, stream, up_to);
                })?;
                open.table.streams.remove(stream);
                open.table.tombstones.insert(stream.into(), up_to);
                Ok(())
            })
        })
    }
}

/// Checks what can be checked without the store; the bytes of the texts.
fn check(append: &Append<'_>) -> Result<u64, LogError> {
    let too_long = |what, bytes, max| Err(LogError::TooLong { what, bytes, max });
    let mut sum = 0;
    for event in append.events {
        if event.text.len() > EVENT_BYTES_MAX {
            return too_long("a line", event.text.len(), EVENT_BYTES_MAX);
        }
        sum += event.text.len();
    }
    if sum > BATCH_BYTES_MAX {
        return too_long("a batch", sum, BATCH_BYTES_MAX);
    }
    let position = append.position.map_or(0, <[u8]>::len);
    if position > POSITION_BYTES_MAX {
        return too_long("a source position", position, POSITION_BYTES_MAX);
    }
    if append.events.len() > BATCH_EVENTS_MAX {
        return Err(LogError::Invalid {
            message: format!(
                "a batch of {} events is more than {BATCH_EVENTS_MAX}; send several",
                append.events.len(),
            ),
        });
    }
    Ok(sum as u64)
}

fn no_stream(group: &Group, stream: &str) -> LogError {
    LogError::NoStream {
        group: group.name.clone(),
        stream: stream.to_owned(),
    }
}

fn too_many(group: &Group) -> LogError {
    LogError::TooManyStreams {
        group: group.name.clone(),
        max: STREAMS_MAX,
    }
}

fn add(to: &mut Dropped, more: Dropped) {
    to.lines = to.lines.saturating_add(more.lines);
    to.bytes = to.bytes.saturating_add(more.bytes);
}

fn room_for_stream(shared: &Shared, group: &Arc<Group>, open: &mut Open) -> Result<(), LogError> {
    group.forget_streams(shared, open, STREAMS_MAX);
    match open.table.streams.len() < STREAMS_MAX {
        true => Ok(()),
        false => Err(too_many(group)),
    }
}

/// Writes a frame without lines.
fn write_frame(
    shared: &Shared,
    group: &Arc<Group>,
    open: &mut Open,
    now_ms: i64,
    put: impl FnOnce(&mut Vec<u8>),
) -> Result<(), Hindrance> {
    group.ready(shared, open, now_ms)?;
    let Some((_, journal)) = &mut open.active else {
        return Err(LogError::Busy.into()); // there is one after `ready`
    };
    let mut frames = Vec::new();
    frame::put(&mut frames, journal.salt, put);
    group.write(shared, journal, &frames)?;
    journal.bytes += frames.len() as u64;
    Ok(())
}

fn append_to(
    shared: &Shared,
    group: &Arc<Group>,
    open: &mut Open,
    append: &Append<'_>,
    mark: Option<&str>,
) -> Result<Appended, Hindrance> {
    if !open.table.streams.contains_key(append.stream) {
        if append.missing == Missing::Refuse {
            return Err(no_stream(group, append.stream).into());
        }
        name::check_stream(append.stream)?;
        room_for_stream(shared, group, open)?;
    }
    group.ready(shared, open, append.now_ms)?;
    let known = open.table.streams.get(append.stream);
    let mut floor = match append.times {
        Times::Given => i64::MIN,
        Times::Raised => known
            .and_then(|stream| stream.times)
            .map_or(i64::MIN, |(_, last)| last),
    };
    let first_time = append
        .events
        .first()
        .map_or(append.now_ms, |event| event.time_ms);
    let marks: Vec<(i64, &[u8])> = mark
        .map(|mark| (first_time, mark.as_bytes()))
        .into_iter()
        .collect();
    let given = append
        .events
        .iter()
        .map(|event| (event.time_ms, event.text));
    let events: Vec<(i64, &[u8])> = marks
        .iter()
        .copied()
        .chain(given)
        .map(|(time, text)| {
            if append.times == Times::Raised {
                floor = floor.max(time);
                return (floor, text);
            }
            (time, text)
        })
        .collect();
    let first_sequence = open.table.next_sequence;
    let count = events.len() as u64;
    let Some((_, journal)) = &mut open.active else {
        return Err(LogError::Busy.into()); // there is one after `ready`
    };
    let mut frames = Vec::new();
    frame::put(&mut frames, journal.salt, |out| {
        let events = events.iter().copied();
        frame::put_lines(
            out,
            append.stream,
            first_sequence,
            append.now_ms,
            append.position,
            events,
        );
    });
    let max = shared
        .settings
        .group_bytes_max
        .min(shared.settings.total_bytes_max)
        / 4;
    if frames.len() as u64 > max {
        // Everything else would go for it.
        return Err(Hindrance::Error(LogError::TooLong {
            what: "a batch",
            bytes: frames.len(),
            max: max as usize,
        }));
    }
    group.write(shared, journal, &frames)?;
    let times = events.iter().map(|(time, _)| (*time, *time));
    let times = times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let text_bytes = events.iter().map(|(_, text)| text.len() as u64).sum();
    journal.add(Written {
        from: journal.bytes,
        end: journal.bytes + frames.len() as u64,
        stream: append.stream,
        range: Range {
            times: times.unwrap_or_default(),
            sequences: (first_sequence, (first_sequence + count).saturating_sub(1)),
        },
        lines: count,
        text_bytes,
    });
    open.table.add(
        append.stream,
        first_sequence,
        count,
        append.now_ms,
        times,
        text_bytes,
    );
    if let Some(position) = append.position
        && let Some(stream) = open.table.streams.get_mut(append.stream)
    {
        stream.position = Some(position.into());
    }
    Ok(Appended {
        first_sequence: first_sequence + marks.len() as u64,
        events: append.events.len(),
    })
}
