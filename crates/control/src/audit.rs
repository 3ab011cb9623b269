//! The audit log: who did what, when, from where, to what, and with which result.
//!
//! It has every operation that changes something, every one that was denied, and every request whose
//! signature was refused; neither bodies nor secrets. An entry is one line of JSON, appended by one
//! write(2) before the request is answered, to the newest of a bounded number of files. A line that
//! a crash tore is skipped by whoever reads.
//!
//! Anyone can send requests with wrong signatures, and whoever has a key can be denied: what is
//! written of those is bounded per minute, and the rest only counted, so that a flood neither washes
//! the log out nor fills the disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ekiden_aws::native::AuditEvent;
use ekiden_model::time::Timestamp;
use tracing::warn;

/// Bytes of one file of the log; the entry that goes over it begins the next.
const SEGMENT_BYTES_MAX: u64 = 4 << 20;

/// Files that are kept: 128 MiB, half a million entries or so.
const SEGMENTS_MAX: usize = 32;

/// Characters of each text of an entry; a longer one is cut. No ARN of App Runner's is longer.
const TEXT_CHARS_MAX: usize = 256;

/// Entries of each refused kind that are written in [`WINDOW`].
const REFUSED_PER_WINDOW_MAX: u64 = 120;

/// The time that bound is for.
const WINDOW: Duration = Duration::from_secs(60);

/// What ended in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An operation that its sender may do.
    Done,
    /// One that its sender may not do.
    Denied,
    /// A request whose sender is not known.
    Unauthenticated,
}

/// What was counted since the control plane was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) unauthenticated: u64,
    pub(crate) denied: u64,
    pub(crate) left_out: u64,
}

/// Which entries are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) from: Option<Timestamp>,
    pub(crate) before: Option<Timestamp>,
    pub(crate) service: Option<String>,
    pub(crate) access_key_id: Option<String>,
    pub(crate) result: Option<String>,
}

/// A place in the log: everything before it is older.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// Some entries, newest first, and where older ones are.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) events: Vec<AuditEvent>,
    pub(crate) older: Option<Place>,
}

/// The log.
pub(crate) struct Audit {
    dir: PathBuf,
    bounds: Bounds,
    writer: Mutex<Writer>,
}

/// How large the log may become.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    segment_bytes_max: u64,
    segments_max: usize,
}

struct Writer {
    segment: u64,
    file: File,
    bytes: u64,
    unauthenticated: Limit,
    denied: Limit,
    counts: Counts,
}

/// How much of one kind was written of late.
#[derive(Default)]
struct Limit {
    window: Timestamp,
    written: u64,
    left_out: u64,
}

impl Audit {
    /// Opens the log in `dir`, or begins one there, readable by its owner only.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        let bounds = Bounds {
            segment_bytes_max: SEGMENT_BYTES_MAX,
            segments_max: SEGMENTS_MAX,
        };
        Self::open_bounded(dir, bounds)
    }

    fn open_bounded(dir: PathBuf, bounds: Bounds) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)?;
        let segment = segments(&dir)?.last().copied().unwrap_or(1);
        let mut file = append_to(&dir, segment)?;
        let mut bytes = file.metadata()?.len();
        if bytes > 0 && last_byte(&dir, segment)? != b'\n' {
            // What a crash tore stays a line of its own.
            file.write_all(b"\n")?;
            bytes += 1;
        }
        let writer = Mutex::new(Writer {
            segment,
            file,
            bytes,
            unauthenticated: Limit::default(),
            denied: Limit::default(),
            counts: Counts::default(),
        });
        Ok(Self {
            dir,
            bounds,
            writer,
        })
    }

    /// Writes an entry down. A log that cannot be written is complained of and stops nothing: what
    /// it would tell of is done already.
    pub(crate) fn record(&self, kind: Kind, at: Timestamp, mut event: AuditEvent) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left_out) = writer.admit(kind, at) else {
            return;
        };
        event.timestamp = at.as_millis();
        event.left_out = left_out;
        let line = line(event);
        if let Err(error) = writer.append(&self.dir, self.bounds, &line) {
            warn!(%error, dir = %self.dir.display(), "the audit log cannot be written");
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.counts
    }

    /// Reads backwards from `from`, or from the end. Blocks: at most one file is read.
    pub(crate) fn read(
        &self,
        filter: &Filter,
        from: Option<Place>,
        count: usize,
    ) -> io::Result<Page> {
        let segments = segments(&self.dir)?;
        let wanted = |segment: &&u64| from.is_none_or(|from| **segment <= from.segment);
        let mut newest_first = segments.iter().rev().filter(wanted);
        let Some(&segment) = newest_first.next() else {
            return Ok(Page::default());
        };
        let end = from
            .filter(|from| from.segment == segment)
            .map_or(u64::MAX, |from| from.offset);
        let next = newest_first.next().map(|&segment| Place {
            segment,
            offset: u64::MAX,
        });
        let mut bytes = Vec::new();
        let file = match File::open(path(&self.dir, segment)) {
            Ok(file) => file,
            // It was the oldest and is gone.
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(Page::default()),
            Err(other) => return Err(other),
        };
        let read_max = self.bounds.segment_bytes_max + LINE_BYTES_MAX;
        file.take(end.min(read_max)).read_to_end(&mut bytes)?;
        Ok(backwards(&bytes, segment, filter, count, next))
    }
}

