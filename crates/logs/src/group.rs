//! A group: its file, its journals and segments, its streams.
//!
//! Files are numbered. `JOURNAL-N` becomes `SEGMENT-N`; while both are there, the segment is whole and the
//! journal stale. The newest journal is the one that is appended to. Every journal begins with what is known
//! of the group's streams, so that the newest says all.
//!
//! A group is read when it is first used, so that opening a store with many is fast.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    disk::{Over, Purpose},
    error::LogError,
    file::{self, Kind},
    group_info::GroupClass,
    journal::{self, Journal},
    segment::{self, LEVEL, Range, Segment},
    select::Source,
    shared::{Counters, Shared, lock},
    streams::StreamTable,
};

/// So many journals wait for being sealed in a group; then the one who appends seals one itself.
const UNSEALED_MAX: usize = 3;

/// How long an append waits for others to seal before it says that the store is busy.
const SEAL_WAIT_MAX: Duration = Duration::from_secs(10);

/// What `group.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) created_ms: i64,
    #[serde(default)]
    pub(crate) retention_days: Option<u32>,
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) kms_key_id: Option<String>,
    #[serde(default)]
    pub(crate) class: GroupClass,
}

impl Meta {
    /// The sequence before the group's first line. A group that is deleted and created again goes on later,
    /// so that who follows it by sequence misses nothing.
    fn sequence_before(&self) -> u64 {
        (self.created_ms.clamp(0, 1 << 42) as u64) << 20
    }
}

/// A group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
    /// Bytes on disk.
    pub(crate) bytes: AtomicU64,
    /// Whether something was written and not synced.
    pub(crate) dirty: AtomicBool,
    pub(crate) meta: Mutex<Meta>,
    state: Mutex<State>,
    /// That a journal was sealed, or could not be.
    sealed: Condvar,
}

#[derive(Debug)]
enum State {
    /// Not read yet: what files there are, and how long.
    Closed(BTreeMap<u64, (Kind, u64)>),
    Open(Box<Open>),
    Deleted,
}

/// A group that was read.
#[derive(Debug)]
pub(crate) struct Open {
    /// Oldest first.
    pub(crate) parts: BTreeMap<u64, Part>,
    /// What is appended to, and its number: greater than any part's.
    pub(crate) active: Option<(u64, Journal)>,
    pub(crate) table: StreamTable,
}

/// What is not appended to any more.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    Journal(Arc<Journal>),
    Segment(Arc<Segment>),
}

/// Why a step cannot be taken now.
#[derive(Debug)]
pub(crate) enum Hindrance {
    /// There is no room.
    NoRoom(Over),
    /// Too many journals wait for being sealed.
    Unsealed,
    /// It cannot be taken at all.
    Error(LogError),
}

impl From<LogError> for Hindrance {
    fn from(error: LogError) -> Self {
        Self::Error(error)
    }
}

impl Open {
    fn next_number(&self) -> u64 {
        let active = self.active.as_ref().map(|(number, _)| *number);
        let last = self.parts.last_key_value().map(|(number, _)| *number);
        active.max(last).map_or(0, |number| number + 1)
    }

    pub(crate) fn unsealed(&self) -> usize {
        let journal = |part: &&Part| matches!(part, Part::Journal(_));
        self.parts.values().filter(journal).count()
    }

    /// The range of the oldest lines that are there.
    fn oldest(&self, shared: &Shared) -> Option<Range> {
        let part = |part: &Part| part.range(shared).ok().flatten();
        let active = || {
            self.active
                .as_ref()
                .and_then(|(_, journal)| journal.range())
        };
        self.parts.values().find_map(part).or_else(active)
    }
}

impl Part {
    pub(crate) fn range(&self, shared: &Shared) -> io::Result<Option<Range>> {
        match self {
            Self::Journal(journal) => Ok(journal.range()),
            Self::Segment(segment) => segment.range(&shared.footers),
        }
    }
}

impl Group {
    /// A group whose files are known and not read.
    pub(crate) fn new(directory: PathBuf, meta: Meta, files: BTreeMap<u64, (Kind, u64)>) -> Self {
        Self {
            name: meta.name.clone(),
            directory,
            bytes: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
            meta: Mutex::new(meta),
            state: Mutex::new(State::Closed(files)),
            sealed: Condvar::new(),
        }
    }

