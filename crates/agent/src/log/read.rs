//! Reading logs: pages of lines across the instances of a service.
//!
//! A cursor says how far each instance has been read: `<instance>:<segment>:<offset>`, joined by
//! commas. A segment that has been removed meanwhile is skipped, which a line of Ekiden's says; an
//! instance that a cursor does not know is read from its beginning.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use ekiden_engine::{
    EngineError, LOG_LINES_MAX, LogCursor, LogLine, LogPage, LogPosition, LogQuery, LogStream,
};
use ekiden_model::id::{InstanceId, ServiceId};

use super::{SEGMENT_BYTES_MAX, line::Line, segment, segments};

/// A service keeps the logs of this many instances, and of no more than so many bytes of ended
/// ones; the oldest go first.
const INSTANCES_KEPT_MAX: usize = 20;
const SERVICE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The most that is read from one instance for one page, in bytes.
const PAGE_BYTES_MAX: u64 = SEGMENT_BYTES_MAX + 1024 * 1024;

type Positions = BTreeMap<InstanceId, LogPosition>;

/// Reads a page. Blocks.
///
/// # Errors
/// [`EngineError::Invalid`] for a cursor that is not one of ours.
pub(crate) fn page(logs: &Path, query: &LogQuery) -> Result<LogPage, EngineError> {
    let lines_max = query.lines_max.clamp(1, LOG_LINES_MAX) as usize;
    let service = logs.join(query.service.to_string());
    let instances = match query.instance {
        Some(instance) => vec![instance],
        None => instances(&service),
    };
    let known = query.after.as_ref().map(parse).transpose()?;
    let mut reads: Vec<InstanceLines> = Vec::new();
    for instance in instances {
        let mut directory = super::directory(logs, query.service, instance);
        if query.instance.is_some() && !directory.exists() {
            directory = super::build_directory(logs, query.service, instance);
        }
        let from = known
            .as_ref()
            .map(|known| known.get(&instance).copied().unwrap_or(BEGINNING));
        let lines = match from {
            Some(from) => forward(&directory, from, lines_max),
            None => newest(&directory, lines_max),
        };
        reads.push(InstanceLines {
            instance,
            start: from.unwrap_or(BEGINNING),
            lines,
        });
    }
    Ok(merge(reads, lines_max, known.is_none()))
}

