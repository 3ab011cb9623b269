//! The store: what callers hold.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use crate::{
    append::{Append, Appended, DropCause},
    error::LogError,
    group_info::{GroupInfo, GroupsQuery, Listing, NewGroup, StreamInfo, StreamsQuery},
    query::{Filter, Page, Query, Tail},
    settings::Settings,
    stats::Stats,
};

/// The most groups of a store.
pub const GROUPS_MAX: usize = 10_000;

/// The most streams of a group. Before one is refused, the oldest that have no lines left are forgotten.
pub const STREAMS_MAX: usize = 10_000;

/// The most tags of a group.
pub const TAGS_MAX: usize = 50;

/// A log store in a directory. Cheap to clone. Everything blocks.
#[derive(Debug, Clone)]
pub struct LogStore {
    _inner: Arc<()>,
}

#[allow(unused_variables, clippy::missing_errors_doc, missing_docs)]
impl LogStore {
    /// Opens the store in a directory, which is created if need be. One process has it open at a time.
    pub fn open(directory: &Path, settings: Settings) -> Result<Self, LogError> {
        unimplemented!()
    }
    /// Seals nothing more, syncs, and joins the store's thread. Dropping the last clone does so as well.
    pub fn close(&self) -> Result<(), LogError> {
        unimplemented!()
    }
    /// Syncs what was stored, so that it survives that the power goes.
    pub fn sync(&self) -> Result<(), LogError> {
        unimplemented!()
    }
    /// Syncs if it is time to, removes what is too old, and seals journals by age. To be called about once a second.
    pub fn maintain(&self, now_ms: i64) -> Result<(), LogError> {
        unimplemented!()
    }
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }

    pub fn append(&self, append: &Append<'_>) -> Result<Appended, LogError> {
        unimplemented!()
    }
    /// Says that lines were dropped: the next append to the stream begins with a line that says so.
    pub fn note_dropped(
        &self,
        group: &str,
        stream: &str,
        lines: u64,
        bytes: u64,
        cause: DropCause,
    ) {
        unimplemented!()
    }
    /// How far the source of a stream had come with what is stored.
    pub fn source_position(&self, group: &str, stream: &str) -> Result<Option<Vec<u8>>, LogError> {
        unimplemented!()
    }

    pub fn query(&self, query: &Query, filter: &Filter<'_>) -> Result<Page, LogError> {
        unimplemented!()
    }
    pub fn read_after(
        &self,
        group: &str,
        sequence: u64,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Tail, LogError> {
        unimplemented!()
    }
    /// The sequence of the group's last line; what `read_after` takes to give only what comes.
    pub fn last_sequence(&self, group: &str) -> Result<u64, LogError> {
        unimplemented!()
    }
    /// Grows with every append to any group.
    pub fn changed(&self) -> u64 {
        unimplemented!()
    }
    /// Waits until [`Self::changed`] is not `since`, at most `timeout`; what it is then.
    pub fn wait_changed(&self, since: u64, timeout: Duration) -> u64 {
        unimplemented!()
    }

    pub fn create_group(&self, new: &NewGroup) -> Result<(), LogError> {
        unimplemented!()
    }
    pub fn delete_group(&self, group: &str) -> Result<(), LogError> {
        unimplemented!()
    }
    pub fn group(&self, group: &str) -> Result<GroupInfo, LogError> {
        unimplemented!()
    }
    pub fn groups(&self, query: &GroupsQuery) -> Listing<GroupInfo> {
        unimplemented!()
    }
    pub fn put_retention(&self, group: &str, days: u32) -> Result<(), LogError> {
        unimplemented!()
    }
    pub fn delete_retention(&self, group: &str) -> Result<(), LogError> {
        unimplemented!()
    }
    pub fn set_kms_key(&self, group: &str, key: Option<&str>) -> Result<(), LogError> {
        unimplemented!()
    }
    pub fn tags(&self, group: &str) -> Result<BTreeMap<String, String>, LogError> {
        unimplemented!()
    }
    pub fn set_tags(&self, group: &str, tags: &BTreeMap<String, String>) -> Result<(), LogError> {
        unimplemented!()
    }
    pub fn remove_tags(&self, group: &str, keys: &[String]) -> Result<(), LogError> {
        unimplemented!()
    }

    pub fn create_stream(&self, group: &str, stream: &str, now_ms: i64) -> Result<(), LogError> {
        unimplemented!()
    }
    /// Its lines are no longer given; their space goes with their segments.
    pub fn delete_stream(&self, group: &str, stream: &str) -> Result<(), LogError> {
        unimplemented!()
    }
    pub fn stream(&self, group: &str, stream: &str) -> Result<StreamInfo, LogError> {
        unimplemented!()
    }
    pub fn streams(
        &self,
        group: &str,
        query: &StreamsQuery,
    ) -> Result<Listing<StreamInfo>, LogError> {
        unimplemented!()
    }
}
