//! `stats`: groups of events and what is counted of them.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher, RandomState},
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{
    CELLS_MAX, GROUPS_MAX, KEPT_BYTES_MAX,
    event::Event,
    field::{Field, Record},
    plan::{Plan, ranks},
    value::{Value, decimal, time},
};

/// A `stats` command. Its columns are first those that it groups by.
#[derive(Debug, Clone)]
pub(super) struct Stats {
    pub(super) by: Vec<By>,
    pub(super) aggregates: Vec<Aggregate>,
}

/// What events of a group have alike.
#[derive(Debug, Clone)]
pub(super) enum By {
    Field(Field),
    Bin(Bin),
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bin {
    /// From the Unix epoch on.
    Milliseconds(i64),
    /// From a Monday on.
    Weeks(i64),
    /// From January of the year 0 on.
    Months(i64),
}

/// What is made of the events of a group.
#[derive(Debug, Clone)]
pub(super) enum Aggregate {
    CountAll,
    Count(Field),
    Sum(Field),
    Avg(Field),
    Min(Field),
    Max(Field),
    /// The percentage is 0 to 100.
    Pct(Field, f64),
    CountDistinct(Field),
}

/// The groups so far.
#[derive(Debug, Default)]
pub(super) struct Groups {
    index: HashMap<Vec<Option<String>>, usize>,
    groups: Vec<Group>,
    /// For distinct values: what of them is kept are 64 bits.
    hasher: RandomState,
    cells: usize,
    bytes: usize,
    truncated: bool,
}

#[derive(Debug)]
struct Group {
    key: Vec<Option<String>>,
    /// When its first `bin` begins.
    bin_ms: Option<i64>,
    states: Vec<State>,
}

#[derive(Debug, Clone)]
enum State {
    Count(u64),
    /// Sum and count.
    Mean(f64, u64),
    Extreme(Option<f64>),
    /// By the most significant bits of a value: count and sum of what has them.
    Distribution(BTreeMap<i64, (u64, f64)>),
    Distinct(HashSet<u64>),
}

impl Groups {
    pub(super) fn take(&mut self, stats: &Stats, event: &Event<'_>) {
        let mut bin_ms = None;
        let key: Vec<Option<String>> = stats
            .by
            .iter()
            .map(|by| match by {
                By::Field(field) => event.value(field).map(|value| value.text().into_owned()),
                By::Bin(bin) => {
                    let begin = bin.begin_ms(event.timestamp_ms());
                    bin_ms.get_or_insert(begin);
                    Some(time(begin))
                }
            })
            .collect();
        let index = match self.index.get(&key) {
            Some(index) => *index,
            None => {
                // The key is kept twice.
                let bytes: usize = key
                    .iter()
                    .map(|part| 64 + 2 * part.as_ref().map_or(0, String::len))
                    .sum();
                if self.groups.len() == GROUPS_MAX || self.bytes + bytes > KEPT_BYTES_MAX {
                    self.truncated = true;
                    return;
                }
                self.bytes += bytes;
                self.index.insert(key.clone(), self.groups.len());
                let states = stats.aggregates.iter().map(State::of).collect();
                self.groups.push(Group {
                    key,
                    bin_ms,
                    states,
                });
                self.groups.len() - 1
            }
        };
        let states = &mut self.groups[index].states;
        for (aggregate, state) in stats.aggregates.iter().zip(states) {
            if !state.take(aggregate, event, &self.hasher, &mut self.cells) {
                self.truncated = true;
            }
        }
    }