/// Removes all logs of a service. Blocks. Idempotent.
pub(crate) fn forget(logs: &Path, service: ServiceId) -> io::Result<()> {
    match fs::remove_dir_all(logs.join(service.to_string())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the oldest logs of a service's instances that are not `live`, down to the service's
/// bounds. Blocks.
pub(crate) fn trim(logs: &Path, service: ServiceId, live: &[InstanceId]) {
    let directory = logs.join(service.to_string());
    let mut ended: Vec<(std::time::SystemTime, PathBuf, u64)> = instances(&directory)
        .into_iter()
        .filter(|instance| !live.contains(instance))
        .map(|instance| {
            let path = directory.join(instance.to_string());
            let sizes = segments(&path)
                .into_iter()
                .filter_map(|n| segment(&path, n).metadata().ok());
            let bytes = sizes.map(|metadata| metadata.len()).sum();
            let written = path.metadata().and_then(|metadata| metadata.modified());
            (written.unwrap_or(std::time::UNIX_EPOCH), path, bytes)
        })
        .collect();
    ended.sort_by_key(|(written, ..)| std::cmp::Reverse(*written));
    let mut total = 0;
    for (place, (_, path, bytes)) in ended.into_iter().enumerate() {
        total += bytes;
        if place >= INSTANCES_KEPT_MAX || total > SERVICE_BYTES_MAX {
            // Tried again when the next instance ends.
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// What is said where lines are missing.
const LEFT_OUT: &str = "lines are left out here: they came faster than they were read, and an instance's newest 16 MiB are kept";

pub(super) const BEGINNING: LogPosition = LogPosition {
    segment: 0,
    offset: 0,
};

/// What one instance contributes: its lines, each with the position after it.
struct InstanceLines {
    instance: InstanceId,
    start: LogPosition,
    lines: Vec<(LogLine, LogPosition)>,
}

/// Takes up to `lines_max` lines by time, each instance's in their order: the first ones, or the
/// last ones when `newest`.
fn merge(reads: Vec<InstanceLines>, lines_max: usize, newest: bool) -> LogPage {
    let mut positions: Positions = reads
        .iter()
        .map(|read| (read.instance, read.start))
        .collect();
    let mut all: Vec<(LogLine, LogPosition)> =
        reads.into_iter().flat_map(|read| read.lines).collect();
    // Stable, and times of one instance do not go back but for a clock that does.
    all.sort_by_key(|(line, _)| line.at_micros);
    if newest {
        let skipped = all.len().saturating_sub(lines_max);
        for (line, position) in all.drain(..skipped) {
            positions.insert(line.instance, position);
        }
    }
    all.truncate(lines_max);
    let lines = all
        .into_iter()
        .map(|(line, position)| {
            positions.insert(line.instance, position);
            line
        })
        .collect();
    LogPage {
        lines,
        next: cursor(&positions),
    }
}

/// Lines after a position, at most `lines_max`. What was removed before it was read is said in a line
/// before the oldest that there is.
pub(super) fn forward(
    directory: &Path,
    from: LogPosition,
    lines_max: usize,
) -> Vec<(LogLine, LogPosition)> {
    let mut lines = Vec::new();
    let numbers = segments(directory);
    // The first segment is number 1, and the beginning is before it.
    let oldest = numbers.first().copied();
    let torn = oldest.filter(|oldest| *oldest > from.segment.max(1));
    for number in numbers.into_iter().filter(|number| *number >= from.segment) {
        let offset = if number == from.segment {
            from.offset
        } else {
            0
        };
        let more = lines_max - lines.len();
        lines.extend(read_segment(directory, number, offset, more));
        if lines.len() == lines_max {
            break;
        }
    }
    if let Some(segment) = torn
        && let Some((first, _)) = lines.first()
    {
        let remark = LogLine {
            stream: LogStream::Ekiden,
            text: LEFT_OUT.to_owned(),
            partial: false,
            ..first.clone()
        };
        lines.insert(0, (remark, LogPosition { segment, offset: 0 }));
    }
    lines
}

/// The last lines, at most `lines_max`.
fn newest(directory: &Path, lines_max: usize) -> Vec<(LogLine, LogPosition)> {
    let mut lines = Vec::new();
    for number in segments(directory).into_iter().rev() {
        let mut older = read_segment(directory, number, 0, usize::MAX);
        older.append(&mut lines);
        lines = older.split_off(older.len().saturating_sub(lines_max));
        if lines.len() == lines_max {
            break;
        }
    }
    lines
}

/// The whole lines of a segment from an offset on, at most `lines_max`; what has no newline yet is not
/// there yet.
fn read_segment(
    directory: &Path,
    number: u64,
    offset: u64,
    lines_max: usize,
) -> Vec<(LogLine, LogPosition)> {
    let Some(instance) = directory
        .file_name()
        .and_then(|name| name.to_str()?.parse().ok())
    else {
        return Vec::new();
    };
    let mut bytes = Vec::new();
    let read = File::open(segment(directory, number)).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.take(PAGE_BYTES_MAX).read_to_end(&mut bytes)
    });
    if read.is_err() {
        return Vec::new(); // removed by rotation
    }
    let mut at = offset;
    let mut lines = Vec::new();
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(text) = piece.strip_suffix(b"\n") else {
            break;
        };
        if lines.len() == lines_max {
            break;
        }
        at += piece.len() as u64;
        let Some(line) = Line::parse(text) else {
            continue;
        };
        let line = LogLine {
            instance,
            at_micros: line.at_micros,
            stream: line.stream,
            text: String::from_utf8_lossy(line.text).into_owned(),
            partial: line.partial,
        };
        lines.push((
            line,
            LogPosition {
                segment: number,
                offset: at,
            },
        ));
    }
    lines
}

pub(super) fn instances(service: &Path) -> Vec<InstanceId> {
    let entries = fs::read_dir(service).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn cursor(positions: &Positions) -> LogCursor {
    let places: Vec<String> = positions
        .iter()
        .map(|(instance, at)| format!("{instance}:{}:{}", at.segment, at.offset))
        .collect();
    LogCursor(places.join(","))
}

fn parse(cursor: &LogCursor) -> Result<Positions, EngineError> {
    let place = |text: &str| {
        let mut parts = text.split(':');
        let instance = parts.next()?.parse().ok()?;
        let segment = parts.next()?.parse().ok()?;
        Some((
            instance,
            LogPosition {
                segment,
                offset: parts.next()?.parse().ok()?,
            },
        ))
    };
    cursor
        .0
        .split(',')
        .filter(|text| !text.is_empty())
        .map(|text| {
            place(text).ok_or_else(|| EngineError::Invalid {
                message: format!("`{}` is not a log cursor: ask without one", cursor.0),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::log::write::LogWriter;

    const SERVICE: ServiceId = ServiceId::from_bytes([9; 16]);

    fn instance(n: u8) -> InstanceId {
        InstanceId::from_bytes([n; 16])
    }

    fn query(lines_max: u32, after: Option<LogCursor>) -> LogQuery {
        LogQuery {
            service: SERVICE,
            instance: None,
            after,
            lines_max,
        }
    }

    fn texts(page: &LogPage) -> Vec<&str> {
        page.lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn pages_follow_each_other_across_instances() {
        let logs = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let open = |n: u8| {
            let path = logs
                .path()
                .join(SERVICE.to_string())
                .join(instance(n).to_string());
            LogWriter::open(&path, now).unwrap()
        };
        let (mut one, mut two) = (open(1), open(2));
        one.take(LogStream::Stdout, b"a\nb\n", 10, now);
        two.take(LogStream::Stdout, b"c\n", 20, now);
        one.take(LogStream::Stdout, b"d\n", 30, now);
        let last = page(logs.path(), &query(2, None)).unwrap();
        assert_eq!(texts(&last), ["c", "d"]);
        assert!(
            page(logs.path(), &query(9, Some(last.next.clone())))
                .unwrap()
                .lines
                .is_empty()
        );
        open(3).take(LogStream::Stdout, b"f\n", 50, now);
        one.take(LogStream::Stdout, b"e\n", 40, now);
        let more = page(logs.path(), &query(1, Some(last.next))).unwrap();
        assert_eq!(texts(&more), ["e"]);
        let rest = page(logs.path(), &query(9, Some(more.next))).unwrap();
        assert_eq!(texts(&rest), ["f"]);
        let all = page(logs.path(), &query(9, Some(LogCursor(String::new())))).unwrap();
        assert_eq!(texts(&all), ["a", "b", "c", "d", "e", "f"]);
    }

    #[test]
    fn what_was_removed_before_it_was_read_is_said_once() {
        let logs = tempfile::tempdir().unwrap();
        let directory = logs
            .path()
            .join(SERVICE.to_string())
            .join(instance(1).to_string());
        let start = Instant::now();
        let mut log = LogWriter::open(&directory, start).unwrap();
        log.take(LogStream::Stdout, b"first\n", 1, start);
        let first = page(logs.path(), &query(9, Some(LogCursor(String::new())))).unwrap();
        assert_eq!(texts(&first), ["first"]);
        let chunk = [[b'z'; 999].as_slice(), b"\n"].concat().repeat(1000);
        for second in 1..40 {
            let now = start + std::time::Duration::from_secs(second);
            log.take(LogStream::Stdout, &chunk, second, now);
        }
        let more = page(logs.path(), &query(1, Some(first.next))).unwrap();
        assert_eq!(texts(&more), [LEFT_OUT]);
        let rest = page(logs.path(), &query(2, Some(more.next))).unwrap();
        assert!(rest.lines.iter().all(|line| line.text.starts_with("zzz")));
        assert_eq!(rest.lines.len(), 2);
    }

    #[test]
    fn foreign_cursor_is_refused() {
        let logs = tempfile::tempdir().unwrap();
        let error = page(logs.path(), &query(1, Some(LogCursor("x:1".into())))).unwrap_err();
        assert!(error.to_string().contains("`x:1`"));
    }

    #[test]
    fn oldest_logs_of_ended_instances_go_first() {
        let logs = tempfile::tempdir().unwrap();
        for n in 0..30 {
            let path = logs
                .path()
                .join(SERVICE.to_string())
                .join(instance(n).to_string());
            LogWriter::open(&path, Instant::now()).unwrap().take(
                LogStream::Stdout,
                b"x\n",
                0,
                Instant::now(),
            );
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(n));
            File::open(&path).unwrap().set_modified(at).unwrap();
        }
        trim(logs.path(), SERVICE, &[instance(0)]);
        let mut left = instances(&logs.path().join(SERVICE.to_string()));
        left.sort_unstable();
        assert_eq!(left.len(), INSTANCES_KEPT_MAX + 1);
        assert_eq!(left[..2], [instance(0), instance(10)]);
    }
}
