//! Queries of CloudWatch Logs Insights: those that wait, run, and are over.
//!
//! They are kept in memory. Whoever restarts the control plane starts them again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ekiden_logs::{
    error::LogError,
    event::EventRef,
    insights::{EventView, Query, Results},
    query::{Direction, Filter, Query as Look},
    store::LogStore,
};
use tokio::sync::Semaphore;
use tracing::warn;

use super::read::EventIds;
use crate::{clock, logs::now_ms, worker::Chain};

/// Queries that run at once; each has a thread and up to some 100 MB.
const RUNNING_MAX: usize = 2;

/// Queries that run or wait; more are refused: CloudWatch's.
const UNFINISHED_MAX: usize = 30;

/// How long a query may run.
const RUN_MAX: Duration = Duration::from_secs(15 * 60);

/// How long results are kept.
const KEEP: Duration = Duration::from_secs(15 * 60);

/// Queries that are kept; the oldest that are over make room.
const KEPT_MAX: usize = 1000;

/// Bytes of all results that are kept, names of fields included; the oldest make room.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// Bytes of one query's results; rows over it are left out.
const RESULT_BYTES_MAX: usize = 16 << 20;

/// Bytes that are looked at before it is seen whether the query was stopped.
const STEP_BYTES: u64 = 16 << 20;

/// Events that are looked at before it is seen whether the query was stopped.
const STEP_EVENTS: usize = 10_000;

/// All queries there are.
#[derive(Debug, Clone)]
pub(in crate::api) struct Queries {
    kept: Arc<Mutex<Kept>>,
    room: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Kept {
    queries: BTreeMap<String, Kind>,
    numbers: u64,
}

#[derive(Debug)]
struct Kind {
    told: Told,
    rows: Arc<Vec<Vec<(String, String)>>>,
    row_bytes: usize,
    ended: Option<Instant>,
    stop: Arc<AtomicBool>,
}

/// What there is to say about a query.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) id: String,
    /// The order in which they were started.
    pub(super) number: u64,
    pub(super) text: String,
    pub(super) groups: Vec<String>,
    pub(super) created_ms: i64,
    pub(super) status: Status,
    /// How many, of what.
    pub(super) results: Results,
    pub(super) took_ms: Option<u64>,
}

/// Rows of a query, and what there is to say about it.
pub(super) type Outcome = (Told, Arc<Vec<Vec<(String, String)>>>);

/// How far a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Scheduled,
    Running,
    Complete,
    Failed,
    Cancelled,
    Timeout,
}

impl Status {
    /// CloudWatch's name.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "Scheduled",
            Self::Running => "Running",
            Self::Complete => "Complete",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::Timeout => "Timeout",
        }
    }

    const fn is_over(self) -> bool {
        match self {
            Self::Scheduled | Self::Running => false,
            Self::Complete | Self::Failed | Self::Cancelled | Self::Timeout => true,
        }
    }
}

/// What a query looks at.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) text: String,
    pub(super) query: Query,
    pub(super) groups: Vec<String>,
    /// How a group is called in `@log`.
    pub(super) account: String,
    pub(super) from_ms: i64,
    /// Not included; `None` is the end of time.
    pub(super) to_ms: Option<i64>,
}

/// There are [`UNFINISHED_MAX`] queries that are not over.
#[derive(Debug, thiserror::Error)]
#[error("there are {UNFINISHED_MAX} queries that are not over; wait for one, or stop one")]
pub(super) struct TooMany;

impl Queries {
    pub(in crate::api) fn new() -> Self {
        Self {
            kept: Arc::default(),
            room: Arc::new(Semaphore::new(RUNNING_MAX)),
        }
    }

