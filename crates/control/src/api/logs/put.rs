//! `PutLogEvents`.

use std::{ops::Range, sync::Arc};

use ekiden_aws::{
    error::ApiError,
    logs::shapes::{
        InputLogEvent, Operation, PutLogEventsRequest, PutLogEventsResponse, RejectedLogEventsInfo,
        SIGNING_NAME, TARGET_PREFIX,
    },
    protocol::{REQUEST_BODY_BYTES_MAX, TARGET},
    sigv4::claim::Claim,
};
use ekiden_engine::Engine;
use ekiden_logs::{
    append::{Append, Missing, Times},
    event::NewEvent,
};

use http::{HeaderName, header::CONTENT_LENGTH, request::Parts};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{super::READ_TIMEOUT, Api};
use crate::{identity, logs::now_ms};

/// Bytes of a body of `PutLogEvents`: a whole batch's, unless most of its text is escaped in JSON.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Bodies at once that are larger than other operations' may be.
const LARGE_BODIES_MAX: usize = 16;

/// The most bytes of a batch, each event counted with [`EVENT_OVERHEAD_BYTES`] more: CloudWatch's.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// What each event counts for beside its text: CloudWatch's.
const EVENT_OVERHEAD_BYTES: usize = 26;

/// How far a batch's first and last event may be apart, in milliseconds: CloudWatch's.
const SPAN_MS_MAX: i64 = DAY_MS;

/// How far in the future an event may be, in milliseconds: CloudWatch's.
const AHEAD_MS_MAX: i64 = 2 * 3600 * 1000;

/// How old an event may be, in days: CloudWatch's.
const AGE_DAYS_MAX: i64 = 14;

const DAY_MS: i64 = 24 * 3600 * 1000;

impl<E: Engine> Api<E> {
    pub(super) async fn put_log_events(
        &self,
        request: PutLogEventsRequest,
    ) -> Result<PutLogEventsResponse, ApiError> {
        let group = request.log_group_name.unwrap_or_default();
        let stream = request.log_stream_name.unwrap_or_default();
        let events = request.log_events.unwrap_or_default();
        check(&events)?;
        let put = self.log_work(move |store| {
            let info = store.group(&group)?;
            let last = store.stream(&group, &stream)?.last_sequence;
            let now_ms = now_ms();
            let (taken, rejected) = sort_out(&events, now_ms, info.retention_days);
            let events: Vec<_> = events[taken]
                .iter()
                .map(|event| NewEvent {
                    time_ms: time(event),
                    text: event.message.as_deref().unwrap_or_default().as_bytes(),
                })
                .collect();
            if events.is_empty() {
                return Ok((last.unwrap_or_default(), rejected));
            }
            let appended = store.append(&Append {
                group: &group,
                stream: &stream,
                missing: Missing::Refuse,
                times: Times::Given,
                now_ms,
                position: None,
                events: &events,
            })?;
            let last = appended.first_sequence + appended.events as u64 - 1;
            Ok((last, rejected))
        });
        let (last, rejected_log_events_info) = put.await?;
        Ok(PutLogEventsResponse {
            next_sequence_token: Some(sequence_token(last)),
            rejected_log_events_info,
            rejected_entity_info: None,
        })
    }
}

/// The places for bodies that are larger than other operations' may be.
#[derive(Debug, Clone)]
pub(in crate::api) struct LargeBodies(Arc<Semaphore>);

impl LargeBodies {
    pub(in crate::api) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_BODIES_MAX)))
    }

    /// How many bytes the body of a request may have, by its head. Waits for a place if that is more than
    /// others may; it is kept until the request is answered.
    ///
    /// # Errors
    /// There is no place for long.
    pub(in crate::api) async fn bound(
        &self,
        parts: &Parts,
    ) -> Result<(usize, Option<OwnedSemaphorePermit>), ApiError> {
        if !is_large_put(parts) {
            return Ok((REQUEST_BODY_BYTES_MAX, None));
        }
        let place = Arc::clone(&self.0).acquire_owned();
        match tokio::time::timeout(READ_TIMEOUT, place).await {
            Ok(Ok(place)) => Ok((BODY_BYTES_MAX, Some(place))),
            Ok(Err(_)) | Err(_) => Err(ApiError::throttling(
                "too many large requests at once; try again, or send smaller batches",
            )),
        }
    }
}

/// Whether a request is a large one of `PutLogEvents`, and signed as far as its head shows.
fn is_large_put(parts: &Parts) -> bool {
    let header = |name: HeaderName| parts.headers.get(name)?.to_str().ok();
    let operation = header(TARGET)
        .and_then(|target| target.strip_prefix(TARGET_PREFIX)?.strip_prefix('.'))
        .and_then(Operation::from_name);
    let length = header(CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok());
    operation == Some(Operation::PutLogEvents)
        && length.is_some_and(|length| length > REQUEST_BODY_BYTES_MAX)
        && Claim::read(parts, SIGNING_NAME, identity::now()).is_ok()
}