/// More than any line has: every text in it is cut, and no character takes more than six bytes.
const LINE_BYTES_MAX: u64 = 16 << 10;

impl Writer {
    /// Counts an entry. `None` when it is not to be written; else how many of its kind were not
    /// before it.
    fn admit(&mut self, kind: Kind, at: Timestamp) -> Option<u64> {
        let limit = match kind {
            Kind::Done => return Some(0),
            Kind::Denied => {
                self.counts.denied += 1;
                &mut self.denied
            }
            Kind::Unauthenticated => {
                self.counts.unauthenticated += 1;
                &mut self.unauthenticated
            }
        };
        let admitted = limit.admit(at);
        self.counts.left_out += u64::from(admitted.is_none());
        admitted
    }

    fn append(&mut self, dir: &Path, bounds: Bounds, line: &[u8]) -> io::Result<()> {
        if self.bytes + line.len() as u64 > bounds.segment_bytes_max {
            self.file = append_to(dir, self.segment + 1)?;
            self.segment += 1;
            self.bytes = 0;
            let kept = segments(dir)?;
            for &old in kept.iter().rev().skip(bounds.segments_max) {
                fs::remove_file(path(dir, old))?;
            }
        }
        self.bytes += line.len() as u64;
        match self.file.write(line)? {
            written if written == line.len() => Ok(()),
            // The next line is not to continue this one.
            _ => {
                self.file.write_all(b"\n")?;
                Err(io::ErrorKind::WriteZero.into())
            }
        }
    }
}

impl Limit {
    fn admit(&mut self, at: Timestamp) -> Option<u64> {
        // A clock that was set back begins a window too.
        if at < self.window || at.since(self.window) >= WINDOW {
            (self.window, self.written) = (at, 0);
        }
        if self.written == REFUSED_PER_WINDOW_MAX {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Filter {
    fn takes(&self, event: &AuditEvent) -> bool {
        fn same(wanted: Option<&str>, found: Option<&str>) -> bool {
            wanted.is_none_or(|wanted| found == Some(wanted))
        }
        let at = Timestamp::from_millis(event.timestamp);
        self.from.is_none_or(|from| from <= at)
            && self.before.is_none_or(|before| at < before)
            && same(self.service.as_deref(), event.service_name.as_deref())
            && same(
                self.access_key_id.as_deref(),
                event.access_key_id.as_deref(),
            )
            && same(self.result.as_deref(), Some(&event.result))
    }
}

/// The entries of a part of a file, from its end; `next` is where those before it are.
fn backwards(
    bytes: &[u8],
    segment: u64,
    filter: &Filter,
    count: usize,
    next: Option<Place>,
) -> Page {
    let mut page = Page::default();
    let mut end = bytes.len();
    while end > 0 {
        if page.events.len() == count {
            let offset = end as u64;
            page.older = Some(Place { segment, offset });
            return page;
        }
        let start = bytes[..end - 1]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |newline| newline + 1);
        let event = serde_json::from_slice::<AuditEvent>(&bytes[start..end]).ok();
        // Entries are in the order of their times but for a clock that was set, so that all are
        // looked at.
        page.events
            .extend(event.filter(|event| filter.takes(event)));
        end = start;
    }
    page.older = next;
    page
}

fn line(mut event: AuditEvent) -> Vec<u8> {
    let texts = [
        &mut event.request_id,
        &mut event.action,
        &mut event.source,
        &mut event.result,
    ];
    let optional = [
        &mut event.access_key_id,
        &mut event.caller_arn,
        &mut event.region,
        &mut event.resource,
        &mut event.service_name,
    ];
    for text in texts.into_iter().chain(optional.into_iter().flatten()) {
        if let Some((cut, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
            text.truncate(cut);
        }
    }
    let mut line = serde_json::to_vec(&event).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The numbers of the files there are, oldest first.
fn segments(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jsonl"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:016}.jsonl"))
}

fn append_to(dir: &Path, segment: u64) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path(dir, segment))
}

