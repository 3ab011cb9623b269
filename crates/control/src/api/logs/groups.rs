//! Log groups: making, listing, retention, keys.

use ekiden_aws::{
    error::ApiError,
    logs::shapes::{
        AssociateKmsKeyRequest, CreateLogGroupRequest, DeleteLogGroupRequest,
        DeleteRetentionPolicyRequest, DescribeLogGroupsRequest, DescribeLogGroupsResponse,
        DescribeSubscriptionFiltersRequest, DescribeSubscriptionFiltersResponse,
        DisassociateKmsKeyRequest, ListLogGroupsRequest, ListLogGroupsResponse, LogGroup,
        LogGroupSummary, PutRetentionPolicyRequest,
    },
    nothing::Nothing,
};
use ekiden_engine::Engine;
use ekiden_logs::{
    error::LogError,
    group_info::{GroupClass, GroupInfo, GroupsQuery, Names, NewGroup},
    store::{GROUPS_MAX, LogStore},
};

use super::{super::Caller, Api, check_tags, no_group};
use crate::logs::now_ms;

/// Groups of a page when a request does not say: CloudWatch's.
const PAGE_GROUPS: usize = 50;

/// What logs may be kept for, in days: CloudWatch's.
const RETENTION_DAYS: [i32; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
];

/// The list that page tokens of groups are of.
const LIST: &str = "log groups";

impl<E: Engine> Api<E> {
    pub(super) async fn create_log_group(
        &self,
        request: CreateLogGroupRequest,
    ) -> Result<Nothing, ApiError> {
        let tags = request.tags.unwrap_or_default();
        check_tags(&tags)?;
        if request.deletion_protection_enabled == Some(true) {
            return Err(ApiError::invalid_parameter(
                "deletionProtectionEnabled is not available here; leave it out.",
            ));
        }
        let new = NewGroup {
            name: request.log_group_name.unwrap_or_default(),
            created_ms: now_ms(),
            retention_days: None,
            tags,
            kms_key_id: request.kms_key_id.filter(|key| !key.is_empty()),
            class: class(request.log_group_class.as_deref()).unwrap_or_default(),
        };
        self.log_work(move |store| store.create_group(&new)).await?;
        Ok(Nothing {})
    }

    pub(super) async fn delete_log_group(
        &self,
        request: DeleteLogGroupRequest,
    ) -> Result<Nothing, ApiError> {
        let group = request.log_group_name.unwrap_or_default();
        self.log_work(move |store| store.delete_group(&group))
            .await?;
        Ok(Nothing {})
    }

