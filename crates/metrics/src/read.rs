//! Reading points: what of which resolution, from files and memory, into periods.

use std::{collections::BTreeMap, fs::File};

use crate::{
    block::{Block, TIERS, rolled_up},
    codec::Point,
    datum::Datum,
    error::Error,
    hot::between,
    series::Unit,
    stat::Stat,
};

/// A metric whose periods are wanted.
pub(crate) struct Want {
    /// Its key without the unit.
    pub(crate) prefix: Vec<u8>,
    pub(crate) unit: Option<Unit>,
    pub(crate) start_minute: u32,
    pub(crate) end_minute: u32,
    pub(crate) period_minutes: u32,
    pub(crate) stats: Vec<Stat>,
}

/// Periods with data: when they begin and the statistics.
pub(crate) type Periods = Vec<(u32, Vec<Option<f64>>)>;

/// A stretch of time to be read from one file and from memory.
pub(crate) struct Span {
    pub(crate) tier: usize,
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) file: Option<File>,
    /// What is in memory: which want, the unit and its points.
    pub(crate) memory: Vec<(usize, u8, Vec<Point>)>,
}

/// One series' periods while points come in by time.
#[derive(Default)]
struct Fold {
    current: Option<(u32, Datum)>,
    done: Periods,
}

impl Fold {
    fn add(&mut self, want: &Want, minute: u32, datum: &Datum) {
        let past = (minute - want.start_minute) % want.period_minutes;
        let begins = minute - past;
        match &mut self.current {
            Some((current, all)) if *current == begins => all.merge(datum),
            _ => {
                self.end(want);
                self.current = Some((begins, datum.clone()));
            }
        }
    }

    fn end(&mut self, want: &Want) {
        if let Some((begins, datum)) = self.current.take() {
            let values = want.stats.iter().map(|stat| stat.of(&datum)).collect();
            self.done.push((begins, values));
        }
    }
}

/// Reads spans, which are in the order of time. Returns for each want the periods of each unit that has some, and
/// how many pieces were damaged.
pub(crate) fn read(
    wants: &[Want],
    spans: Vec<Span>,
) -> Result<(Vec<BTreeMap<Unit, Periods>>, u64), Error> {
    let mut prefixes: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for (number, want) in wants.iter().enumerate() {
        prefixes
            .entry(want.prefix.clone())
            .or_default()
            .push(number);
    }
    let mut folds: BTreeMap<(usize, Unit), Fold> = BTreeMap::new();
    let mut damaged = 0;
    for span in spans {
        let mut points: BTreeMap<(usize, Unit), Vec<Point>> = BTreeMap::new();
        let mut found = |number: usize, unit: u8, more: &[Point]| {
            let want: &Want = &wants[number];
            let Some(unit) = Unit::from_number(unit) else {
                return;
            };
            let from = span.from.max(want.start_minute);
            let more = between(more, from, span.to.min(want.end_minute));
            if !more.is_empty() && want.unit.is_none_or(|wanted| wanted == unit) {
                points
                    .entry((number, unit))
                    .or_default()
                    .extend_from_slice(more);
            }
        };
        if let Some(file) = span.file {
            let mut block = Block::open(file).map_err(Error::io("read points"))?;
            block.find(&prefixes, |numbers, unit, points| {
                for number in numbers {
                    found(*number, unit, points);
                }
            });
            damaged += block.damaged;
        }
        for (number, unit, more) in span.memory {
            found(number, unit, &rolled_up(&more, span.tier));
        }
        for ((number, unit), mut points) in points {
            points.sort_by_key(|(minute, _)| *minute);
            let fold = folds.entry((number, unit)).or_default();
            for (minute, datum) in &points {
                fold.add(&wants[number], *minute, datum);
            }
        }
    }
    let mut all: Vec<BTreeMap<Unit, Periods>> = wants.iter().map(|_| BTreeMap::new()).collect();
    for ((number, unit), mut fold) in folds {
        fold.end(&wants[number]);
        all[number].insert(unit, fold.done);
    }
    Ok((all, damaged))
}

/// Which tier to read from when to when, by time, in pieces of one file each. `floors` are the first minutes that
/// tiers 0 and 1 have, multiples of 60.
pub(crate) fn pieces(start: u32, end: u32, floors: [u32; 2]) -> Vec<(usize, u32, u32)> {
    let mut pieces = Vec::new();
    let mut at = start;
    while at < end {
        let (tier, floor) = if at < floors[1] {
            (2, floors[1])
        } else if at < floors[0] {
            (1, floors[0])
        } else {
            (0, u32::MAX)
        };
        let span = TIERS[tier].span;
        let to = (at - at % span).saturating_add(span).min(end).min(floor);
        pieces.push((tier, at, to));
        at = to;
    }
    pieces
}
