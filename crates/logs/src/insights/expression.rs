//! Conditions of `filter`.

use std::cmp::Ordering;

use memchr::memmem::Finder;
use regex::bytes::Regex;

use super::{
    field::{Field, Record},
    value::Literal,
};
use crate::pattern::literal::Literals;

/// A condition. What compares with a field that has no value does not hold; its negation, which is what
/// `!=` and `not like` are, does.
#[derive(Debug, Clone)]
pub(super) enum Expression {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Present(Field),
    Compare(Field, Comparison, Operand),
    Like(Field, Like),
    In(Field, Vec<Literal>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone)]
pub(super) enum Operand {
    Literal(Literal),
    Field(Field),
}

/// What a text has in it.
#[derive(Debug, Clone)]
pub(super) enum Like {
    Text(Box<Finder<'static>>),
    Regex(Regex),
}

impl Expression {
    pub(super) fn holds(&self, record: &impl Record) -> bool {
        match self {
            Self::All(all) => all.iter().all(|one| one.holds(record)),
            Self::Any(any) => any.iter().any(|one| one.holds(record)),
            Self::Not(inner) => !inner.holds(record),
            Self::Present(field) => record.value(field).is_some(),
            Self::Compare(field, comparison, operand) => {
                record.value(field).is_some_and(|left| match operand {
                    Operand::Literal(literal) => comparison.holds(&left, literal),
                    Operand::Field(right) => record.value(right).is_some_and(|right| {
                        let (text, number) = (right.text().into_owned(), right.number());
                        comparison.holds(
                            &left,
                            &Literal {
                                text,
                                number,
                                is_quoted: false,
                            },
                        )
                    }),
                })
            }
            Self::Like(field, like) => record
                .value(field)
                .is_some_and(|value| like.holds(&value.text())),
            Self::In(field, literals) => record
                .value(field)
                .is_some_and(|value| literals.iter().any(|literal| literal.equals(&value))),
        }
    }

    /// What a message must have in it for this to hold.
    pub(super) fn literals(&self) -> Literals {
        match self {
            Self::All(all) => all
                .iter()
                .map(Self::literals)
                .fold(Literals::none(), Literals::and),
            Self::Any(any) => any
                .iter()
                .map(Self::literals)
                .reduce(|all, one| all.or(&one))
                .unwrap_or_default(),
            Self::Not(_) => Literals::none(),
            Self::Present(field) | Self::In(field, _) => field.literals(),
            Self::Compare(field, Comparison::Equal, Operand::Literal(literal))
                if literal.is_quoted || literal.number.is_none() =>
            {
                field.literals_with(&literal.text)
            }
            Self::Compare(field, _, Operand::Field(right)) => {
                field.literals().and(right.literals())
            }
            Self::Compare(field, ..) => field.literals(),
            Self::Like(field, Like::Text(text)) => {
                field.literals_with(&String::from_utf8_lossy(text.needle()))
            }
            Self::Like(field, Like::Regex(regex)) => match is_plain(regex.as_str()) {
                true => field.literals_with(regex.as_str()),
                false => field.literals(),
            },
        }
    }
}

/// Whether a regular expression is a text.
fn is_plain(regex: &str) -> bool {
    regex
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b" _-:,;=@/<>\"'!%".contains(&byte))
}

impl Comparison {
    fn holds(self, left: &super::value::Value<'_>, right: &Literal) -> bool {
        let order = || right.order_of(left);
        match self {
            Self::Equal => right.equals(left),
            Self::Less => order().is_some_and(Ordering::is_lt),
            Self::LessOrEqual => order().is_some_and(Ordering::is_le),
            Self::Greater => order().is_some_and(Ordering::is_gt),
            Self::GreaterOrEqual => order().is_some_and(Ordering::is_ge),
        }
    }
}

impl Like {
    fn holds(&self, text: &str) -> bool {
        match self {
            Self::Text(part) => part.find(text.as_bytes()).is_some(),
            Self::Regex(regex) => regex.is_match(text.as_bytes()),
        }
    }
}