/// What a client that goes by sequence tokens is told; none is asked for.
pub(super) fn sequence_token(last: u64) -> String {
    format!("{last:056}")
}

/// What holds for a batch as a whole.
fn check(events: &[InputLogEvent]) -> Result<(), ApiError> {
    let bytes: usize = events
        .iter()
        .map(|event| event.message.as_deref().unwrap_or_default().len() + EVENT_OVERHEAD_BYTES)
        .sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(ApiError::invalid_parameter(format!(
            "Upload too large: {bytes} bytes exceeds limit of {BATCH_BYTES_MAX}"
        )));
    }
    if !events.is_sorted_by_key(time) {
        return Err(ApiError::invalid_parameter(
            "Log events in a single PutLogEvents request must be in chronological order.",
        ));
    }
    let (first, last) = (events.first().map(time), events.last().map(time));
    match first
        .zip(last)
        .is_some_and(|(first, last)| last.saturating_sub(first) > SPAN_MS_MAX)
    {
        true => Err(ApiError::invalid_parameter(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
        )),
        false => Ok(()),
    }
}

/// The events that are taken, and which are not: they are in the order of time.
fn sort_out(
    events: &[InputLogEvent],
    now_ms: i64,
    retention_days: Option<u32>,
) -> (Range<usize>, Option<RejectedLogEventsInfo>) {
    let before = |limit: i64| events.partition_point(|event| time(event) < limit);
    let expired = retention_days.map_or(0, |days| before(now_ms - i64::from(days) * DAY_MS));
    let too_old = before(now_ms - AGE_DAYS_MAX * DAY_MS);
    let too_new = before(now_ms + AHEAD_MS_MAX + 1);
    let from = expired.max(too_old);
    let index = |index: usize| Some(index as i32);
    let rejected = RejectedLogEventsInfo {
        too_new_log_event_start_index: (too_new < events.len()).then_some(()).and(index(too_new)),
        too_old_log_event_end_index: (too_old > 0).then_some(()).and(index(too_old)),
        expired_log_event_end_index: (expired > 0).then_some(()).and(index(expired)),
    };
    let any = from > 0 || too_new < events.len();
    (from..too_new.max(from), any.then_some(rejected))
}

fn time(event: &InputLogEvent) -> i64 {
    event.timestamp.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(times: &[i64]) -> Vec<InputLogEvent> {
        let event = |time: &i64| InputLogEvent {
            timestamp: Some(*time),
            message: Some("x".to_owned()),
        };
        times.iter().map(event).collect()
    }

    #[test]
    fn events_that_are_too_old_or_too_new_are_left_out() {
        let now = 1_800_000_000_000;
        let check = |times: &[i64], days, want: Range<usize>, indexes: [Option<i32>; 3]| {
            let (taken, rejected) = sort_out(&at(times), now, days);
            assert_eq!(taken, want);
            let rejected = rejected.unwrap_or_default();
            assert_eq!(
                [
                    rejected.too_new_log_event_start_index,
                    rejected.too_old_log_event_end_index,
                    rejected.expired_log_event_end_index
                ],
                indexes
            );
        };
        check(&[now, now + AHEAD_MS_MAX], None, 0..2, [None; 3]);
        check(
            &[now, now + AHEAD_MS_MAX + 1],
            None,
            0..1,
            [Some(1), None, None],
        );
        check(&[i64::MAX], None, 0..0, [Some(0), None, None]);
        check(&[0, now], None, 1..2, [None, Some(1), None]);
        check(&[0, now], Some(3653), 1..2, [None, Some(1), Some(1)]);
        check(&[0, 0], Some(1), 2..2, [None, Some(2), Some(2)]);
        let two_days = now - 2 * DAY_MS;
        check(&[two_days, now - 1], Some(1), 1..2, [None, None, Some(1)]);
        check(&[two_days, now - 1], Some(2), 0..2, [None; 3]);
    }

    #[test]
    fn a_batch_is_in_order_within_a_day_and_not_too_large() {
        assert!(check(&at(&[0, 0, DAY_MS])).is_ok());
        for (times, want) in [
            (vec![1, 0], "chronological order"),
            (vec![0, DAY_MS + 1], "24 hours"),
            (vec![i64::MIN, i64::MAX], "24 hours"),
        ] {
            let refusal = check(&at(&times)).unwrap_err();
            assert!(refusal.message().contains(want), "{}", refusal.message());
        }
        let mut large = at(&[0]);
        large[0].message = Some("x".repeat(BATCH_BYTES_MAX - EVENT_OVERHEAD_BYTES));
        assert!(check(&large).is_ok());
        large[0].message.as_mut().unwrap().push('x');
        assert!(check(&large).unwrap_err().message().contains("1048577"));
    }
}