    pub(crate) fn no_group(&self) -> LogError {
        LogError::NoGroup {
            group: self.name.clone(),
        }
    }

    /// Runs with the group read and locked.
    pub(crate) fn with<T, E: From<LogError>>(
        self: &Arc<Self>,
        shared: &Shared,
        run: impl FnOnce(&mut Open) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut state = lock(&self.state);
        if let State::Closed(files) = &*state {
            let open = self.load(shared, files)?;
            for (number, part) in &open.parts {
                if matches!(part, Part::Journal(_)) {
                    shared.enqueue(self, *number);
                }
            }
            *state = State::Open(Box::new(open));
        }
        match &mut *state {
            State::Open(open) => run(open),
            State::Closed(_) | State::Deleted => Err(self.no_group().into()),
        }
    }

    /// Runs with the group locked if it was read; `None` otherwise.
    pub(crate) fn if_open<T>(&self, run: impl FnOnce(&mut Open) -> T) -> Option<T> {
        match &mut *lock(&self.state) {
            State::Open(open) => Some(run(open)),
            State::Closed(_) | State::Deleted => None,
        }
    }

    /// Whether it has journals or segments; it need not be read for that.
    pub(crate) fn has_files(&self) -> bool {
        match &*lock(&self.state) {
            State::Open(open) => open.active.is_some() || !open.parts.is_empty(),
            State::Closed(files) => !files.is_empty(),
            State::Deleted => false,
        }
    }

    /// Makes everybody find the group gone. The bytes of its files, without what is being sealed.
    pub(crate) fn mark_deleted(&self) -> u64 {
        let mut state = lock(&self.state);
        let bytes = match &*state {
            State::Closed(files) => files.values().map(|(_, bytes)| bytes).sum(),
            State::Open(open) => {
                let active = open.active.as_ref().map_or(0, |(_, journal)| journal.bytes);
                let parts = open.parts.values().map(|part| match part {
                    Part::Journal(journal) => journal.bytes,
                    Part::Segment(segment) => segment.bytes,
                });
                active + parts.sum::<u64>()
            }
            State::Deleted => 0,
        };
        *state = State::Deleted;
        drop(state);
        self.sealed.notify_all();
        bytes
    }

    fn load(&self, shared: &Shared, files: &BTreeMap<u64, (Kind, u64)>) -> Result<Open, LogError> {
        let mut parts = BTreeMap::new();
        let mut table: Option<StreamTable> = None;
        let mut active = None;
        let newest = files.last_key_value().map(|(number, _)| *number);
        for (number, (kind, bytes)) in files {
            let path = file::path(&self.directory, *kind, *number);
            if *kind == Kind::Segment {
                parts.insert(*number, Part::Segment(Arc::new(Segment::new(path, *bytes))));
                continue;
            }
            let found = journal::load(path, |payload| {
                table
                    .get_or_insert_with(|| self.table_of(shared, &parts))
                    .apply(payload);
            });
            let mut found = found.map_err(LogError::io("read a journal"))?;
            Counters::add(&shared.counters.damaged, found.damaged);
            if found.damaged > 0 {
                tracing::warn!(group = %self.name, number, places = found.damaged, "journal is damaged");
            }
            if Some(*number) == newest && found.head {
                self.cut(shared, &found)?;
                active = Some((*number, found.journal));
            } else {
                found.journal.bytes = found.file_bytes;
                parts.insert(*number, Part::Journal(Arc::new(found.journal)));
            }
        }
        let mut table = table.unwrap_or_else(|| self.table_of(shared, &parts));
        table.next_sequence = table
            .next_sequence
            .max(lock(&self.meta).sequence_before() + 1);
        Ok(Open {
            parts,
            active,
            table,
        })
    }

    /// Cuts what a crash left of a frame at the end of a journal.
    fn cut(&self, shared: &Shared, found: &journal::Found) -> Result<(), LogError> {
        let torn = found.file_bytes.saturating_sub(found.journal.bytes);
        if torn > 0 {
            File::options()
                .write(true)
                .open(&found.journal.path)
                .and_then(|file| file.set_len(found.journal.bytes))
                .map_err(LogError::io("cut the torn end of a journal"))?;
            shared.disk.release(&self.bytes, torn);
        }
        Ok(())
    }

