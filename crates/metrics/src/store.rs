//! The store.

use std::{path::Path, sync::Arc};

use crate::{
    datum::Datum,
    error::Error,
    list::{ListQuery, MetricPage},
    metric_data::{MetricData, MetricDataRequest},
    series::Series,
    settings::Settings,
    statistics::{Datapoint, StatisticsQuery},
};

/// What a series has for the minute of a time.
#[derive(Debug, Clone)]
pub struct Record {
    /// What was measured.
    pub series: Series,
    /// When, milliseconds since 1970.
    pub timestamp_ms: u64,
    /// What it was.
    pub datum: Datum,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Recorded {
    /// How many were recorded.
    pub recorded: usize,
    /// How many were refused: too old, too far in the future, or of a series too many.
    pub refused: usize,
    /// Why the first of those was.
    pub refusal: Option<Error>,
}

/// What the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Series with data of the last 15 days.
    pub series: usize,
    /// Data of new series that were refused since the store was opened.
    pub series_refused: u64,
    /// Bytes of all files.
    pub disk_bytes: u64,
    /// Bytes of what is not in a file but the journal yet, about.
    pub memory_bytes: usize,
    /// Records of the journal and pieces of files that were damaged and left out, since the store was opened.
    pub damaged: u64,
}

/// A directory with metrics. Clones are the same store. One process may have it open.
#[derive(Debug, Clone)]
pub struct MetricStore {
    inner: Arc<()>,
}

impl MetricStore {
    /// Opens the store, and makes it if there is none.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(directory: &Path, settings: Settings, now_ms: u64) -> Result<Self, Error> {
        let _ = (directory, settings, now_ms);
        Ok(Self {
            inner: Arc::new(()),
        })
    }

    /// Adds a datum to its minute. When it returns, the datum survives the end of the process; [`Self::tick`] makes
    /// it survive the machine's.
    ///
    /// # Errors
    /// [`Error::InvalidParameterValue`] when it is older than two weeks or more than two hours in the future,
    /// [`Error::LimitExceeded`] when it would be a new series and there are too many, [`Error::Io`].
    pub fn record(
        &self,
        series: &Series,
        timestamp_ms: u64,
        datum: &Datum,
        now_ms: u64,
    ) -> Result<(), Error> {
        let record = Record {
            series: series.clone(),
            timestamp_ms,
            datum: datum.clone(),
        };
        let recorded = self.record_batch(std::slice::from_ref(&record), now_ms)?;
        recorded.refusal.map_or(Ok(()), Err)
    }

    /// Adds many; after a crash each [`BATCH_MAX`] of them are there or not together.
    ///
    /// # Errors
    /// [`Error::Io`], and then some may be recorded. What is refused is told in [`Recorded`].
    pub fn record_batch(&self, batch: &[Record], now_ms: u64) -> Result<Recorded, Error> {
        let _ = (batch, now_ms, &self.inner);
        Ok(Recorded::default())
    }

    /// To be called every few seconds: makes what was recorded survive the machine, moves it from the journal to files
    /// when it is time, and removes what is too old or too much.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is lost by it, and the next call tries again.
    pub fn tick(&self, now_ms: u64) -> Result<(), Error> {
        let _ = now_ms;
        Ok(())
    }

    /// Moves everything from the journal to files now.
    ///
    /// # Errors
    /// As [`Self::tick`].
    pub fn flush(&self, now_ms: u64) -> Result<(), Error> {
        let _ = now_ms;
        Ok(())
    }

    /// Which metrics there are.
    ///
    /// # Errors
    /// [`Error::InvalidParameterValue`].
    pub fn list_metrics(&self, query: &ListQuery, now_ms: u64) -> Result<MetricPage, Error> {
        let _ = (query, now_ms);
        Ok(MetricPage {
            metrics: Vec::new(),
            next: None,
        })
    }

    /// A metric's statistics, by time and then unit; periods without data have none.
    ///
    /// # Errors
    /// As GetMetricStatistics, or [`Error::Io`].
    pub fn statistics(
        &self,
        query: &StatisticsQuery,
        now_ms: u64,
    ) -> Result<Vec<Datapoint>, Error> {
        let _ = (query, now_ms);
        Ok(Vec::new())
    }

    /// Several metrics and what is calculated from them.
    ///
    /// # Errors
    /// As GetMetricData, or [`Error::Io`].
    pub fn metric_data(
        &self,
        request: &MetricDataRequest,
        now_ms: u64,
    ) -> Result<MetricData, Error> {
        let _ = (request, now_ms);
        Ok(MetricData {
            results: Vec::new(),
            next: None,
        })
    }

    /// What the store holds.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage::default()
    }
}

/// Data that are written together.
pub const BATCH_MAX: usize = 10_000;
