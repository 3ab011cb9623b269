//! How much happened: that the histories are rich is asserted, not believed.

use std::{collections::BTreeMap, fmt};

/// Counts over all seeds of a test.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) seeds: u64,
    pub(crate) events: u64,
    pub(crate) seconds: u64,
    pub(crate) requests: u64,
    counts: BTreeMap<String, u64>,
}

impl Totals {
    pub(crate) fn count(&mut self, what: &str) {
        match self.counts.get_mut(what) {
            Some(count) => *count += 1,
            None => {
                self.counts.insert(what.to_owned(), 1);
            }
        }
    }

    pub(crate) fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.seconds += other.seconds;
        self.requests += other.requests;
        for (what, count) in other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} seeds, {} events, {} requests, {} simulated hours",
            self.seeds,
            self.events,
            self.requests,
            self.seconds / 3600
        )?;
        for (what, count) in &self.counts {
            writeln!(f, "{count:>10}  {what}")?;
        }
        Ok(())
    }
}
