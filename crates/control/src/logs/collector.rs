//! From instances to the log store.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ekiden_engine::{
    COLLECT_WAIT_MS_MAX, CollectQuery, CollectedLines, Engine, LogPosition, LogStream,
};
use ekiden_logs::{
    append::{Append, DropCause, Missing, Times},
    error::LogError,
    event::NewEvent,
    store::LogStore,
};
use ekiden_model::id::InstanceId;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{GroupKind, Names, blocking, drop_cause, now_ms, stored_position};
use crate::worker::Chain;

/// The wait after lines could not be had or stored. They stay with their instances meanwhile.
const RETRY: Duration = Duration::from_secs(1);

/// What lines of Ekiden's own among an application's begin with.
pub(crate) const OWN_PREFIX: &str = "[Ekiden] ";

/// Collects until the control plane stops.
pub(crate) async fn collect<E: Engine>(
    engine: Arc<E>,
    store: LogStore,
    names: Names,
    stop: CancellationToken,
) {
    let mut query = CollectQuery {
        taken: Vec::new(),
        wait_ms: COLLECT_WAIT_MS_MAX,
    };
    let mut fails = false;
    loop {
        // A call that is dropped has taken nothing: what is taken is told by the next one.
        let collected = tokio::select! {
            () = stop.cancelled() => return,
            collected = engine.collect_logs(&query) => collected,
        };
        let pages = match collected {
            Ok(pages) => pages,
            Err(error) => {
                debug!(%error, "no lines can be collected");
                tokio::select! {
                    () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
                    () = tokio::time::sleep(RETRY) => continue, // a timer
                }
            }
        };
        let names = Arc::clone(&names);
        let (taken, error) = blocking(&store, move |store| store_all(store, &names, pages)).await;
        query.taken = taken.into_iter().collect();
        if let Some(error) = &error {
            if !fails {
                warn!(error = %Chain(error), "what instances write cannot be stored; it waits");
            }
            tokio::select! {
                () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
                () = tokio::time::sleep(RETRY) => {} // a timer
            }
        }
        fails = error.is_some();
    }
}

/// Stores what it can; answers how far that is, and what failed last.
fn store_all(
    store: &LogStore,
    names: &Names,
    pages: Vec<CollectedLines>,
) -> (HashMap<InstanceId, LogPosition>, Option<LogError>) {
    let (mut taken, mut failed) = (HashMap::new(), None);
    for page in pages {
        let Some(name) = names(page.service) else {
            // Nobody can ask for it any more.
            taken.insert(page.instance, page.next);
            continue;
        };
        let group = GroupKind::Application.group(&name, page.service);
        match store_page(store, &group, &page) {
            Ok(position) => {
                taken.insert(page.instance, position);
            }
            Err(error) if drop_cause(&error) == DropCause::Refused => {
                // It would be refused for ever, and whatever comes after it with it.
                warn!(group, error = %Chain(&error), "lines of an instance cannot be stored and are dropped");
                let bytes: usize = page.lines.iter().map(|line| line.text.len()).sum();
                let (stream, lines) = (stream(&page), page.lines.len() as u64);
                store.note_dropped(&group, &stream, lines, bytes as u64, DropCause::Refused);
                taken.insert(page.instance, page.next);
            }
            Err(error) => failed = Some(error),
        }
    }
    (taken, failed)
}

/// Stores a page unless it is stored already; answers how far the instance's log is stored.
fn store_page(
    store: &LogStore,
    group: &str,
    page: &CollectedLines,
) -> Result<LogPosition, LogError> {
    let stream = stream(page);
    let stored = stored_position(store, group, &stream)?;
    if let Some(stored) = stored.as_deref().and_then(position)
        && stored > page.from
    {
        return Ok(stored);
    }
    let texts: Vec<_> = page
        .lines
        .iter()
        .map(|line| match line.stream {
            LogStream::Ekiden => format!("{OWN_PREFIX}{}", line.text).into(),
            LogStream::Stdout | LogStream::Stderr => std::borrow::Cow::Borrowed(&line.text[..]),
        })
        .collect();
    let events: Vec<_> = page
        .lines
        .iter()
        .zip(&texts)
        .map(|(line, text)| NewEvent {
            time_ms: (line.at_micros / 1000) as i64,
            text: text.as_bytes(),
        })
        .collect();
    store.append(&Append {
        group,
        stream: &stream,
        missing: Missing::CreateGroup,
        times: Times::Raised,
        now_ms: now_ms(),
        position: Some(text(page.next).as_bytes()),
        events: &events,
    })?;
    Ok(page.next)
}

