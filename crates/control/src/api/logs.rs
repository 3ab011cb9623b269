//! CloudWatch Logs' operations on the log store.
//!
//! Groups are the same in all regions, as there is one store; ARNs have the region of whoever asks.

mod get_logs;
mod groups;
mod put;
mod queries;
mod read;
mod running;
mod streams;
mod tags;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ekiden_aws::{
    error::ApiError,
    logs::shapes::{Operation, StartLiveTailRequest},
    nothing::Nothing,
};
use ekiden_engine::Engine;
use ekiden_logs::{
    cursor::Cursor,
    error::LogError,
    event::{Event, EventRef},
    pattern::Pattern,
    query::{Filter, Page, Query},
    store::{LogStore, TAGS_MAX},
};
use tracing::warn;

pub(super) use self::{put::LargeBodies, running::Queries};
use super::{Answer, Api, Call, Caller, operation::log_group_named};
use crate::{logs::blocking, worker::Chain};

/// The most events of a page, and how many there are when a request does not say: CloudWatch's.
const PAGE_EVENTS_MAX: usize = 10_000;

/// Bytes of text in a page, unless its only event has more: CloudWatch's.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// How long one request looks for events before it answers with what it has and where to go on.
const LOOK_MAX: Duration = Duration::from_secs(3);

impl<E: Engine> Api<E> {
    /// CloudWatch Logs' requests to their handlers.
    pub(super) async fn logs(
        &self,
        caller: &Caller,
        operation: Operation,
        call: Call<'_>,
    ) -> Answer {
        use Operation as O;
        let answer = match operation {
            O::AssociateKmsKey => call.run(|r| self.associate_kms_key(r)).await,
            O::CreateLogGroup => call.run(|r| self.create_log_group(r)).await,
            O::CreateLogStream => call.run(|r| self.create_log_stream(r)).await,
            O::DeleteLogGroup => call.run(|r| self.delete_log_group(r)).await,
            O::DeleteLogStream => call.run(|r| self.delete_log_stream(r)).await,
            O::DeleteRetentionPolicy => call.run(|r| self.delete_retention_policy(r)).await,
            O::DescribeLogGroups => call.run(|r| self.describe_log_groups(caller, r)).await,
            O::DescribeLogStreams => call.run(|r| self.describe_log_streams(caller, r)).await,
            O::DescribeQueries => call.run(|r| self.describe_queries(r)).await,
            O::DescribeSubscriptionFilters => {
                call.run(|r| self.describe_subscription_filters(r)).await
            }
            O::DisassociateKmsKey => call.run(|r| self.disassociate_kms_key(r)).await,
            O::FilterLogEvents => call.run(|r| self.filter_log_events(r)).await,
            O::GetLogEvents => call.run(|r| self.get_log_events(r)).await,
            O::GetQueryResults => call.run(|r| self.get_query_results(r)).await,
            O::ListLogGroups => call.run(|r| self.list_log_groups(caller, r)).await,
            O::ListTagsForResource => call.run(|r| self.list_tags_of_log_resource(r)).await,
            O::ListTagsLogGroup => call.run(|r| self.list_tags_log_group(r)).await,
            O::PutLogEvents => call.run(|r| self.put_log_events(r)).await,
            O::PutRetentionPolicy => call.run(|r| self.put_retention_policy(r)).await,
            O::StartLiveTail => call.run(start_live_tail).await,
            O::StartQuery => call.run(|r| self.start_query(r)).await,
            O::StopQuery => call.run(|r| self.stop_query(r)).await,
            O::TagLogGroup => call.run(|r| self.tag_log_group(r)).await,
            O::TagResource => call.run(|r| self.tag_log_resource(r)).await,
            O::TestMetricFilter => call.run(read::test_metric_filter).await,
            O::UntagLogGroup => call.run(|r| self.untag_log_group(r)).await,
            O::UntagResource => call.run(|r| self.untag_log_resource(r)).await,
        };
        answer.map_err(|error| error.internal_as(ApiError::logs_unavailable))
    }

