//! The labels of alarms.

use std::collections::BTreeMap;

use ekiden_aws::{
    cloudwatch::shapes::{
        ListTagsForResourceInput, ListTagsForResourceOutput, Tag, TagResourceInput,
        TagResourceOutput, UntagResourceInput, UntagResourceOutput,
    },
    error::ApiError,
};
use ekiden_engine::Engine;

use super::{Api, Caller};
use crate::api::store_error;

/// Labels of an alarm: CloudWatch's.
const ALARM_TAGS_MAX: usize = 50;

/// AWS keeps keys that begin so for itself.
const RESERVED_PREFIX: &str = "aws:";

impl<E: Engine> Api<E> {
    pub(super) async fn list_tags_of_alarm(
        &self,
        caller: &Caller,
        request: ListTagsForResourceInput,
    ) -> Result<ListTagsForResourceOutput, ApiError> {
        let arn = request.resource_arn.unwrap_or_default();
        let unknown = || self.no_such_tagged(&arn);
        let name = self.alarm_named(caller, &arn).ok_or_else(unknown)?;
        let found = self.store.alarm(&caller.region, name).await;
        let alarm = found.map_err(|error| store_error(&error))?;
        let tags = alarm.ok_or_else(unknown)?.tags;
        let tag = |(key, value)| Tag {
            key: Some(key),
            value: Some(value),
        };
        Ok(ListTagsForResourceOutput {
            tags: Some(tags.into_iter().map(tag).collect()),
        })
    }

    pub(super) async fn tag_alarm(
        &self,
        caller: &Caller,
        request: TagResourceInput,
    ) -> Result<TagResourceOutput, ApiError> {
        let given = request.tags.unwrap_or_default();
        let arn = request.resource_arn.unwrap_or_default();
        self.change_alarm_tags(caller, &arn, |alarm| {
            alarm.tags = with_tags(std::mem::take(&mut alarm.tags), given)?;
            Ok(())
        })
        .await?;
        Ok(TagResourceOutput {})
    }

    pub(super) async fn untag_alarm(
        &self,
        caller: &Caller,
        request: UntagResourceInput,
    ) -> Result<UntagResourceOutput, ApiError> {
        let keys = request.tag_keys.unwrap_or_default();
        let arn = request.resource_arn.unwrap_or_default();
        self.change_alarm_tags(caller, &arn, |alarm| {
            alarm.tags.retain(|key, _| !keys.contains(key));
            Ok(())
        })
        .await?;
        Ok(UntagResourceOutput {})
    }
}

/// Labels with those that are given added or replaced.
pub(super) fn with_tags(
    mut tags: BTreeMap<String, String>,
    given: Vec<Tag>,
) -> Result<BTreeMap<String, String>, ApiError> {
    for tag in given {
        let key = tag.key.unwrap_or_default();
        if key.starts_with(RESERVED_PREFIX) {
            return Err(ApiError::invalid_parameter_value(format!(
                "the tag key `{key}` cannot be used: keys that begin with {RESERVED_PREFIX} are reserved"
            )));
        }
        tags.insert(key, tag.value.unwrap_or_default());
    }
    if tags.len() > ALARM_TAGS_MAX {
        return Err(ApiError::invalid_parameter_value(format!(
            "an alarm may have {ALARM_TAGS_MAX} tags; with these it would have {}",
            tags.len()
        )));
    }
    Ok(tags)
}