    /// Starts a query; answers its id.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn start(&self, store: &LogStore, wanted: Wanted) -> Result<String, TooMany> {
        let id = uuid::Uuid::from_bytes(clock::random_id()).to_string();
        let stop = Arc::new(AtomicBool::new(false));
        {
            let mut kept = self.lock();
            kept.tidy();
            let unfinished = |kind: &&Kind| !kind.told.status.is_over();
            if kept.queries.values().filter(unfinished).count() >= UNFINISHED_MAX {
                return Err(TooMany);
            }
            kept.numbers += 1;
            let told = Told {
                id: id.clone(),
                number: kept.numbers,
                text: wanted.text.clone(),
                groups: wanted.groups.clone(),
                created_ms: now_ms(),
                status: Status::Scheduled,
                results: Results::default(),
                took_ms: None,
            };
            let kind = Kind {
                told,
                rows: Arc::default(),
                row_bytes: 0,
                ended: None,
                stop: Arc::clone(&stop),
            };
            kept.queries.insert(id.clone(), kind);
        }
        tokio::spawn(self.clone().run(id.clone(), store.clone(), wanted, stop));
        Ok(id)
    }

    async fn run(self, id: String, store: LogStore, wanted: Wanted, stop: Arc<AtomicBool>) {
        let Ok(_room) = self.room.acquire().await else {
            return;
        };
        let begins = self.lock().change(&id, |kind| {
            let begins = kind.told.status == Status::Scheduled;
            if begins {
                kind.told.status = Status::Running;
            }
            begins
        });
        if begins != Some(true) {
            return; // stopped while it waited
        }
        let began = Instant::now();
        let ran = tokio::task::spawn_blocking(move || run(&store, &wanted, &stop, began)).await;
        let (status, results) = ran.unwrap_or_else(|error| {
            warn!(%error, "a query of logs panicked");
            (Status::Failed, Results::default())
        });
        let mut kept = self.lock();
        kept.change(&id, |kind| kind.end(status, results, began));
        kept.tidy();
    }

    /// Stops a query. `Ok(Err)` is how it ended before; `None` when there is no such.
    pub(super) fn stop(&self, id: &str) -> Option<Result<(), Status>> {
        self.lock().change(id, |kind| {
            if kind.told.status.is_over() {
                return Err(kind.told.status);
            }
            kind.stop.store(true, Ordering::Relaxed);
            kind.told.status = Status::Cancelled;
            kind.ended = Some(Instant::now());
            Ok(())
        })
    }

    /// A query, if it is still kept.
    pub(super) fn find(&self, id: &str) -> Option<Outcome> {
        let mut kept = self.lock();
        kept.tidy();
        let kind = kept.queries.get(id)?;
        Some((kind.told.clone(), Arc::clone(&kind.rows)))
    }

    /// All that are kept, newest first.
    pub(super) fn all(&self) -> Vec<Told> {
        let mut kept = self.lock();
        kept.tidy();
        let mut all: Vec<_> = kept
            .queries
            .values()
            .map(|kind| kind.told.clone())
            .collect();
        all.sort_unstable_by_key(|told| std::cmp::Reverse(told.number));
        all
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn change<T>(&mut self, id: &str, change: impl FnOnce(&mut Kind) -> T) -> Option<T> {
        self.queries.get_mut(id).map(change)
    }

    /// Forgets what is over long enough, or is too much.
    fn tidy(&mut self) {
        self.queries
            .retain(|_, kind| kind.ended.is_none_or(|ended| ended.elapsed() < KEEP));
        let bytes = |kept: &Self| {
            kept.queries
                .values()
                .map(|kind| kind.row_bytes)
                .sum::<usize>()
        };
        while self.queries.len() > KEPT_MAX || bytes(self) > KEPT_BYTES_MAX {
            let over = self.queries.iter().filter(|(_, kind)| kind.ended.is_some());
            let Some(oldest) = over
                .min_by_key(|(_, kind)| kind.told.number)
                .map(|(id, _)| id.clone())
            else {
                return;
            };
            self.queries.remove(&oldest);
        }
    }
}

impl Kind {
    fn end(&mut self, status: Status, mut results: Results, began: Instant) {
        let mut bytes = 0;
        let mut rows = std::mem::take(&mut results.rows);
        let fits = rows.iter().take_while(|row| {
            bytes += row
                .iter()
                .map(|(name, value)| name.len() + value.len() + size_of::<(String, String)>())
                .sum::<usize>();
            bytes <= RESULT_BYTES_MAX
        });
        let fitting = fits.count();
        rows.truncate(fitting);
        rows.shrink_to_fit();
        self.row_bytes = bytes.min(RESULT_BYTES_MAX);
        self.rows = Arc::new(rows);
        self.told.results = results;
        self.told.took_ms = Some(began.elapsed().as_millis() as u64);
        if !self.told.status.is_over() {
            self.told.status = status;
        }
        self.ended = Some(Instant::now());
    }
}

