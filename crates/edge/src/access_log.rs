//! One JSON line per request.
//!
//! [`Completion`] is the one place where everything known of a finished request comes together.
//! Workers write lines into a buffer of their own; a thread appends the buffers to the file. When
//! the disk is slower than the requests, whole buffers are dropped and counted, and requests go on.
//!
//! What many lines have in common is formatted once: [`ConnectionText`] for a connection,
//! [`service_text`] for a route, [`instance_text`] for an instance.
//!
//! The file is bounded: when it is full it becomes `<file>.1`, what was that becomes `<file>.2`, and
//! the oldest goes. Another process may do the same with the same file, as an edge does beside the
//! one it takes over from: whoever finds the file moved opens the new one.

use std::{
    cell::{Cell, RefCell},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ekiden_model::{id::InstanceId, instance::RevisionNumber, route::Route};

use crate::{
    cause::Cause,
    client_address::{Client, Protocol},
    config::AccessLogConfig,
    counters::Waited,
    forward::number,
    routes::{SharedService, Slot},
    trace_context::TraceContext,
};

/// A worker's buffer is handed to the writer when it holds so much, in bytes, or at the next tick.
const BUFFER_BYTES: usize = 64 * 1024;

/// Buffers that wait to be written; more are dropped.
const BUFFERS_MAX: usize = 64;

/// The most of a request's method and target that is logged, in bytes.
pub(crate) const REQUEST_LINE_BYTES_MAX: usize = 2 * 1024;

/// The most of `User-Agent` and of `Referer` that is logged, in bytes.
pub(crate) const FIELD_BYTES_MAX: usize = 256;

/// Who may read the file: it has addresses of clients.
const MODE: u32 = 0o640;

/// What is known of a request when it is over.
#[derive(Debug)]
pub(crate) struct Completion<'a> {
    /// What it has in common with the others of its connection, or is known of its client alone.
    pub(crate) connection: &'a ConnectionText,
    pub(crate) request_id: &'a [u8],
    pub(crate) host: &'a [u8],
    /// Method, space, target.
    pub(crate) request_line: &'a [u8],
    /// What the client says that it is; empty when it says nothing.
    pub(crate) user_agent: &'a [u8],
    /// Where the client says that it comes from; empty when it says nothing.
    pub(crate) referer: &'a [u8],
    /// Its place in its trace, if it could be read.
    pub(crate) trace: Option<&'a TraceContext>,
    /// Whose request it was, if it is known.
    pub(crate) service: Option<&'a SharedService>,
    /// Where it was sent last, if anywhere.
    pub(crate) slot: Option<&'a Slot>,
    /// The status the client was sent, or would have been.
    pub(crate) status: u16,
    /// Why the edge answered or gave up, if it did.
    pub(crate) cause: Option<Cause>,
    /// Bytes of the request's and the response's body that were passed on.
    pub(crate) body_bytes: (u64, u64),
    pub(crate) stages: &'a Stages,
    /// How long it took.
    pub(crate) total: Duration,
}

/// The members of a line that are the same for every request of a connection.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionText(Box<[u8]>);

/// When a request got how far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stages {
    pub(crate) started: Instant,
    pub(crate) slot: Option<Instant>,
    pub(crate) connected: Option<Instant>,
    pub(crate) first_byte: Option<Instant>,
    /// Its waits for an instance with room: when the first began, and all together.
    pub(crate) wait: Option<(Instant, Waited)>,
}

impl Stages {
    /// A request that begins now.
    pub(crate) fn begin() -> Self {
        Self {
            started: Instant::now(),
            slot: None,
            connected: None,
            first_byte: None,
            wait: None,
        }
    }

    /// It has waited for an instance with room since then.
    pub(crate) fn waited(&mut self, since: Instant, cold: bool) {
        let time = since.elapsed();
        let first = Waited {
            time: Duration::ZERO,
            cold,
        };
        self.wait.get_or_insert((since, first)).1.time += time;
    }
}

