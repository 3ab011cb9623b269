//! Writing an instance's log: lines out of bytes, bounded in space and in speed.
//!
//! Two bounds: an instance keeps [`SEGMENTS_MAX`] segments, and it is taken down at most so many
//! bytes a second. What it writes beyond is read and dropped, counted and said in one line: an
//! application never waits for its log.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ekiden_engine::{LOG_LINE_BYTES_MAX, LogStream};

use super::{SEGMENT_BYTES_MAX, SEGMENTS_MAX, line::Line, segment, segments};

/// Bytes per second an instance may write for long, and how many it may have saved up.
const RATE_BYTES: u64 = 2 * 1024 * 1024;
const BURST_BYTES: u64 = 8 * 1024 * 1024;

/// Dropped lines that are kept until there is one that is not, or the end.
const LAST_LINES_MAX: usize = 20;

/// How long an unfinished line waits for its end before it is written as a partial one.
pub(crate) const PARTIAL_AFTER: Duration = Duration::from_secs(1);

/// One instance's log.
pub(crate) struct LogWriter {
    directory: PathBuf,
    file: File,
    number: u64,
    bytes: u64,
    allowance: Allowance,
    pending: [Vec<u8>; 2],
    /// The newest of what was dropped.
    last: VecDeque<Dropped>,
    out: Vec<u8>,
}

/// A line that was not written, and may be the last.
struct Dropped {
    at_micros: u64,
    stream: LogStream,
    partial: bool,
    text: Vec<u8>,
}

impl Dropped {
    fn as_line(&self) -> Line<'_> {
        Line {
            at_micros: self.at_micros,
            stream: self.stream,
            partial: self.partial,
            text: &self.text,
        }
    }
}

/// A token bucket that, once empty, stays shut until it holds a second's worth, so that there is at
/// most one remark a second.
struct Allowance {
    bytes: u64,
    filled_at: Instant,
    dropped: u64,
}

impl LogWriter {
    /// Opens a new segment after those that exist. Blocks.
    pub(crate) fn open(directory: &Path, now: Instant) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let number = segments(directory).last().map_or(1, |last| last + 1);
        let file = new_segment(directory, number)?;
        Ok(Self {
            directory: directory.to_owned(),
            file,
            number,
            bytes: 0,
            allowance: Allowance {
                bytes: BURST_BYTES,
                filled_at: now,
                dropped: 0,
            },
            pending: [Vec::new(), Vec::new()],
            last: VecDeque::new(),
            out: Vec::new(),
        })
    }

    /// Takes what the instance wrote to `stream`. `at_micros` is the time it was read. Blocks.
    pub(crate) fn take(
        &mut self,
        stream: LogStream,
        mut bytes: &[u8],
        at_micros: u64,
        now: Instant,
    ) {
        let mut pending = std::mem::take(self.pending_of(stream));
        while !bytes.is_empty() {
            let room = LOG_LINE_BYTES_MAX - pending.len();
            let piece = &bytes[..room.min(bytes.len())];
            match piece.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    pending.extend_from_slice(&piece[..end]);
                    bytes = &bytes[end + 1..];
                    self.put(
                        Line {
                            at_micros,
                            stream,
                            partial: false,
                            text: &pending,
                        },
                        now,
                    );
                    pending.clear();
                }
                None => {
                    pending.extend_from_slice(piece);
                    bytes = &bytes[piece.len()..];
                    if pending.len() == LOG_LINE_BYTES_MAX {
                        self.put(
                            Line {
                                at_micros,
                                stream,
                                partial: true,
                                text: &pending,
                            },
                            now,
                        );
                        pending.clear();
                    }
                }
            }
        }
        *self.pending_of(stream) = pending;
        self.flush();
    }

    /// Whether a line has begun and not ended.
    pub(crate) fn has_pending(&self) -> bool {
        self.pending.iter().any(|pending| !pending.is_empty())
    }

    /// Writes what has begun: as partial lines while the instance lives, as whole ones at its end.
    pub(crate) fn write_pending(&mut self, partial: bool, at_micros: u64, now: Instant) {
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let text = std::mem::take(self.pending_of(stream));
            if !text.is_empty() {
                self.put(
                    Line {
                        at_micros,
                        stream,
                        partial,
                        text: &text,
                    },
                    now,
                );
            }
        }
        self.flush();
    }

    /// Says what is still unsaid, at the end.
    pub(crate) fn finish(&mut self, at_micros: u64, now: Instant) {
        self.write_pending(false, at_micros, now);
        // How it ended is in its last words, however much it said before.
        let last = std::mem::take(&mut self.last);
        let kept: usize = last.iter().map(|line| line.text.len() + 1).sum();
        let dropped = &mut self.allowance.dropped;
        *dropped = dropped.saturating_sub(kept as u64);
        self.remark(at_micros);
        for line in &last {
            line.as_line().put(&mut self.out);
        }
        self.flush();
    }

    fn put(&mut self, line: Line<'_>, now: Instant) {
        if !self.allowance.take(line.text.len() as u64 + 1, now) {
            self.last.push_back(Dropped {
                at_micros: line.at_micros,
                stream: line.stream,
                partial: line.partial,
                text: line.text.to_vec(),
            });
            if self.last.len() > LAST_LINES_MAX {
                self.last.pop_front();
            }
            return;
        }
        self.last.clear();
        self.remark(line.at_micros);
        line.put(&mut self.out);
        if self.out.len() >= LOG_LINE_BYTES_MAX {
            self.flush();
        }
    }

    fn remark(&mut self, at_micros: u64) {
        let dropped = std::mem::take(&mut self.allowance.dropped);
        if dropped == 0 {
            return;
        }
        let text = format!(
            "dropped {dropped} bytes of output: more than {} MiB per second, or no room on the disk",
            RATE_BYTES >> 20
        );
        let text = text.as_bytes();
        Line {
            at_micros,
            stream: LogStream::Ekiden,
            partial: false,
            text,
        }
        .put(&mut self.out);
    }

    /// Writes what is collected; a full disk drops it, and the next line that fits says so.
    fn flush(&mut self) {
        if self.out.is_empty() {
            return;
        }
        if self.bytes >= SEGMENT_BYTES_MAX {
            self.rotate();
        }
        match self.file.write_all(&self.out) {
            Ok(()) => self.bytes += self.out.len() as u64,
            Err(_) => self.allowance.dropped += self.out.len() as u64,
        }
        self.out.clear();
    }

    fn rotate(&mut self) {
        let Ok(file) = new_segment(&self.directory, self.number + 1) else {
            return;
        };
        self.file = file;
        self.number += 1;
        self.bytes = 0;
        for old in segments(&self.directory)
            .into_iter()
            .filter(|old| old + SEGMENTS_MAX <= self.number)
        {
            // Tried again at the next rotation.
            let _ = fs::remove_file(segment(&self.directory, old));
        }
    }

    fn pending_of(&mut self, stream: LogStream) -> &mut Vec<u8> {
        &mut self.pending[usize::from(stream == LogStream::Stderr)]
    }
}

