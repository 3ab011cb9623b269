//! Reading events: of one stream in either direction, or of a group by what is in them.

use ekiden_aws::{
    error::ApiError,
    logs::shapes::{
        FilterLogEventsRequest, FilterLogEventsResponse, FilteredLogEvent, GetLogEventsRequest,
        GetLogEventsResponse, MetricFilterMatchRecord, OutputLogEvent, TestMetricFilterRequest,
        TestMetricFilterResponse,
    },
};
use ekiden_engine::Engine;
use ekiden_logs::{
    cursor::Cursor,
    event::Event,
    query::{Direction, Query, Streams},
};
use sha2::{Digest, Sha256};

use super::{Api, PAGE_BYTES_MAX, PAGE_EVENTS_MAX, look, pattern, text};

impl<E: Engine> Api<E> {
    pub(super) async fn get_log_events(
        &self,
        request: GetLogEventsRequest,
    ) -> Result<GetLogEventsResponse, ApiError> {
        let group = self.group_of(
            request.log_group_name.as_deref(),
            request.log_group_identifier.as_deref(),
        )?;
        let stream = request.log_stream_name.unwrap_or_default();
        // Groups' names have no blanks.
        let list = format!("log events of {group} {stream}");
        let (direction, after) = match request.next_token.as_deref() {
            Some(token) => {
                let (direction, token) = if let Some(token) = token.strip_prefix("f/") {
                    (Direction::Forward, token)
                } else if let Some(token) = token.strip_prefix("b/") {
                    (Direction::Backward, token)
                } else {
                    return Err(ApiError::invalid_parameter(
                        "The specified nextToken is invalid.",
                    ));
                };
                (direction, Some(self.log_cursor(&list, token)?))
            }
            None if request.start_from_head == Some(true) => (Direction::Forward, None),
            None => (Direction::Backward, None),
        };
        let query = Query {
            streams: Streams::Names(vec![stream.clone()]),
            from_ms: request.start_time,
            to_ms: request.end_time,
            direction,
            after,
            events_max: page_events(request.limit),
            bytes_max: PAGE_BYTES_MAX,
            ..Query::new(&group)
        };
        let everything = pattern(None)?;
        let found = self.log_work(move |store| {
            store.stream(&group, &stream)?;
            look(store, query, &everything)
        });
        let found = found.await?;
        let mut events = found.events;
        if direction == Direction::Backward {
            events.reverse();
        }
        // Where nothing was found, what comes later is after the place that was looked from.
        let place = found.next.or(after).unwrap_or(Cursor {
            time_ms: request.start_time.unwrap_or(i64::MIN),
            sequence: 0,
        });
        let first = events.first().map_or(place, Event::cursor);
        let last = events.last().map_or(place, Event::cursor);
        Ok(GetLogEventsResponse {
            next_forward_token: Some(format!(
                "f/{}",
                self.page_token(&list, "", &last.to_string())
            )),
            next_backward_token: Some(format!(
                "b/{}",
                self.page_token(&list, "", &first.to_string())
            )),
            events: Some(events.iter().map(output).collect()),
        })
    }

    pub(super) async fn filter_log_events(
        &self,
        request: FilterLogEventsRequest,
    ) -> Result<FilterLogEventsResponse, ApiError> {
        let group = self.group_of(
            request.log_group_name.as_deref(),
            request.log_group_identifier.as_deref(),
        )?;
        let streams = match (request.log_stream_names, request.log_stream_name_prefix) {
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid_parameter(
                    "logStreamNames and logStreamNamePrefix cannot both be given; leave one out.",
                ));
            }
            (Some(names), None) => Streams::Names(names),
            (None, Some(prefix)) => Streams::Prefix(prefix),
            (None, None) => Streams::All,
        };
        let wanted = pattern(request.filter_pattern.as_deref())?;
        let list = format!("filtered log events of {group}");
        let after = request
            .next_token
            .map(|token| self.log_cursor(&list, &token))
            .transpose()?;
        let query = Query {
            streams,
            from_ms: request.start_time,
            // Events of this very time are found; those of `GetLogEvents`' end are not.
            to_ms: request.end_time.and_then(|end| end.checked_add(1)),
            after,
            events_max: page_events(request.limit),
            bytes_max: PAGE_BYTES_MAX,
            ..Query::new(&group)
        };
        let ids = EventIds::of(&group);
        let found = self
            .log_work(move |store| look(store, query, &wanted))
            .await?;
        let wire = |event: Event| FilteredLogEvent {
            timestamp: Some(event.time_ms),
            message: Some(text(&event)),
            ingestion_time: Some(event.ingestion_ms),
            event_id: Some(ids.id(event.cursor())),
            log_stream_name: Some(event.stream.to_string()),
        };
        Ok(FilterLogEventsResponse {
            events: Some(found.events.into_iter().map(wire).collect()),
            // CloudWatch's is empty too, since 2020.
            searched_log_streams: Some(Vec::new()),
            next_token: found
                .next
                .map(|next| self.page_token(&list, "", &next.to_string())),
        })
    }
}

/// `extractedValues` are left empty.
pub(super) async fn test_metric_filter(
    request: TestMetricFilterRequest,
) -> Result<TestMetricFilterResponse, ApiError> {
    let wanted = pattern(request.filter_pattern.as_deref())?;
    let messages = request.log_event_messages.unwrap_or_default();
    let matches = messages
        .into_iter()
        .zip(1..)
        .filter(|(message, _)| wanted.matches(message))
        .map(|(message, number)| MetricFilterMatchRecord {
            event_number: Some(number),
            event_message: Some(message),
            extracted_values: Some(Default::default()),
        });
    Ok(TestMetricFilterResponse {
        matches: Some(matches.collect()),
    })
}

fn output(event: &Event) -> OutputLogEvent {
    OutputLogEvent {
        timestamp: Some(event.time_ms),
        message: Some(text(event)),
        ingestion_time: Some(event.ingestion_ms),
    }
}

fn page_events(limit: Option<i32>) -> usize {
    limit.map_or(PAGE_EVENTS_MAX, |limit| limit.unsigned_abs() as usize)
}

/// What the events of a group are called: 56 digits, as in CloudWatch, of which the first 17 are the
/// group's.
#[derive(Debug)]
pub(super) struct EventIds(u64);

impl EventIds {
    pub(super) fn of(group: &str) -> Self {
        let hash = Sha256::digest(group.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        Self(u64::from_be_bytes(first) % 10_u64.pow(17))
    }

    pub(super) fn id(&self, event: Cursor) -> String {
        format!("{:017}{event}", self.0)
    }
}
