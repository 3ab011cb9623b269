//! The log store: groups, streams, segments, retention and search.

pub mod append;
pub mod cursor;
pub mod error;
pub mod event;
pub mod group_info;
pub mod query;
pub mod settings;
pub mod stats;
pub mod store;
