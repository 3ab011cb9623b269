//! The store.
//!
//! What is recorded is appended to a journal and added to memory. Every few minutes a new journal is begun and what
//! memory had is merged into the files of each resolution. A file's number says which journals are in it, so that
//! after a crash anywhere in between each file takes from the journals what it has not.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crate::{
    block::{self, Block, BlockId, TIERS},
    catalog::{Catalog, REMEMBERED_MINUTES},
    codec::{Point, series_key, starting_at},
    datum::Datum,
    error::Error,
    hot::{Hot, between},
    journal::{self, Journal, RECORD_BYTES, RecordWriter},
    list::{ListQuery, MetricPage},
    metric_data::{MetricData, MetricDataRequest},
    read::{self, Periods, Span, Want},
    series::{Series, Unit},
    settings::Settings,
    statistics::{self, Datapoint, StatisticsQuery},
};

/// Data that are written together.
pub const BATCH_MAX: usize = 10_000;
/// How old a datum may be: two weeks.
pub const AGE_MAX: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// How far in the future a datum may be.
pub const AHEAD_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// How many times [`Settings::memory_bytes_max`] there may be when files cannot be written. Beyond, nothing is recorded.
const MEMORY_TIMES_MAX: usize = 4;
/// How long to wait before what could not be written to files is tried again.
const RETRY_MS: u64 = 10_000;

const MINUTE_MS: u64 = 60_000;
/// All tiers.
const ALL: u8 = 0b111;

/// What a series has for the minute of a time.
#[derive(Debug, Clone)]
pub struct Record {
    /// What was measured.
    pub series: Series,
    /// When, milliseconds since 1970.
    pub timestamp_ms: u64,
    /// What it was.
    pub datum: Datum,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Recorded {
    /// How many were recorded.
    pub recorded: usize,
    /// How many were refused: too old, too far in the future, or of a series too many.
    pub refused: usize,
    /// Why the first of those was.
    pub refusal: Option<Error>,
}

/// What the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Series with data of the last 15 days.
    pub series: usize,
    /// Data of new series that were refused since the store was opened.
    pub series_refused: u64,
    /// Bytes of all files.
    pub disk_bytes: u64,
    /// Bytes of what is not in a file but the journal yet, about.
    pub memory_bytes: usize,
    /// Records of the journal and pieces of files that were damaged and left out, since the store was opened.
    pub damaged: u64,
}

/// A directory with metrics. Clones are the same store. One process may have it open.
#[derive(Clone)]
pub struct MetricStore {
    inner: Arc<Inner>,
}

struct Inner {
    directory: PathBuf,
    settings: Settings,
    state: Mutex<State>,
    /// Held by the one that moves data to files.
    flushing: Mutex<()>,
    /// Locked as long as the store is open.
    _lock: File,
}

struct State {
    journal: Journal,
    /// By the tiers whose files do not have it yet, as bits. All of them, but after a crash.
    hot: BTreeMap<u8, Hot>,
    moving: Option<Moving>,
    flushed_at_ms: u64,
    forgot_at_ms: u64,
    catalog: Catalog,
    blocks: BTreeMap<BlockId, Stored>,
    /// Journals that are in no file yet, but the current one, and their bytes.
    journals: BTreeMap<u64, u64>,
    series_refused: u64,
    damaged: u64,
}

/// What is being moved to files.
#[derive(Clone)]
struct Moving {
    hot: Arc<BTreeMap<u8, Hot>>,
    /// The number of the files that will have it.
    number: u64,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    number: u64,
    bytes: u64,
}

impl State {
    /// Memory that a tier's file does not have yet.
    fn missing_in(&self, id: BlockId) -> impl Iterator<Item = &Hot> {
        let stored = self.blocks.get(&id).map_or(0, |stored| stored.number);
        let moving = self
            .moving
            .as_ref()
            .filter(move |moving| stored < moving.number);
        let moving = moving.into_iter().flat_map(|moving| moving.hot.iter());
        let all = moving.chain(self.hot.iter());
        all.filter(move |(tiers, _)| *tiers & 1 << id.0 != 0)
            .map(|(_, hot)| hot)
    }

    /// Whether it did not fail just now.
    fn may_flush(&self, now_ms: u64) -> bool {
        self.moving.is_none() || now_ms.abs_diff(self.flushed_at_ms) >= RETRY_MS
    }

    fn memory_bytes(&self) -> usize {
        self.hot.values().map(|hot| hot.bytes).sum()
    }

