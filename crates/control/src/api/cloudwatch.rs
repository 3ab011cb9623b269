//! CloudWatch's operations on metrics and alarms.
//!
//! Metrics are the same in all regions, as there is one store; alarms are their region's.

mod alarm_settings;
mod alarms;
mod label;
mod metric_data;
mod put;
mod statistics;
mod tags;

use ekiden_aws::{
    cloudwatch::shapes::{
        Dimension, ListMetricsInput, ListMetricsOutput, Metric as WireMetric, Operation,
    },
    error::ApiError,
};
use ekiden_engine::Engine;
use ekiden_metrics::{
    error::Error,
    list::ListQuery,
    series::{Metric, Unit},
    store::MetricStore,
};
use tracing::warn;

use super::{Answer, Api, Call, Caller};
use crate::{clock, worker::Chain};

impl<E: Engine> Api<E> {
    /// CloudWatch's requests to their handlers.
    pub(super) async fn cloudwatch(
        &self,
        caller: &Caller,
        operation: Operation,
        call: Call<'_>,
    ) -> Answer {
        use Operation as O;
        let answer = match operation {
            O::DeleteAlarms => call.run(|r| self.delete_alarms(caller, r)).await,
            O::DescribeAlarms => call.run(|r| self.describe_alarms(caller, r)).await,
            O::DescribeAlarmsForMetric => {
                call.run(|r| self.describe_alarms_for_metric(caller, r))
                    .await
            }
            O::DisableAlarmActions => call.run(|r| self.disable_alarm_actions(caller, r)).await,
            O::EnableAlarmActions => call.run(|r| self.enable_alarm_actions(caller, r)).await,
            O::GetMetricData => call.run(|r| self.get_metric_data(caller, r)).await,
            O::GetMetricStatistics => call.run(|r| self.get_metric_statistics(r)).await,
            O::ListMetrics => call.run(|r| self.list_metrics(r)).await,
            O::ListTagsForResource => call.run(|r| self.list_tags_of_alarm(caller, r)).await,
            O::PutMetricAlarm => call.run(|r| self.put_metric_alarm(caller, r)).await,
            O::PutMetricData => call.run(|r| self.put_metric_data(r)).await,
            O::SetAlarmState => call.run(|r| self.set_alarm_state(caller, r)).await,
            O::TagResource => call.run(|r| self.tag_alarm(caller, r)).await,
            O::UntagResource => call.run(|r| self.untag_alarm(caller, r)).await,
        };
        answer.map_err(|error| error.internal_as(ApiError::internal_service_fault))
    }

    /// Works on the metric store, with the time in milliseconds, where that may block.
    async fn metric_work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&MetricStore, u64) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = self.metric_store.clone();
        let work = move || work(&store, clock::now().as_millis());
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done.map_err(refused),
            Err(error) => std::panic::resume_unwind(error.into_panic()), // never aborted
        }
    }

    async fn list_metrics(&self, request: ListMetricsInput) -> Result<ListMetricsOutput, ApiError> {
        const LIST: &str = "ListMetrics";
        let account = &self.config.account_id;
        if request
            .owning_account
            .is_some_and(|owner| owner != *account)
        {
            return Ok(ListMetricsOutput {
                metrics: Some(Vec::new()),
                ..ListMetricsOutput::default()
            });
        }
        let place = |token: String| self.page_place(LIST, "", &token).ok_or_else(bad_token);
        let dimensions = request.dimensions.unwrap_or_default();
        let query = ListQuery {
            namespace: request.namespace,
            name: request.metric_name,
            dimensions: dimensions
                .into_iter()
                .map(|filter| (filter.name.unwrap_or_default(), filter.value))
                .collect(),
            recently_active: request.recently_active.is_some(),
            after: request.next_token.map(place).transpose()?,
            limit: 0,
        };
        let page = self
            .metric_work(move |store, now_ms| store.list_metrics(&query, now_ms))
            .await?;
        let with_owners = request.include_linked_accounts == Some(true);
        let owners = || vec![account.clone(); page.metrics.len()];
        Ok(ListMetricsOutput {
            owning_accounts: with_owners.then(owners),
            next_token: page.next.map(|next| self.page_token(LIST, "", &next)),
            metrics: Some(page.metrics.iter().map(wire_metric).collect()),
        })
    }
}

/// What a client is told of what the metric store or an alarm refused.
fn refused(error: Error) -> ApiError {
    match error {
        Error::InvalidParameterValue(message) => ApiError::invalid_parameter_value(message),
        Error::InvalidParameterCombination(message) => {
            ApiError::invalid_parameter_combination(message)
        }
        Error::MissingRequiredParameter(message) => ApiError::missing_parameter(message),
        Error::ValidationError(message) => ApiError::validation(message),
        Error::LimitExceeded(message) => ApiError::limit_exceeded_fault(message),
        Error::Io { .. } => {
            warn!(error = %Chain(&error), "the metric store failed");
            ApiError::internal_service_fault(error.to_string())
        }
    }
}

fn bad_token() -> ApiError {
    ApiError::invalid_parameter_value(
        "the parameter NextToken is not one that an answer to this operation had; start again without it",
    )
}

/// Names and values; both are there, by the model.
fn pairs(dimensions: Option<Vec<Dimension>>) -> Vec<(String, String)> {
    let pair = |one: Dimension| (one.name.unwrap_or_default(), one.value.unwrap_or_default());
    dimensions
        .unwrap_or_default()
        .into_iter()
        .map(pair)
        .collect()
}

fn wire_dimensions(dimensions: &[(String, String)]) -> Vec<Dimension> {
    dimensions
        .iter()
        .map(|(name, value)| Dimension {
            name: Some(name.clone()),
            value: Some(value.clone()),
        })
        .collect()
}

fn wire_metric(metric: &Metric) -> WireMetric {
    WireMetric {
        namespace: Some(metric.namespace().to_owned()),
        metric_name: Some(metric.name().to_owned()),
        dimensions: Some(wire_dimensions(metric.dimensions())),
    }
}

fn unit(text: Option<&str>) -> Result<Option<Unit>, ApiError> {
    text.map(str::parse).transpose().map_err(refused)
}
