//! What metrics there are: ListMetrics.

use crate::series::Metric;

/// Metrics of one answer.
pub const PAGE_MAX: usize = 500;
/// Dimensions that may be asked for.
pub const FILTERS_MAX: usize = 10;

/// Which metrics are wanted.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Only of this namespace.
    pub namespace: Option<String>,
    /// Only of this name.
    pub name: Option<String>,
    /// Only those that have each of these dimensions, with the value if there is one. Up to [`FILTERS_MAX`].
    pub dimensions: Vec<(String, Option<String>)>,
    /// Only those with data of the last three hours; otherwise of the last two weeks.
    pub recently_active: bool,
    /// Where the last page ended: its [`MetricPage::next`].
    pub after: Option<String>,
    /// Metrics of the page; [`PAGE_MAX`] when it is 0 or more.
    pub limit: usize,
}

/// A page of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricPage {
    /// In an order that stays.
    pub metrics: Vec<Metric>,
    /// What to ask for the next with; `None` when this was the last.
    pub next: Option<String>,
}