    /// What the segments say of the streams, when no journal does.
    fn table_of(&self, shared: &Shared, parts: &BTreeMap<u64, Part>) -> StreamTable {
        let mut table = StreamTable::default();
        for part in parts.values() {
            let Part::Segment(segment) = part else {
                continue;
            };
            let Ok(footer) = segment.footer(&shared.footers) else {
                continue;
            };
            for section in footer.blocks.iter().flat_map(|block| &block.sections) {
                let times = section.times;
                let bytes = section.text_bytes.saturating_sub(section.count) as u64;
                let last = section.sequences.1;
                table.add(&section.stream, last, 1, times.1, Some(times), bytes);
            }
        }
        table
    }

    /// When a journal is to be sealed, in bytes.
    fn journal_bytes_max(shared: &Shared) -> u64 {
        let settings = &shared.settings;
        settings
            .segment_raw_bytes_max
            .min(settings.group_bytes_max / 16)
            .min(settings.total_bytes_max / 16)
    }

    /// Begins a new journal, and has the one before sealed.
    pub(crate) fn rotate(
        self: &Arc<Self>,
        shared: &Shared,
        open: &mut Open,
        now_ms: i64,
    ) -> Result<(), Hindrance> {
        let number = open.next_number();
        let salt = file::salt();
        let mut head = Vec::new();
        file::put_head(&mut head, file::JOURNAL, salt);
        // What is hidden by them is gone when the oldest line is younger.
        if !open.table.tombstones.is_empty() {
            let oldest = open
                .oldest(shared)
                .map_or(u64::MAX, |range| range.sequences.0);
            open.table.tombstones.retain(|_, up_to| *up_to >= oldest);
        }
        open.table.put(&mut head, salt, now_ms);
        let bytes = head.len() as u64;
        shared
            .disk
            .reserve(&self.bytes, bytes, Purpose::MakeRoom)
            .map_err(Hindrance::NoRoom)?;
        let path = file::path(&self.directory, Kind::Journal, number);
        if let Err(error) = file::write_whole(&path, &head) {
            shared.disk.release(&self.bytes, bytes);
            return Err(LogError::io("begin a journal")(error).into());
        }
        self.dirty.store(true, SeqCst);
        let journal = Journal::new(path, salt, bytes, now_ms);
        if let Some((old, journal)) = open.active.replace((number, journal)) {
            open.parts.insert(old, Part::Journal(Arc::new(journal)));
            shared.enqueue(self, old);
        }
        Ok(())
    }

    /// Has a journal to append to that is not full.
    pub(crate) fn ready(
        self: &Arc<Self>,
        shared: &Shared,
        open: &mut Open,
        now_ms: i64,
    ) -> Result<(), Hindrance> {
        let max = Self::journal_bytes_max(shared);
        let room = |(_, journal): &(u64, Journal)| journal.bytes < max || journal.chunks.is_empty();
        if open.active.as_ref().is_some_and(room) {
            return Ok(());
        }
        if open.unsealed() >= UNSEALED_MAX {
            return Err(Hindrance::Unsealed);
        }
        self.rotate(shared, open, now_ms)
    }

    /// Writes frames at the end of the journal with one write.
    pub(crate) fn write(
        &self,
        shared: &Shared,
        journal: &Journal,
        frames: &[u8],
    ) -> Result<(), Hindrance> {
        let bytes = frames.len() as u64;
        shared
            .disk
            .reserve(&self.bytes, bytes, Purpose::Keep)
            .map_err(Hindrance::NoRoom)?;
        let file = File::options().write(true).open(&journal.path);
        let written = file.and_then(|file| {
            file.write_all_at(frames, journal.bytes).inspect_err(|_| {
                let _ = file.set_len(journal.bytes);
            })
        });
        match written {
            Ok(()) => {
                journal.dirty.store(true, SeqCst);
                self.dirty.store(true, SeqCst);
                Ok(())
            }
            Err(error) => {
                shared.disk.release(&self.bytes, bytes);
                Err(LogError::io("write to a journal")(error).into())
            }
        }
    }