/// The stream of an instance.
fn stream(page: &CollectedLines) -> String {
    format!("instance/{}", page.instance)
}

fn text(position: LogPosition) -> String {
    format!("{}:{}", position.segment, position.offset)
}

fn position(text: &[u8]) -> Option<LogPosition> {
    let (segment, offset) = str::from_utf8(text).ok()?.split_once(':')?;
    Some(LogPosition {
        segment: segment.parse().ok()?,
        offset: offset.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use ekiden_engine::CollectedLine;
    use ekiden_logs::{
        query::{Filter, Query},
        settings::Settings,
    };
    use ekiden_model::id::ServiceId;

    use super::*;

    fn page(instance: u8, from: u64, lines: &[&str]) -> CollectedLines {
        let position = |offset| LogPosition { segment: 1, offset };
        CollectedLines {
            service: ServiceId::from_bytes([9; 16]),
            instance: InstanceId::from_bytes([instance; 16]),
            from: position(from),
            next: position(from + lines.len() as u64),
            lines: lines
                .iter()
                .map(|text| CollectedLine {
                    at_micros: 1_700_000_000_000_000,
                    stream: LogStream::Stdout,
                    text: (*text).to_owned(),
                })
                .collect(),
        }
    }

    #[test]
    fn what_is_stored_is_not_stored_again() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            disk_free_bytes_min: 0,
            ..Settings::default()
        };
        let store = LogStore::open(dir.path(), settings).unwrap();
        let names: Names =
            Arc::new(|id| (id == ServiceId::from_bytes([9; 16])).then(|| "web1".parse().unwrap()));
        let first = page(1, 0, &["a", "b"]);
        let (taken, failed) = store_all(&store, &names, vec![first.clone(), page(2, 0, &["x"])]);
        assert!(failed.is_none());
        assert_eq!(taken[&first.instance], first.next);
        // The engine began anew, and so gives what it gave before.
        let (taken, _) = store_all(&store, &names, vec![page(1, 0, &["a"])]);
        assert_eq!(taken[&first.instance], first.next);
        store_all(&store, &names, vec![page(1, 2, &["c"])]);
        let gone = CollectedLines {
            service: ServiceId::from_bytes([8; 16]),
            ..page(3, 0, &["nobody's"])
        };
        let (taken, failed) = store_all(&store, &names, vec![gone.clone()]);
        assert!(failed.is_none() && taken.contains_key(&gone.instance));
        // What is refused for ever is not tried for ever.
        let endless = CollectedLines {
            lines: vec![CollectedLine {
                at_micros: 0,
                stream: LogStream::Stdout,
                text: "x".repeat(ekiden_logs::event::EVENT_BYTES_MAX + 1),
            }],
            ..page(4, 0, &["x"])
        };
        let (taken, failed) = store_all(&store, &names, vec![endless.clone()]);
        assert!(failed.is_none());
        assert_eq!(taken[&endless.instance], endless.next);
        let group = format!("/aws/apprunner/web1/{}/application", "09".repeat(16));
        let found = store.query(&Query::new(&group), &Filter::all()).unwrap();
        let of = |stream: &str| {
            let events = found.events.iter().filter(|event| &*event.stream == stream);
            let texts = events.map(|event| String::from_utf8_lossy(&event.text).into_owned());
            texts.collect::<Vec<_>>()
        };
        assert_eq!(
            of(&format!("instance/{}", "01".repeat(16))),
            ["a", "b", "c"]
        );
        assert_eq!(of(&format!("instance/{}", "02".repeat(16))), ["x"]);
    }
}
