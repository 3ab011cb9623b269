//! EventBridge's operations on rules and their targets.

use std::future::{Ready, ready};

use ekiden_aws::{
    error::ApiError,
    events::shapes::{
        DeleteRuleRequest, DescribeEventBusRequest, DescribeEventBusResponse, DescribeRuleRequest,
        DescribeRuleResponse, DisableRuleRequest, EnableRuleRequest, ListEventBusesRequest,
        ListEventBusesResponse, ListRuleNamesByTargetRequest, ListRuleNamesByTargetResponse,
        ListRulesRequest, ListRulesResponse, ListTagsForResourceRequest,
        ListTagsForResourceResponse, ListTargetsByRuleRequest, ListTargetsByRuleResponse,
        Operation, PutEventsRequest, PutEventsResponse, PutRuleRequest, PutRuleResponse,
        PutTargetsRequest, PutTargetsResponse, RemoveTargetsRequest, RemoveTargetsResponse,
        TagResourceRequest, TagResourceResponse, TestEventPatternRequest, TestEventPatternResponse,
        UntagResourceRequest, UntagResourceResponse,
    },
    nothing::Nothing,
};
use ekiden_engine::Engine;

use super::{Answer, Api, Call, Caller};

impl<E: Engine> Api<E> {
    /// EventBridge's requests to their handlers.
    pub(super) async fn event_bridge(
        &self,
        _caller: &Caller,
        operation: Operation,
        call: Call<'_>,
    ) -> Answer {
        use Operation as O;
        let answer = match operation {
            O::DeleteRule => {
                call.run(not_yet::<DeleteRuleRequest, Nothing>(operation))
                    .await
            }
            O::DescribeEventBus => {
                call.run(not_yet::<DescribeEventBusRequest, DescribeEventBusResponse>(operation))
                    .await
            }
            O::DescribeRule => {
                call.run(not_yet::<DescribeRuleRequest, DescribeRuleResponse>(
                    operation,
                ))
                .await
            }
            O::DisableRule => {
                call.run(not_yet::<DisableRuleRequest, Nothing>(operation))
                    .await
            }
            O::EnableRule => {
                call.run(not_yet::<EnableRuleRequest, Nothing>(operation))
                    .await
            }
            O::ListEventBuses => {
                call.run(not_yet::<ListEventBusesRequest, ListEventBusesResponse>(
                    operation,
                ))
                .await
            }
            O::ListRuleNamesByTarget => {
                call.run(not_yet::<
                    ListRuleNamesByTargetRequest,
                    ListRuleNamesByTargetResponse,
                >(operation))
                    .await
            }
            O::ListRules => {
                call.run(not_yet::<ListRulesRequest, ListRulesResponse>(operation))
                    .await
            }
            O::ListTagsForResource => {
                call.run(not_yet::<
                    ListTagsForResourceRequest,
                    ListTagsForResourceResponse,
                >(operation))
                    .await
            }
            O::ListTargetsByRule => {
                call.run(not_yet::<ListTargetsByRuleRequest, ListTargetsByRuleResponse>(operation))
                    .await
            }
            O::PutEvents => {
                call.run(not_yet::<PutEventsRequest, PutEventsResponse>(operation))
                    .await
            }
            O::PutRule => {
                call.run(not_yet::<PutRuleRequest, PutRuleResponse>(operation))
                    .await
            }
            O::PutTargets => {
                call.run(not_yet::<PutTargetsRequest, PutTargetsResponse>(operation))
                    .await
            }
            O::RemoveTargets => {
                call.run(not_yet::<RemoveTargetsRequest, RemoveTargetsResponse>(
                    operation,
                ))
                .await
            }
            O::TagResource => {
                call.run(not_yet::<TagResourceRequest, TagResourceResponse>(
                    operation,
                ))
                .await
            }
            O::TestEventPattern => {
                call.run(not_yet::<TestEventPatternRequest, TestEventPatternResponse>(operation))
                    .await
            }
            O::UntagResource => {
                call.run(not_yet::<UntagResourceRequest, UntagResourceResponse>(
                    operation,
                ))
                .await
            }
        };
        answer.map_err(|error| error.internal_as(ApiError::internal))
    }
}

/// Stands where an operation's handler is to be.
fn not_yet<I, O>(operation: Operation) -> impl FnOnce(I) -> Ready<Result<O, ApiError>> {
    move |_| {
        ready(Err(ApiError::unknown_operation(format!(
            "`{}` of EventBridge is not available yet in this version of Ekiden",
            operation.name()
        ))))
    }
}
