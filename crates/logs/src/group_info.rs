//! What is said about groups, and how they are listed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::query::Direction;

/// How CloudWatch calls what a group is for; kept and given back, nothing depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum GroupClass {
    /// `STANDARD`.
    #[default]
    Standard,
    /// `INFREQUENT_ACCESS`.
    InfrequentAccess,
    /// `DELIVERY`.
    Delivery,
}

/// A group that is to be created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewGroup {
    /// 1 to 512 of `.-_/#A-Za-z0-9`.
    pub name: String,
    /// Now, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Days that lines are kept; `None` is for ever.
    pub retention_days: Option<u32>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The key that was asked for; kept and given back, the store does not encrypt.
    pub kms_key_id: Option<String>,
    /// Its class.
    pub class: GroupClass,
}

/// What there is to say about a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its name.
    pub name: String,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Days that lines are kept; `None` is for ever.
    pub retention_days: Option<u32>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The key that was asked for.
    pub kms_key_id: Option<String>,
    /// Its class.
    pub class: GroupClass,
    /// Bytes on disk.
    pub stored_bytes: u64,
}

/// Which groups to list, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupsQuery {
    /// Which names.
    pub names: Names,
    /// Go on after this name.
    pub after: Option<String>,
    /// The most that are given, at least 1.
    pub limit: usize,
}

/// Which names to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// All.
    All,
    /// Those that begin so.
    Prefix(String),
    /// Those that have this somewhere, in any case.
    Contains(String),
}

/// What there is to say about a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// The earliest time of an event that it has had; `None` when it never had one.
    pub first_event_ms: Option<i64>,
    /// The latest time of an event that it has had.
    pub last_event_ms: Option<i64>,
    /// When an event was last stored.
    pub last_ingestion_ms: Option<i64>,
    /// The sequence of the last event that was stored.
    pub last_sequence: Option<u64>,
    /// The bytes of its events' text, more or less after a crash.
    pub stored_bytes: u64,
}

/// Which streams of a group to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsQuery {
    /// Names that begin so.
    pub prefix: Option<String>,
    /// By what they are sorted.
    pub order: StreamOrder,
    /// Smallest or oldest first is forward.
    pub direction: Direction,
    /// Go on after the stream of this name.
    pub after: Option<String>,
    /// The most that are given, at least 1.
    pub limit: usize,
}

/// By what streams are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOrder {
    /// By name.
    Name,
    /// By the time of the last event, then name; those that never had one first.
    LastEvent,
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// What was found.
    pub items: Vec<T>,
    /// Whether there are more after the last.
    pub more: bool,
}