    /// Removes the oldest lines: a segment, or a journal if there is none. `false` when there are none.
    pub(crate) fn remove_oldest(
        self: &Arc<Self>,
        shared: &Shared,
        now_ms: i64,
    ) -> Result<bool, LogError> {
        self.with(shared, |open| {
            let lines = |(_, journal): &(u64, Journal)| !journal.chunks.is_empty();
            if open.parts.is_empty() && open.active.as_ref().is_some_and(lines) {
                match self.rotate(shared, open, now_ms) {
                    Ok(()) => {}
                    Err(Hindrance::Error(error)) => return Err(error),
                    Err(_) => return Ok(false),
                }
            }
            let Some(number) = open.parts.first_key_value().map(|(number, _)| *number) else {
                return Ok(false);
            };
            self.remove(shared, open, number)?;
            Ok(true)
        })
    }

    /// Removes a part.
    pub(crate) fn remove(
        &self,
        shared: &Shared,
        open: &mut Open,
        number: u64,
    ) -> Result<(), LogError> {
        let Some(part) = open.parts.get(&number).cloned() else {
            return Ok(());
        };
        let (path, bytes) = match &part {
            Part::Journal(journal) => {
                let sections = journal.chunks.iter().map(|chunk| (chunk, journal));
                for (chunk, journal) in sections {
                    // A chunk of several streams does not say whose its bytes are; they go evenly.
                    let each = chunk.text_bytes / (chunk.streams.len() as u64).max(1);
                    for stream in &chunk.streams {
                        forget_bytes(&mut open.table, &journal.names[*stream as usize], each);
                    }
                }
                (&journal.path, journal.bytes)
            }
            Part::Segment(segment) => {
                if let Ok(footer) = segment.footer(&shared.footers) {
                    for section in footer.blocks.iter().flat_map(|block| &block.sections) {
                        let bytes = section.text_bytes.saturating_sub(section.count) as u64;
                        forget_bytes(&mut open.table, &section.stream, bytes);
                    }
                }
                (&segment.path, segment.bytes)
            }
        };
        remove_file(path).map_err(LogError::io("remove a segment"))?;
        open.parts.remove(&number);
        shared.disk.release(&self.bytes, bytes);
        Ok(())
    }

    /// Forgets the oldest streams that have no lines, until there are fewer than `max`.
    pub(crate) fn forget_streams(&self, shared: &Shared, open: &mut Open, max: usize) {
        if open.table.streams.len() < max {
            return;
        }
        let oldest = open
            .oldest(shared)
            .map_or(u64::MAX, |range| range.sequences.0);
        let gone = |last: Option<(i64, u64)>| last.is_none_or(|(_, sequence)| sequence < oldest);
        let mut without: Vec<(i64, Arc<str>)> = open
            .table
            .streams
            .iter()
            .filter(|(_, stream)| gone(stream.last))
            .map(|(name, stream)| {
                (
                    stream.last.map_or(stream.created_ms, |(at, _)| at),
                    Arc::clone(name),
                )
            })
            .collect();
        without.sort_unstable();
        let many = open.table.streams.len() + 1 - max;
        for (_, name) in without.into_iter().take(many) {
            open.table.streams.remove(&name);
        }
    }

    /// Where the lines of a group may be, and what is hidden of them.
    #[allow(clippy::type_complexity)]
    pub(crate) fn sources(
        self: &Arc<Self>,
        shared: &Shared,
    ) -> Result<(Vec<Source>, HashMap<Arc<str>, u64>, u64, u64), LogError> {
        self.with(shared, |open| {
            let mut sources = Vec::new();
            for part in open.parts.values() {
                match part {
                    Part::Segment(segment) => sources.push(Source::Segment(Arc::clone(segment))),
                    Part::Journal(journal) => chunks(journal, &mut sources)?,
                }
            }
            if let Some((_, journal)) = &open.active {
                chunks(journal, &mut sources)?;
            }
            let last = open.table.next_sequence - 1;
            let before = lock(&self.meta).sequence_before();
            Ok((sources, open.table.tombstones.clone(), before, last))
        })
    }

    /// Seals a journal, if nobody else does. Called without the group's lock; `room` is asked to make room
    /// until there is enough.
    pub(crate) fn seal(
        self: &Arc<Self>,
        shared: &Shared,
        number: u64,
        room: impl Fn(Over) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let journal = self.if_open(|open| match open.parts.get(&number) {
            Some(Part::Journal(journal)) if !journal.sealing.swap(true, SeqCst) => {
                Some(Arc::clone(journal))
            }
            _ => None,
        });
        let Some(journal) = journal.flatten() else {
            return Ok(());
        };
        let sealed = self.seal_journal(shared, number, &journal, room);
        journal.sealing.store(false, SeqCst);
        // Under the lock, so that who is about to wait does not miss it.
        drop(lock(&self.state));
        self.sealed.notify_all();
        sealed
    }