impl Allowance {
    fn take(&mut self, bytes: u64, now: Instant) -> bool {
        let elapsed = now.duration_since(self.filled_at);
        let earned = (elapsed.as_micros() as u64).saturating_mul(RATE_BYTES) / 1_000_000;
        if earned > 0 {
            self.bytes = self.bytes.saturating_add(earned).min(BURST_BYTES);
            self.filled_at = now;
        }
        let shut = self.dropped > 0 && self.bytes < RATE_BYTES;
        if shut || self.bytes < bytes {
            self.dropped += bytes;
            return false;
        }
        self.bytes -= bytes;
        true
    }
}

fn new_segment(directory: &Path, number: u64) -> io::Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(segment(directory, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(directory: &Path) -> Vec<String> {
        let read = |number| fs::read_to_string(segment(directory, number)).unwrap();
        let text: String = segments(directory).into_iter().map(read).collect();
        text.lines().map(|line| line[28..].to_owned()).collect()
    }

    #[test]
    fn bytes_become_lines() {
        let directory = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut log = LogWriter::open(directory.path(), now).unwrap();
        log.take(LogStream::Stdout, b"one\ntw", 0, now);
        log.take(LogStream::Stderr, b"err\n", 0, now);
        log.take(LogStream::Stdout, b"o\n\nthree", 0, now);
        assert!(log.has_pending());
        log.finish(0, now);
        let want = [
            "stdout F one",
            "stderr F err",
            "stdout F two",
            "stdout F ",
            "stdout F three",
        ];
        assert_eq!(written(directory.path()), want);
    }

    #[test]
    fn long_line_is_cut_into_partial_ones() {
        let directory = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut log = LogWriter::open(directory.path(), now).unwrap();
        log.take(
            LogStream::Stdout,
            &vec![b'x'; LOG_LINE_BYTES_MAX + 10],
            0,
            now,
        );
        log.take(LogStream::Stdout, b"\n", 0, now);
        let lines = written(directory.path());
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("stdout P x"));
        assert_eq!(lines[1], "stdout F xxxxxxxxxx");
    }

    #[test]
    fn endless_output_is_bounded_and_its_loss_is_said_once_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let mut log = LogWriter::open(directory.path(), start).unwrap();
        let chunk = [[b'y'; 99].as_slice(), b"\n"].concat().repeat(1000);
        for tick in 0..400 {
            let now = start + Duration::from_millis(tick * 10);
            log.take(LogStream::Stdout, &chunk, 0, now);
        }
        log.finish(0, start + Duration::from_secs(4));
        let bytes: u64 = segments(directory.path())
            .iter()
            .map(|n| segment(directory.path(), *n).metadata().unwrap().len())
            .sum();
        assert!(
            bytes <= SEGMENT_BYTES_MAX * SEGMENTS_MAX + (1 << 20),
            "{bytes}"
        );
        let remarks = written(directory.path())
            .iter()
            .filter(|l| l.contains("dropped"))
            .count();
        assert!((1..=5).contains(&remarks), "{remarks}");
    }

    #[test]
    fn only_the_newest_segments_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let mut log = LogWriter::open(directory.path(), start).unwrap();
        let chunk = [[b'z'; 999].as_slice(), b"\n"].concat().repeat(1000);
        for second in 0..40 {
            log.take(
                LogStream::Stdout,
                &chunk,
                0,
                start + Duration::from_secs(second),
            );
        }
        let numbers = segments(directory.path());
        assert_eq!(numbers.len() as u64, SEGMENTS_MAX);
        assert!(numbers[0] > 1);
    }
}
