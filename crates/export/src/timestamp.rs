//! Times as receivers write them.

use jiff::{Timestamp, tz::TimeZone};

/// The last moment that has four digits for its year: what is later is said to be then.
const LAST_MS: u64 = 253_402_207_200_000;

/// RFC 3339 in UTC with milliseconds, such as `2026-11-28T02:37:49.000Z`.
pub(crate) fn rfc3339(ms: u64) -> String {
    format!("{:.3}", timestamp(ms))
}

/// Such as `2026/11/28/02`.
pub(crate) fn hour_path(ms: u64) -> String {
    let at = timestamp(ms).to_zoned(TimeZone::UTC);
    format!(
        "{:04}/{:02}/{:02}/{:02}",
        at.year(),
        at.month(),
        at.day(),
        at.hour()
    )
}

fn timestamp(ms: u64) -> Timestamp {
    let ms = i64::try_from(ms.min(LAST_MS)).expect("below the last moment");
    Timestamp::from_millisecond(ms).expect("between 1970 and the last moment")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_833_469_007), "2026-11-28T02:37:49.007Z");
        assert_eq!(hour_path(1_795_833_469_007), "2026/11/28/02");
    }

    #[test]
    fn what_no_calendar_has_is_the_last_moment() {
        assert_eq!(rfc3339(u64::MAX), rfc3339(LAST_MS));
        assert!(rfc3339(u64::MAX).starts_with("9999-12-3"));
    }
}
