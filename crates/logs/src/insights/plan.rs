//! A query whose names are resolved.

use super::{
    LIMIT_MAX,
    expression::Expression,
    extract::Extract,
    field::{Field, Record},
    stats::Stats,
    value::Rank,
};
use crate::pattern::literal::Literals;

/// What is done with events, and what is shown of them.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// What every event goes through.
    pub(super) steps: Vec<Step>,
    /// How many values `parse` makes.
    pub(super) slots: usize,
    pub(super) stats: Option<Stats>,
    /// What rows of `stats` must be like.
    pub(super) having: Vec<Expression>,
    /// Which rows come first, and so which are kept.
    pub(super) order: Vec<Key>,
    /// Of rows that have these alike only the first is kept.
    pub(super) dedup: Option<Vec<Field>>,
    /// At most [`LIMIT_MAX`].
    pub(super) limit: usize,
    /// The order in which those that were kept are shown, if it is another.
    pub(super) last_order: Vec<Key>,
    pub(super) columns: Vec<Column>,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Filter(Expression),
    Extract(Extract),
}

/// A field to sort by.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) field: Field,
    pub(super) direction: Direction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// A field that is shown.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) field: Field,
}

impl Plan {
    pub(super) fn new() -> Self {
        Self {
            steps: Vec::new(),
            slots: 0,
            stats: None,
            having: Vec::new(),
            order: Vec::new(),
            dedup: None,
            limit: LIMIT_MAX,
            last_order: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// What the message of an event must have in it to pass every filter.
    pub(super) fn literals(&self) -> Literals {
        self.steps
            .iter()
            .map(|step| match step {
                Step::Filter(expression) => expression.literals(),
                Step::Extract(_) => Literals::none(),
            })
            .fold(Literals::none(), Literals::and)
    }

    /// A row as it is shown; what has no value is left out.
    pub(super) fn named(&self, values: Vec<Option<String>>) -> Vec<(String, String)> {
        self.columns
            .iter()
            .zip(values)
            .filter_map(|(column, value)| Some((column.name.clone(), value?)))
            .collect()
    }
}

/// What a record is sorted by.
pub(super) fn ranks(keys: &[Key], record: &impl Record) -> Vec<Ranked> {
    let rank = |key: &Key| Ranked {
        rank: record.value(&key.field).map(|value| Rank::of(&value)),
        direction: key.direction,
    };
    keys.iter().map(rank).collect()
}

/// A rank and which way it goes.
#[derive(Debug, Clone)]
pub(super) struct Ranked {
    pub(super) rank: Option<Rank>,
    direction: Direction,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (&self.rank, &other.rank) {
            (Some(left), Some(right)) => match self.direction {
                Direction::Up => left.compare(right),
                Direction::Down => right.compare(left),
            },
            (left, right) => right.is_some().cmp(&left.is_some()),
        }
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}
