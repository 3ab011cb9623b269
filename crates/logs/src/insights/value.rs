//! Values of fields: how they are shown, compared and sorted.

use std::{borrow::Cow, cmp::Ordering};

use jiff::Timestamp;

use crate::pattern::number::Number;

/// What a field has.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Number(Number, Cow<'a, str>),
    /// Shown and compared as 1 and 0, as CloudWatch has it, and compared as `true` and `false` too.
    Bool(bool),
    /// Milliseconds since the Unix epoch; shown as a date, compared as a number.
    Time(i64),
}

impl<'a> Value<'a> {
    /// As it is shown.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) | Self::Number(_, text) => Cow::Borrowed(text),
            Self::Bool(bool) => Cow::Borrowed(if *bool { "1" } else { "0" }),
            Self::Time(ms) => Cow::Owned(time(*ms)),
        }
    }

    /// As a number; texts that read like one are one.
    pub(super) fn number(&self) -> Option<Number> {
        match self {
            Self::Text(text) => Number::parse(text),
            Self::Number(number, _) => Some(*number),
            Self::Bool(bool) => Some(Number::Whole(i64::from(*bool))),
            Self::Time(ms) => Some(Number::Whole(*ms)),
        }
    }
}

/// What a query compares with.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Literal {
    pub(super) text: String,
    /// What it is as a number, if it reads like one.
    pub(super) number: Option<Number>,
    /// Texts are equal to it only if they are the same, not if they are the same number.
    pub(super) is_quoted: bool,
}

impl Literal {
    pub(super) fn equals(&self, value: &Value<'_>) -> bool {
        let is_number = match value {
            Value::Text(_) => !self.is_quoted,
            Value::Number(..) | Value::Bool(_) | Value::Time(_) => true,
        };
        let same_number = || match (value.number(), self.number) {
            (Some(left), Some(right)) => left.compare(right) == Some(Ordering::Equal),
            _ => false,
        };
        value.text() == self.text.as_str()
            || is_number && same_number()
            || matches!(value, Value::Bool(bool) if self.text == bool.to_string())
    }

    /// How a value stands to it: as numbers if both are, otherwise as texts.
    pub(super) fn order_of(&self, value: &Value<'_>) -> Option<Ordering> {
        match (value.number(), self.number) {
            (Some(left), Some(right)) => left.compare(right),
            _ => Some(value.text().as_ref().cmp(self.text.as_str())),
        }
    }
}

/// What a row is sorted by. As in CloudWatch, what is no number comes before what is, and in texts
/// digits next to each other count as a number. What there is not comes last, upwards and downwards.
#[derive(Debug, Clone)]
pub(super) enum Rank {
    Text(String),
    Number(f64),
}

impl Rank {
    pub(super) fn of(value: &Value<'_>) -> Self {
        match value.number() {
            Some(number) => Self::Number(number.as_f64()),
            None => Self::Text(value.text().into_owned()),
        }
    }

    /// Bytes that it keeps.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Number(_) => 0,
        }
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => natural(left, right),
            (Self::Text(_), Self::Number(_)) => Ordering::Less,
            (Self::Number(_), Self::Text(_)) => Ordering::Greater,
            (Self::Number(left), Self::Number(right)) => left.total_cmp(right),
        }
    }
}

/// The order of texts in which digits next to each other are a number.
fn natural(left: &str, right: &str) -> Ordering {
    let (mut a, mut b) = (left.as_bytes(), right.as_bytes());
    loop {
        let (Some(first), Some(second)) = (a.first(), b.first()) else {
            return a.len().cmp(&b.len()).then_with(|| left.cmp(right));
        };
        let order = match first.is_ascii_digit() && second.is_ascii_digit() {
            true => {
                let (digits, other) = (take_digits(&mut a), take_digits(&mut b));
                digits
                    .len()
                    .cmp(&other.len())
                    .then_with(|| digits.cmp(other))
            }
            false => {
                (a, b) = (&a[1..], &b[1..]);
                first.cmp(second)
            }
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Digits, without zeros that lead.
fn take_digits<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits
        .iter()
        .position(|digit| *digit != b'0')
        .unwrap_or(digits.len());
    &digits[zeros..]
}

/// A time as CloudWatch shows it, in UTC: `2026-11-28 02:26:31.000`.
pub(super) fn time(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => ms.to_string(),
    }
}

/// A number that was computed: whole, or with four decimals, or with all it has if it is small.
pub(super) fn decimal(number: f64) -> String {
    let rounded = (number * 10_000.0).round() / 10_000.0;
    match number.abs() >= 0.01 && rounded.is_finite() {
        true => rounded.to_string(),
        false => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_numbers_are_shown_as_cloudwatch_does() {
        assert_eq!(time(1_795_832_791_000), "2026-11-28 02:26:31.000");
        assert_eq!(time(-1), "1969-12-31 23:59:59.999");
        assert_eq!(time(i64::MAX), i64::MAX.to_string());
        for (number, want) in [
            (0.0, "0"),
            (3.0, "3"),
            (0.1 + 0.2, "0.3"),
            (2.0 / 3.0, "0.6667"),
            (0.001_234_5, "0.0012345"),
            (1e20, "100000000000000000000"),
            (-1.5, "-1.5"),
        ] {
            assert_eq!(decimal(number), want);
        }
    }

    #[test]
    fn digits_in_texts_sort_as_numbers() {
        for (left, right) in [
            ("a2", "a10"),
            ("a", "a1"),
            ("a01", "a1"),
            ("", "a"),
            ("a1b2", "a1b10"),
        ] {
            assert_eq!(natural(left, right), Ordering::Less, "{left} {right}");
            assert_eq!(natural(right, left), Ordering::Greater);
        }
        assert_eq!(
            Rank::Text("z".into()).compare(&Rank::Number(1.0)),
            Ordering::Less
        );
    }
}