    fn disk_bytes(&self) -> u64 {
        let blocks: u64 = self.blocks.values().map(|stored| stored.bytes).sum();
        blocks + self.journals.values().sum::<u64>() + self.journal.bytes
    }

    /// The first minute that a tier has, a multiple of 60.
    fn floor(&self, tier: usize, kept_minutes: u64, now_minute: u32) -> u32 {
        let kept = now_minute.saturating_sub(u32::try_from(kept_minutes).unwrap_or(u32::MAX));
        let stored = (self.blocks.range((tier, 0)..).next())
            .filter(|((of, _), _)| *of == tier)
            .map(|((_, span), _)| span.saturating_mul(TIERS[tier].span));
        let moving = self.moving.iter().flat_map(|moving| moving.hot.values());
        let memory = moving
            .chain(self.hot.values())
            .filter_map(|hot| hot.first_minute)
            .min();
        let first = stored.into_iter().chain(memory).min().unwrap_or(0);
        kept.next_multiple_of(60).max(first - first % 60)
    }
}

impl std::fmt::Debug for MetricStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MetricStore({})", self.inner.directory.display())
    }
}

impl MetricStore {
    /// Opens the store, and makes it if there is none. What a crash left in journals is read.
    ///
    /// # Errors
    /// [`Error::Io`], also when another process has it open.
    pub fn open(directory: &Path, settings: Settings, now_ms: u64) -> Result<Self, Error> {
        let io = |doing: &str| Error::io(format!("{doing} {}", directory.display()));
        fs::create_dir_all(directory).map_err(io("make the directory of metrics"))?;
        let lock = File::create(directory.join("lock")).map_err(io("lock the metrics in"))?;
        lock.try_lock()
            .map_err(|error| io("lock the metrics in")(error.into()))?;
        let (blocks, journals) = found_in(directory).map_err(io("read the metrics in"))?;
        let mut catalog = Catalog::default();
        let mut damaged = 0;
        let now_minute = minute_of(now_ms);
        for (id, stored) in &blocks {
            let tier = TIERS[id.0];
            let end = id.1.saturating_add(1).saturating_mul(tier.span);
            // 1-hour points say which series there are, 1-minute points which had data just now.
            let back = if id.0 == 2 {
                REMEMBERED_MINUTES
            } else {
                4 * 60
            };
            if id.0 == 1 || end < now_minute.saturating_sub(back) {
                continue;
            }
            let path = directory.join(block::name(*id, stored.number));
            let read = File::open(&path).and_then(Block::open).map(|mut block| {
                block.keys(|key, minute| {
                    catalog.note(&key, minute);
                });
                block.damaged
            });
            damaged += read.map_err(io("read the series in"))?;
        }
        let mut hot: BTreeMap<u8, Hot> = BTreeMap::new();
        for number in journals.keys() {
            let read = journal::read(&journal::path(directory, *number), |key, minute, datum| {
                let missing = (0..TIERS.len()).filter(|tier| {
                    let id = (*tier, minute / TIERS[*tier].span);
                    blocks
                        .get(&id)
                        .is_none_or(|stored| stored.number <= *number)
                });
                let tiers = missing.fold(0, |tiers, tier| tiers | 1 << tier);
                if tiers != 0 {
                    let key = catalog.note(key, minute);
                    hot.entry(tiers).or_default().add(&key, minute, &datum);
                }
            });
            damaged += read.map_err(io("read the journals in"))?;
        }
        if damaged > 0 {
            tracing::warn!(
                damaged,
                "some metrics were damaged or torn off and are left out"
            );
        }
        let newest = blocks.values().map(|stored| stored.number);
        let newest = newest.chain(journals.keys().map(|number| number + 1)).max();
        let journal = Journal::create(directory, newest.unwrap_or(1).max(1))
            .map_err(io("make a journal in"))?;
        catalog.forget_before(now_minute.saturating_sub(REMEMBERED_MINUTES));
        let state = State {
            journal,
            hot,
            moving: None,
            flushed_at_ms: now_ms,
            forgot_at_ms: now_ms,
            catalog,
            blocks,
            journals,
            series_refused: 0,
            damaged,
        };
        let leftover = !state.journals.is_empty();
        let store = Self {
            inner: Arc::new(Inner {
                directory: directory.to_owned(),
                settings,
                state: Mutex::new(state),
                flushing: Mutex::new(()),
                _lock: lock,
            }),
        };
        if leftover && let Err(error) = store.flush(now_ms) {
            tracing::warn!(%error, "what the journals of metrics had could not be written to files yet");
        }
        Ok(store)
    }

