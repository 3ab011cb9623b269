//! Where in a group a page ended.

use std::{fmt, str::FromStr};

/// A place between lines in the order of time, and of sequence at the same time. Stays good when lines are
/// added or removed.
///
/// Printed as 39 decimal digits, which sort as the cursors do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// The sequence within the group.
    pub sequence: u64,
}

/// The text is not a cursor: not 1 to 39 decimal digits, or too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: 1 to 39 decimal digits are expected")]
pub struct NotACursor;

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The sign turned, so that times before 1970 are the smaller numbers.
        let time = (self.time_ms as u64) ^ (1 << 63);
        write!(
            out,
            "{:039}",
            u128::from(time) << 64 | u128::from(self.sequence)
        )
    }
}

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        if text.is_empty() || text.len() > 39 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotACursor);
        }
        let number: u128 = text.parse().map_err(|_| NotACursor)?;
        Ok(Self {
            time_ms: ((number >> 64) as u64 ^ (1 << 63)) as i64,
            sequence: number as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_are_printed_and_sort_as_text() {
        let mut before = String::new();
        for (time_ms, sequence) in [
            (i64::MIN, 0),
            (-1, u64::MAX),
            (0, 0),
            (0, 1),
            (1_764_300_000_000, 1 << 60),
            (i64::MAX, u64::MAX),
        ] {
            let cursor = Cursor { time_ms, sequence };
            let text = cursor.to_string();
            assert_eq!(text.len(), 39);
            assert_eq!(text.parse(), Ok(cursor));
            assert!(before < text);
            before = text;
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let nines = "9".repeat(39);
        for text in ["", "-1", "+1", "1a", &"1".repeat(40), nines.as_str()] {
            assert_eq!(text.parse::<Cursor>(), Err(NotACursor), "{text}");
        }
    }
}
