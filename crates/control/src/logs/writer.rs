//! Lines that control itself has, such as those of builds, on their way to the log store.
//!
//! Whoever has lines never waits: they go through a queue, and what does not fit is counted and said.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Duration,
};

use ekiden_logs::{
    append::{Append, DropCause, Missing, Times},
    event::NewEvent,
    store::LogStore,
};

use super::{drop_cause, now_ms};

/// Lines that wait.
const LINES_WAITING_MAX: usize = 10_000;

/// Lines that are stored at one time.
const BATCH_LINES_MAX: usize = 1000;

/// How long the first line of a batch waits for more.
const BATCH_WAIT: Duration = Duration::from_millis(50);

/// The sending end; cheap to clone. What was sent is stored before the last one is gone.
#[derive(Debug, Clone)]
pub(crate) struct LineWriter {
    queue: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Line {
    group: Arc<str>,
    stream: Arc<str>,
    time_ms: i64,
    text: String,
}

impl LineWriter {
    /// Starts the thread that stores lines.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(store: LogStore) -> std::io::Result<Self> {
        let (queue, lines) = sync_channel(LINES_WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name("log-lines".to_owned())
            .spawn(move || write(&store, &lines, &lost))?;
        Ok(Self { queue, dropped })
    }

    /// Sends a line.
    pub(crate) fn say(&self, group: &Arc<str>, stream: &Arc<str>, text: String) {
        let line = Line {
            group: Arc::clone(group),
            stream: Arc::clone(stream),
            time_ms: now_ms(),
            text,
        };
        if self.queue.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write(store: &LogStore, lines: &Receiver<Line>, dropped: &AtomicU64) {
    while let Ok(first) = lines.recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_LINES_MAX {
            match lines.recv_timeout(BATCH_WAIT) {
                Ok(line) => batch.push(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let line = &batch[0];
            store.note_dropped(&line.group, &line.stream, lost, 0, DropCause::Busy);
        }
        // Lines of one stream that follow each other are stored together.
        let same =
            |one: &Line, other: &Line| one.group == other.group && one.stream == other.stream;
        for lines in batch.chunk_by(same) {
            let events: Vec<_> = lines
                .iter()
                .map(|line| NewEvent {
                    time_ms: line.time_ms,
                    text: line.text.as_bytes(),
                })
                .collect();
            let line = &lines[0];
            let appended = store.append(&Append {
                group: &line.group,
                stream: &line.stream,
                missing: Missing::CreateGroup,
                // They waited, and others may have written to the stream meanwhile: read by time, they stand
                // where they belong.
                times: Times::Given,
                now_ms: now_ms(),
                position: None,
                events: &events,
            });
            if let Err(error) = &appended {
                let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
                store.note_dropped(
                    &line.group,
                    &line.stream,
                    lines.len() as u64,
                    bytes as u64,
                    drop_cause(error),
                );
            }
        }
    }
}
