//! CloudWatch's operations on metrics and alarms.

use std::future::{Ready, ready};

use ekiden_aws::{
    cloudwatch::shapes::{
        DeleteAlarmsInput, DescribeAlarmsForMetricInput, DescribeAlarmsForMetricOutput,
        DescribeAlarmsInput, DescribeAlarmsOutput, DisableAlarmActionsInput,
        EnableAlarmActionsInput, GetMetricDataInput, GetMetricDataOutput, GetMetricStatisticsInput,
        GetMetricStatisticsOutput, ListMetricsInput, ListMetricsOutput, ListTagsForResourceInput,
        ListTagsForResourceOutput, Operation, PutMetricAlarmInput, PutMetricDataInput,
        SetAlarmStateInput, TagResourceInput, TagResourceOutput, UntagResourceInput,
        UntagResourceOutput,
    },
    error::ApiError,
    nothing::Nothing,
};
use ekiden_engine::Engine;

use super::{Answer, Api, Call, Caller};

impl<E: Engine> Api<E> {
    /// CloudWatch's requests to their handlers.
    pub(super) async fn cloudwatch(
        &self,
        _caller: &Caller,
        operation: Operation,
        call: Call<'_>,
    ) -> Answer {
        use Operation as O;
        let answer = match operation {
            O::DeleteAlarms => {
                call.run(not_yet::<DeleteAlarmsInput, Nothing>(operation))
                    .await
            }
            O::DescribeAlarms => {
                call.run(not_yet::<DescribeAlarmsInput, DescribeAlarmsOutput>(
                    operation,
                ))
                .await
            }
            O::DescribeAlarmsForMetric => {
                call.run(not_yet::<
                    DescribeAlarmsForMetricInput,
                    DescribeAlarmsForMetricOutput,
                >(operation))
                    .await
            }
            O::DisableAlarmActions => {
                call.run(not_yet::<DisableAlarmActionsInput, Nothing>(operation))
                    .await
            }
            O::EnableAlarmActions => {
                call.run(not_yet::<EnableAlarmActionsInput, Nothing>(operation))
                    .await
            }
            O::GetMetricData => {
                call.run(not_yet::<GetMetricDataInput, GetMetricDataOutput>(
                    operation,
                ))
                .await
            }
            O::GetMetricStatistics => {
                call.run(not_yet::<GetMetricStatisticsInput, GetMetricStatisticsOutput>(operation))
                    .await
            }
            O::ListMetrics => {
                call.run(not_yet::<ListMetricsInput, ListMetricsOutput>(operation))
                    .await
            }
            O::ListTagsForResource => {
                call.run(not_yet::<ListTagsForResourceInput, ListTagsForResourceOutput>(operation))
                    .await
            }
            O::PutMetricAlarm => {
                call.run(not_yet::<PutMetricAlarmInput, Nothing>(operation))
                    .await
            }
            O::PutMetricData => {
                call.run(not_yet::<PutMetricDataInput, Nothing>(operation))
                    .await
            }
            O::SetAlarmState => {
                call.run(not_yet::<SetAlarmStateInput, Nothing>(operation))
                    .await
            }
            O::TagResource => {
                call.run(not_yet::<TagResourceInput, TagResourceOutput>(operation))
                    .await
            }
            O::UntagResource => {
                call.run(not_yet::<UntagResourceInput, UntagResourceOutput>(
                    operation,
                ))
                .await
            }
        };
        answer.map_err(|error| error.internal_as(ApiError::internal_service_fault))
    }
}

/// Stands where an operation's handler is to be.
fn not_yet<I, O>(operation: Operation) -> impl FnOnce(I) -> Ready<Result<O, ApiError>> {
    move |_| {
        ready(Err(ApiError::unknown_operation(format!(
            "`{}` of CloudWatch is not available yet in this version of Ekiden",
            operation.name()
        ))))
    }
}
