//! One line of a log, as text on disk.

use ekiden_engine::LogStream;

/// A line as it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Microseconds since the Unix epoch.
    pub(crate) at_micros: u64,
    pub(crate) stream: LogStream,
    pub(crate) partial: bool,
    pub(crate) text: &'a [u8],
}

impl<'a> Line<'a> {
    /// Appends the line, newline included.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(time(self.at_micros).as_bytes());
        out.extend_from_slice(match self.stream {
            LogStream::Stdout => b" stdout ",
            LogStream::Stderr => b" stderr ",
            LogStream::Ekiden => b" ekiden ",
        });
        out.extend_from_slice(if self.partial { b"P " } else { b"F " });
        out.extend_from_slice(self.text);
        out.push(b'\n');
    }

    /// Reads a line, without its newline; `None` for what is not one, such as the torn end of a
    /// segment after a power cut.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let at_micros = micros(parts.next()?)?;
        let stream = match parts.next()? {
            b"stdout" => LogStream::Stdout,
            b"stderr" => LogStream::Stderr,
            b"ekiden" => LogStream::Ekiden,
            _ => return None,
        };
        let partial = parts.next()? == b"P";
        Some(Self {
            at_micros,
            stream,
            partial,
            text: parts.next()?,
        })
    }
}

/// RFC 3339 in UTC with microseconds: 27 bytes until the year 10000.
fn time(micros: u64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

fn micros(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok().filter(|text| text.len() == 27)?;
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let days = days(part(0, 4)?, part(5, 7)?, part(8, 10)?)?;
    let seconds = days * 86_400 + part(11, 13)? * 3600 + part(14, 16)? * 60 + part(17, 19)?;
    Some(seconds * 1_000_000 + part(20, 26)?)
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Counted in years that begin in March, so that the leap day is the last of its year and months
/// have lengths that one linear formula gives.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097; // days in 400 years
    let days = days + 719_468; // from 0000-03-01
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + carry, month, day)
}

fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, year) = (year / 400, year % 400);
    let day = 365 * year + year / 4 - year / 100 + (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + day - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(time(951_782_400_000_001), "2000-02-29T00:00:00.000001Z");
        assert_eq!(time(1_763_857_467_123_456), "2025-11-23T00:24:27.123456Z");
        for day in (0..60_000).step_by(7) {
            let micros_of_day = day * 86_400_000_000 + 12_345_678_901;
            assert_eq!(micros(time(micros_of_day).as_bytes()), Some(micros_of_day));
        }
    }

    #[test]
    fn lines_read_back_what_was_put() {
        let line = Line {
            at_micros: 42,
            stream: LogStream::Stderr,
            partial: true,
            text: b"a b  c",
        };
        let mut text = Vec::new();
        line.put(&mut text);
        assert_eq!(text, b"1970-01-01T00:00:00.000042Z stderr P a b  c\n");
        assert_eq!(Line::parse(&text[..text.len() - 1]), Some(line));
        assert_eq!(Line::parse(b"1970-01-01T00:00:00.0000"), None);
        assert_eq!(Line::parse(b""), None);
    }
}