    pub(super) async fn describe_log_groups(
        &self,
        caller: &Caller,
        request: DescribeLogGroupsRequest,
    ) -> Result<DescribeLogGroupsResponse, ApiError> {
        let names = match (
            request.log_group_name_prefix,
            request.log_group_name_pattern,
        ) {
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid_parameter(
                    "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
                ));
            }
            (Some(prefix), None) => Names::Prefix(prefix),
            (None, Some(part)) if !part.is_empty() => Names::Contains(part),
            (None, _) => Names::All,
        };
        let wanted = request.log_group_identifiers.map(|identifiers| {
            let named = |text: &String| self.group_named(text).ok();
            identifiers.iter().filter_map(named).collect::<Vec<_>>()
        });
        let wanted_class = class(request.log_group_class.as_deref());
        let ours = self.is_of_ours(request.account_identifiers.as_deref());
        let fits = move |info: &GroupInfo| {
            ours && wanted
                .as_ref()
                .is_none_or(|names| names.contains(&info.name))
                && wanted_class.is_none_or(|class| class == info.class)
        };
        let most = request.limit.map(|limit| limit.unsigned_abs() as usize);
        let token = request.next_token.as_deref();
        let (found, next_token) = self.groups(names, fits, most, token).await?;
        let wire = |info: GroupInfo| {
            let arn = self.log_group_arn(caller, &info.name);
            LogGroup {
                creation_time: Some(info.created_ms),
                retention_in_days: info.retention_days.map(|days| days as i32),
                metric_filter_count: Some(0),
                arn: Some(format!("{arn}:*")),
                log_group_arn: Some(arn),
                stored_bytes: Some(info.stored_bytes as i64),
                kms_key_id: info.kms_key_id,
                log_group_class: Some(class_name(info.class).to_owned()),
                deletion_protection_enabled: Some(false),
                log_group_name: Some(info.name),
                ..LogGroup::default()
            }
        };
        Ok(DescribeLogGroupsResponse {
            log_groups: Some(found.into_iter().map(wire).collect()),
            next_token,
        })
    }

    pub(super) async fn list_log_groups(
        &self,
        caller: &Caller,
        request: ListLogGroupsRequest,
    ) -> Result<ListLogGroupsResponse, ApiError> {
        let patterns = request.log_group_name_pattern.unwrap_or_default();
        let wanted_class = class(request.log_group_class.as_deref());
        let tags = request.log_group_tags.unwrap_or_default();
        // Nothing here is from a data source, and no field is indexed.
        let none = request.data_sources.is_some() || request.field_index_names.is_some();
        let ours = self.is_of_ours(request.account_identifiers.as_deref());
        let fits = move |info: &GroupInfo| {
            ours && !none
                && is_like(&patterns, &info.name)
                && wanted_class.is_none_or(|class| class == info.class)
                && tags.iter().all(|tag| {
                    let value = info.tags.get(tag.key.as_deref().unwrap_or_default());
                    let values = tag.values.as_deref().unwrap_or_default();
                    value.is_some_and(|value| values.is_empty() || values.contains(value))
                })
        };
        let most = request.limit.map(|limit| limit.unsigned_abs() as usize);
        let token = request.next_token.as_deref();
        let (found, next_token) = self.groups(Names::All, fits, most, token).await?;
        let wire = |info: GroupInfo| LogGroupSummary {
            log_group_arn: Some(self.log_group_arn(caller, &info.name)),
            log_group_class: Some(class_name(info.class).to_owned()),
            log_group_name: Some(info.name),
        };
        Ok(ListLogGroupsResponse {
            log_groups: Some(found.into_iter().map(wire).collect()),
            next_token,
        })
    }

    /// A page of groups, and the token of the next one.
    async fn groups(
        &self,
        names: Names,
        fits: impl Fn(&GroupInfo) -> bool + Send + 'static,
        most: Option<usize>,
        token: Option<&str>,
    ) -> Result<(Vec<GroupInfo>, Option<String>), ApiError> {
        let most = most.unwrap_or(PAGE_GROUPS).max(1);
        let after = token.map(|token| self.log_place(LIST, token)).transpose()?;
        let mut found = self
            .log_work(move |store| Ok(some_groups(store, names, after, fits, most + 1)))
            .await?;
        let more = found.len() > most;
        found.truncate(most);
        let last = found.last().filter(|_| more);
        let next = last.map(|last| self.page_token(LIST, "", &last.name));
        Ok((found, next))
    }

    /// Whether a request that may name accounts wants this one's groups.
    fn is_of_ours(&self, accounts: Option<&[String]>) -> bool {
        accounts.is_none_or(|accounts| accounts.contains(&self.config.account_id))
    }

    pub(super) async fn put_retention_policy(
        &self,
        request: PutRetentionPolicyRequest,
    ) -> Result<Nothing, ApiError> {
        let days = request.retention_in_days.unwrap_or_default();
        if !RETENTION_DAYS.contains(&days) {
            let all: Vec<_> = RETENTION_DAYS.iter().map(i32::to_string).collect();
            return Err(ApiError::invalid_parameter(format!(
                "1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy \
                 constraint: Member must satisfy enum value set: [{}]",
                all.join(", ")
            )));
        }
        let group = request.log_group_name.unwrap_or_default();
        self.log_work(move |store| store.put_retention(&group, days.unsigned_abs()))
            .await?;
        Ok(Nothing {})
    }

    pub(super) async fn delete_retention_policy(
        &self,
        request: DeleteRetentionPolicyRequest,
    ) -> Result<Nothing, ApiError> {
        let group = request.log_group_name.unwrap_or_default();
        self.log_work(move |store| store.delete_retention(&group))
            .await?;
        Ok(Nothing {})
    }

    /// The key is kept and told; the store encrypts nothing.
    pub(super) async fn associate_kms_key(
        &self,
        request: AssociateKmsKeyRequest,
    ) -> Result<Nothing, ApiError> {
        let group = self.key_group(request.log_group_name, request.resource_identifier)?;
        let key = request.kms_key_id.unwrap_or_default();
        self.log_work(move |store| store.set_kms_key(&group, Some(&key)))
            .await?;
        Ok(Nothing {})
    }

    pub(super) async fn disassociate_kms_key(
        &self,
        request: DisassociateKmsKeyRequest,
    ) -> Result<Nothing, ApiError> {
        let group = self.key_group(request.log_group_name, request.resource_identifier)?;
        self.log_work(move |store| store.set_kms_key(&group, None))
            .await?;
        Ok(Nothing {})
    }

    fn key_group(
        &self,
        name: Option<String>,
        identifier: Option<String>,
    ) -> Result<String, ApiError> {
        if name.is_some() == identifier.is_some() {
            return Err(ApiError::invalid_parameter(
                "Give one of logGroupName and resourceIdentifier.",
            ));
        }
        self.group_named(&name.or(identifier).unwrap_or_default())
    }

    /// There are none: what leaves the machine is said by drains.
    pub(super) async fn describe_subscription_filters(
        &self,
        request: DescribeSubscriptionFiltersRequest,
    ) -> Result<DescribeSubscriptionFiltersResponse, ApiError> {
        let group = request.log_group_name.unwrap_or_default();
        self.log_work(move |store| store.group(&group)).await?;
        Ok(DescribeSubscriptionFiltersResponse {
            subscription_filters: Some(Vec::new()),
            next_token: None,
        })
    }

    /// Refuses groups that are not there.
    pub(super) async fn check_groups(&self, groups: Vec<String>) -> Result<(), ApiError> {
        let checked = self.log_work(move |store| {
            Ok(groups
                .iter()
                .all(|group| !matches!(store.group(group), Err(LogError::NoGroup { .. }))))
        });
        match checked.await? {
            true => Ok(()),
            false => Err(no_group()),
        }
    }
}