    fn seal_journal(
        &self,
        shared: &Shared,
        number: u64,
        journal: &Arc<Journal>,
        room: impl Fn(Over) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let raw = match journal.read() {
            Ok(raw) => raw,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()), // removed meanwhile
            Err(error) => return Err(LogError::io("read a journal")(error)),
        };
        let mut lines = journal.lines(&raw);
        if lines.is_empty() {
            return self
                .if_open(|open| self.remove(shared, open, number))
                .unwrap_or(Ok(()));
        }
        let bytes = segment::build(&journal.names, &mut lines, LEVEL)
            .map_err(LogError::io("compress a segment"))?;
        drop(lines);
        let length = bytes.len() as u64;
        while let Err(over) = shared.disk.reserve(&self.bytes, length, Purpose::MakeRoom) {
            room(over)?;
        }
        let path = file::path(&self.directory, Kind::Segment, number);
        let written = file::write_whole(&path, &bytes);
        if let Err(error) = written.and_then(|()| file::sync_directory(&self.directory)) {
            let _ = fs::remove_file(&path);
            shared.disk.release(&self.bytes, length);
            return Err(LogError::io("write a segment")(error));
        }
        let placed = self.if_open(|open| {
            // The journal may have been removed to make room; its lines must not come back.
            let part = open.parts.get_mut(&number)?;
            *part = Part::Segment(Arc::new(Segment::new(path.clone(), length)));
            Some(())
        });
        let gone = match placed.flatten() {
            Some(()) => (remove_file(&journal.path), journal.bytes),
            None => (remove_file(&path), length),
        };
        gone.0.map_err(LogError::io("remove what was sealed"))?;
        shared.disk.release(&self.bytes, gone.1);
        Counters::add(&shared.counters.sealed, 1);
        Ok(())
    }

    /// Seals a journal of this group, or waits for who does, so that an append can go on.
    pub(crate) fn catch_up(
        self: &Arc<Self>,
        shared: &Shared,
        room: impl Fn(Over) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let free = self.if_open(|open| {
            open.parts.iter().find_map(|(number, part)| match part {
                Part::Journal(journal) if !journal.sealing.load(SeqCst) => Some(*number),
                _ => None,
            })
        });
        if let Some(number) = free.flatten() {
            return self.seal(shared, number, room);
        }
        // All that wait are being sealed: one of them has to come to its end.
        let before = self.if_open(|open| open.unsealed()).unwrap_or(0);
        let all_sealing = |state: &mut State| match state {
            State::Open(open) => {
                (1..=open.unsealed()).contains(&before)
                    && open.parts.values().all(|part| match part {
                        Part::Journal(journal) => journal.sealing.load(SeqCst),
                        Part::Segment(_) => true,
                    })
            }
            State::Closed(_) | State::Deleted => false,
        };
        let state: MutexGuard<'_, State> = lock(&self.state);
        let waited = self
            .sealed
            .wait_timeout_while(state, SEAL_WAIT_MAX, all_sealing);
        match waited {
            Ok((_, waited)) if waited.timed_out() => Err(LogError::Busy),
            _ => Ok(()),
        }
    }

    /// Syncs what was written since the last time.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        if !self.dirty.swap(false, SeqCst) {
            return Ok(());
        }
        let paths = self.if_open(|open| {
            let parts = open.parts.values().filter_map(|part| match part {
                Part::Journal(journal) => Some(&**journal),
                Part::Segment(_) => None,
            });
            parts
                .chain(open.active.as_ref().map(|(_, journal)| journal))
                .filter(|journal| journal.dirty.swap(false, SeqCst))
                .map(|journal| journal.path.clone())
                .collect::<Vec<_>>()
        });
        // Without the lock: appends go on meanwhile.
        for path in paths.into_iter().flatten() {
            match File::open(&path).and_then(|file| file.sync_data()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.dirty.store(true, SeqCst);
                    return Err(LogError::io("sync a journal")(error));
                }
                _ => {}
            }
        }
        match file::sync_directory(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LogError::io("sync a group's directory")(error))
            }
            _ => Ok(()),
        }
    }

    /// Has the journal sealed if it is old and has enough, or is so old that its lines would be kept for too
    /// long with it.
    pub(crate) fn seal_old(self: &Arc<Self>, shared: &Shared, now_ms: i64) -> Result<(), LogError> {
        const DAY_MS: i64 = 86_400_000;
        let after = i64::try_from(shared.settings.seal_after.as_millis()).unwrap_or(i64::MAX);
        let enough = Self::journal_bytes_max(shared) / 16;
        let rotated = self.if_open(|open| {
            // Ones that could not be sealed are tried again.
            for (number, part) in &open.parts {
                if let Part::Journal(journal) = part
                    && !journal.sealing.load(SeqCst)
                {
                    shared.enqueue(self, *number);
                }
            }
            let old = open.active.as_ref().is_some_and(|(_, journal)| {
                let age = now_ms.saturating_sub(journal.begun_ms);
                !journal.chunks.is_empty()
                    && (age >= after && journal.bytes >= enough || age >= after.max(DAY_MS))
            });
            match old && open.unsealed() < UNSEALED_MAX {
                true => self.rotate(shared, open, now_ms),
                false => Ok(()),
            }
        });
        match rotated {
            Some(Err(Hindrance::Error(error))) => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes what is older than the group keeps. How many parts that were.
    pub(crate) fn remove_old(
        self: &Arc<Self>,
        shared: &Shared,
        now_ms: i64,
    ) -> Result<u64, LogError> {
        let Some(days) = lock(&self.meta).retention_days else {
            return Ok(0);
        };
        let before = now_ms.saturating_sub(i64::from(days) * 86_400_000);
        if !self.has_files() {
            return Ok(0);
        }
        self.with(shared, |open| {
            let active = open
                .active
                .as_ref()
                .and_then(|(_, journal)| journal.range());
            if active.is_some_and(|range| range.times.1 < before)
                && let Err(Hindrance::Error(error)) = self.rotate(shared, open, now_ms)
            {
                return Err(error);
            }
            let mut removed = 0;
            let numbers: Vec<u64> = open.parts.keys().copied().collect();
            for number in numbers {
                // They are not in the order of time if that went back; a look at each is cheap, since the
                // range is kept.
                let range = open.parts[&number].range(shared);
                if matches!(range, Ok(Some(range)) if range.times.1 < before) {
                    self.remove(shared, open, number)?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
    }

    /// Writes `group.json`.
    pub(crate) fn write_meta(
        &self,
        shared: &Shared,
        meta: &Meta,
        new: bool,
    ) -> Result<(), Hindrance> {
        let mut bytes = serde_json::to_vec_pretty(meta)
            .map_err(|error| LogError::io("write about a group")(error.into()))?;
        bytes.push(b'\n');
        let path = self.directory.join(file::GROUP);
        let old = match new {
            true => 0,
            false => fs::metadata(&path).map_or(0, |meta| meta.len()),
        };
        let length = bytes.len() as u64;
        shared
            .disk
            .reserve(&self.bytes, length, Purpose::MakeRoom)
            .map_err(Hindrance::NoRoom)?;
        let written = file::write_whole(&path, &bytes)
            .and_then(|()| file::sync_directory(&self.directory))
            .map_err(LogError::io("write about a group"));
        let gone = if written.is_ok() { old } else { length };
        shared.disk.release(&self.bytes, gone);
        Ok(written?)
    }
}

fn forget_bytes(table: &mut StreamTable, stream: &str, bytes: u64) {
    if let Some(stream) = table.streams.get_mut(stream) {
        stream.bytes = stream.bytes.saturating_sub(bytes);
    }
}

/// Removes a file that may be gone already.
fn remove_file(path: &std::path::Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn chunks(journal: &Journal, sources: &mut Vec<Source>) -> Result<(), LogError> {
    if journal.chunks.is_empty() {
        return Ok(());
    }
    // Opened under the group's lock: it stays readable when it is sealed and removed.
    let file = File::open(&journal.path).map_err(LogError::io("open a journal"))?;
    let file = Arc::new(file);
    sources.extend(journal.chunks.iter().map(|chunk| Source::Chunk {
        file: Arc::clone(&file),
        salt: journal.salt,
        chunk: chunk.clone(),
    }));
    Ok(())
}
