//! One JSON line per request.
//!
//! [`Completion`] is the one place where everything known of a finished request comes together.
//! Workers write lines into a buffer of their own; a thread appends the buffers to the file. When
//! the disk is slower than the requests, whole buffers are dropped and counted, and requests go on.

use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{cause::Cause, forward::number, routes::Slot};

/// A worker's buffer is handed to the writer when it holds so much, in bytes, or at the next tick.
const BUFFER_BYTES: usize = 64 * 1024;

/// Buffers that wait to be written; more are dropped.
const BUFFERS_MAX: usize = 64;

/// The most of a request's method and target that is logged, in bytes.
pub(crate) const REQUEST_LINE_BYTES_MAX: usize = 2 * 1024;

/// What is known of a request when it is over.
#[derive(Debug)]
pub(crate) struct Completion<'a> {
    pub(crate) request_id: &'a [u8],
    pub(crate) client: std::net::IpAddr,
    pub(crate) host: &'a [u8],
    /// Method, space, target.
    pub(crate) request_line: &'a [u8],
    /// Where it was sent last, if anywhere.
    pub(crate) slot: Option<&'a Slot>,
    /// The status the client was sent, or would have been.
    pub(crate) status: u16,
    /// Why the edge answered or gave up, if it did.
    pub(crate) cause: Option<Cause>,
    /// Bytes of the request's and the response's body that were passed on.
    pub(crate) body_bytes: (u64, u64),
    pub(crate) stages: &'a Stages,
}

/// When a request got how far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stages {
    pub(crate) started: Instant,
    pub(crate) slot: Option<Instant>,
    pub(crate) connected: Option<Instant>,
    pub(crate) first_byte: Option<Instant>,
}

impl Stages {
    /// A request that begins now.
    pub(crate) fn begin() -> Self {
        Self {
            started: Instant::now(),
            slot: None,
            connected: None,
            first_byte: None,
        }
    }
}

/// The file and the thread that writes it.
#[derive(Debug)]
pub(crate) struct AccessLog {
    buffers: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
    writer: JoinHandle<()>,
}

/// One worker's end of the log.
#[derive(Debug)]
pub(crate) struct LogBuffer {
    lines: RefCell<Vec<u8>>,
    buffers: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Opens the file for appending and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not started.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let (buffers, received) = sync_channel(BUFFERS_MAX);
        let writer = std::thread::Builder::new()
            .name("edge-log".to_owned())
            .spawn(move || write_buffers(file, &received))?;
        Ok(Self {
            buffers,
            dropped: Arc::default(),
            writer,
        })
    }

    /// A worker's end.
    pub(crate) fn buffer(&self) -> LogBuffer {
        LogBuffer {
            lines: RefCell::default(),
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

fn write_buffers(mut file: File, buffers: &Receiver<Vec<u8>>) {
    for buffer in buffers {
        if let Err(error) = file.write_all(&buffer) {
            tracing::warn!(%error, "the access log cannot be written");
        }
    }
}

impl LogBuffer {
    /// Adds one line.
    pub(crate) fn record(&self, completion: &Completion<'_>) {
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
        text(out, "client", self.client.to_string().as_bytes());
        text(out, "host", self.host);
        text(out, "request", self.request_line);
        if let Some(slot) = self.slot {
            let instance = &slot.upstream.instance;
            text(
                out,
                "service",
                slot.service.shared.route.service_name.as_str().as_bytes(),
            );
            count(out, "revision", u64::from(instance.revision.0));
            text(out, "instance", instance.id.to_string().as_bytes());
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
            ("total_us", Some(stages.started.elapsed())),
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

/// A JSON string. Everything that gets here is printable ASCII, by the rules for heads; if a rule
/// should ever let something else pass, it becomes `?` rather than a broken line.
fn text(out: &mut Vec<u8>, field: &str, value: &[u8]) {
    name(out, field);
    out.push(b'"');
    for byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            _ => out.push(b'?'),
        }
    }
    out.push(b'"');
}
