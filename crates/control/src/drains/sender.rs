//! The task of one drain: reads lines, sends them, and remembers how far it has come.

use std::{sync::Arc, time::Duration};

use ekiden_export::{
    backoff::Backoff,
    drain::{Drain, SendError, Sent},
    secrets::Secrets,
    target::Target,
};
use ekiden_model::time::Timestamp;
use ekiden_store::Store;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    batch::{Batch, Part, Reader},
    heads::Heads,
    progress::{DrainState, Progress},
};
use crate::{clock, logs::blocking, worker::Chain};

/// How often it is written down how far a drain has come, at most. What was sent since is sent again when the
/// control plane is killed. Object storage has it written down with every batch.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Batches in a row that a receiver may refuse for good, each of which is left out, before the drain pauses with
/// the next one. A receiver that has never taken anything from the drain as it is may refuse none: a mistyped
/// path loses nothing.
pub(super) const REFUSED_IN_A_ROW_MAX: u32 = 4;

/// The first pause; each is twice the one before, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(5);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// How long a batch that is being sent has when the drain is stopped.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// Sends the lines of one drain.
pub(super) struct Sender {
    pub(super) name: String,
    pub(super) target: Target,
    pub(super) secrets: Secrets,
    pub(super) proven: bool,
    pub(super) progress: Arc<Progress>,
    pub(super) store: Arc<Store>,
    pub(super) reader: Reader,
    pub(super) heads: watch::Receiver<Heads>,
    pub(super) stop: CancellationToken,
}

/// What of a sender changes as it goes.
struct Course {
    exporter: Option<Drain>,
    backoff: Backoff,
    /// Batches that were refused for good since the last that was taken.
    refused: u32,
    /// The group after which the next batch begins: each has its turn.
    turn: Option<Arc<str>>,
    /// Whether more was there than the last batch had room for.
    more: bool,
    /// Since when there is something to send.
    since: Option<Instant>,
    written_at: Instant,
    /// Whether the receiver has ever taken anything.
    proven: bool,
    /// Whether that is to be written down.
    newly_proven: bool,
}

/// What became of a batch.
enum Outcome {
    /// It need not be sent again.
    Done,
    /// It is to be sent again after this long.
    Later(Duration),
}

/// The drain is to stop.
struct Stopped;

impl Sender {
    /// Sends until it is stopped.
    pub(super) async fn run(mut self) {
        let mut course = Course {
            exporter: None,
            backoff: Backoff::default(),
            refused: 0,
            turn: None,
            more: false,
            since: None,
            written_at: Instant::now(),
            proven: self.proven,
            newly_proven: false,
        };
        // Ends with `Stopped` only.
        let _: Result<(), Stopped> = self.send_all(&mut course).await;
        self.write_down(&mut course).await;
        if let Some(exporter) = course.exporter {
            let _ = tokio::time::timeout(STOP_GRACE, exporter.close()).await;
        }
    }

    async fn send_all(&mut self, course: &mut Course) -> Result<(), Stopped> {
        let rest = self.progress.on_its_way();
        if !rest.is_empty() {
            let batch = self.read_again(course, rest).await?;
            self.deliver(course, batch).await?;
        }
        loop {
            self.due(course).await?;
            let batch = self.read_next(course).await?;
            self.deliver(course, batch).await?;
        }
    }

    /// Waits until a batch is full, or its first line has waited long enough.
    async fn due(&mut self, course: &mut Course) -> Result<(), Stopped> {
        let hint = self.target.batch_hint();
        loop {
            let heads = self.heads.borrow_and_update().clone();
            let behind = self.progress.behind(&heads);
            let wait = match behind {
                0 => {
                    (course.since, course.more) = (None, false);
                    self.progress.note_oldest(None);
                    None
                }
                _ => {
                    self.progress.note_waiting();
                    let since = *course.since.get_or_insert_with(Instant::now);
                    if course.more
                        || behind >= hint.lines_max as u64
                        || since.elapsed() >= hint.wait_max
                    {
                        return Ok(());
                    }
                    Some(since + hint.wait_max)
                }
            };
            let write_at = (self.progress.has_changed() || course.newly_proven)
                .then(|| course.written_at + WRITE_EVERY);
            let until = wait.into_iter().chain(write_at).min();
            self.pause_until(until).await?;
            if write_at.is_some_and(|at| Instant::now() >= at) {
                self.write_down(course).await;
            }
        }
    }

