//! From news to the log store: the lines of `.../service`.

use std::{sync::Arc, time::Duration};

use ekiden_logs::{
    append::{Append, DropCause, Missing, Times},
    error::LogError,
    event::NewEvent,
    store::LogStore,
};
use ekiden_model::narrative::LINE_PREFIX;
use ekiden_store::{Store, news::NumberedNews};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{GroupKind, blocking, drop_cause, now_ms, stored_position};
use crate::worker::Chain;

/// This reader's name.
const READER: &str = "log";

/// News that are read at one time.
const NEWS_MAX: u32 = 100;

/// The wait after news could not be read or written down.
const RETRY: Duration = Duration::from_secs(1);

/// Writes down news until the control plane stops. `grown` changes when there may be some.
pub(crate) async fn write(
    news: Arc<Store>,
    store: LogStore,
    mut grown: watch::Receiver<()>,
    stop: CancellationToken,
) {
    loop {
        grown.borrow_and_update();
        let wrote = write_some(&news, &store).await;
        let wait = match wrote {
            Ok(count) if count == NEWS_MAX as usize => continue,
            Ok(_) => None,
            Err(error) => {
                warn!(error, "what happened to services could not be logged");
                Some(RETRY)
            }
        };
        let retry = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
            changed = grown.changed(), if wait.is_none() => if changed.is_err() { return }, // cancel-safe per its docs
            () = retry => {} // a timer
        }
    }
}

async fn write_some(news: &Store, store: &LogStore) -> Result<usize, String> {
    let failed = |error: ekiden_store::StoreError| Chain(&error).to_string();
    let from = news.news_read(READER).await.map_err(failed)?.unwrap_or(0);
    let some = news.news_after(from, NEWS_MAX).await.map_err(failed)?;
    let Some(last) = some.last().map(|last| last.number) else {
        return Ok(0);
    };
    let count = some.len();
    let written = blocking(store, move |store| {
        some.iter().try_for_each(|one| write_one(store, one))
    });
    written.await.map_err(|error| Chain(&error).to_string())?;
    news.put_news_read(READER, Some(last))
        .await
        .map_err(failed)?;
    Ok(count)
}

/// Writes the lines of one piece of news; each stream remembers the newest that is in it.
fn write_one(store: &LogStore, one: &NumberedNews) -> Result<(), LogError> {
    let news = &one.news;
    let group = GroupKind::Service.group(&news.name, news.service);
    let mut streams: Vec<&str> = news.lines.iter().map(|line| &line.stream[..]).collect();
    streams.sort_unstable();
    streams.dedup();
    for stream in streams {
        let stored = stored_position(store, &group, stream)?;
        let stored = stored.and_then(|text| str::from_utf8(&text).ok()?.parse::<u64>().ok());
        if stored.is_some_and(|stored| stored >= one.number) {
            continue;
        }
        let lines = news.lines.iter().filter(|line| line.stream == stream);
        let texts: Vec<_> = lines
            .map(|line| format!("{LINE_PREFIX}{}", line.text))
            .collect();
        let events: Vec<_> = texts
            .iter()
            .map(|text| NewEvent {
                time_ms: news.at.as_millis() as i64,
                text: text.as_bytes(),
            })
            .collect();
        let appended = store.append(&Append {
            group: &group,
            stream,
            missing: Missing::CreateGroup,
            times: Times::Raised,
            now_ms: now_ms(),
            position: Some(one.number.to_string().as_bytes()),
            events: &events,
        });
        match appended {
            Err(error) if drop_cause(&error) == DropCause::Refused => {
                // It would be refused for ever, and the news of every service after it.
                warn!(group, error = %Chain(&error), "lines of a service cannot be stored and are dropped");
            }
            appended => drop(appended?),
        }
    }
    Ok(())
}
