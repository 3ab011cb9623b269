//! The rows of a query without `stats`: the first ones in its order, and no more of them than it wants.

use std::collections::{BTreeMap, HashMap};

use super::{
    KEPT_BYTES_MAX,
    event::Event,
    field::{Field, Record},
    plan::{Direction, Plan, Ranked, ranks},
    value::Rank,
};

/// What was kept so far.
#[derive(Debug, Default)]
pub(super) struct Rows {
    kept: BTreeMap<Place, Row>,
    /// Where the row is that has these values of `dedup`.
    distinct: HashMap<Vec<Option<String>>, Place>,
    taken: u64,
    bytes: usize,
    truncated: bool,
}

/// Where a row is among the others: by what it is sorted by, then by when it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    ranks: Vec<Ranked>,
    number: u64,
}

#[derive(Debug)]
struct Row {
    values: Vec<Option<String>>,
    ptr: Option<String>,
    distinct: Option<Vec<Option<String>>>,
    last_ranks: Vec<Ranked>,
    timestamp_ms: i64,
    bytes: usize,
}

impl Rows {
    pub(super) fn take(&mut self, plan: &Plan, event: &Event<'_>) {
        self.taken += 1;
        let (ranks_of_event, number) = (ranks(&plan.order, event), self.taken);
        let place = Place {
            ranks: ranks_of_event,
            number,
        };
        let is_full = self.kept.len() >= plan.limit;
        if is_full
            && self
                .kept
                .last_key_value()
                .is_some_and(|(last, _)| *last < place)
        {
            return;
        }
        let text = |field: &Field| event.value(field).map(|value| value.text().into_owned());
        let distinct: Option<Vec<_>> = plan
            .dedup
            .as_ref()
            .map(|fields| fields.iter().map(text).collect());
        if let Some(distinct) = &distinct
            && let Some(before) = self.distinct.get(distinct)
        {
            if *before < place {
                return;
            }
            let before = before.clone();
            self.remove(&before);
        }
        let mut row = Row {
            values: plan
                .columns
                .iter()
                .map(|column| text(&column.field))
                .collect(),
            ptr: text(&Field::Ptr),
            last_ranks: ranks(&plan.last_order, event),
            timestamp_ms: event.timestamp_ms(),
            bytes: 0,
            distinct,
        };
        row.bytes = row.size() + place.size();
        self.bytes += row.bytes;
        if let Some(distinct) = &row.distinct {
            self.distinct.insert(distinct.clone(), place.clone());
        }
        self.kept.insert(place, row);
        while self.kept.len() > plan.limit || self.bytes > KEPT_BYTES_MAX {
            self.truncated |= self.kept.len() <= plan.limit;
            let Some((last, _)) = self.kept.last_key_value() else {
                return;
            };
            let last = last.clone();
            self.remove(&last);
        }
    }

    fn remove(&mut self, place: &Place) {
        let Some(row) = self.kept.remove(place) else {
            return;
        };
        self.bytes -= row.bytes;
        if let Some(distinct) = row.distinct {
            self.distinct.remove(&distinct);
        }
    }

    /// See [`super::Evaluator::wants_from_ms`].
    pub(super) fn wants_from_ms(&self, plan: &Plan) -> Option<i64> {
        let first = plan.order.first()?;
        let is_newest_first = first.field == Field::Timestamp && first.direction == Direction::Down;
        let (_, last) = self.kept.last_key_value()?;
        (is_newest_first && self.kept.len() >= plan.limit).then_some(last.timestamp_ms)
    }

    /// Rows in order, and whether some are missing.
    pub(super) fn finish(self, plan: &Plan) -> (Vec<Vec<(String, String)>>, bool) {
        let mut rows: Vec<Row> = self.kept.into_values().collect();
        if !plan.last_order.is_empty() {
            rows.sort_by(|left, right| left.last_ranks.cmp(&right.last_ranks));
        }
        let show = |row: Row| {
            let mut shown = plan.named(row.values);
            shown.retain(|(name, _)| name != "@ptr");
            shown.extend(row.ptr.map(|ptr| ("@ptr".to_owned(), ptr)));
            shown
        };
        (rows.into_iter().map(show).collect(), self.truncated)
    }
}

/// What a text costs beside its bytes, about.
const TEXT_BYTES: usize = 32;

fn size_of_texts(texts: &[Option<String>]) -> usize {
    texts
        .iter()
        .map(|text| TEXT_BYTES + text.as_ref().map_or(0, String::len))
        .sum()
}

fn size_of_ranks(ranks: &[Ranked]) -> usize {
    ranks
        .iter()
        .map(|ranked| TEXT_BYTES + ranked.rank.as_ref().map_or(0, Rank::bytes))
        .sum()
}

impl Place {
    fn size(&self) -> usize {
        size_of_ranks(&self.ranks)
    }
}

impl Row {
    fn size(&self) -> usize {
        // What is distinct is kept twice, and so is where it is.
        let distinct = self.distinct.as_deref().map_or(0, size_of_texts);
        size_of_texts(&self.values) + 2 * distinct + size_of_ranks(&self.last_ranks) + TEXT_BYTES
    }
}