    /// Until then, or until lines were stored.
    async fn pause_until(&mut self, until: Option<Instant>) -> Result<(), Stopped> {
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => Err(Stopped), // cancel-safe: nothing is in flight here
            changed = self.heads.changed() => changed.map_err(|_| Stopped), // cancel-safe per its docs
            () = timer => Ok(()), // a timer
        }
    }

    async fn sleep(&self, wait: Duration) -> Result<(), Stopped> {
        tokio::select! {
            () = self.stop.cancelled() => Err(Stopped), // cancel-safe: nothing is in flight here
            () = tokio::time::sleep(wait) => Ok(()), // a timer
        }
    }

    async fn read_next(&mut self, course: &mut Course) -> Result<Batch, Stopped> {
        loop {
            let heads = self.heads.borrow().clone();
            let mut starts = self.progress.starts(&heads);
            if let Some(turn) = &course.turn {
                let next = starts.partition_point(|start| start.group <= *turn);
                starts.rotate_left(next);
            }
            let (reader, hint) = (self.reader.clone(), self.target.batch_hint());
            let read = blocking(&self.reader.logs, move |_| reader.gather(&starts, hint)).await;
            match read {
                Ok(batch) => {
                    course.turn = batch.parts.last().map(|part| Arc::clone(&part.group));
                    (course.more, course.since) = (batch.more, None);
                    return Ok(batch);
                }
                Err(error) => self.cannot_read(course, &error).await?,
            }
        }
    }

    async fn read_again(&self, course: &mut Course, parts: Vec<Part>) -> Result<Batch, Stopped> {
        loop {
            let heads = self.heads.borrow().clone();
            let parts = parts.iter().map(|part| {
                let head = heads.get(&part.group).cloned();
                (part.clone(), head)
            });
            let (reader, parts) = (self.reader.clone(), parts.collect());
            let read = blocking(&self.reader.logs, move |_| reader.again(parts)).await;
            match read {
                Ok(batch) => return Ok(batch),
                Err(error) => self.cannot_read(course, &error).await?,
            }
        }
    }

    async fn cannot_read(
        &self,
        course: &mut Course,
        error: &ekiden_logs::error::LogError,
    ) -> Result<(), Stopped> {
        let wait = course.backoff.failed(None, rand::random());
        let message = format!("the logs cannot be read: {}", Chain(error));
        self.progress
            .failed(DrainState::Retrying, Some(after(wait)), &message);
        self.sleep(wait).await
    }

    /// Sends a batch until it need not be sent again. While it waits it is not kept in memory: it is read again.
    async fn deliver(&self, course: &mut Course, mut batch: Batch) -> Result<(), Stopped> {
        loop {
            let wait = match self.attempt(course, &batch).await? {
                Outcome::Done => return Ok(()),
                Outcome::Later(wait) => wait,
            };
            let parts = std::mem::take(&mut batch.parts);
            drop(batch);
            self.sleep(wait).await?;
            batch = self.read_again(course, parts).await?;
        }
    }

    async fn attempt(&self, course: &mut Course, batch: &Batch) -> Result<Outcome, Stopped> {
        let oldest = batch.lines.iter().map(|line| line.observed_ms).min();
        self.progress.note_oldest(oldest);
        if batch.lines.is_empty() {
            self.done(course, batch).await;
            return Ok(Outcome::Done);
        }
        let exact = matches!(self.target, Target::S3(_));
        if exact {
            // A batch that is sent again is cut where it was cut before: then it has the same names.
            self.progress.begin(&batch.parts);
            if !self.write_down(course).await {
                let wait = course.backoff.failed(None, rand::random());
                let message = "how far the drain has come cannot be written down";
                self.progress
                    .failed(DrainState::Retrying, Some(after(wait)), message);
                return Ok(Outcome::Later(wait));
            }
        }
        Ok(match self.send(course, batch).await? {
            Ok(sent) => {
                self.taken(course, batch, &sent).await;
                Outcome::Done
            }
            Err(SendError::Retry { after, message }) => self.retry(course, after, &message),
            Err(SendError::Permanent { message }) => self.refused(course, batch, &message).await,
        })
    }

    async fn send(
        &self,
        course: &mut Course,
        batch: &Batch,
    ) -> Result<Result<Sent, SendError>, Stopped> {
        let exporter = match &mut course.exporter {
            Some(exporter) => exporter,
            none => match Drain::new(&self.target, &self.secrets) {
                Ok(exporter) => none.insert(exporter),
                // Such as a file of authorities that is not there: it may come.
                Err(error) => {
                    return Ok(Err(SendError::Retry {
                        after: None,
                        message: error.to_string(),
                    }));
                }
            },
        };
        let sending = exporter.send(&batch.lines);
        tokio::pin!(sending);
        tokio::select! {
            sent = &mut sending => Ok(sent),
            () = self.stop.cancelled() => {
                let sent = tokio::time::timeout(STOP_GRACE, sending).await;
                sent.map_err(|_| Stopped)
            }
        }
    }

    async fn taken(&self, course: &mut Course, batch: &Batch, sent: &Sent) {
        let lines = batch.lines.len() as u64;
        let mut was = DrainState::Running;
        self.progress.note(|status| {
            was = std::mem::replace(&mut status.state, DrainState::Running);
            status.retry_at = None;
            status.lines_sent += lines.saturating_sub(sent.rejected);
            status.lines_rejected += sent.rejected.min(lines);
            status.bytes_sent += sent.bytes;
            status.last_success = Some(clock::now());
            if sent.rejected > 0 {
                let said = sent.message.as_deref().unwrap_or("without a reason");
                let message = format!("{} lines were rejected: {said}", sent.rejected);
                status.last_error = Some((clock::now(), message));
            }
        });
        if sent.rejected > 0 {
            warn!(
                drain = self.name,
                lines = sent.rejected,
                message = sent.message,
                "a receiver rejected lines"
            );
        }
        if was != DrainState::Running {
            info!(drain = self.name, "a drain sends again");
        }
        course.backoff.succeeded();
        course.refused = 0;
        course.newly_proven |= !course.proven;
        course.proven = true;
        self.done(course, batch).await;
    }

    fn retry(&self, course: &mut Course, asked: Option<Duration>, message: &str) -> Outcome {
        let first = course.backoff.failures() == 0;
        let wait = course.backoff.failed(asked, rand::random());
        if first {
            warn!(
                drain = self.name,
                message, "a drain's receiver takes nothing; the lines wait"
            );
        }
        self.progress
            .failed(DrainState::Retrying, Some(after(wait)), message);
        Outcome::Later(wait)
    }

    async fn refused(&self, course: &mut Course, batch: &Batch, message: &str) -> Outcome {
        course.refused = course.refused.saturating_add(1);
        let allowed = if course.proven {
            REFUSED_IN_A_ROW_MAX
        } else {
            0
        };
        if course.refused > allowed {
            let pauses = (course.refused - allowed - 1).min(16);
            let wait = PAUSE_MIN.saturating_mul(1 << pauses).min(PAUSE_MAX);
            if pauses == 0 {
                warn!(
                    drain = self.name,
                    message, "a drain's receiver refuses what it is sent; the drain pauses"
                );
            }
            self.progress
                .failed(DrainState::Paused, Some(after(wait)), message);
            return Outcome::Later(wait);
        }
        let lines = batch.lines.len() as u64;
        warn!(
            drain = self.name,
            lines, message, "a drain's receiver refused lines for good; they are left out"
        );
        self.progress.failed(DrainState::Running, None, message);
        self.progress.note(|status| status.lines_rejected += lines);
        self.done(course, batch).await;
        Outcome::Done
    }

    /// The batch need not be sent again.
    async fn done(&self, course: &mut Course, batch: &Batch) {
        if batch.lost > 0 {
            let lines = batch.lost;
            warn!(
                drain = self.name,
                lines, "lines were removed from the logs before a drain had sent them"
            );
            self.progress.note(|status| status.lines_lost += lines);
        }
        self.progress.end(&batch.parts);
        // What follows is younger than that.
        let youngest = batch.lines.iter().map(|line| line.observed_ms).max();
        self.progress.note_oldest(youngest);
        if matches!(self.target, Target::S3(_)) || course.written_at.elapsed() >= WRITE_EVERY {
            self.write_down(course).await;
        }
    }

    /// Writes down how far the drain has come; answers whether it could.
    async fn write_down(&self, course: &mut Course) -> bool {
        let heads = self.heads.borrow().clone();
        let changes = self.progress.take_changes(&heads);
        course.written_at = Instant::now();
        if changes.positions.is_empty() && changes.gone.is_empty() && !course.newly_proven {
            return true;
        }
        let written = self.store.put_drain_positions(
            &self.name,
            &changes.positions,
            &changes.gone,
            course.newly_proven,
        );
        match written.await {
            Ok(()) => {
                course.newly_proven = false;
                true
            }
            Err(error) => {
                warn!(drain = self.name, error = %Chain(&error),
                    "it could not be written down how far a drain has come");
                self.progress.give_back(&changes);
                false
            }
        }
    }
}

/// The time after so long.
fn after(wait: Duration) -> Timestamp {
    Timestamp::from_millis(clock::now().as_millis() + wait.as_millis() as u64)
}
