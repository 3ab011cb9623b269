//! CloudWatch Logs' operations on the log store.

use std::future::{Ready, ready};

use ekiden_aws::{
    error::ApiError,
    logs::shapes::{
        AssociateKmsKeyRequest, CreateLogGroupRequest, CreateLogStreamRequest,
        DeleteLogGroupRequest, DeleteLogStreamRequest, DeleteRetentionPolicyRequest,
        DescribeLogGroupsRequest, DescribeLogGroupsResponse, DescribeLogStreamsRequest,
        DescribeLogStreamsResponse, DescribeQueriesRequest, DescribeQueriesResponse,
        DescribeSubscriptionFiltersRequest, DescribeSubscriptionFiltersResponse,
        DisassociateKmsKeyRequest, FilterLogEventsRequest, FilterLogEventsResponse,
        GetLogEventsRequest, GetLogEventsResponse, GetQueryResultsRequest, GetQueryResultsResponse,
        ListLogGroupsRequest, ListLogGroupsResponse, ListTagsForResourceRequest,
        ListTagsForResourceResponse, ListTagsLogGroupRequest, ListTagsLogGroupResponse, Operation,
        PutLogEventsRequest, PutLogEventsResponse, PutRetentionPolicyRequest, StartLiveTailRequest,
        StartQueryRequest, StartQueryResponse, StopQueryRequest, StopQueryResponse,
        TagLogGroupRequest, TagResourceRequest, TestMetricFilterRequest, TestMetricFilterResponse,
        UntagLogGroupRequest, UntagResourceRequest,
    },
    nothing::Nothing,
};
use ekiden_engine::Engine;

use super::{Answer, Api, Call, Caller};

impl<E: Engine> Api<E> {
    /// CloudWatch Logs' requests to their handlers.
    pub(super) async fn logs(
        &self,
        _caller: &Caller,
        operation: Operation,
        call: Call<'_>,
    ) -> Answer {
        use Operation as O;
        let answer = match operation {
            O::AssociateKmsKey => {
                call.run(not_yet::<AssociateKmsKeyRequest, Nothing>(operation))
                    .await
            }
            O::CreateLogGroup => {
                call.run(not_yet::<CreateLogGroupRequest, Nothing>(operation))
                    .await
            }
            O::CreateLogStream => {
                call.run(not_yet::<CreateLogStreamRequest, Nothing>(operation))
                    .await
            }
            O::DeleteLogGroup => {
                call.run(not_yet::<DeleteLogGroupRequest, Nothing>(operation))
                    .await
            }
            O::DeleteLogStream => {
                call.run(not_yet::<DeleteLogStreamRequest, Nothing>(operation))
                    .await
            }
            O::DeleteRetentionPolicy => {
                call.run(not_yet::<DeleteRetentionPolicyRequest, Nothing>(operation))
                    .await
            }
            O::DescribeLogGroups => {
                call.run(not_yet::<DescribeLogGroupsRequest, DescribeLogGroupsResponse>(operation))
                    .await
            }
            O::DescribeLogStreams => {
                call.run(not_yet::<
                    DescribeLogStreamsRequest,
                    DescribeLogStreamsResponse,
                >(operation))
                    .await
            }
            O::DescribeQueries => {
                call.run(not_yet::<DescribeQueriesRequest, DescribeQueriesResponse>(
                    operation,
                ))
                .await
            }
            O::DescribeSubscriptionFilters => {
                call.run(not_yet::<
                    DescribeSubscriptionFiltersRequest,
                    DescribeSubscriptionFiltersResponse,
                >(operation))
                    .await
            }
            O::DisassociateKmsKey => {
                call.run(not_yet::<DisassociateKmsKeyRequest, Nothing>(operation))
                    .await
            }
            O::FilterLogEvents => {
                call.run(not_yet::<FilterLogEventsRequest, FilterLogEventsResponse>(
                    operation,
                ))
                .await
            }
            O::GetLogEvents => {
                call.run(not_yet::<GetLogEventsRequest, GetLogEventsResponse>(
                    operation,
                ))
                .await
            }
            O::GetQueryResults => {
                call.run(not_yet::<GetQueryResultsRequest, GetQueryResultsResponse>(
                    operation,
                ))
                .await
            }
            O::ListLogGroups => {
                call.run(not_yet::<ListLogGroupsRequest, ListLogGroupsResponse>(
                    operation,
                ))
                .await
            }
            O::ListTagsForResource => {
                call.run(not_yet::<
                    ListTagsForResourceRequest,
                    ListTagsForResourceResponse,
                >(operation))
                    .await
            }
            O::ListTagsLogGroup => {
                call.run(not_yet::<ListTagsLogGroupRequest, ListTagsLogGroupResponse>(operation))
                    .await
            }
            O::PutLogEvents => {
                call.run(not_yet::<PutLogEventsRequest, PutLogEventsResponse>(
                    operation,
                ))
                .await
            }
            O::PutRetentionPolicy => {
                call.run(not_yet::<PutRetentionPolicyRequest, Nothing>(operation))
                    .await
            }
            O::StartLiveTail => call.run(start_live_tail).await,
            O::StartQuery => {
                call.run(not_yet::<StartQueryRequest, StartQueryResponse>(operation))
                    .await
            }
            O::StopQuery => {
                call.run(not_yet::<StopQueryRequest, StopQueryResponse>(operation))
                    .await
            }
            O::TagLogGroup => {
                call.run(not_yet::<TagLogGroupRequest, Nothing>(operation))
                    .await
            }
            O::TagResource => {
                call.run(not_yet::<TagResourceRequest, Nothing>(operation))
                    .await
            }
            O::TestMetricFilter => {
                call.run(not_yet::<TestMetricFilterRequest, TestMetricFilterResponse>(operation))
                    .await
            }
            O::UntagLogGroup => {
                call.run(not_yet::<UntagLogGroupRequest, Nothing>(operation))
                    .await
            }
            O::UntagResource => {
                call.run(not_yet::<UntagResourceRequest, Nothing>(operation))
                    .await
            }
        };
        answer.map_err(|error| error.internal_as(ApiError::logs_unavailable))
    }
}

/// Stands where an operation's handler is to be.
fn not_yet<I, O>(operation: Operation) -> impl FnOnce(I) -> Ready<Result<O, ApiError>> {
    move |_| {
        ready(Err(ApiError::unknown_operation(format!(
            "`{}` of CloudWatch Logs is not available yet in this version of Ekiden",
            operation.name()
        ))))
    }
}

/// An event stream, which this endpoint does not send. Whoever asks is told what does the same.
async fn start_live_tail(_request: StartLiveTailRequest) -> Result<Nothing, ApiError> {
    Err(ApiError::invalid_operation(
        "StartLiveTail is not served here: it needs an event stream. Follow the group with \
         FilterLogEvents instead, as `aws logs tail --follow` does.",
    ))
}