    /// Works on the store where that may block.
    async fn log_work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&LogStore) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, ApiError> {
        blocking(&self.log_store, work)
            .await
            .map_err(|error| log_error(&error))
    }

    /// The group that a name or an ARN stands for; one of another account is not here.
    fn group_named(&self, text: &str) -> Result<String, ApiError> {
        let account = text.strip_prefix("arn:").and_then(|arn| {
            let mut parts = arn.split(':');
            parts.nth(3)
        });
        match account {
            Some(account) if account != self.config.account_id => Err(no_group()),
            _ => Ok(log_group_named(text).to_owned()),
        }
    }

    /// The group of a request that names it in one of two members.
    fn group_of(&self, name: Option<&str>, identifier: Option<&str>) -> Result<String, ApiError> {
        match (name, identifier) {
            (Some(name), None) => Ok(name.to_owned()),
            (None, Some(identifier)) => self.group_named(identifier),
            (None, None) => Err(ApiError::invalid_parameter(
                "Either logGroupName or logGroupIdentifier must be given.",
            )),
            (Some(_), Some(_)) => Err(ApiError::invalid_parameter(
                "logGroupName and logGroupIdentifier cannot both be given; leave one out.",
            )),
        }
    }

    fn log_group_arn(&self, caller: &Caller, group: &str) -> String {
        format!(
            "arn:aws:logs:{}:{}:log-group:{group}",
            caller.region, self.config.account_id
        )
    }

    /// Where a page token of `list` leads.
    fn log_place(&self, list: &str, token: &str) -> Result<String, ApiError> {
        self.page_place(list, "", token)
            .ok_or_else(|| ApiError::invalid_parameter("The specified nextToken is invalid."))
    }

    /// The event at which a page token of `list` leads on.
    fn log_cursor(&self, list: &str, token: &str) -> Result<Cursor, ApiError> {
        let place = self.log_place(list, token)?;
        place
            .parse()
            .map_err(|_| ApiError::invalid_parameter("The specified nextToken is invalid."))
    }
}

/// An event stream, which this endpoint does not send. Whoever asks is told what does the same.
async fn start_live_tail(_request: StartLiveTailRequest) -> Result<Nothing, ApiError> {
    Err(ApiError::invalid_operation(
        "StartLiveTail is not served here: it needs an event stream. Follow the group with \
         FilterLogEvents instead, as `aws logs tail --follow` does.",
    ))
}

/// What a client is told when the store refused or failed; of a failure the log has the rest.
fn log_error(error: &LogError) -> ApiError {
    match error {
        LogError::GroupExists { .. } => {
            ApiError::resource_already_exists("The specified log group already exists")
        }
        LogError::NoGroup { .. } => no_group(),
        LogError::StreamExists { .. } => {
            ApiError::resource_already_exists("The specified log stream already exists")
        }
        LogError::NoStream { .. } => {
            ApiError::resource_not_found("The specified log stream does not exist.")
        }
        LogError::TooManyGroups { .. } | LogError::TooManyStreams { .. } => {
            ApiError::limit_exceeded(format!("Resource limit exceeded: {error}."))
        }
        LogError::TooLong { .. } | LogError::Invalid { .. } => {
            ApiError::invalid_parameter(format!("{error}."))
        }
        LogError::DiskFull => ApiError::logs_unavailable(format!("{error}.")),
        LogError::Busy => ApiError::throttling(format!("{error}.")),
        LogError::Io { .. } => {
            warn!(error = %Chain(error), "the log store failed");
            ApiError::internal_service_error(error.to_string())
        }
    }
}

fn no_group() -> ApiError {
    ApiError::resource_not_found("The specified log group does not exist.")
}

fn pattern(text: Option<&str>) -> Result<Pattern, ApiError> {
    Pattern::parse(text.unwrap_or_default())
        .map_err(|error| ApiError::invalid_parameter(format!("Invalid filter pattern: {error}.")))
}

/// Looks for a page until there is an event, nothing more to look at, or [`LOOK_MAX`] over; then
/// `next` says where to go on.
fn look(store: &LogStore, mut query: Query, pattern: &Pattern) -> Result<Page, LogError> {
    let began = Instant::now();
    let matches = |event: &EventRef<'_>| pattern.matches(event.text);
    let filter = match pattern.matches_everything() {
        true => Filter::all(),
        false => Filter {
            literal: pattern.required_literal(),
            matches: &matches,
        },
    };
    loop {
        let page = store.query(&query, &filter)?;
        if page.next.is_none() || !page.events.is_empty() || began.elapsed() > LOOK_MAX {
            return Ok(page);
        }
        query.after = page.next;
    }
}

/// The text of an event, as JSON can have it.
fn text(event: &Event) -> String {
    String::from_utf8_lossy(&event.text).into_owned()
}

/// CloudWatch's own tags are nobody else's, and a group has at most so many.
fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), ApiError> {
    if let Some(key) = tags.keys().find(|key| is_reserved(key)) {
        return Err(ApiError::invalid_parameter(format!(
            "The tag key `{key}` begins with `aws:`, which is reserved. Choose another."
        )));
    }
    match tags.len() > TAGS_MAX {
        true => Err(ApiError::invalid_parameter(format!(
            "A log group has up to {TAGS_MAX} tags; give fewer."
        ))),
        false => Ok(()),
    }
}

fn is_reserved(key: &str) -> bool {
    key.get(..4)
        .is_some_and(|begin| begin.eq_ignore_ascii_case("aws:"))
}
