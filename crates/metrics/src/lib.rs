//! The metric store: series per minute, roll-ups, statistics and percentiles.
//!
//! A [`series::Series`] is a namespace, a name, dimensions and a unit; what it has for a minute is a
//! [`datum::Datum`]. [`store::MetricStore`] keeps them: what it has acknowledged is in a journal, which every
//! few minutes is merged into immutable compressed files of 1-minute, 5-minute and 1-hour points. It answers as
//! CloudWatch does ([`statistics`], [`metric_data`], [`list`]). [`exposition`] writes Prometheus' text format and
//! [`alarm`] decides an alarm's state; both are pure and know nothing of the store.
//!
//! Everything here blocks and nothing reads a clock: the caller says what time it is, in milliseconds since 1970.

pub mod alarm;
mod block;
mod catalog;
mod codec;
pub mod datum;
pub mod distribution;
pub mod error;
pub mod exposition;
mod expression;
mod hot;
mod journal;
pub mod list;
pub mod metric_data;
mod read;
pub mod series;
pub mod settings;
pub mod stat;
pub mod statistics;
pub mod store;
