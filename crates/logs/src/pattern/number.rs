//! Numbers as messages and patterns write them.

use std::cmp::Ordering;

/// A number, exact if it is a whole one of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Whole(i64),
    Other(f64),
}

impl Number {
    /// Reads digits with sign, point and exponent; nothing else, so no `NaN`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if !text.bytes().all(|byte| b"0123456789+-.eE".contains(&byte)) {
            return None;
        }
        match text.parse() {
            Ok(whole) => Some(Self::Whole(whole)),
            Err(_) => text.parse().ok().map(Self::Other),
        }
    }

    pub(crate) fn as_f64(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Other(other) => other,
        }
    }

    pub(crate) fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(left), Self::Whole(right)) => Some(left.cmp(&right)),
            _ => self.as_f64().partial_cmp(&other.as_f64()),
        }
    }
}