/// Looks through the groups, newest events first, until the query wants no more. Blocks.
fn run(store: &LogStore, wanted: &Wanted, stop: &AtomicBool, began: Instant) -> (Status, Results) {
    let mut evaluator = wanted.query.evaluator();
    for group in &wanted.groups {
        let ids = EventIds::of(group);
        let shown = format!("{}:{group}", wanted.account);
        let mut look = Look {
            from_ms: Some(wanted.from_ms),
            to_ms: wanted.to_ms,
            direction: Direction::Backward,
            events_max: STEP_EVENTS,
            bytes_max: STEP_BYTES as usize,
            scan_bytes_max: STEP_BYTES,
            ..Look::new(group)
        };
        // Events without it would be counted as looked at; that they are not saves reading their blocks.
        let filter = Filter {
            literal: wanted.query.required_literal(),
            matches: &|_: &EventRef<'_>| true,
        };
        loop {
            if stop.load(Ordering::Relaxed) {
                return (Status::Cancelled, evaluator.finish());
            }
            if began.elapsed() > RUN_MAX {
                return (Status::Timeout, evaluator.finish());
            }
            let page = match store.query(&look, &filter) {
                Ok(page) => page,
                Err(LogError::NoGroup { .. }) => break, // deleted meanwhile
                Err(error) => {
                    warn!(error = %Chain(&error), "a query of logs failed");
                    return (Status::Failed, evaluator.finish());
                }
            };
            for event in &page.events {
                evaluator.take(&EventView {
                    timestamp_ms: event.time_ms,
                    ingestion_ms: event.ingestion_ms,
                    log_group: &shown,
                    stream: &event.stream,
                    message: &event.text,
                    ptr: &ids.id(event.cursor()),
                });
            }
            let Some(next) = page.next else { break };
            // Nothing that is older would be among the rows.
            if evaluator
                .wants_from_ms()
                .is_some_and(|from| next.time_ms < from)
            {
                break;
            }
            look.after = Some(next);
        }
    }
    (Status::Complete, evaluator.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(number: u64, bytes: usize, ended: bool) -> Kind {
        Kind {
            told: Told {
                id: number.to_string(),
                number,
                text: String::new(),
                groups: Vec::new(),
                created_ms: 0,
                status: Status::Running,
                results: Results::default(),
                took_ms: None,
            },
            rows: Arc::default(),
            row_bytes: bytes,
            ended: ended.then(Instant::now),
            stop: Arc::default(),
        }
    }

    #[test]
    fn the_oldest_that_are_over_make_room() {
        let mut kept = Kept::default();
        for number in 0..(KEPT_MAX as u64 + 5) {
            let ended = number != 1;
            kept.queries
                .insert(number.to_string(), kind(number, 0, ended));
        }
        kept.tidy();
        assert_eq!(kept.queries.len(), KEPT_MAX);
        assert!(!kept.queries.contains_key("0") && kept.queries.contains_key("1"));
        kept.queries
            .insert("x".into(), kind(5000, KEPT_BYTES_MAX + 1, true));
        kept.tidy();
        let left: Vec<_> = kept.queries.keys().collect();
        assert_eq!(left, ["1"]);
    }

    #[test]
    fn rows_over_the_bound_are_left_out() {
        let mut kind = kind(0, 0, false);
        let row = vec![("@message".to_owned(), "x".repeat(1 << 20))];
        let results = Results {
            rows: vec![row; 20],
            ..Results::default()
        };
        kind.end(Status::Complete, results, Instant::now());
        assert_eq!(kind.rows.len(), 15);
        assert_eq!(kind.told.status, Status::Complete);
        assert!(kind.row_bytes <= RESULT_BYTES_MAX);
    }
}
