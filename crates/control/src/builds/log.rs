//! The log of a build, kept while it runs and after.
//!
//! One file per build in `<data_dir>/builds/<service>/`, a line of JSON for each line. The first
//! [`LOG_BYTES_MAX`] of a build are kept, and its last lines, whatever it says in between: those say how
//! it ended.

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ekiden_model::{
    id::{OperationId, ServiceId},
    narrative::LINE_PREFIX,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{clock, logs::LineWriter};

/// Bytes of one build's log that are kept besides its last lines.
pub(crate) const LOG_BYTES_MAX: u64 = 8 << 20;

/// The last lines of a build that says more than is kept.
const LAST_LINES_MAX: usize = 100;

/// A longer line is cut, in bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// Builds of one service whose logs are kept, the newest.
const BUILDS_KEPT_MAX: usize = 20;

/// Lines of one page.
pub(crate) const PAGE_LINES_MAX: usize = 1000;

/// A line of a build's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BuildLine {
    /// Milliseconds since the Unix epoch.
    pub(crate) at: u64,
    /// Who said it.
    pub(crate) by: Speaker,
    /// Without its end.
    pub(crate) text: String,
}

/// Who says a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Speaker {
    /// Ekiden.
    Ekiden,
    /// A command, or a tool that does its work.
    Command,
}

/// Some lines of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BuildPage {
    pub(crate) lines: Vec<BuildLine>,
    /// Where the next page begins.
    pub(crate) next: u64,
    /// Whether there will be no more.
    pub(crate) over: bool,
}

/// The logs of all builds.
#[derive(Debug)]
pub(crate) struct BuildLogs {
    dir: PathBuf,
    open: Mutex<HashMap<OperationId, Arc<BuildLog>>>,
}

/// The log of a build that runs.
#[derive(Debug)]
pub(crate) struct BuildLog {
    state: Mutex<State>,
    grown: watch::Sender<u64>,
}

/// Where the lines of a build go besides: a stream of its service's group.
#[derive(Debug)]
pub(crate) struct Besides {
    pub(crate) lines: LineWriter,
    pub(crate) group: Arc<str>,
    pub(crate) stream: Arc<str>,
}

#[derive(Debug)]
struct State {
    file: Option<fs::File>,
    besides: Option<Besides>,
    written: u64,
    left_out: u64,
    last: VecDeque<BuildLine>,
}

/// Keeps a log open until dropped.
#[derive(Debug)]
pub(crate) struct OpenLog {
    logs: Arc<BuildLogs>,
    operation: OperationId,
    log: Arc<BuildLog>,
}

