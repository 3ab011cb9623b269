//! Log streams: making and listing them.

use ekiden_aws::{
    error::ApiError,
    logs::shapes::{
        CreateLogStreamRequest, DeleteLogStreamRequest, DescribeLogStreamsRequest,
        DescribeLogStreamsResponse, LogStream,
    },
    nothing::Nothing,
};
use ekiden_engine::Engine;
use ekiden_logs::{
    group_info::{StreamInfo, StreamOrder, StreamsQuery},
    query::Direction,
};

use super::{super::Caller, Api, put::sequence_token};
use crate::logs::now_ms;

/// Streams of a page when a request does not say: CloudWatch's.
const PAGE_STREAMS: usize = 50;

impl<E: Engine> Api<E> {
    pub(super) async fn create_log_stream(
        &self,
        request: CreateLogStreamRequest,
    ) -> Result<Nothing, ApiError> {
        let group = request.log_group_name.unwrap_or_default();
        let stream = request.log_stream_name.unwrap_or_default();
        self.log_work(move |store| store.create_stream(&group, &stream, now_ms()))
            .await?;
        Ok(Nothing {})
    }

    pub(super) async fn delete_log_stream(
        &self,
        request: DeleteLogStreamRequest,
    ) -> Result<Nothing, ApiError> {
        let group = request.log_group_name.unwrap_or_default();
        let stream = request.log_stream_name.unwrap_or_default();
        self.log_work(move |store| store.delete_stream(&group, &stream))
            .await?;
        Ok(Nothing {})
    }

    pub(super) async fn describe_log_streams(
        &self,
        caller: &Caller,
        request: DescribeLogStreamsRequest,
    ) -> Result<DescribeLogStreamsResponse, ApiError> {
        let group = self.group_of(
            request.log_group_name.as_deref(),
            request.log_group_identifier.as_deref(),
        )?;
        let order = match request.order_by.as_deref() {
            Some("LastEventTime") => StreamOrder::LastEvent,
            _ => StreamOrder::Name, // the model allows no other
        };
        if order == StreamOrder::LastEvent && request.log_stream_name_prefix.is_some() {
            return Err(ApiError::invalid_parameter(
                "Cannot order by LastEventTime with a logStreamNamePrefix.",
            ));
        }
        let list = format!("log streams of {group}");
        let after = request
            .next_token
            .map(|token| self.log_place(&list, &token))
            .transpose()?;
        let query = StreamsQuery {
            prefix: request.log_stream_name_prefix,
            order,
            direction: match request.descending {
                Some(true) => Direction::Backward,
                _ => Direction::Forward,
            },
            after,
            limit: request
                .limit
                .map_or(PAGE_STREAMS, |limit| limit.unsigned_abs() as usize),
        };
        let arn = self.log_group_arn(caller, &group);
        let listed = self
            .log_work(move |store| store.streams(&group, &query))
            .await?;
        let last = listed.items.last().filter(|_| listed.more);
        let next_token = last.map(|last| self.page_token(&list, "", &last.name));
        let wire = |info: StreamInfo| LogStream {
            arn: Some(format!("{arn}:log-stream:{}", info.name)),
            creation_time: Some(info.created_ms),
            first_event_timestamp: info.first_event_ms,
            last_event_timestamp: info.last_event_ms,
            last_ingestion_time: info.last_ingestion_ms,
            upload_sequence_token: Some(sequence_token(info.last_sequence.unwrap_or_default())),
            stored_bytes: Some(info.stored_bytes as i64),
            log_stream_name: Some(info.name),
        };
        Ok(DescribeLogStreamsResponse {
            log_streams: Some(listed.items.into_iter().map(wire).collect()),
            next_token,
        })
    }
}
