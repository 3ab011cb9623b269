//! What is in the journal and not yet in every file it belongs to, in memory.

use std::{collections::BTreeMap, sync::Arc};

use crate::{codec::Point, datum::Datum};

/// Bytes of a point, without its distribution.
const POINT_BYTES: usize = size_of::<Point>();
/// Bytes of a series in a tree, about; its name is in the catalogue.
const SERIES_BYTES: usize = 64;

/// Minutes of series that are missing in the same tiers' files.
#[derive(Debug, Default)]
pub(crate) struct Hot {
    pub(crate) series: BTreeMap<Arc<[u8]>, Vec<Point>>,
    pub(crate) bytes: usize,
    pub(crate) first_minute: Option<u32>,
}

impl Hot {
    pub(crate) fn add(&mut self, key: &Arc<[u8]>, minute: u32, datum: &Datum) {
        let first = self.first_minute.unwrap_or(minute);
        self.first_minute = Some(first.min(minute));
        let points = match self.series.get_mut(key) {
            Some(points) => points,
            None => {
                self.bytes += SERIES_BYTES;
                self.series.entry(Arc::clone(key)).or_default()
            }
        };
        match points.binary_search_by_key(&minute, |(minute, _)| *minute) {
            Ok(at) => {
                let ours = &mut points[at].1;
                self.bytes -= distribution_bytes(ours);
                ours.merge(datum);
                self.bytes += distribution_bytes(ours);
            }
            Err(at) => {
                self.bytes += POINT_BYTES + distribution_bytes(datum);
                points.insert(at, (minute, datum.clone()));
            }
        }
    }
}

/// Points from a minute to another, excluding.
pub(crate) fn between(points: &[Point], from: u32, to: u32) -> &[Point] {
    let start = points.partition_point(|(minute, _)| *minute < from);
    let end = points.partition_point(|(minute, _)| *minute < to);
    points.get(start..end).unwrap_or_default()
}

fn distribution_bytes(datum: &Datum) -> usize {
    datum.distribution.as_ref().map_or(0, |all| all.bytes())
}