impl BuildLogs {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            open: Mutex::default(),
        }
    }

    /// Begins the log of a build anew. What cannot be written is lost, and the build goes on.
    pub(crate) fn begin(
        self: &Arc<Self>,
        service: ServiceId,
        operation: OperationId,
        besides: Option<Besides>,
    ) -> OpenLog {
        let file = self.create(service, operation);
        if let Err(error) = &file {
            tracing::warn!(%operation, %error, "the log of a build cannot be kept");
        }
        let log = Arc::new(BuildLog {
            state: Mutex::new(State {
                file: file.ok(),
                besides,
                written: 0,
                left_out: 0,
                last: VecDeque::new(),
            }),
            grown: watch::Sender::new(0),
        });
        self.lock().insert(operation, Arc::clone(&log));
        OpenLog {
            logs: Arc::clone(self),
            operation,
            log,
        }
    }

    fn create(&self, service: ServiceId, operation: OperationId) -> io::Result<fs::File> {
        let dir = self.dir_of(service);
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&dir)?;
        trim(&dir, operation)?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(self.path(service, operation))
    }

    /// Whether a build has a log.
    pub(crate) fn has(&self, service: ServiceId, operation: OperationId) -> bool {
        self.path(service, operation).exists()
    }

    /// A page of a build's log from a place, waiting up to `wait` for the first line if the build runs.
    ///
    /// # Errors
    /// What the file system says; `NotFound` when there is no such log.
    pub(crate) async fn page(
        &self,
        service: ServiceId,
        operation: OperationId,
        from: u64,
        wait: std::time::Duration,
    ) -> io::Result<BuildPage> {
        let log = self.lock().get(&operation).cloned();
        if let Some(log) = &log {
            let mut grown = log.grown.subscribe();
            let more = grown.wait_for(|written| *written > from);
            // Later or never: then there is nothing new, which is an answer.
            let _ = tokio::time::timeout(wait, more).await;
        }
        let path = self.path(service, operation);
        let read = tokio::task::spawn_blocking(move || read(&path, from));
        let (lines, next) = read.await.map_err(io::Error::other)??;
        let is_open = self.lock().contains_key(&operation);
        // It may have been closed after it was read.
        let over = log.is_none() && !is_open && lines.len() < PAGE_LINES_MAX;
        Ok(BuildPage { lines, next, over })
    }

    /// The services that have logs.
    pub(crate) fn services(&self) -> Vec<ServiceId> {
        ids_in(&self.dir)
    }

    /// Removes the logs of a service.
    pub(crate) fn forget(&self, service: ServiceId) {
        let _ = fs::remove_dir_all(self.dir_of(service));
    }

    fn dir_of(&self, service: ServiceId) -> PathBuf {
        self.dir.join(service.to_string())
    }

    fn path(&self, service: ServiceId, operation: OperationId) -> PathBuf {
        self.dir_of(service).join(format!("{operation}.log"))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OperationId, Arc<BuildLog>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenLog {
    /// What Ekiden says.
    pub(crate) fn say(&self, text: impl Into<String>) {
        self.log.take(Speaker::Ekiden, text.into());
    }

    /// What Ekiden says at the end, which the service's log says in its own way.
    pub(crate) fn conclude(&self, text: impl Into<String>) {
        self.log.lock().besides = None;
        self.say(text);
    }

    /// What a command says.
    pub(crate) fn hear(&self, text: impl Into<String>) {
        self.log.take(Speaker::Command, text.into());
    }

    /// The last lines that commands said, oldest first.
    pub(crate) fn last(&self, count: usize) -> Vec<String> {
        let state = self.log.lock();
        let said = state.last.iter().filter(|line| line.by == Speaker::Command);
        let mut last: Vec<String> = said.rev().take(count).map(|l| l.text.clone()).collect();
        last.reverse();
        last
    }
}

impl Drop for OpenLog {
    fn drop(&mut self) {
        self.log.close();
        let mut open = self.logs.lock();
        // A build that began anew has another one.
        if open
            .get(&self.operation)
            .is_some_and(|log| Arc::ptr_eq(log, &self.log))
        {
            open.remove(&self.operation);
        }
    }
}

impl BuildLog {
    fn take(&self, by: Speaker, mut text: String) {
        if text.len() > LINE_BYTES_MAX {
            text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
            text.push('…');
        }
        let line = BuildLine {
            at: clock::now().as_millis(),
            by,
            text,
        };
        let mut state = self.lock();
        if state.written < LOG_BYTES_MAX {
            state.write(&line);
        } else {
            state.left_out += 1;
        }
        state.last.push_back(line);
        if state.last.len() > LAST_LINES_MAX {
            state.last.pop_front();
        }
        self.grown.send_replace(state.written);
    }

    /// Writes the last lines, if there are some that were not.
    fn close(&self) {
        let mut state = self.lock();
        let kept = state.left_out.min(state.last.len() as u64);
        if state.left_out > 0 {
            let text = format!(
                "{} lines are left out: a build's log is kept up to {} MiB, and its last lines",
                state.left_out - kept,
                LOG_BYTES_MAX >> 20
            );
            let at = clock::now().as_millis();
            state.write(&BuildLine {
                at,
                by: Speaker::Ekiden,
                text,
            });
            let from = state.last.len() - kept as usize;
            let last: Vec<_> = state.last.iter().skip(from).cloned().collect();
            for line in &last {
                state.write(line);
            }
        }
        // Whoever waits looks once more.
        self.grown.send_replace(u64::MAX);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, line: &BuildLine) {
        if let Some(Besides {
            lines,
            group,
            stream,
        }) = &self.besides
        {
            let prefix = match line.by {
                Speaker::Ekiden => LINE_PREFIX,
                Speaker::Command => "[Build] ",
            };
            lines.say(group, stream, format!("{prefix}{}", line.text));
        }
        let Some(file) = &mut self.file else {
            return;
        };
        let Ok(mut bytes) = serde_json::to_vec(line) else {
            return;
        };
        bytes.push(b'\n');
        match file.write_all(&bytes) {
            Ok(()) => self.written += bytes.len() as u64,
            Err(_) => self.file = None, // a full disk: the build itself says so
        }
    }
}

/// The services that directories are named after. Blocks.
pub(super) fn ids_in(dir: &Path) -> Vec<ServiceId> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Removes the oldest logs of a service, so that there is room for one more.
fn trim(dir: &Path, but: OperationId) -> io::Result<()> {
    let own = format!("{but}.log");
    let mut logs: Vec<(std::time::SystemTime, PathBuf)> = fs::read_dir(dir)?
        .flatten()
        .filter(|entry| entry.file_name().to_str() != Some(own.as_str()))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    logs.sort();
    let surplus = (logs.len() + 1).saturating_sub(BUILDS_KEPT_MAX);
    for (_, path) in logs.into_iter().take(surplus) {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn read(path: &Path, from: u64) -> io::Result<(Vec<BuildLine>, u64)> {
    let mut file = fs::File::open(path)?;
    let from = from.min(file.metadata()?.len());
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::new(file);
    let (mut lines, mut next) = (Vec::new(), from);
    let mut bytes = Vec::new();
    while lines.len() < PAGE_LINES_MAX {
        bytes.clear();
        let length = reader.read_until(b'\n', &mut bytes)?;
        if !bytes.ends_with(b"\n") {
            break; // the rest of it is on its way
        }
        next += length as u64;
        // A place that is in the middle of a line skips to the next one.
        if let Ok(line) = serde_json::from_slice(&bytes) {
            lines.push(line);
        }
    }
    Ok((lines, next))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SERVICE: ServiceId = ServiceId::from_bytes([1; 16]);

    fn operation(number: u8) -> OperationId {
        OperationId::from_bytes([number; 16])
    }

    #[tokio::test]
    async fn a_log_is_read_while_it_grows_and_after() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Arc::new(BuildLogs::new(dir.path().to_owned()));
        let open = logs.begin(SERVICE, operation(1), None);
        open.say("one");
        let page = |from| logs.page(SERVICE, operation(1), from, Duration::from_secs(60));
        let first = page(0).await.unwrap();
        assert_eq!(first.lines[0].text, "one");
        assert!(!first.over);
        let (second, ()) = tokio::join!(page(first.next), async {
            tokio::task::yield_now().await;
            open.hear("two");
        });
        let second = second.unwrap();
        assert_eq!(second.lines[0].text, "two");
        assert_eq!(open.last(5), ["two"]);
        drop(open);
        let third = page(second.next).await.unwrap();
        assert!(third.over && third.lines.is_empty());
    }

    #[tokio::test]
    async fn a_build_that_says_too_much_keeps_its_beginning_and_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Arc::new(BuildLogs::new(dir.path().to_owned()));
        let open = logs.begin(SERVICE, operation(1), None);
        let long = "x".repeat(LINE_BYTES_MAX + 1);
        for _ in 0..2000 {
            open.hear(long.clone());
        }
        open.hear("the end");
        drop(open);
        let path = logs.path(SERVICE, operation(1));
        let (mut from, mut all) = (0, Vec::new());
        loop {
            let (lines, next) = read(&path, from).unwrap();
            if lines.is_empty() {
                break;
            }
            (from, all) = (next, [all, lines].concat());
        }
        assert_eq!(all.last().map(|line| line.text.as_str()), Some("the end"));
        assert!(all.iter().any(|line| line.text.contains("are left out")));
        let bytes = fs::metadata(path).unwrap().len();
        assert!(bytes < LOG_BYTES_MAX + 2 * (LAST_LINES_MAX * LINE_BYTES_MAX) as u64);
    }

    #[test]
    fn only_the_newest_builds_of_a_service_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Arc::new(BuildLogs::new(dir.path().to_owned()));
        for number in 0..30 {
            drop(logs.begin(SERVICE, operation(number), None));
        }
        let kept = fs::read_dir(logs.dir_of(SERVICE)).unwrap().count();
        assert_eq!(kept, BUILDS_KEPT_MAX);
        logs.forget(SERVICE);
        assert!(!logs.has(SERVICE, operation(29)));
    }
}
