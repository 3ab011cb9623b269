//! `20150830T123600Z`: times as signatures have them.
//!
//! ISO 8601 basic format, UTC, proleptic Gregorian, years 1970 to 9999; no leap seconds. The
//! extended format, `2015-08-30T12:36:00Z`, is what forms and XML have.

use crate::epoch_seconds::EpochSeconds;

const DAY_SECONDS: u64 = 86_400;

/// Writes a time; `None` after the year 9999.
pub fn format(at: EpochSeconds) -> Option<String> {
    let (year, month, day) = civil(at.0 / DAY_SECONDS)?;
    let second = at.0 % DAY_SECONDS;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    Some(format!(
        "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z"
    ))
}

/// Reads a time; `None` when the text is not one.
pub fn parse(text: &str) -> Option<EpochSeconds> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = &bytes[from..to];
        let value = |sum: u64, digit: &u8| sum * 10 + u64::from(digit - b'0');
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, value))
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    let days = days(year, month, day)?;
    let in_day = hour < 24 && minute < 60 && second < 60;
    in_day.then_some(EpochSeconds(
        days * DAY_SECONDS + hour * 3600 + minute * 60 + second,
    ))
}

/// Writes a time in the extended format; `None` after the year 9999.
pub fn format_extended(at: EpochSeconds) -> Option<String> {
    let basic = format(at)?;
    let part = |from: usize, to: usize| &basic[from..to];
    Some(format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(9, 11),
        part(11, 13),
        part(13, 15)
    ))
}

/// Reads a time in the extended format; a fraction of a second is dropped. `None` when the text is
/// not one.
pub fn parse_extended(text: &str) -> Option<EpochSeconds> {
    let (whole, fraction) = match text.strip_suffix('Z')?.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text.strip_suffix('Z')?, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let bytes = whole.as_bytes();
    let punctuated = bytes.len() == 19
        && [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')]
            .iter()
            .all(|&(at, mark)| bytes[at] == mark);
    if !punctuated || !fraction.is_none_or(digits) {
        return None;
    }
    let basic: String = whole.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    parse(&format!("{basic}Z"))
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn month_days(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the first of January of `year`, which is 1970 or later.
const fn days_before(year: u64) -> u64 {
    (year - 1970) * 365 + leap_years_to(year - 1) - leap_years_to(1969)
}

const fn leap_years_to(year: u64) -> u64 {
    year / 4 - year / 100 + year / 400
}

fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let exists =
        year >= 1970 && (1..=12).contains(&month) && (1..=month_days(year, month)).contains(&day);
    exists.then(|| {
        let months: u64 = (1..month).map(|month| month_days(year, month)).sum();
        days_before(year) + months + day - 1
    })
}

fn civil(days: u64) -> Option<(u64, u64, u64)> {
    if days >= days_before(10_000) {
        return None;
    }
    // 365 days or more to a year, so this year is never too early.
    let mut year = 1970 + days / 365;
    while days_before(year) > days {
        year -= 1;
    }
    let mut day = days - days_before(year);
    let mut month = 1;
    while day >= month_days(year, month) {
        day -= month_days(year, month);
        month += 1;
    }
    Some((year, month, day + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_written_and_read() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_440_938_160, "20150830T123600Z"),
            (4_102_444_799, "20991231T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
            (253_402_300_799, "99991231T235959Z"),
        ] {
            assert_eq!(format(EpochSeconds(seconds)).as_deref(), Some(text));
            assert_eq!(parse(text), Some(EpochSeconds(seconds)));
        }
        assert_eq!(format(EpochSeconds(253_402_300_800)), None);
        assert_eq!(format(EpochSeconds(u64::MAX)), None);
    }

    #[test]
    fn every_day_of_four_centuries_reads_back() {
        for day in 0..146_097 {
            let at = EpochSeconds(day * DAY_SECONDS + 43_199);
            assert_eq!(parse(&format(at).unwrap()), Some(at));
        }
    }

    #[test]
    fn extended_format_has_punctuation() {
        let at = EpochSeconds(1_440_938_160);
        assert_eq!(format_extended(at).as_deref(), Some("2015-08-30T12:36:00Z"));
        for text in ["2015-08-30T12:36:00Z", "2015-08-30T12:36:00.999999Z"] {
            assert_eq!(parse_extended(text), Some(at));
        }
        for text in [
            "",
            "Z",
            "20150830T123600Z",
            "2015-08-30T12:36:00",
            "2015-08-30T12:36:00.Z",
            "2015-08-30T12:36:00.1aZ",
            "2015-08-30T12:36:0\u{664}Z",
            "-015-08-30T12:36:00Z",
            "2015:08-30T12:36:00Z",
        ] {
            assert_eq!(parse_extended(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "20150830",
            "20150830T123600",
            "20150830T123600+",
            "2015-8-30T12360Z",
            "20150830 123600Z",
            "19691231T235959Z",
            "20150229T000000Z",
            "20151301T000000Z",
            "20150800T000000Z",
            "20150830T240000Z",
            "20150830T126000Z",
            "20150830T123660Z",
            "+0150830T123600Z",
            "2015083\u{664}T12360Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
