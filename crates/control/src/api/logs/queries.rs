//! Queries of CloudWatch Logs Insights: starting, asking, stopping.

use ekiden_aws::{
    error::ApiError,
    logs::shapes::{
        DescribeQueriesRequest, DescribeQueriesResponse, GetQueryResultsRequest,
        GetQueryResultsResponse, QueryInfo, QueryStatistics, ResultField, StartQueryRequest,
        StartQueryResponse, StopQueryRequest, StopQueryResponse,
    },
};
use ekiden_engine::Engine;
use ekiden_logs::insights::{LIMIT_MAX, Query};

use super::{
    Api,
    running::{Told, Wanted},
};

/// Groups of a query: CloudWatch's.
const GROUPS_MAX: usize = 50;

/// Queries of a page when a request does not say: CloudWatch's most.
const PAGE_QUERIES: usize = 1000;

/// Seconds since the Unix epoch end here; what is larger is milliseconds, which clients mix up.
const SECONDS_MAX: i64 = 100_000_000_000;

/// The language there is.
const LANGUAGE: &str = "CWLI";

impl<E: Engine> Api<E> {
    pub(super) async fn start_query(
        &self,
        request: StartQueryRequest,
    ) -> Result<StartQueryResponse, ApiError> {
        if request
            .query_language
            .as_deref()
            .is_some_and(|language| language != LANGUAGE)
        {
            return Err(ApiError::invalid_parameter(format!(
                "queryLanguage must be {LANGUAGE} here; SQL and PPL are not available."
            )));
        }
        let mut groups = match (
            request.log_group_name,
            request.log_group_names,
            request.log_group_identifiers,
        ) {
            (Some(name), None, None) => vec![name],
            (None, Some(names), None) => names,
            (None, None, Some(identifiers)) => identifiers
                .iter()
                .map(|identifier| self.group_named(identifier))
                .collect::<Result<_, _>>()?,
            _ => {
                return Err(ApiError::invalid_parameter(
                    "Give exactly one of logGroupName, logGroupNames and logGroupIdentifiers.",
                ));
            }
        };
        groups.sort_unstable();
        groups.dedup();
        if groups.is_empty() || groups.len() > GROUPS_MAX {
            return Err(ApiError::invalid_parameter(format!(
                "A query is of 1 to {GROUPS_MAX} log groups."
            )));
        }
        let (start, end) = (
            request.start_time.unwrap_or_default(),
            request.end_time.unwrap_or_default(),
        );
        let (from_ms, to_ms) = (millis(start), after(end));
        if to_ms.is_some_and(|to_ms| to_ms <= from_ms) {
            return Err(ApiError::invalid_parameter(
                "endTime must not be before startTime; both are seconds since 1970-01-01.",
            ));
        }
        let text = request.query_string.unwrap_or_default();
        let query = parse(&text, request.limit)?;
        self.check_groups(groups.clone()).await?;
        let wanted = Wanted {
            text,
            query,
            groups,
            account: self.config.account_id.clone(),
            from_ms,
            to_ms,
        };
        let started = self.log_queries.start(&self.log_store, wanted);
        let id = started.map_err(|error| ApiError::limit_exceeded(format!("{error}.")))?;
        Ok(StartQueryResponse { query_id: Some(id) })
    }

    pub(super) async fn get_query_results(
        &self,
        request: GetQueryResultsRequest,
    ) -> Result<GetQueryResultsResponse, ApiError> {
        let id = request.query_id.unwrap_or_default();
        let (told, rows) = self.log_queries.find(&id).ok_or_else(no_query)?;
        let list = format!("results of query {id}");
        let first = match request.next_token.as_deref() {
            None => 0,
            Some(token) => {
                let place = self.log_place(&list, token)?;
                place.parse().unwrap_or(rows.len())
            }
        };
        let most = match request.max_items {
            None | Some(0) => rows.len(),
            Some(most) => most.unsigned_abs() as usize,
        };
        let page = rows.iter().skip(first).take(most).map(|row| {
            let field = |(name, value): &(String, String)| ResultField {
                field: Some(name.clone()),
                value: Some(value.clone()),
            };
            row.iter().map(field).collect()
        });
        let end = first.saturating_add(most);
        Ok(GetQueryResultsResponse {
            query_language: Some(LANGUAGE.to_owned()),
            results: Some(page.collect()),
            statistics: Some(statistics(&told)),
            status: Some(told.status.as_str().to_owned()),
            encryption_key: None,
            next_token: (end < rows.len()).then(|| self.page_token(&list, "", &end.to_string())),
        })
    }

