//! Which series there are: those with data of the last 15 days, in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    codec::{namespace_of, put_bytes, series_of, starting_at},
    error::Error,
    list::{FILTERS_MAX, ListQuery, MetricPage, PAGE_MAX},
    series::Metric,
    settings::Settings,
};

/// Minutes that a series without data is remembered.
pub(crate) const REMEMBERED_MINUTES: u32 = 15 * 24 * 60;
/// Minutes that ListMetrics looks back.
const LISTED_MINUTES: u32 = 14 * 24 * 60;
/// The same when only recently active ones are wanted.
const RECENT_MINUTES: u32 = 3 * 60;

#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// Each series' last minute with data.
    series: BTreeMap<Arc<[u8]>, u32>,
    namespaces: HashMap<Vec<u8>, usize>,
}

impl Catalog {
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// The series' key, if it is known.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        self.series
            .get_key_value(key)
            .map(|(key, _)| Arc::clone(key))
    }

    /// Whether a series more may be added, with `more` that are about to be, of them `of_namespace` in its namespace.
    pub(crate) fn check_room(
        &self,
        key: &[u8],
        more: usize,
        of_namespace: usize,
        settings: &Settings,
    ) -> Result<(), Error> {
        if self.series.len() + more >= settings.series_max {
            return Err(Error::LimitExceeded(format!(
                "there are {} metrics already; new ones are refused until old ones had no data for 15 days",
                settings.series_max
            )));
        }
        let namespace = namespace_of(key);
        let count = self.namespaces.get(namespace).copied().unwrap_or_default();
        if count + of_namespace >= settings.series_per_namespace_max {
            return Err(Error::LimitExceeded(format!(
                "the namespace `{}` has {} metrics already; new ones are refused until old ones had no data for 15 \
                 days; use fewer different dimensions",
                String::from_utf8_lossy(namespace),
                settings.series_per_namespace_max
            )));
        }
        Ok(())
    }

    /// Notes that a series has data.
    pub(crate) fn note(&mut self, key: &[u8], minute: u32) -> Arc<[u8]> {
        if let Some(last) = self.series.get_mut(key) {
            *last = (*last).max(minute);
        } else {
            let count = self.namespaces.entry(namespace_of(key).to_vec());
            *count.or_default() += 1;
            self.series.insert(Arc::from(key), minute);
        }
        self.get(key).expect("it was noted above")
    }

    /// Forgets those without data since a minute.
    pub(crate) fn forget_before(&mut self, minute: u32) {
        let namespaces = &mut self.namespaces;
        self.series.retain(|key, last| {
            let keep = *last >= minute;
            if !keep && let Some(count) = namespaces.get_mut(namespace_of(key)) {
                *count -= 1;
            }
            keep
        });
        namespaces.retain(|_, count| *count > 0);
    }

    pub(crate) fn list(&self, query: &ListQuery, now_minute: u32) -> Result<MetricPage, Error> {
        if query.dimensions.len() > FILTERS_MAX {
            return Err(Error::value(format!(
                "the parameter Dimensions has {} members; it may have {FILTERS_MAX}",
                query.dimensions.len()
            )));
        }
        let after = query.after.as_deref().map(from_token).transpose()?;
        let limit = match query.limit {
            0 => PAGE_MAX,
            limit => limit.min(PAGE_MAX),
        };
        let back = if query.recently_active {
            RECENT_MINUTES
        } else {
            LISTED_MINUTES
        };
        let since = now_minute.saturating_sub(back);
        let mut start = Vec::new();
        if let Some(namespace) = &query.namespace {
            put_bytes(&mut start, namespace.as_bytes());
            if let Some(name) = &query.name {
                put_bytes(&mut start, name.as_bytes());
            }
        }
        let from = after.clone().unwrap_or_default().max(start.clone());
        let mut page = MetricPage {
            metrics: Vec::new(),
            next: None,
        };
        let mut last_key: Option<&[u8]> = None;
        for (key, last) in self.series.range::<[u8], _>(starting_at(&from)) {
            let Some((_, prefix)) = key.split_last() else {
                continue;
            };
            if !key.starts_with(&start) {
                break;
            }
            if *last < since || last_key == Some(prefix) || after.as_deref() == Some(prefix) {
                continue;
            }
            let Some(metric) = series_of(key).map(|series| series.metric) else {
                continue;
            };
            if !is_wanted(&metric, query) {
                continue;
            }
            if page.metrics.len() == limit {
                page.next = last_key.map(to_token);
                break;
            }
            page.metrics.push(metric);
            last_key = Some(prefix);
        }
        Ok(page)
    }
}

fn is_wanted(metric: &Metric, query: &ListQuery) -> bool {
    let name = query.name.as_ref().is_none_or(|name| name == metric.name());
    let dimension = |(name, value): &(String, Option<String>)| {
        metric.dimensions().iter().any(|(ours, our_value)| {
            ours == name && value.as_ref().is_none_or(|value| value == our_value)
        })
    };
    name && query.dimensions.iter().all(dimension)
}

fn to_token(key: &[u8]) -> String {
    use std::fmt::Write as _;
    key.iter()
        .fold(String::with_capacity(key.len() * 2), |mut token, byte| {
            let _ = write!(token, "{byte:02x}");
            token
        })
}

fn from_token(token: &str) -> Result<Vec<u8>, Error> {
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    };
    let bytes: Option<Vec<u8>> = token.as_bytes().chunks(2).map(byte).collect();
    bytes.ok_or_else(|| {
        Error::value(
            "the parameter NextToken is not one that an answer had; start again without it",
        )
    })
}