    /// Adds a datum to its minute. When it returns, the datum survives the end of the process; [`Self::tick`] makes
    /// it survive the machine's.
    ///
    /// # Errors
    /// [`Error::InvalidParameterValue`] when it is older than two weeks or more than two hours in the future,
    /// [`Error::LimitExceeded`] when it would be a new series and there are too many, [`Error::Io`].
    pub fn record(
        &self,
        series: &Series,
        timestamp_ms: u64,
        datum: &Datum,
        now_ms: u64,
    ) -> Result<(), Error> {
        let record = Record {
            series: series.clone(),
            timestamp_ms,
            datum: datum.clone(),
        };
        let recorded = self.record_batch(std::slice::from_ref(&record), now_ms)?;
        recorded.refusal.map_or(Ok(()), Err)
    }

    /// Adds many; after a crash each [`BATCH_MAX`] of them are there or not together, unless they are larger than
    /// 8 MiB.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::LimitExceeded`] when files cannot be written and memory is used up; then some may be
    /// recorded, a whole number of [`BATCH_MAX`] of them. What is refused is told in [`Recorded`].
    pub fn record_batch(&self, batch: &[Record], now_ms: u64) -> Result<Recorded, Error> {
        let mut recorded = Recorded::default();
        for batch in batch.chunks(BATCH_MAX) {
            self.record_part(batch, now_ms, &mut recorded)?;
        }
        let is_full = {
            let state = self.state();
            state.memory_bytes() > 2 * self.inner.settings.memory_bytes_max
                && state.may_flush(now_ms)
        };
        if is_full && let Err(error) = self.flush(now_ms) {
            tracing::warn!(%error, "metrics could not be written to files");
        }
        Ok(recorded)
    }

    fn record_part(
        &self,
        batch: &[Record],
        now_ms: u64,
        recorded: &mut Recorded,
    ) -> Result<(), Error> {
        let keys: Vec<Vec<u8>> = batch
            .iter()
            .map(|record| series_key(&record.series))
            .collect();
        let mut state = self.state();
        if state.memory_bytes() > MEMORY_TIMES_MAX * self.inner.settings.memory_bytes_max {
            return Err(Error::LimitExceeded(
                "metrics cannot be written to files and memory for them is used up; see the log for why, and whether the \
                 disk is full"
                    .to_owned(),
            ));
        }
        let mut refused = 0;
        let mut accepted = Vec::with_capacity(batch.len());
        // Series that are new in this batch, and how many in each namespace.
        let mut new: HashMap<&[u8], ()> = HashMap::new();
        let mut new_of: HashMap<&str, usize> = HashMap::new();
        for (record, key) in batch.iter().zip(&keys) {
            let namespace = record.series.metric.namespace();
            let mut check = check_time(record.timestamp_ms, now_ms);
            if check.is_ok() && state.catalog.get(key).is_none() && !new.contains_key(&**key) {
                let of_namespace = new_of.entry(namespace).or_default();
                let settings = &self.inner.settings;
                check = state
                    .catalog
                    .check_room(key, new.len(), *of_namespace, settings);
                if check.is_ok() {
                    new.insert(key, ());
                    *of_namespace += 1;
                } else {
                    state.series_refused += 1;
                }
            }
            match check {
                Ok(()) => accepted.push((key, minute_of(record.timestamp_ms), &record.datum)),
                Err(error) => {
                    refused += 1;
                    recorded.refusal.get_or_insert(error);
                }
            }
        }
        recorded.refused += refused;
        if accepted.is_empty() {
            return Ok(());
        }
        let mut frames = Vec::new();
        let mut writer = RecordWriter::default();
        let io = || Error::io("append metrics to the journal");
        for (key, minute, datum) in &accepted {
            writer.put(key, *minute, datum);
            if writer.len() >= RECORD_BYTES {
                frames.extend_from_slice(&writer.finish().map_err(io())?);
                writer = RecordWriter::default();
            }
        }
        if writer.len() > 0 {
            frames.extend_from_slice(&writer.finish().map_err(io())?);
        }
        state.journal.append(&frames).map_err(io())?;
        let state = &mut *state;
        let hot = state.hot.entry(ALL).or_default();
        for (key, minute, datum) in &accepted {
            let key = state.catalog.note(key, *minute);
            hot.add(&key, *minute, datum);
        }
        recorded.recorded += accepted.len();
        Ok(())
    }

