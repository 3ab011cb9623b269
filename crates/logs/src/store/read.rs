//! Finding lines and following them.

use crate::{
    cursor::Cursor,
    error::LogError,
    query::{Direction, Filter, Page, Query, Streams, Tail},
    select::{Found, Order, Request, Selection, Source},
    shared::Counters,
};

use super::LogStore;

/// The most bytes of text that are looked at for one answer of [`LogStore::read_after`].
const FOLLOW_BYTES_MAX: u64 = 64 * 1024 * 1024;

impl LogStore {
    /// Finds a page of events. Takes memory for the page and one block.
    ///
    /// # Errors
    /// [`LogError::NoGroup`], and [`LogError::Io`] when the disk failed. What is damaged is left out and
    /// counted.
    pub fn query(&self, query: &Query, filter: &Filter<'_>) -> Result<Page, LogError> {
        let group = self.find(&query.group)?;
        let (sources, tombstones, _, _) = group.sources(&self.inner.shared)?;
        let order = match query.direction {
            Direction::Forward => Order::Forward,
            Direction::Backward => Order::Backward,
        };
        let request = Request {
            order,
            streams: &query.streams,
            from_ms: query.from_ms.unwrap_or(i64::MIN),
            to_ms: query.to_ms,
            after: query
                .after
                .map(|after| order.key(after.time_ms, after.sequence)),
            filter: *filter,
            tombstones: &tombstones,
            events_max: query.events_max.max(1),
            bytes_max: query.bytes_max,
            scan_bytes_max: query.scan_bytes_max,
        };
        let found = self.select(&request, sources)?;
        let next = found.next.map(|key| order.place(key));
        Ok(Page {
            events: found.events,
            next: next.map(|(time_ms, sequence)| Cursor { time_ms, sequence }),
            scanned_bytes: found.scanned_bytes,
            damaged: found.damaged,
        })
    }

    /// Lines of all streams of a group that were stored after `sequence`, in the order in which they were
    /// stored. 0 begins with the oldest. One line is given however long it is. A sequence that is not
    /// reached yet, because what had it was lost with the power, is taken for the last.
    ///
    /// # Errors
    /// [`LogError::NoGroup`], and [`LogError::Io`] when the disk failed.
    pub fn read_after(
        &self,
        group: &str,
        sequence: u64,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Tail, LogError> {
        let group = self.find(group)?;
        let (sources, tombstones, before, last) = group.sources(&self.inner.shared)?;
        let after = sequence.clamp(before.min(last), last);
        let request = Request {
            order: Order::Sequence,
            streams: &Streams::All,
            from_ms: i64::MIN,
            to_ms: None,
            after: Some((0, after)),
            filter: Filter::all(),
            tombstones: &tombstones,
            events_max: events_max.max(1),
            bytes_max,
            scan_bytes_max: FOLLOW_BYTES_MAX,
        };
        let found = self.select(&request, sources)?;
        let last_sequence = found.next.map_or(last, |(_, sequence)| sequence);
        let hidden: u64 = found
            .hidden
            .iter()
            .filter(|(first, _)| *first <= last_sequence)
            .map(|(first, last)| (*last).min(last_sequence) + 1 - first)
            .sum();
        let given = hidden + found.events.len() as u64;
        Ok(Tail {
            events: found.events,
            last_sequence,
            gap: (last_sequence - after).saturating_sub(given),
            more: found.next.is_some(),
        })
    }

    /// The sequence of the group's last line: what [`Self::read_after`] takes to give only what comes.
    ///
    /// # Errors
    /// [`LogError::NoGroup`], and of the disk when the group is first read.
    pub fn last_sequence(&self, group: &str) -> Result<u64, LogError> {
        let group = self.find(group)?;
        group.with(&self.inner.shared, |open| Ok(open.table.next_sequence - 1))
    }

    fn select(&self, request: &Request<'_>, sources: Vec<Source>) -> Result<Found, LogError> {
        let shared = &self.inner.shared;
        let mut selection = Selection::new(request, &shared.footers);
        let found = sources
            .into_iter()
            .try_for_each(|source| selection.add(source))
            .and_then(|()| selection.run())
            .map_err(LogError::io("read log segments"))?;
        if found.damaged > 0 {
            Counters::add(&shared.counters.damaged, found.damaged);
            Counters::add(&shared.counters.damaged_lines, found.damaged_lines);
        }
        Ok(found)
    }
}
