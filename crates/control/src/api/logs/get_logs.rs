//! `GetLogs` of Ekiden's own: a service's lines in the order in which they were stored, so that whoever
//! follows them misses none, whatever their times are.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

use ekiden_aws::{
    error::ApiError,
    native::{GetLogsRequest, GetLogsResponse, LogLine},
};
use ekiden_engine::Engine;
use ekiden_logs::{
    cursor::Cursor,
    error::LogError,
    event::Event,
    pattern::Pattern,
    query::{Direction, Query, Streams},
    store::LogStore,
};

use super::{super::Caller, Api, log_error, look, text};
use crate::logs::{GroupKind, blocking};

/// Lines in an answer when the request does not say.
const LINES_DEFAULT: u32 = 100;

/// The most lines in an answer.
const LINES_MAX: u32 = 1000;

/// Bytes of text in an answer, unless its only line has more.
const BYTES_MAX: usize = 1 << 20;

/// How long the newest lines are looked for.
const NEWEST_LOOK_MAX: Duration = Duration::from_secs(10);

/// Where an answer ended, as clients give it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Lines up to this sequence are over; those that are stored later follow.
    Stored(u64),
    /// Lines are given by their time, up to the sequence; later ones follow after that.
    Time { after: Cursor, until: u64 },
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored(sequence) => write!(out, "s{sequence}"),
            Self::Time { after, until } => write!(out, "t{after}.{until}"),
        }
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| text.parse::<u64>().map_err(drop);
        if let Some(sequence) = text.strip_prefix('s') {
            return number(sequence).map(Self::Stored);
        }
        let (after, until) = text
            .strip_prefix('t')
            .and_then(|rest| rest.split_once('.'))
            .ok_or(())?;
        Ok(Self::Time {
            after: after.parse().map_err(drop)?,
            until: number(until)?,
        })
    }
}

/// Which lines, of which group.
struct Wanted {
    group: String,
    streams: Streams,
    from_ms: Option<i64>,
    to_ms: Option<i64>,
    pattern: Pattern,
    lines_max: usize,
}

/// What was found, and where to go on.
struct Found {
    events: Vec<Event>,
    next: Place,
    more: bool,
    /// Said before the lines.
    remark: Option<String>,
}

impl<E: Engine> Api<E> {
    pub(in crate::api) async fn get_logs(
        &self,
        caller: &Caller,
        request: GetLogsRequest,
    ) -> Result<GetLogsResponse, ApiError> {
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        let service = &snapshot.stored.service;
        let kind = kind(request.log.as_deref())?;
        let wanted = Wanted {
            group: kind.group(&service.name, service.id),
            streams: streams(kind, request.instance_id.as_deref())?,
            from_ms: request.since.map(millis),
            to_ms: request.until.map(millis),
            pattern: Pattern::parse(request.filter_pattern.as_deref().unwrap_or_default())
                .map_err(|error| ApiError::invalid_request(format!("{error}.")))?,
            lines_max: match (request.max_lines, request.after.as_ref(), request.since) {
                (None, None, None) => LINES_DEFAULT,
                (None, _, _) => LINES_MAX,
                (Some(lines), _, _) => lines.clamp(1, LINES_MAX),
            } as usize,
        };
        let place = request
            .after
            .as_deref()
            .map(str::parse::<Place>)
            .transpose()
            .map_err(|()| {
                ApiError::invalid_request("`After` is not what `Next` of an answer was.")
            })?;
        let all = request.since.is_some() && request.max_lines.is_none();
        let found = blocking(&self.log_store, move |store| match place {
            Some(Place::Stored(sequence)) => follow(store, &wanted, sequence),
            Some(Place::Time { after, until }) => in_time(store, &wanted, Some(after), until),
            None => {
                let until = store.last_sequence(&wanted.group)?;
                match all {
                    true => in_time(store, &wanted, None, until),
                    false => newest(store, &wanted, until),
                }
            }
        });
        let found = match found.await {
            // Nothing was written yet.
            Err(LogError::NoGroup { .. }) => Found {
                events: Vec::new(),
                next: place.unwrap_or(Place::Stored(0)),
                more: false,
                remark: None,
            },
            found => found.map_err(|error| log_error(&error))?,
        };
        let first = found.events.first().map_or(0, |event| event.time_ms);
        let remark = found.remark.map(|text| LogLine {
            timestamp: first.max(0) as u64,
            stream: "ekiden".to_owned(),
            text,
            ..LogLine::default()
        });
        Ok(GetLogsResponse {
            lines: remark
                .into_iter()
                .chain(found.events.iter().map(line))
                .collect(),
            next: found.next.to_string(),
            more: found.more,
        })
    }
}

