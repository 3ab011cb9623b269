//! Tags of log groups, by the old operations and the new ones.

use std::collections::BTreeMap;

use ekiden_aws::{
    error::ApiError,
    logs::shapes::{
        ListTagsForResourceRequest, ListTagsForResourceResponse, ListTagsLogGroupRequest,
        ListTagsLogGroupResponse, TagLogGroupRequest, TagResourceRequest, UntagLogGroupRequest,
        UntagResourceRequest,
    },
    nothing::Nothing,
};
use ekiden_engine::Engine;
use ekiden_logs::store::TAGS_MAX;

use super::{Api, check_tags};

impl<E: Engine> Api<E> {
    pub(super) async fn tag_log_group(
        &self,
        request: TagLogGroupRequest,
    ) -> Result<Nothing, ApiError> {
        let group = request.log_group_name.unwrap_or_default();
        self.set_log_tags(group, request.tags.unwrap_or_default())
            .await
    }

    pub(super) async fn tag_log_resource(
        &self,
        request: TagResourceRequest,
    ) -> Result<Nothing, ApiError> {
        let group = self.tagged_group(request.resource_arn.as_deref())?;
        self.set_log_tags(group, request.tags.unwrap_or_default())
            .await
    }

    pub(super) async fn untag_log_group(
        &self,
        request: UntagLogGroupRequest,
    ) -> Result<Nothing, ApiError> {
        let group = request.log_group_name.unwrap_or_default();
        self.remove_log_tags(group, request.tags.unwrap_or_default())
            .await
    }

    pub(super) async fn untag_log_resource(
        &self,
        request: UntagResourceRequest,
    ) -> Result<Nothing, ApiError> {
        let group = self.tagged_group(request.resource_arn.as_deref())?;
        self.remove_log_tags(group, request.tag_keys.unwrap_or_default())
            .await
    }

    pub(super) async fn list_tags_log_group(
        &self,
        request: ListTagsLogGroupRequest,
    ) -> Result<ListTagsLogGroupResponse, ApiError> {
        let group = request.log_group_name.unwrap_or_default();
        let tags = self.log_work(move |store| store.tags(&group)).await?;
        Ok(ListTagsLogGroupResponse { tags: Some(tags) })
    }

    pub(super) async fn list_tags_of_log_resource(
        &self,
        request: ListTagsForResourceRequest,
    ) -> Result<ListTagsForResourceResponse, ApiError> {
        let group = self.tagged_group(request.resource_arn.as_deref())?;
        let tags = self.log_work(move |store| store.tags(&group)).await?;
        Ok(ListTagsForResourceResponse { tags: Some(tags) })
    }

    /// The group whose ARN this is; nothing else here has tags.
    fn tagged_group(&self, arn: Option<&str>) -> Result<String, ApiError> {
        let arn = arn.unwrap_or_default();
        if !arn.starts_with("arn:") {
            return Err(ApiError::invalid_parameter(
                "resourceArn must be the ARN of a log group.",
            ));
        }
        self.group_named(arn)
    }

    async fn set_log_tags(
        &self,
        group: String,
        tags: BTreeMap<String, String>,
    ) -> Result<Nothing, ApiError> {
        check_tags(&tags)?;
        let set = self.log_work(move |store| {
            let mut all = store.tags(&group)?;
            all.extend(tags.clone());
            match all.len() > TAGS_MAX {
                true => Ok(false),
                false => store.set_tags(&group, &tags).map(|()| true),
            }
        });
        match set.await? {
            true => Ok(Nothing {}),
            false => Err(ApiError::too_many_labels(format!(
                "A log group has up to {TAGS_MAX} tags; remove some first."
            ))),
        }
    }

    async fn remove_log_tags(&self, group: String, keys: Vec<String>) -> Result<Nothing, ApiError> {
        self.log_work(move |store| store.remove_tags(&group, &keys))
            .await?;
        Ok(Nothing {})
    }
}
