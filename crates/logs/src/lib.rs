//! The log store: groups, streams, segments, retention and search.

pub mod append;
mod block;
mod disk;
mod file;
mod frame;
mod group;
mod journal;
mod segment;
mod select;
mod shared;
mod streams;
mod varint;
pub mod cursor;
pub mod error;
pub mod event;
pub mod group_info;
pub mod insights;
pub mod name;
pub mod pattern;
pub mod query;
pub mod settings;
pub mod stats;
pub mod store;
