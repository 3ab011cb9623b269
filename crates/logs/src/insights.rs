//! Queries of CloudWatch Logs Insights, as far as simple ones go.
//!
//! There are `fields`, `display`, `filter`, `parse`, `stats` (once), `sort`, `dedup` and `limit`, joined by
//! `|`, with comments after `#`. Whatever else the language has is refused by name and place, so that
//! nobody takes half an answer for a whole one.
//!
//! A query is read into a plan whose names are resolved: what an alias or a column stands for is known
//! before the first event comes. Events are then taken one by one. What is kept of them is bounded:
//! the best rows up to the limit, or the groups of `stats`; [`Results::truncated`] says when a bound
//! was in the way.

mod call;
mod cursor;
mod event;
mod expression;
mod extract;
mod field;
mod parser;
mod plan;
mod rows;
mod stats;
mod value;

use std::sync::Arc;

use memchr::memmem::Finder;

use self::{
    event::Event,
    plan::{Plan, Step},
    rows::Rows,
    stats::Groups,
};

/// Characters of a query, as in the service model of CloudWatch Logs.
pub const QUERY_CHARS_MAX: usize = 10_000;
/// Rows of a result, and how many there are without `limit`.
pub const LIMIT_MAX: usize = 10_000;
/// Commands of a query.
pub const COMMANDS_MAX: usize = 64;
/// Conditions of a query.
pub const CONDITIONS_MAX: usize = 1000;
/// Parentheses and `not`s within each other.
pub const DEPTH_MAX: usize = 32;
/// Fields of a command, and columns of a result.
pub const COLUMNS_MAX: usize = 100;
/// Fields that all `parse` commands of a query make.
pub const PARSED_MAX: usize = 100;
/// Regular expressions of a query.
pub const REGEXES_MAX: usize = 16;
/// What a regular expression may take when compiled, and again while it runs.
pub const REGEX_BYTES_MAX: usize = 1 << 20;
/// Groups of `stats`.
pub const GROUPS_MAX: usize = 10_000;
/// Distinct values and buckets of percentiles that all groups of a query keep, about 50 bytes each.
pub const CELLS_MAX: usize = 1_000_000;
/// Texts that rows or groups keep.
pub const KEPT_BYTES_MAX: usize = 64 << 20;

/// What is asked of events.
#[derive(Debug, Clone)]
pub struct Query {
    plan: Arc<Plan>,
    literal: Option<Finder<'static>>,
}

/// A query that cannot be read, or that asks for what there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at line {line}, column {column} of the query: {hint}")]
pub struct QueryError {
    /// What is wrong.
    pub what: String,
    /// The line; the first is 1.
    pub line: usize,
    /// The character of the line; the first is 1.
    pub column: usize,
    /// What to do about it.
    pub hint: String,
}

/// An event, as a query sees it.
#[derive(Debug, Clone, Copy)]
pub struct EventView<'a> {
    /// `@timestamp`, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// `@ingestionTime`, milliseconds since the Unix epoch.
    pub ingestion_ms: i64,
    /// `@log`, as it is to be shown (CloudWatch shows `account:group`).
    pub log_group: &'a str,
    /// `@logStream`.
    pub stream: &'a str,
    /// `@message`; what is no UTF-8 in it is shown as U+FFFD.
    pub message: &'a [u8],
    /// `@ptr`.
    pub ptr: &'a str,
}

/// What a query found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    /// Field and value, as `GetQueryResults` returns them. What has no value is left out; `@ptr` is the
    /// last of each row but those of `stats`.
    pub rows: Vec<Vec<(String, String)>>,
    /// Events that every `filter` before `stats` let through.
    pub records_matched: u64,
    /// Events that were looked at.
    pub records_scanned: u64,
    /// Bytes of their messages.
    pub bytes_scanned: u64,
    /// Whether a bound of this module was reached, so that rows, groups or distinct values are missing.
    pub truncated: bool,
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// Whatever is not a query, is not among what is supported, or is above one of the bounds.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let plan = parser::parse(text)?;
        let literal = plan
            .literals()
            .best()
            .map(|bytes| Finder::new(&bytes).into_owned());
        let plan = Arc::new(plan);
        Ok(Self { plan, literal })
    }

    /// Bytes, at least one, that the message of every event that counts has in it; `None` when nothing
    /// can be said. As with [`crate::pattern::Pattern::required_literal`], JSON that spells plain
    /// characters with escapes is not found.
    #[must_use]
    pub fn required_literal(&self) -> Option<&[u8]> {
        self.literal.as_ref().map(Finder::needle)
    }

    /// Begins to evaluate it.
    #[must_use]
    pub fn evaluator(&self) -> Evaluator {
        Evaluator {
            kept: match &self.plan.stats {
                Some(_) => Kept::Groups(Groups::default()),
                None => Kept::Rows(Rows::default()),
            },
            query: self.clone(),
            results: Results::default(),
        }
    }
}

/// A query on its way through events, which may come in any order. Without `sort`, and between those that
/// it holds equal, the newest events come first; those of one time as they came.
#[derive(Debug)]
pub struct Evaluator {
    query: Query,
    kept: Kept,
    results: Results,
}

#[derive(Debug)]
enum Kept {
    Rows(Rows),
    Groups(Groups),
}

impl Evaluator {
    /// Takes an event.
    pub fn take(&mut self, event: &EventView<'_>) {
        self.results.records_scanned += 1;
        self.results.bytes_scanned += event.message.len() as u64;
        if let Some(literal) = &self.query.literal
            && literal.find(event.message).is_none()
        {
            return;
        }
        let plan = &*self.query.plan;
        let mut event = Event::new(*event, plan.slots);
        for step in &plan.steps {
            match step {
                Step::Filter(expression) if expression.holds(&event) => {}
                Step::Filter(_) => return,
                Step::Extract(extract) => extract.run(&mut event),
            }
        }
        self.results.records_matched += 1;
        match (&mut self.kept, &plan.stats) {
            (Kept::Groups(groups), Some(stats)) => groups.take(stats, &event),
            (Kept::Rows(rows), _) => rows.take(plan, &event),
            (Kept::Groups(_), None) => {}
        }
    }

    /// Events before this time, in milliseconds since the Unix epoch, would change no row, so that a
    /// search from the newest to the oldest may end here. `None` while they would. They are not counted
    /// if they are not taken.
    #[must_use]
    pub fn wants_from_ms(&self) -> Option<i64> {
        match &self.kept {
            Kept::Rows(rows) => rows.wants_from_ms(&self.query.plan),
            Kept::Groups(_) => None,
        }
    }

    /// What was found.
    #[must_use]
    pub fn finish(self) -> Results {
        let plan = &*self.query.plan;
        let (rows, truncated) = match (self.kept, &plan.stats) {
            (Kept::Groups(groups), Some(stats)) => groups.finish(stats, plan),
            (Kept::Groups(_), None) => (Vec::new(), false),
            (Kept::Rows(rows), _) => rows.finish(plan),
        };
        Results {
            rows,
            truncated,
            ..self.results
        }
    }
}

#[cfg(test)]
mod tests;