impl ConnectionText {
    /// Who the client is and how it speaks.
    pub(crate) fn new(client: &Client, protocol: Protocol) -> Self {
        let mut out = Vec::with_capacity(96);
        text(&mut out, "client", client.address.to_string().as_bytes());
        text(&mut out, "scheme", client.scheme.name().as_bytes());
        text(&mut out, "protocol", protocol.name.as_bytes());
        if let Some(tls) = protocol.tls {
            text(&mut out, "tls", tls.as_bytes());
        }
        Self(out.into_boxed_slice())
    }
}

/// The members of a line that say which service it was.
pub(crate) fn service_text(route: &Route) -> Box<[u8]> {
    let mut out = Vec::with_capacity(96);
    text(&mut out, "service", route.service_name.as_str().as_bytes());
    text(&mut out, "service_id", route.service.to_string().as_bytes());
    out.into_boxed_slice()
}

/// The members of a line that say which instance it was.
pub(crate) fn instance_text(id: InstanceId, revision: RevisionNumber) -> Box<[u8]> {
    let mut out = Vec::with_capacity(96);
    count(&mut out, "revision", u64::from(revision.0));
    text(&mut out, "instance", id.to_string().as_bytes());
    out.into_boxed_slice()
}

/// The file and the thread that writes it.
#[derive(Debug)]
pub(crate) struct AccessLog {
    buffers: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
    sample: u32,
    writer: JoinHandle<()>,
}

/// One worker's end of the log.
#[derive(Debug)]
pub(crate) struct LogBuffer {
    lines: RefCell<Vec<u8>>,
    /// One of so many requests is logged.
    sample: u32,
    /// Requests until the next one that is.
    skip: Cell<u32>,
    buffers: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Opens the file for appending and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not started.
    pub(crate) fn open(config: &AccessLogConfig) -> io::Result<Self> {
        let log = LogFile::open(config)?;
        let (buffers, received) = sync_channel(BUFFERS_MAX);
        let writer = std::thread::Builder::new()
            .name("edge-log".to_owned())
            .spawn(move || write_buffers(log, &received))?;
        Ok(Self {
            buffers,
            dropped: Arc::default(),
            sample: config.sample.max(1),
            writer,
        })
    }

    /// A worker's end.
    pub(crate) fn buffer(&self) -> LogBuffer {
        LogBuffer {
            lines: RefCell::default(),
            sample: self.sample,
            skip: Cell::new(0),
            buffers: self.buffers.clone(),
            dropped: Arc::clone(&self.dropped),
        }
    }

    /// Waits until everything is written; the workers' ends have to be gone.
    pub(crate) fn close(self) {
        drop(self.buffers);
        if self.writer.join().is_err() {
            tracing::error!("the access log's writer panicked");
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "access log buffers were dropped: the disk was too slow"
            );
        }
    }
}

fn write_buffers(mut log: LogFile, buffers: &Receiver<Vec<u8>>) {
    let mut lost = 0_u64;
    for buffer in buffers {
        match log.append(&buffer) {
            Ok(()) if lost == 0 => {}
            Ok(()) => {
                tracing::warn!(lost_bytes = lost, "the access log can be written again");
                lost = 0;
            }
            Err(error) => {
                // Said once for a full disk, and not for every buffer.
                if lost == 0 {
                    tracing::warn!(path = %log.path.display(), %error, "the access log cannot be written");
                }
                lost += buffer.len() as u64;
            }
        }
    }
}

/// The file that is written now.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    bytes_max: u64,
    files: u32,
    file: File,
    inode: u64,
    /// Whether the last write left a line half written.
    torn: bool,
}

impl LogFile {
    fn open(config: &AccessLogConfig) -> io::Result<Self> {
        let file = open(&config.path)?;
        let inode = file.metadata()?.ino();
        Ok(Self {
            path: config.path.clone(),
            bytes_max: config.bytes.max(1),
            files: config.files.max(1),
            file,
            inode,
            torn: false,
        })
    }