    pub(super) async fn stop_query(
        &self,
        request: StopQueryRequest,
    ) -> Result<StopQueryResponse, ApiError> {
        let id = request.query_id.unwrap_or_default();
        match self.log_queries.stop(&id).ok_or_else(no_query)? {
            Ok(()) => Ok(StopQueryResponse {
                success: Some(true),
            }),
            Err(status) => Err(ApiError::invalid_parameter(format!(
                "Query {id} has already ended with status: {}",
                status.as_str()
            ))),
        }
    }

    pub(super) async fn describe_queries(
        &self,
        request: DescribeQueriesRequest,
    ) -> Result<DescribeQueriesResponse, ApiError> {
        const LIST: &str = "queries";
        let most = request
            .max_results
            .map_or(PAGE_QUERIES, |most| most.unsigned_abs() as usize)
            .max(1);
        // Newest first, so that a page goes on with what was started before its last.
        let before: Option<u64> = request
            .next_token
            .map(|token| self.log_place(LIST, &token))
            .transpose()?
            .and_then(|place| place.parse().ok());
        let (group, status) = (request.log_group_name, request.status);
        let mut found: Vec<_> = self
            .log_queries
            .all()
            .into_iter()
            .filter(|told| before.is_none_or(|before| told.number < before))
            .filter(|told| {
                group
                    .as_ref()
                    .is_none_or(|group| told.groups.contains(group))
            })
            .filter(|told| {
                status
                    .as_deref()
                    .is_none_or(|status| status == told.status.as_str())
            })
            .filter(|_| {
                request
                    .query_language
                    .as_deref()
                    .is_none_or(|language| language == LANGUAGE)
            })
            .collect();
        let more = found.len() > most;
        found.truncate(most);
        let last = found.last().filter(|_| more);
        let next_token = last.map(|last| self.page_token(LIST, "", &last.number.to_string()));
        let wire = |told: Told| QueryInfo {
            query_language: Some(LANGUAGE.to_owned()),
            query_id: Some(told.id),
            query_string: Some(told.text),
            status: Some(told.status.as_str().to_owned()),
            create_time: Some(told.created_ms),
            log_group_name: told.groups.into_iter().next(),
            query_duration: told.took_ms.map(|took| took as i64),
            bytes_scanned: Some(told.results.bytes_scanned as f64),
            user_identity: None,
        };
        Ok(DescribeQueriesResponse {
            queries: Some(found.into_iter().map(wire).collect()),
            next_token,
        })
    }
}

/// Reads a query; `limit` bounds its rows as well as its own.
fn parse(text: &str, limit: Option<i32>) -> Result<Query, ApiError> {
    let read = |text: &str| Query::parse(text);
    let query = read(text)
        .map_err(|error| ApiError::malformed_query(format!("{error} (Service: AWSLogs)")))?;
    let Some(limit) = limit.filter(|limit| limit.unsigned_abs() as usize <= LIMIT_MAX) else {
        return Ok(query);
    };
    // On a line of its own, so that a comment ends before it.
    let limited = format!("{text}\n| limit {limit}");
    Ok(read(&limited).unwrap_or(query))
}

fn statistics(told: &Told) -> QueryStatistics {
    let results = &told.results;
    QueryStatistics {
        records_matched: Some(results.records_matched as f64),
        records_scanned: Some(results.records_scanned as f64),
        estimated_records_skipped: Some(0.0),
        bytes_scanned: Some(results.bytes_scanned as f64),
        estimated_bytes_skipped: Some(0.0),
        log_groups_scanned: Some(told.groups.len() as f64),
    }
}

/// The first millisecond of a time.
fn millis(time: i64) -> i64 {
    match time > SECONDS_MAX {
        true => time,
        false => time * 1000,
    }
}

/// The first millisecond after a time, if there is one.
fn after(time: i64) -> Option<i64> {
    match time > SECONDS_MAX {
        true => time.checked_add(1),
        false => Some((time + 1) * 1000),
    }
}

fn no_query() -> ApiError {
    ApiError::resource_not_found("The specified query does not exist, or ended too long ago.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_unless_they_cannot_be() {
        assert_eq!((millis(0), after(0)), (0, Some(1000)));
        assert_eq!(
            (millis(1_800_000_000), after(1_800_000_000)),
            (1_800_000_000_000, Some(1_800_000_001_000))
        );
        let ms = 1_800_000_000_000;
        assert_eq!((millis(ms), after(ms)), (ms, Some(ms + 1)));
        assert_eq!((millis(i64::MAX), after(i64::MAX)), (i64::MAX, None));
    }

    #[test]
    fn a_limit_goes_with_any_query() {
        for text in ["fields @message # all", "stats count(*)", "limit 5"] {
            assert!(parse(text, Some(3)).is_ok(), "{text}");
        }
        let refusal = parse("fields @message | frobnicate", None).unwrap_err();
        assert_eq!(refusal.code(), "MalformedQueryException");
        assert!(
            refusal.message().contains("line 1, column 19"),
            "{}",
            refusal.message()
        );
    }
}