fn last_byte(dir: &Path, segment: u64) -> io::Result<u8> {
    let mut file = File::open(path(dir, segment))?;
    file.seek(SeekFrom::End(-1))?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn event(action: &str) -> AuditEvent {
        AuditEvent {
            action: action.to_owned(),
            result: "Success".to_owned(),
            ..Default::default()
        }
    }

    fn actions(audit: &Audit, filter: &Filter, page_max: usize) -> Vec<String> {
        let (mut all, mut from) = (Vec::new(), None);
        loop {
            let page = audit.read(filter, from, page_max).unwrap();
            assert!(page.events.len() <= page_max);
            all.extend(page.events.into_iter().map(|event| event.action));
            match page.older {
                Some(place) => from = Some(place),
                None => return all,
            }
        }
    }

    #[test]
    fn entries_are_read_newest_first_in_pages_after_a_restart_and_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path().join("audit")).unwrap();
        assert!(actions(&audit, &Filter::default(), 10).is_empty());
        for n in 1..=5 {
            audit.record(Kind::Done, at(n), event(&format!("a{n}")));
        }
        let mut torn = append_to(&audit.dir, 1).unwrap();
        torn.write_all(b"{\"Timestamp\":7").unwrap();
        let audit = Audit::open(dir.path().join("audit")).unwrap();
        audit.record(Kind::Done, at(6), event("a6"));
        for page_max in [1, 2, 6, 100] {
            let all = actions(&audit, &Filter::default(), page_max);
            assert_eq!(all, ["a6", "a5", "a4", "a3", "a2", "a1"]);
        }
        let between = Filter {
            from: Some(at(2)),
            before: Some(at(4)),
            ..Default::default()
        };
        assert_eq!(actions(&audit, &between, 1), ["a3", "a2"]);
        let failed = Filter {
            result: Some("X".to_owned()),
            ..Default::default()
        };
        assert!(actions(&audit, &failed, 1).is_empty());
    }

    #[test]
    fn log_is_bounded_in_files_and_lines() {
        let dir = tempfile::tempdir().unwrap();
        let bounds = Bounds {
            segment_bytes_max: 64 << 10,
            segments_max: 3,
        };
        let audit = Audit::open_bounded(dir.path().to_owned(), bounds).unwrap();
        let long = AuditEvent {
            resource: Some("\u{1}".repeat(1 << 10)),
            ..event("long")
        };
        let length = line(long.clone()).len() as u64;
        assert!(length < LINE_BYTES_MAX);
        let filling = bounds.segment_bytes_max / length + 1;
        for _ in 0..filling * 5 {
            audit.record(Kind::Done, at(1), long.clone());
        }
        let kept = segments(dir.path()).unwrap();
        assert_eq!(kept.len(), bounds.segments_max);
        assert!(kept[0] > 1);
        for segment in kept {
            let bytes = fs::metadata(path(dir.path(), segment)).unwrap().len();
            assert!(bytes <= bounds.segment_bytes_max);
        }
        // A place in a file that is gone has nothing before it.
        let gone = Place {
            segment: 1,
            offset: 10,
        };
        assert!(
            audit
                .read(&Filter::default(), Some(gone), 9)
                .unwrap()
                .older
                .is_none()
        );
    }

    #[test]
    fn flood_of_refusals_is_counted_and_what_is_done_is_written_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path().to_owned()).unwrap();
        for _ in 0..REFUSED_PER_WINDOW_MAX + 50 {
            audit.record(Kind::Unauthenticated, at(100), event("flood"));
        }
        audit.record(Kind::Done, at(100), event("done"));
        audit.record(Kind::Denied, at(100), event("denied"));
        audit.record(Kind::Unauthenticated, at(161), event("later"));
        let page = audit.read(&Filter::default(), None, 3).unwrap();
        let seen: Vec<_> = page
            .events
            .iter()
            .map(|event| (event.action.as_str(), event.left_out))
            .collect();
        assert_eq!(seen, [("later", 50), ("denied", 0), ("done", 0)]);
        let all = actions(&audit, &Filter::default(), 1000);
        assert_eq!(all.len() as u64, REFUSED_PER_WINDOW_MAX + 3);
        let counts = Counts {
            unauthenticated: REFUSED_PER_WINDOW_MAX + 51,
            denied: 1,
            left_out: 50,
        };
        assert_eq!(audit.counts(), counts);
    }
}
