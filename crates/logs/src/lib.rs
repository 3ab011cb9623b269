//! The log store: groups, streams, segments, retention and search.

pub mod append;
mod block;
pub mod cursor;
mod disk;
pub mod error;
pub mod event;
mod file;
mod frame;
mod group;
pub mod group_info;
pub mod insights;
mod journal;
pub mod name;
pub mod pattern;
pub mod query;
mod segment;
mod select;
pub mod settings;
mod shared;
pub mod stats;
pub mod store;
mod streams;
mod varint;