    /// To be called every few seconds: makes what was recorded survive the machine, moves it from the journal to files
    /// when it is time, and removes what is too old or too much.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is lost by it, and the next call tries again.
    pub fn tick(&self, now_ms: u64) -> Result<(), Error> {
        let settings = &self.inner.settings;
        let io = || Error::io("sync the journal of metrics");
        let (unsynced, due) = {
            let state = self.state();
            let since = now_ms.saturating_sub(state.flushed_at_ms);
            let due = state.moving.is_some()
                || state.memory_bytes() > settings.memory_bytes_max
                || state.journal.bytes > settings.journal_bytes_max
                || u128::from(since) >= settings.flush_every.as_millis();
            let due = due && state.may_flush(now_ms);
            let unsynced = match state.journal.is_synced() {
                true => None,
                false => Some((state.journal.number, state.journal.handle().map_err(io())?)),
            };
            (unsynced, due)
        };
        if let Some((number, (file, bytes))) = unsynced {
            file.sync_data().map_err(io())?;
            let mut state = self.state();
            if state.journal.number == number {
                state.journal.synced_to(bytes);
            }
        }
        if due {
            self.flush(now_ms)?;
        }
        self.remove_old(now_ms)
    }

    /// Moves everything from the journal to files now.
    ///
    /// # Errors
    /// As [`Self::tick`].
    pub fn flush(&self, now_ms: u64) -> Result<(), Error> {
        let _only = self
            .inner
            .flushing
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let directory = &self.inner.directory;
        let io = |doing: &str| Error::io(format!("{doing} {}", directory.display()));
        let moving = {
            let mut state = self.state();
            state.flushed_at_ms = now_ms;
            match &state.moving {
                Some(moving) => moving.clone(),
                None if state.hot.is_empty() && state.journals.is_empty() => return Ok(()),
                None => {
                    let number = state.journal.number + 1;
                    let next = Journal::create(directory, number)
                        .map_err(io("make a journal of metrics in"))?;
                    let last = std::mem::replace(&mut state.journal, next);
                    state.journals.insert(last.number, last.bytes);
                    let moving = Moving {
                        hot: Arc::new(std::mem::take(&mut state.hot)),
                        number,
                    };
                    state.moving = Some(moving.clone());
                    moving
                }
            }
        };
        let mut written = Vec::new();
        for id in touched(&moving.hot) {
            let keep = self.keep_minutes(id.0);
            let end = u64::from(id.1 + 1) * u64::from(TIERS[id.0].span);
            if end + keep < u64::from(minute_of(now_ms)) {
                continue;
            }
            let stored = self.state().blocks.get(&id).copied();
            if stored.is_some_and(|stored| stored.number >= moving.number) {
                continue;
            }
            let old = stored.map(|stored| {
                let path = directory.join(block::name(id, stored.number));
                File::open(path).and_then(Block::open)
            });
            let old = old.transpose().map_err(io("read points in"))?;
            let temporary = directory.join(block::name(id, moving.number) + ".tmp");
            let (bytes, damaged) = block::write(&temporary, old, &of_block(&moving.hot, id), id.0)
                .map_err(io("write points in"))?;
            self.state().damaged += damaged;
            written.push((id, temporary, bytes, stored));
        }
        {
            let mut state = self.state();
            for (id, temporary, bytes, _) in &written {
                let path = directory.join(block::name(*id, moving.number));
                fs::rename(temporary, path).map_err(io("rename points in"))?;
                let stored = Stored {
                    number: moving.number,
                    bytes: *bytes,
                };
                state.blocks.insert(*id, stored);
            }
        }
        File::open(directory)
            .and_then(|file| file.sync_all())
            .map_err(io("sync"))?;
        let journals = {
            let mut state = self.state();
            state.moving = None;
            let newer = state.journals.split_off(&moving.number);
            std::mem::replace(&mut state.journals, newer)
        };
        for number in journals.keys() {
            fs::remove_file(journal::path(directory, *number))
                .map_err(io("remove a journal of metrics in"))?;
        }
        for (id, _, _, stored) in written {
            if let Some(stored) = stored {
                fs::remove_file(directory.join(block::name(id, stored.number)))
                    .map_err(io("remove points in"))?;
            }
        }
        Ok(())
    }