fn kind(name: Option<&str>) -> Result<GroupKind, ApiError> {
    match name {
        None | Some("application") => Ok(GroupKind::Application),
        Some("service") => Ok(GroupKind::Service),
        Some("access") => Ok(GroupKind::Access),
        Some(_) => Err(ApiError::invalid_request(
            "`Log` is application, service or access.",
        )),
    }
}

/// Those of an instance; the beginning of its id is enough.
fn streams(kind: GroupKind, instance: Option<&str>) -> Result<Streams, ApiError> {
    match instance {
        None => Ok(Streams::All),
        Some(_) if kind != GroupKind::Application => Err(ApiError::invalid_request(
            "`InstanceId` goes with the application's log only.",
        )),
        Some(id) if !id.is_empty() && id.len() <= 32 && is_hex(id) => {
            Ok(Streams::Prefix(format!("instance/{id}")))
        }
        Some(_) => Err(ApiError::invalid_request(
            "`InstanceId` is up to 32 hexadecimal digits, as ListInstances tells them.",
        )),
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The newest lines up to a sequence, oldest first.
fn newest(store: &LogStore, wanted: &Wanted, until: u64) -> Result<Found, LogError> {
    let began = Instant::now();
    let (mut events, mut bytes, mut after) = (Vec::<Event>::new(), 0, None);
    let mut remark = None;
    loop {
        let mut query = query(wanted, after);
        query.direction = Direction::Backward;
        query.events_max = wanted.lines_max - events.len();
        let page = look(store, query, &wanted.pattern)?;
        for event in page.events {
            // What came meanwhile is told after these.
            if event.sequence <= until {
                bytes += event.text.len();
                events.push(event);
            }
        }
        let is_full = events.len() >= wanted.lines_max || bytes >= BYTES_MAX;
        if page.next.is_none() || is_full {
            break;
        }
        if began.elapsed() > NEWEST_LOOK_MAX {
            let text = "[Ekiden] older lines were not looked at, for it took too long; give a time \
                        to begin at";
            remark = Some(text.to_owned());
            break;
        }
        after = page.next;
    }
    events.reverse();
    Ok(Found {
        events,
        next: Place::Stored(until),
        more: false,
        remark,
    })
}

/// Lines by their time, up to a sequence.
fn in_time(
    store: &LogStore,
    wanted: &Wanted,
    after: Option<Cursor>,
    until: u64,
) -> Result<Found, LogError> {
    let mut page = look(store, query(wanted, after), &wanted.pattern)?;
    page.events.retain(|event| event.sequence <= until);
    Ok(Found {
        events: page.events,
        next: page
            .next
            .map_or(Place::Stored(until), |after| Place::Time { after, until }),
        more: page.next.is_some(),
        remark: None,
    })
}

/// Lines that were stored after a sequence.
fn follow(store: &LogStore, wanted: &Wanted, sequence: u64) -> Result<Found, LogError> {
    let tail = store.read_after(&wanted.group, sequence, wanted.lines_max, BYTES_MAX)?;
    let is_wanted = |event: &Event| {
        wanted.streams.has(&event.stream)
            && wanted.from_ms.is_none_or(|from| event.time_ms >= from)
            && wanted.to_ms.is_none_or(|to| event.time_ms < to)
            && wanted.pattern.matches(&event.text)
    };
    Ok(Found {
        events: tail.events.into_iter().filter(is_wanted).collect(),
        next: Place::Stored(tail.last_sequence),
        more: tail.more,
        remark: (tail.gap > 0).then(|| {
            format!(
                "[Ekiden] {} lines were removed before they could be told",
                tail.gap
            )
        }),
    })
}

fn query(wanted: &Wanted, after: Option<Cursor>) -> Query {
    Query {
        streams: wanted.streams.clone(),
        from_ms: wanted.from_ms,
        to_ms: wanted.to_ms,
        after,
        events_max: wanted.lines_max,
        ..Query::new(&wanted.group)
    }
}

fn line(event: &Event) -> LogLine {
    let instance = event.stream.strip_prefix("instance/");
    LogLine {
        instance_id: instance.unwrap_or_default().to_owned(),
        timestamp: event.time_ms.max(0) as u64,
        stream: event.stream.to_string(),
        text: text(event),
    }
}

fn millis(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        let after = Cursor {
            time_ms: 1_800_000_000_000,
            sequence: 7,
        };
        for place in [Place::Stored(u64::MAX), Place::Time { after, until: 9 }] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for text in ["", "s", "s-1", "t1", "t.1", "x1", "t1.x", "sé"] {
            assert_eq!(text.parse::<Place>(), Err(()), "{text}");
        }
    }
}
