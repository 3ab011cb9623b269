//! How far the groups of services have grown: looked at once for all drains.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ekiden_export::line::Kind;
use ekiden_logs::{
    error::LogError,
    group_info::{GroupsQuery, Names},
    store::LogStore,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::logs::{GROUP_PREFIX, blocking};

/// Groups that are listed at one time.
const GROUPS_AT_ONCE: usize = 1000;

/// How long the store is asked for a change, and so at most until a stop is noticed.
const CHANGE_WAIT: Duration = Duration::from_millis(250);

/// The shortest time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// After a look that took long, there is none for so many times as long: of one core, a tenth is spent on it.
const LOOK_SHARE: u32 = 9;

/// The groups of services, by name.
pub(crate) type Heads = Arc<BTreeMap<Arc<str>, Head>>;

/// A group of a service, and how far it has grown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Which of its groups.
    pub(crate) kind: Kind,
    /// What the service is called.
    pub(crate) service: Arc<str>,
    /// The service's id.
    pub(crate) id: Arc<str>,
    /// When the group was created.
    created_ms: i64,
    /// The sequence before the oldest line that it had when it was first looked at.
    pub(crate) floor: u64,
    /// The sequence of its last line.
    pub(crate) last: u64,
}

/// Looks whenever something was stored, until the control plane stops. While nobody `wanted` to know, it does not.
pub(crate) async fn follow(
    logs: &LogStore,
    heads: &watch::Sender<Heads>,
    wanted: impl Fn() -> bool,
    stop: &CancellationToken,
) {
    let mut since = None;
    loop {
        let wait = match wanted() {
            true => {
                let before = heads.borrow().clone();
                let look = blocking(logs, move |logs| grown(logs, since, &before));
                // Awaited to its end also when the control plane stops: it holds the store.
                let (changed, seen, took) = look.await;
                since = Some(changed);
                if let Some(seen) = seen {
                    heads.send_replace(seen);
                }
                LOOK_EVERY.max(took * LOOK_SHARE)
            }
            false => CHANGE_WAIT,
        };
        tokio::select! {
            () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
            () = tokio::time::sleep(wait) => {} // a timer
        }
    }
}

/// Looks at every group if something was stored, for which it waits; how long that took. Groups that went are
/// noticed when something is stored next. Blocks.
fn grown(logs: &LogStore, since: Option<u64>, before: &Heads) -> (u64, Option<Heads>, Duration) {
    let mut changed = logs.changed();
    if since == Some(changed) {
        changed = logs.wait_changed(changed, CHANGE_WAIT);
    }
    let began = Instant::now();
    let seen = (since != Some(changed)).then(|| look(logs, before));
    (changed, seen, began.elapsed())
}

/// Looks at every group. Blocks.
pub(crate) fn look(logs: &LogStore, before: &Heads) -> Heads {
    let mut seen = BTreeMap::new();
    let mut query = GroupsQuery {
        names: Names::Prefix(GROUP_PREFIX.to_owned()),
        after: None,
        limit: GROUPS_AT_ONCE,
    };
    loop {
        let page = logs.groups(&query);
        for group in &page.items {
            let Some((service, id, kind)) = parse(&group.name) else {
                continue;
            };
            let last = match logs.last_sequence(&group.name) {
                Ok(last) => Some(last),
                Err(LogError::NoGroup { .. }) => continue,
                Err(_) => None, // looked at again; how far it was sent stays known
            };
            let known = before.get_key_value(group.name.as_str());
            let head = match known {
                Some((_, head)) if head.created_ms == group.created_ms => Head {
                    last: last.unwrap_or(head.last),
                    ..head.clone()
                },
                _ => Head {
                    kind,
                    service: service.into(),
                    id: id.into(),
                    created_ms: group.created_ms,
                    floor: oldest(logs, &group.name).or(last).unwrap_or(0),
                    last: last.unwrap_or(0),
                },
            };
            let name = known.map_or_else(|| group.name.as_str().into(), |(name, _)| name.clone());
            seen.insert(name, head);
        }
        query.after = match page.items.last() {
            Some(last) if page.more => Some(last.name.clone()),
            _ => return Arc::new(seen),
        };
    }
}

/// The sequence before the oldest line of a group; nothing when there is none.
pub(crate) fn oldest(logs: &LogStore, group: &str) -> Option<u64> {
    let tail = logs.read_after(group, 0, 1, 1).ok()?;
    tail.events.first().map(|event| event.sequence - 1)
}

/// The service's name, its id and the kind, of a group's name.
fn parse(group: &str) -> Option<(&str, &str, Kind)> {
    let mut parts = group.strip_prefix(GROUP_PREFIX)?.split('/');
    let (service, id, kind) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Some((service, id, super::kind(kind)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_services_are_known_by_their_names() {
        assert_eq!(
            parse("/aws/apprunner/web/0a/access"),
            Some(("web", "0a", Kind::Access))
        );
        for other in [
            "/aws/apprunner/web/0a",
            "/aws/apprunner/web/0a/access/x",
            "/aws/apprunner/web/0a/mine",
            "/x",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