    /// Removes files that are older than they are kept, and the oldest while there is more than there may be.
    fn remove_old(&self, now_ms: u64) -> Result<(), Error> {
        let _only = self
            .inner
            .flushing
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = u64::from(minute_of(now_ms));
        let mut state = self.state();
        if now_ms.saturating_sub(state.forgot_at_ms) > 60 * MINUTE_MS {
            state.forgot_at_ms = now_ms;
            let since = minute_of(now_ms).saturating_sub(REMEMBERED_MINUTES);
            state.catalog.forget_before(since);
        }
        let end = |id: &BlockId| (u64::from(id.1) + 1) * u64::from(TIERS[id.0].span);
        let mut by_end: Vec<BlockId> = state.blocks.keys().copied().collect();
        by_end.sort_by_key(|id| (end(id), id.0));
        let mut bytes = state.disk_bytes();
        for id in by_end {
            let too_much = bytes > self.inner.settings.bytes_max;
            if !too_much && end(&id) + self.keep_minutes(id.0) >= now {
                continue;
            }
            let Some(stored) = state.blocks.remove(&id) else {
                continue;
            };
            bytes = bytes.saturating_sub(stored.bytes);
            let path = self.inner.directory.join(block::name(id, stored.number));
            fs::remove_file(path).map_err(Error::io("remove old metrics"))?;
        }
        Ok(())
    }

    fn keep_minutes(&self, tier: usize) -> u64 {
        let settings = &self.inner.settings;
        let keep = [
            settings.keep_minutes,
            settings.keep_five_minutes,
            settings.keep_hours,
        ][tier];
        keep.as_secs() / 60
    }

    /// Which metrics there are.
    ///
    /// # Errors
    /// [`Error::InvalidParameterValue`].
    pub fn list_metrics(&self, query: &ListQuery, now_ms: u64) -> Result<MetricPage, Error> {
        self.state().catalog.list(query, minute_of(now_ms))
    }

    /// A metric's statistics, by time and then unit; periods without data have none.
    ///
    /// # Errors
    /// As GetMetricStatistics, or [`Error::Io`].
    pub fn statistics(
        &self,
        query: &StatisticsQuery,
        now_ms: u64,
    ) -> Result<Vec<Datapoint>, Error> {
        let kept = [0, 1].map(|tier| self.keep_minutes(tier));
        let want = query.want(minute_of(now_ms), kept)?;
        let found = self.read(&[want], now_ms)?;
        Ok(statistics::datapoints(found))
    }

    /// Several metrics and what is calculated from them.
    ///
    /// # Errors
    /// As GetMetricData, or [`Error::Io`].
    pub fn metric_data(
        &self,
        request: &MetricDataRequest,
        now_ms: u64,
    ) -> Result<MetricData, Error> {
        let wants = request.wants()?;
        let found = self.read(&wants, now_ms)?;
        request.answer(found)
    }

    /// What the store holds.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let state = self.state();
        let moving = state.moving.iter().flat_map(|moving| moving.hot.values());
        let moving: usize = moving.map(|hot| hot.bytes).sum();
        Usage {
            series: state.catalog.len(),
            series_refused: state.series_refused,
            disk_bytes: state.disk_bytes(),
            memory_bytes: state.memory_bytes() + moving,
            damaged: state.damaged,
        }
    }

    fn read(&self, wants: &[Want], now_ms: u64) -> Result<Vec<BTreeMap<Unit, Periods>>, Error> {
        let spans = self.spans(wants, minute_of(now_ms))?;
        let (found, damaged) = read::read(wants, spans)?;
        if damaged > 0 {
            tracing::warn!(
                damaged,
                "some metrics were damaged and are left out of an answer"
            );
            self.state().damaged += damaged;
        }
        Ok(found)
    }

    /// What to read, with files open and memory copied at one moment.
    fn spans(&self, wants: &[Want], now_minute: u32) -> Result<Vec<Span>, Error> {
        let Some(start) = wants.iter().map(|want| want.start_minute).min() else {
            return Ok(Vec::new());
        };
        let end = wants
            .iter()
            .map(|want| want.end_minute)
            .max()
            .unwrap_or(start);
        // There is nothing before and after.
        let kept = u32::try_from(self.keep_minutes(2)).unwrap_or(u32::MAX);
        let start = start.max(now_minute.saturating_sub(kept.saturating_add(TIERS[2].span)));
        let end = end.min(now_minute.saturating_add(TIERS[1].span));
        let state = self.state();
        let floor = |tier| state.floor(tier, self.keep_minutes(tier), now_minute);
        let one = floor(1);
        let pieces = read::pieces(start, end, [floor(0).max(one), one]);
        let mut spans = Vec::new();
        for (tier, from, to) in pieces {
            let id = (tier, from / TIERS[tier].span);
            let file = state.blocks.get(&id).map(|stored| {
                File::open(self.inner.directory.join(block::name(id, stored.number)))
            });
            let mut memory: Vec<(usize, u8, Vec<Point>)> = Vec::new();
            for hot in state.missing_in(id) {
                for (number, want) in wants.iter().enumerate() {
                    let keys = hot.series.range::<[u8], _>(starting_at(&want.prefix));
                    let keys = keys.take_while(|(key, _)| key.starts_with(&want.prefix));
                    for (key, points) in keys {
                        let points = between(points, from, to);
                        if let (Some(unit), false) = (key.last(), points.is_empty()) {
                            memory.push((number, *unit, points.to_vec()));
                        }
                    }
                }
            }
            let file = file
                .transpose()
                .map_err(Error::io("open a file of metrics"))?;
            if file.is_some() || !memory.is_empty() {
                spans.push(Span {
                    tier,
                    from,
                    to,
                    file,
                    memory,
                });
            }
        }
        Ok(spans)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let state = self
            .state
            .get_mut()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        // An empty one says nothing.
        if state.journal.bytes == 0 {
            let _ = state.journal.remove();
        }
    }
}