/// Up to `most` groups in the order of their names.
fn some_groups(
    store: &LogStore,
    names: Names,
    after: Option<String>,
    fits: impl Fn(&GroupInfo) -> bool,
    most: usize,
) -> Vec<GroupInfo> {
    let query = GroupsQuery {
        names,
        after,
        limit: GROUPS_MAX,
    };
    let listed = store.groups(&query).items.into_iter();
    listed.filter(fits).take(most).collect()
}

/// Whether a name is as `ListLogGroups` wants it: parts joined by `|`, each of them somewhere in the
/// name, or after `^` at its beginning.
fn is_like(patterns: &str, name: &str) -> bool {
    patterns
        .split('|')
        .any(|pattern| match pattern.strip_prefix('^') {
            Some(prefix) => name.starts_with(prefix),
            None => name.contains(pattern),
        })
}

fn class(name: Option<&str>) -> Option<GroupClass> {
    match name? {
        "INFREQUENT_ACCESS" => Some(GroupClass::InfrequentAccess),
        "DELIVERY" => Some(GroupClass::Delivery),
        _ => Some(GroupClass::Standard), // the model allows no other
    }
}

const fn class_name(class: GroupClass) -> &'static str {
    match class {
        GroupClass::Standard => "STANDARD",
        GroupClass::InfrequentAccess => "INFREQUENT_ACCESS",
        GroupClass::Delivery => "DELIVERY",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_like_one_of_several_patterns() {
        for (patterns, name, want) in [
            ("", "web", true),
            ("^/aws|work", "/aws/x", true),
            ("^/aws|work", "/my/aws/x", false),
            ("^/aws|work", "/network", true),
            ("Net", "/network", false),
        ] {
            assert_eq!(is_like(patterns, name), want, "{patterns} {name}");
        }
    }
}
