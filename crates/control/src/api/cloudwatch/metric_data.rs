//! GetMetricData.

use std::collections::HashMap;

use ekiden_aws::{
    cloudwatch::shapes::{
        GetMetricDataInput, GetMetricDataOutput, MetricDataQuery as WireQuery,
        MetricDataResult as WireResult, MetricStat,
    },
    epoch_seconds::EpochSeconds,
    error::ApiError,
};
use ekiden_engine::Engine;
use ekiden_metrics::{
    metric_data::{
        DATAPOINTS_MAX, MetricDataQuery, MetricDataRequest, MetricDataResult, ScanBy, Source,
    },
    series::Metric,
};

use super::{
    Api, Caller, bad_token,
    label::{Label, Properties},
    pairs, refused,
    statistics::millis,
    unit,
};

/// What page tokens are for.
const LIST: &str = "GetMetricData";

impl<E: Engine> Api<E> {
    pub(super) async fn get_metric_data(
        &self,
        caller: &Caller,
        request: GetMetricDataInput,
    ) -> Result<GetMetricDataOutput, ApiError> {
        let after = request.next_token.map(|token| {
            let place = self.page_place(LIST, "", &token);
            let place = place.and_then(|place| place.parse().ok());
            place.ok_or_else(bad_token)
        });
        let mut labels = HashMap::new();
        let mut queries = Vec::new();
        for query in request.metric_data_queries.unwrap_or_default() {
            let (mut query, properties) = self.query(caller, query)?;
            if let Some(label) = query.label.take_if(|label| label.contains("${")) {
                labels.insert(query.id.clone(), Label::new(&label, &properties));
            }
            queries.push(query);
        }
        let scan_by = match request.scan_by.as_deref() {
            Some("TimestampAscending") => ScanBy::TimestampAscending,
            _ => ScanBy::TimestampDescending,
        };
        let asked = MetricDataRequest {
            queries,
            start_ms: millis(request.start_time),
            end_ms: millis(request.end_time),
            scan_by,
            datapoints_max: datapoints_max(request.max_datapoints)?,
            after: after.transpose()?,
        };
        let data = self
            .metric_work(move |store, now_ms| store.metric_data(&asked, now_ms))
            .await?;
        let wire = |result| wire(result, &labels, scan_by);
        Ok(GetMetricDataOutput {
            metric_data_results: Some(data.results.into_iter().map(wire).collect()),
            next_token: (data.next).map(|next| self.page_token(LIST, "", &next.to_string())),
            messages: Some(Vec::new()),
        })
    }

    /// A query, and what its label can say of it.
    fn query(
        &self,
        caller: &Caller,
        query: WireQuery,
    ) -> Result<(MetricDataQuery, Properties), ApiError> {
        let id = query.id.unwrap_or_default();
        if let Some(account) = query.account_id
            && account != self.config.account_id
        {
            return Err(ApiError::validation(format!(
                "the query `{id}` is for the account {account}; there are only metrics of {} here",
                self.config.account_id
            )));
        }
        let mut properties = Properties {
            account: self.config.account_id.clone(),
            region: caller.region.clone(),
            period: query.period.map(|period| period.to_string()),
            expression: query.expression.clone(),
            ..Properties::default()
        };
        let source = match (query.metric_stat, query.expression) {
            (Some(stat), None) => source(stat, &mut properties)?,
            (None, Some(expression)) => Source::Expression(expression),
            (Some(_), Some(_)) | (None, None) => {
                return Err(ApiError::validation(format!(
                    "the query `{id}` of the parameter MetricDataQueries must have either MetricStat or Expression"
                )));
            }
        };
        let query = MetricDataQuery {
            id,
            source,
            label: query.label.filter(|label| !label.is_empty()),
            return_data: query.return_data != Some(false),
        };
        Ok((query, properties))
    }
}

/// What a query of a metric asks for.
fn source(stat: MetricStat, properties: &mut Properties) -> Result<Source, ApiError> {
    let metric = stat.metric.unwrap_or_default();
    let metric = Metric::new(
        metric.namespace.unwrap_or_default(),
        metric.metric_name.unwrap_or_default(),
        pairs(metric.dimensions),
    );
    let metric = metric.map_err(refused)?;
    let (text, period) = (
        stat.stat.unwrap_or_default(),
        stat.period.unwrap_or_default(),
    );
    properties.metric = Some(metric.clone());
    properties.stat = Some(text.clone());
    properties.period = Some(period.to_string());
    Ok(Source::MetricStat {
        metric,
        unit: unit(stat.unit.as_deref())?,
        period_s: period.unsigned_abs(),
        stat: text.parse().map_err(refused)?,
    })
}

fn datapoints_max(given: Option<i32>) -> Result<usize, ApiError> {
    match given.map(usize::try_from) {
        None => Ok(0),
        Some(Ok(max)) if (1..=DATAPOINTS_MAX).contains(&max) => Ok(max),
        Some(_) => Err(ApiError::invalid_parameter_value(format!(
            "the parameter MaxDatapoints must be 1 to {DATAPOINTS_MAX}"
        ))),
    }
}

fn wire(result: MetricDataResult, labels: &HashMap<String, Label>, scan_by: ScanBy) -> WireResult {
    let label = labels.get(&result.id).map_or_else(
        || result.label.clone(),
        |label| match scan_by {
            ScanBy::TimestampAscending => label.of(&result.label, result.values.iter().copied()),
            ScanBy::TimestampDescending => {
                label.of(&result.label, result.values.iter().rev().copied())
            }
        },
    );
    let status = if result.is_complete {
        "Complete"
    } else {
        "PartialData"
    };
    WireResult {
        id: Some(result.id),
        label: Some(label),
        timestamps: Some(
            result
                .timestamps_ms
                .into_iter()
                .map(|at| EpochSeconds(at / 1000))
                .collect(),
        ),
        values: Some(result.values),
        status_code: Some(status.to_owned()),
        messages: None,
    }
}