    /// Rows, and whether some or parts of them are missing. Without `sort` the newest spans of time
    /// come first, and groups as they came.
    pub(super) fn finish(
        mut self,
        stats: &Stats,
        plan: &Plan,
    ) -> (Vec<Vec<(String, String)>>, bool) {
        self.groups
            .sort_by_key(|group| std::cmp::Reverse(group.bin_ms));
        let mut records: Vec<Columns> = self
            .groups
            .into_iter()
            .map(|group| {
                let computed = group.states.iter().zip(&stats.aggregates);
                let computed = computed.map(|(state, aggregate)| state.shown(aggregate));
                Columns(group.key.into_iter().chain(computed).collect())
            })
            .filter(|record| plan.having.iter().all(|condition| condition.holds(record)))
            .collect();
        if !plan.order.is_empty() {
            records.sort_by_cached_key(|record| ranks(&plan.order, record));
        }
        records.truncate(plan.limit);
        if !plan.last_order.is_empty() {
            records.sort_by_cached_key(|record| ranks(&plan.last_order, record));
        }
        let show = |record: &Columns| {
            let text = |field| record.value(field).map(|value| value.text().into_owned());
            plan.named(
                plan.columns
                    .iter()
                    .map(|column| text(&column.field))
                    .collect(),
            )
        };
        (records.iter().map(show).collect(), self.truncated)
    }
}

/// A row of `stats`.
struct Columns(Vec<Option<String>>);

impl Record for Columns {
    fn value(&self, field: &Field) -> Option<Value<'_>> {
        match field {
            Field::Column(column) => {
                Some(Value::Text(Cow::Borrowed(self.0.get(*column)?.as_deref()?)))
            }
            _ => None,
        }
    }
}

impl State {
    fn of(aggregate: &Aggregate) -> Self {
        match aggregate {
            Aggregate::CountAll | Aggregate::Count(_) => Self::Count(0),
            Aggregate::Sum(_) | Aggregate::Avg(_) => Self::Mean(0.0, 0),
            Aggregate::Min(_) | Aggregate::Max(_) => Self::Extreme(None),
            Aggregate::Pct(..) => Self::Distribution(BTreeMap::new()),
            Aggregate::CountDistinct(_) => Self::Distinct(HashSet::new()),
        }
    }

    /// Takes an event. False if there was no cell left for it.
    fn take(
        &mut self,
        aggregate: &Aggregate,
        event: &Event<'_>,
        hasher: &RandomState,
        cells: &mut usize,
    ) -> bool {
        let number = |field: &Field| {
            let number = event.value(field)?.number()?.as_f64();
            number.is_finite().then_some(number)
        };
        match (self, aggregate) {
            (Self::Count(count), Aggregate::Count(field)) => {
                *count += u64::from(event.value(field).is_some())
            }
            (Self::Count(count), _) => *count += 1,
            (Self::Mean(sum, count), Aggregate::Sum(field) | Aggregate::Avg(field)) => {
                if let Some(number) = number(field) {
                    *sum += number;
                    *count += 1;
                }
            }
            (Self::Extreme(extreme), Aggregate::Min(field)) => {
                if let Some(number) = number(field) {
                    *extreme = Some(extreme.map_or(number, |least| least.min(number)));
                }
            }
            (Self::Extreme(extreme), Aggregate::Max(field)) => {
                if let Some(number) = number(field) {
                    *extreme = Some(extreme.map_or(number, |most| most.max(number)));
                }
            }
            (Self::Distribution(buckets), Aggregate::Pct(field, _)) => {
                let Some(number) = number(field) else {
                    return true;
                };
                let bucket = bucket_of(number);
                if !buckets.contains_key(&bucket) && !another(cells) {
                    return false;
                }
                let (count, sum) = buckets.entry(bucket).or_default();
                *count += 1;
                *sum += number;
            }
            (Self::Distinct(seen), Aggregate::CountDistinct(field)) => {
                let Some(value) = event.value(field) else {
                    return true;
                };
                let hash = hasher.hash_one(value.text().as_ref());
                if !seen.contains(&hash) {
                    if !another(cells) {
                        return false;
                    }
                    seen.insert(hash);
                }
            }
            (Self::Mean(..) | Self::Extreme(_) | Self::Distribution(_) | Self::Distinct(_), _) => {}
        }
        true
    }

    fn shown(&self, aggregate: &Aggregate) -> Option<String> {
        match (self, aggregate) {
            (Self::Count(count), _) => Some(count.to_string()),
            (Self::Mean(_, 0), _) => None,
            (Self::Mean(sum, count), Aggregate::Avg(_)) => Some(decimal(sum / *count as f64)),
            (Self::Mean(sum, _), _) => Some(decimal(*sum)),
            (Self::Extreme(extreme), _) => extreme.map(decimal),
            (Self::Distribution(buckets), Aggregate::Pct(_, percent)) => {
                percentile(buckets, *percent).map(decimal)
            }
            (Self::Distribution(_), _) => None,
            (Self::Distinct(seen), _) => Some(seen.len().to_string()),
        }
    }
}