pub(crate) fn minute_of(time_ms: u64) -> u32 {
    u32::try_from(time_ms / MINUTE_MS).unwrap_or(u32::MAX)
}

fn check_time(timestamp_ms: u64, now_ms: u64) -> Result<(), Error> {
    let (age, ahead) = (
        now_ms.saturating_sub(timestamp_ms),
        timestamp_ms.saturating_sub(now_ms),
    );
    if u128::from(age) > AGE_MAX.as_millis() || u128::from(ahead) > AHEAD_MAX.as_millis() {
        return Err(Error::value(format!(
            "the parameter Timestamp is {timestamp_ms} ms after 1970; it must be within the last two weeks and the next \
             two hours"
        )));
    }
    Ok(())
}

/// The files that points in memory belong to.
fn touched(hot: &BTreeMap<u8, Hot>) -> Vec<BlockId> {
    let mut ids = std::collections::BTreeSet::new();
    for (tiers, hot) in hot {
        for tier in (0..TIERS.len()).filter(|tier| tiers & 1 << tier != 0) {
            for points in hot.series.values() {
                ids.extend(
                    points
                        .iter()
                        .map(|(minute, _)| (tier, minute / TIERS[tier].span)),
                );
            }
        }
    }
    ids.into_iter().collect()
}

/// The points in memory that belong to a file.
fn of_block(hot: &BTreeMap<u8, Hot>, id: BlockId) -> BTreeMap<Arc<[u8]>, Vec<&[Point]>> {
    let span = TIERS[id.0].span;
    let (from, to) = (id.1 * span, (id.1 + 1) * span);
    let mut all: BTreeMap<Arc<[u8]>, Vec<&[Point]>> = BTreeMap::new();
    for (_, hot) in hot.iter().filter(|(tiers, _)| *tiers & 1 << id.0 != 0) {
        for (key, points) in &hot.series {
            let points = between(points, from, to);
            if !points.is_empty() {
                all.entry(Arc::clone(key)).or_default().push(points);
            }
        }
    }
    all
}

/// The newest file of each and the journals with their bytes; what a crash left is removed.
fn found_in(directory: &Path) -> std::io::Result<(BTreeMap<BlockId, Stored>, BTreeMap<u64, u64>)> {
    let mut blocks: BTreeMap<BlockId, Stored> = BTreeMap::new();
    let mut journals = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            continue;
        };
        let bytes = entry.metadata()?.len();
        if name.ends_with(".block.tmp") {
            fs::remove_file(entry.path())?;
        } else if let Some(number) = journal::parse_name(name) {
            journals.insert(number, bytes);
        } else if let Some((id, number)) = block::parse_name(name) {
            let replaced = blocks.insert(id, Stored { number, bytes });
            if let Some(other) = replaced {
                let older = number.min(other.number);
                fs::remove_file(directory.join(block::name(id, older)))?;
                if other.number > number {
                    blocks.insert(id, other);
                }
            }
        }
    }
    Ok((blocks, journals))
}
