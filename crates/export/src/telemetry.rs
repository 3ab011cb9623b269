//! Metrics and spans on their way out, in OpenTelemetry's terms.

use std::sync::Arc;

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    String(String),
    /// A whole number.
    Int(i64),
    /// Any number.
    Double(f64),
    /// Yes or no.
    Bool(bool),
    /// Several texts.
    Strings(Vec<String>),
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// Names and values; a name should be there once.
pub type Attributes = Vec<(String, Value)>;

/// What metrics and spans are about, such as `service.name` and `service.instance.id`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resource {
    /// Its attributes.
    pub attributes: Attributes,
}

/// A value of a metric at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricPoint {
    /// What it is about. Points had better share the `Arc`.
    pub resource: Arc<Resource>,
    /// The metric.
    pub name: String,
    /// One sentence; may be empty.
    pub description: String,
    /// In UCUM, such as `By`, `ms` or `1`; may be empty.
    pub unit: String,
    /// Tell points of the metric from each other.
    pub attributes: Attributes,
    /// When counting began, in nanoseconds since 1970; 0 where that says nothing, as with gauges.
    pub start_unix_nanos: u64,
    /// Of when it is, in nanoseconds since 1970.
    pub time_unix_nanos: u64,
    /// The value.
    pub data: Data,
}

/// The value of a point.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// As it was then.
    Gauge(f64),
    /// Added up.
    Sum {
        /// The sum.
        value: f64,
        /// From when.
        temporality: Temporality,
        /// Whether it only grows.
        monotonic: bool,
    },
    /// Values, counted by bucket.
    Histogram {
        /// How many.
        count: u64,
        /// All together.
        sum: f64,
        /// The smallest, if there is one.
        min: Option<f64>,
        /// The largest, if there is one.
        max: Option<f64>,
        /// The upper bounds of the buckets, growing, inclusive; the last bucket has none.
        bounds: Vec<f64>,
        /// How many are in each bucket: one more than there are bounds.
        counts: Vec<u64>,
        /// From when.
        temporality: Temporality,
    },
}

/// Since when values are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temporality {
    /// Since the point before.
    Delta,
    /// Since the start.
    Cumulative,
}

/// Something that took time, as part of a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// What it is about. Spans had better share the `Arc`.
    pub resource: Arc<Resource>,
    /// Not all zero.
    pub trace_id: [u8; 16],
    /// Not all zero.
    pub span_id: [u8; 8],
    /// The span it is part of, if there is one.
    pub parent_span_id: Option<[u8; 8]>,
    /// W3C `tracestate`; may be empty.
    pub trace_state: String,
    /// Such as `GET /orders`.
    pub name: String,
    /// Its kind.
    pub kind: SpanKind,
    /// In nanoseconds since 1970.
    pub start_unix_nanos: u64,
    /// In nanoseconds since 1970.
    pub end_unix_nanos: u64,
    /// More about it.
    pub attributes: Attributes,
    /// How it ended.
    pub status: SpanStatus,
}

/// The kinds of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Work within.
    Internal,
    /// The answering of a request.
    Server,
    /// The sending of one.
    Client,
}

/// How a span ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SpanStatus {
    /// Nothing is said about it.
    #[default]
    Unset,
    /// Well.
    Ok,
    /// Not well, and why.
    Error(String),
}