fn another(cells: &mut usize) -> bool {
    let is_left = *cells < CELLS_MAX;
    *cells += usize::from(is_left);
    is_left
}

/// Sign, exponent and ten more bits, in the order of the values: what is in a bucket is within 0.1 %.
fn bucket_of(number: f64) -> i64 {
    let magnitude = (number.abs().to_bits() >> 42) as i64;
    if number < 0.0 { -magnitude } else { magnitude }
}

/// Nearest rank: the smallest value with at least that part of all at or below it, as the mean of its
/// bucket.
fn percentile(buckets: &BTreeMap<i64, (u64, f64)>, percent: f64) -> Option<f64> {
    let all: u64 = buckets.values().map(|(count, _)| count).sum();
    let rank = ((percent / 100.0 * all as f64).ceil() as u64).max(1);
    let mut below = 0;
    buckets
        .values()
        .find(|(count, _)| {
            below += count;
            below >= rank
        })
        .map(|(count, sum)| sum / *count as f64)
}

const DAY_MS: i64 = 86_400_000;
/// 5 January 1970, the first Monday of the Unix epoch.
const FIRST_MONDAY_MS: i64 = 4 * DAY_MS;

impl Bin {
    /// When the span begins that a time is in; both in milliseconds since the Unix epoch.
    fn begin_ms(self, ms: i64) -> i64 {
        match self {
            Self::Milliseconds(span) => ms.saturating_sub(ms.rem_euclid(span)),
            Self::Weeks(weeks) => {
                let since = ms.saturating_sub(FIRST_MONDAY_MS);
                ms.saturating_sub(since.rem_euclid(weeks * 7 * DAY_MS))
            }
            Self::Months(months) => begin_of_months(ms, months).unwrap_or(ms),
        }
    }
}

fn begin_of_months(ms: i64, months: i64) -> Option<i64> {
    let date = Timestamp::from_millisecond(ms)
        .ok()?
        .to_zoned(TimeZone::UTC)
        .date();
    let month = i64::from(date.year()) * 12 + i64::from(date.month()) - 1;
    let begin = month - month.rem_euclid(months);
    let (year, month) = (
        i16::try_from(begin.div_euclid(12)).ok()?,
        begin.rem_euclid(12) as i8 + 1,
    );
    let begin = Date::new(year, month, 1)
        .ok()?
        .to_zoned(TimeZone::UTC)
        .ok()?;
    Some(begin.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_begin_where_a_clock_would_begin_them() {
        let ms = 1_795_832_791_123; // Saturday, 2026-11-28 02:26:31.123
        for (bin, want) in [
            (Bin::Milliseconds(5 * 60_000), "2026-11-28 02:25:00.000"),
            (Bin::Milliseconds(DAY_MS), "2026-11-28 00:00:00.000"),
            (Bin::Milliseconds(1), "2026-11-28 02:26:31.123"),
            (Bin::Weeks(1), "2026-11-23 00:00:00.000"),
            (Bin::Months(1), "2026-11-01 00:00:00.000"),
            (Bin::Months(3), "2026-10-01 00:00:00.000"),
            (Bin::Months(12), "2026-01-01 00:00:00.000"),
        ] {
            assert_eq!(time(bin.begin_ms(ms)), want, "{bin:?}");
        }
        for bin in [Bin::Milliseconds(DAY_MS), Bin::Weeks(1), Bin::Months(12)] {
            assert!(bin.begin_ms(-1) <= -1);
            let _ = (bin.begin_ms(i64::MIN), bin.begin_ms(i64::MAX));
        }
    }

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let mut buckets = BTreeMap::new();
        for value in -1000..=9000 {
            let value = f64::from(value) * 1.7;
            let (count, sum) = buckets.entry(bucket_of(value)).or_insert((0, 0.0));
            *count += 1;
            *sum += value;
        }
        for percent in [0.0, 5.0, 50.0, 95.0, 99.9, 100.0] {
            let rank = ((percent / 100.0 * 10_001.0_f64).ceil() as i32).max(1);
            let want = f64::from(rank - 1001) * 1.7;
            let got = percentile(&buckets, percent).unwrap();
            assert!(
                (got - want).abs() <= want.abs() / 1000.0,
                "{percent}: {got} for {want}"
            );
        }
        assert_eq!(percentile(&BTreeMap::new(), 50.0), None);
    }
}