    /// Appends whole lines, to a new file if this one is full or was moved away.
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(now) if now.ino() == self.inode && now.len() < self.bytes_max => {}
            Ok(now) if now.ino() == self.inode => {
                self.rotate()?;
                self.reopen()?;
            }
            Ok(_) => self.reopen()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.reopen()?,
            Err(error) => return Err(error),
        }
        if self.torn {
            self.file.write_all(b"\n")?;
        }
        self.torn = true;
        self.file.write_all(lines)?;
        self.torn = false;
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        self.inode = self.file.metadata()?.ino();
        self.torn = false;
        Ok(())
    }

    /// Moves every file one further; the oldest is written over.
    fn rotate(&self) -> io::Result<()> {
        let kept = self.files - 1;
        if kept == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..kept).rev() {
            match fs::rename(
                numbered(&self.path, number),
                numbered(&self.path, number + 1),
            ) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        fs::rename(&self.path, numbered(&self.path, 1))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(MODE)
        .open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

impl LogBuffer {
    /// Adds one line, if the request is of the sample. What the edge answered or gave up always is.
    pub(crate) fn record(&self, completion: &Completion<'_>) {
        if self.sample > 1 && completion.cause.is_none() {
            let skip = self.skip.get();
            self.skip.set(match skip {
                0 => self.sample - 1,
                skip => skip - 1,
            });
            if skip > 0 {
                return;
            }
        }
        let mut lines = self.lines.borrow_mut();
        completion.write_line(&mut lines);
        if lines.len() >= BUFFER_BYTES {
            self.hand_over(&mut lines);
        }
    }

    /// Hands what there is to the writer.
    pub(crate) fn flush(&self) {
        let mut lines = self.lines.borrow_mut();
        if !lines.is_empty() {
            self.hand_over(&mut lines);
        }
    }

    fn hand_over(&self, lines: &mut Vec<u8>) {
        let full = std::mem::replace(lines, Vec::with_capacity(BUFFER_BYTES));
        if self.buffers.try_send(full).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Completion<'_> {
    fn write_line(&self, out: &mut Vec<u8>) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        out.extend_from_slice(b"{\"time_ms\":");
        number(out, now.as_millis() as u64);
        text(out, "request_id", self.request_id);
        if let Some(trace) = self.trace {
            // Digits need no second look.
            out.extend_from_slice(b",\"trace_id\":\"");
            out.extend_from_slice(&trace.trace.digits());
            out.extend_from_slice(b"\",\"span_id\":\"");
            out.extend_from_slice(&trace.span.digits());
            out.push(b'"');
        }
        out.extend_from_slice(&self.connection.0);
        text(out, "host", self.host);
        text(out, "request", self.request_line);
        if !self.user_agent.is_empty() {
            text(out, "user_agent", self.user_agent);
        }
        if !self.referer.is_empty() {
            text(out, "referer", self.referer);
        }
        if let Some(slot) = self.slot {
            out.extend_from_slice(&slot.service.shared.log_text);
            out.extend_from_slice(&slot.upstream.instance.log_text);
        } else if let Some(service) = self.service {
            out.extend_from_slice(&service.log_text);
        }
        count(out, "status", u64::from(self.status));
        if let Some(cause) = self.cause {
            text(out, "cause", cause.name().as_bytes());
        }
        count(out, "request_body_bytes", self.body_bytes.0);
        count(out, "response_body_bytes", self.body_bytes.1);
        let stages = self.stages;
        let stage = |at: Option<Instant>| at.map(|at| at.duration_since(stages.started));
        for (name, time) in [
            ("queue_us", stage(stages.slot)),
            ("connect_us", stage(stages.connected)),
            ("first_byte_us", stage(stages.first_byte)),
            ("total_us", Some(self.total)),
        ] {
            if let Some(time) = time {
                count(out, name, Duration::as_micros(&time) as u64);
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

fn name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn count(out: &mut Vec<u8>, field: &str, value: u64) {
    name(out, field);
    number(out, value);
}

/// A JSON string. What is not printable ASCII, as the value of a field may have it, becomes `?`
/// rather than a broken line.
fn text(out: &mut Vec<u8>, field: &str, value: &[u8]) {
    name(out, field);
    out.push(b'"');
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    // Most are, and are copied in one piece.
    if value.iter().all(is_plain) {
        out.extend_from_slice(value);
        return out.push(b'"');
    }
    for byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            _ => out.push(b'?'),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_address::Scheme;

    fn config(dir: &Path, bytes: u64, files: u32) -> AccessLogConfig {
        AccessLogConfig {
            path: dir.join("access.log"),
            bytes,
            files,
            sample: 1,
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn full_files_move_on_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(&config(dir.path(), 4, 3)).unwrap();
        for line in ["1234\n", "2345\n", "3456\n", "4567\n", "5\n", "6\n", "7\n"] {
            log.append(line.as_bytes()).unwrap();
        }
        assert_eq!(
            names(dir.path()),
            ["access.log", "access.log.1", "access.log.2"]
        );
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("access.log"), "7\n");
        assert_eq!(read("access.log.1"), "5\n6\n");
        assert_eq!(read("access.log.2"), "4567\n");
    }

    #[test]
    fn one_file_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(&config(dir.path(), 4, 1)).unwrap();
        for line in ["1234\n", "b\n"] {
            log.append(line.as_bytes()).unwrap();
        }
        assert_eq!(names(dir.path()), ["access.log"]);
        assert_eq!(fs::read(dir.path().join("access.log")).unwrap(), b"b\n");
    }

    #[test]
    fn a_file_that_was_moved_or_removed_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), 1000, 3);
        let mut log = LogFile::open(&config).unwrap();
        log.append(b"a\n").unwrap();
        fs::rename(&config.path, dir.path().join("moved")).unwrap();
        log.append(b"b\n").unwrap();
        assert_eq!(fs::read(&config.path).unwrap(), b"b\n");
        fs::remove_file(&config.path).unwrap();
        log.append(b"c\n").unwrap();
        assert_eq!(fs::read(&config.path).unwrap(), b"c\n");
        let mode = fs::metadata(&config.path).unwrap().mode();
        assert_eq!(mode & 0o007, 0, "{mode:o}");
    }

    #[test]
    fn of_a_sample_is_every_so_many_th_and_what_has_a_cause() {
        let (buffers, received) = sync_channel(BUFFERS_MAX);
        let log = LogBuffer {
            lines: RefCell::default(),
            sample: 3,
            skip: Cell::new(0),
            buffers,
            dropped: Arc::default(),
        };
        let client = Client {
            address: [192, 0, 2, 1].into(),
            scheme: Scheme::Https,
        };
        let protocol = Protocol {
            name: "h2",
            tls: Some("1.3"),
        };
        let connection = ConnectionText::new(&client, protocol);
        let stages = Stages::begin();
        let trace = crate::tracer::Spans::new().tracer().begin(None);
        let line = |status, cause| {
            log.record(&Completion {
                connection: &connection,
                request_id: b"id",
                host: b"app.test",
                request_line: b"GET /\"",
                user_agent: b"agent/1 \xff",
                referer: b"",
                trace: Some(&trace),
                service: None,
                slot: None,
                status,
                cause,
                body_bytes: (0, 7),
                stages: &stages,
                total: Duration::from_micros(5),
            });
        };
        for status in 200..207 {
            line(status, None);
        }
        line(503, Some(Cause::QueueFull));
        drop(log);
        let lines = String::from_utf8(received.recv().unwrap()).unwrap();
        let lines: Vec<serde_json::Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let statuses: Vec<_> = lines.iter().map(|line| line["status"].as_u64()).collect();
        assert_eq!(statuses, [Some(200), Some(203), Some(206), Some(503)]);
        assert_eq!(lines[3]["cause"], "queue_full");
        for (member, want) in [
            ("client", "192.0.2.1"),
            ("scheme", "https"),
            ("protocol", "h2"),
            ("tls", "1.3"),
            ("request", "GET /\""),
            ("user_agent", "agent/1 ?"),
            ("trace_id", &trace.trace.to_string()),
            ("span_id", &trace.span.to_string()),
        ] {
            assert_eq!(lines[0][member], want);
        }
    }
}
