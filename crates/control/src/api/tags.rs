//! Tags: labels that owners put on everything they make.

use std::{collections::BTreeMap, sync::Arc};

use ekiden_aws::{
    apprunner::shapes::{
        ListTagsForResourceRequest, ListTagsForResourceResponse, Tag, TagResourceRequest,
        TagResourceResponse, UntagResourceRequest, UntagResourceResponse,
    },
    arn::{self, Arn},
    error::ApiError,
};
use ekiden_engine::Engine;
use ekiden_model::service::ServiceStatus;
use ekiden_store::resources::{Resource, Which};

use super::{
    Api, Caller,
    auto_scaling::AutoScaling,
    connections::Connection,
    observability::Observability,
    resources::{ApiKind, invalid_arn, not_found},
    store_error,
    vpc_connectors::VpcConnector,
};
use crate::{ingress::VpcIngress, services::ChangeError, worker::Snapshot};

/// Tags of one resource: AWS's bound.
const TAGS_MAX: usize = 50;

/// AWS keeps keys that begin so for itself.
const RESERVED_PREFIX: &str = "aws:";

/// Keys and values, sorted by key, as they are stored.
pub(super) type Tags = Vec<(String, String)>;

/// What a request is about.
enum Tagged {
    Service(Arc<Snapshot>),
    AutoScaling(Resource<AutoScaling>),
    Observability(Resource<Observability>),
    Connection(Resource<Connection>),
    VpcConnector(Resource<VpcConnector>),
    VpcIngress(Resource<VpcIngress>),
}

/// A change of tags that may refuse.
type Change = Box<dyn FnOnce(&mut Tags) -> Result<(), ApiError> + Send>;

/// The tags of something new.
///
/// # Errors
/// `InvalidRequestException`: too many, one key twice, or a key that AWS keeps.
pub(super) fn new(given: Option<Vec<Tag>>) -> Result<Tags, ApiError> {
    let mut tags = BTreeMap::new();
    for tag in given.unwrap_or_default() {
        let key = tag.key.unwrap_or_default();
        if key.is_empty() {
            return Err(ApiError::invalid_request("A tag must have a key."));
        }
        if key.starts_with(RESERVED_PREFIX) {
            return Err(ApiError::invalid_request(format!(
                "Tag key '{key}' cannot be used: keys that begin with `{RESERVED_PREFIX}` are \
                 reserved."
            )));
        }
        if tags
            .insert(key.clone(), tag.value.unwrap_or_default())
            .is_some()
        {
            return Err(ApiError::invalid_request(format!(
                "Tag key '{key}' is given more than once."
            )));
        }
    }
    check_number(tags.len())?;
    Ok(tags.into_iter().collect())
}

impl<E: Engine> Api<E> {
    pub(super) async fn tag_resource(
        &self,
        caller: &Caller,
        request: TagResourceRequest,
    ) -> Result<TagResourceResponse, ApiError> {
        let text = request.resource_arn.unwrap_or_default();
        let tagged = self.tagged(caller, &text).await?;
        let given = new(request.tags)?;
        let change = move |tags: &mut Tags| {
            let mut all: BTreeMap<String, String> = tags.drain(..).collect();
            all.extend(given);
            check_number(all.len())?;
            tags.extend(all);
            Ok(())
        };
        self.change_tags(caller, &text, tagged, Box::new(change))
            .await?;
        Ok(TagResourceResponse {})
    }

    pub(super) async fn untag_resource(
        &self,
        caller: &Caller,
        request: UntagResourceRequest,
    ) -> Result<UntagResourceResponse, ApiError> {
        let text = request.resource_arn.unwrap_or_default();
        let tagged = self.tagged(caller, &text).await?;
        let keys = request.tag_keys.unwrap_or_default();
        let change = move |tags: &mut Tags| {
            tags.retain(|(key, _)| !keys.contains(key));
            Ok(())
        };
        self.change_tags(caller, &text, tagged, Box::new(change))
            .await?;
        Ok(UntagResourceResponse {})
    }

    pub(super) async fn list_tags_for_resource(
        &self,
        caller: &Caller,
        request: ListTagsForResourceRequest,
    ) -> Result<ListTagsForResourceResponse, ApiError> {
        let text = request.resource_arn.unwrap_or_default();
        let tags = match self.tagged(caller, &text).await? {
            Tagged::Service(snapshot) => snapshot.stored.tags.clone(),
            Tagged::AutoScaling(resource) => resource.tags,
            Tagged::Observability(resource) => resource.tags,
            Tagged::Connection(resource) => resource.tags,
            Tagged::VpcConnector(resource) => resource.tags,
            Tagged::VpcIngress(resource) => resource.tags,
        };
        let wire = tags.into_iter().map(|(key, value)| Tag {
            key: Some(key),
            value: Some(value),
        });
        Ok(ListTagsForResourceResponse {
            tags: Some(wire.collect()),
        })
    }

    /// Finds what an ARN names. It must be whole: tags are on one revision.
    async fn tagged(&self, caller: &Caller, text: &str) -> Result<Tagged, ApiError> {
        let arn: Arn = text.parse().map_err(|_| invalid_arn("resource", text))?;
        Ok(match &arn.resource {
            arn::Resource::Service(_) => {
                let snapshot = self.find(caller, Some(text))?;
                if snapshot.stored.service.settled == ServiceStatus::Deleted {
                    return Err(deleted("service"));
                }
                Tagged::Service(snapshot)
            }
            arn::Resource::AutoScalingConfiguration(_) => {
                Tagged::AutoScaling(self.tagged_resource(caller, &arn, text).await?)
            }
            arn::Resource::ObservabilityConfiguration(_) => {
                Tagged::Observability(self.tagged_resource(caller, &arn, text).await?)
            }
            arn::Resource::Connection(_) => {
                Tagged::Connection(self.tagged_resource(caller, &arn, text).await?)
            }
            arn::Resource::VpcConnector(_) => {
                Tagged::VpcConnector(self.tagged_resource(caller, &arn, text).await?)
            }
            arn::Resource::VpcIngressConnection(_) => {
                Tagged::VpcIngress(self.tagged_resource(caller, &arn, text).await?)
            }
        })
    }

    async fn tagged_resource<K: ApiKind>(
        &self,
        caller: &Caller,
        arn: &Arn,
        text: &str,
    ) -> Result<Resource<K>, ApiError> {
        if !matches!(K::named(&arn.resource), Some(Which::Id(_))) {
            return Err(invalid_arn(K::NOUN, text));
        }
        let found: Resource<K> = self.look_up(caller, Some(text)).await?;
        match found.deleted_at {
            None => Ok(found),
            Some(_) => Err(deleted(K::NOUN)),
        }
    }

    async fn change_tags(
        &self,
        caller: &Caller,
        text: &str,
        tagged: Tagged,
        change: Change,
    ) -> Result<(), ApiError> {
        match tagged {
            Tagged::Service(snapshot) => self.change_service_tags(&snapshot, text, change).await,
            Tagged::AutoScaling(resource) => {
                self.change_resource_tags(caller, text, &resource, change)
                    .await
            }
            Tagged::Observability(resource) => {
                self.change_resource_tags(caller, text, &resource, change)
                    .await
            }
            Tagged::Connection(resource) => {
                self.change_resource_tags(caller, text, &resource, change)
                    .await
            }
            Tagged::VpcConnector(resource) => {
                self.change_resource_tags(caller, text, &resource, change)
                    .await
            }
            Tagged::VpcIngress(resource) => {
                self.change_resource_tags(caller, text, &resource, change)
                    .await
            }
        }
    }

    async fn change_service_tags(
        &self,
        snapshot: &Snapshot,
        text: &str,
        change: Change,
    ) -> Result<(), ApiError> {
        let changed = self
            .services
            .change(snapshot.stored.service.id, move |stored| {
                change(&mut stored.tags)
            })
            .await;
        match changed {
            Ok(_) => Ok(()),
            Err(ChangeError::Refused(error)) => Err(error),
            // It was there a moment ago: it has just been deleted.
            Err(ChangeError::Unknown) => Err(not_found("service", text)),
            Err(ChangeError::Busy) => Err(ApiError::throttling(
                "Too many requests wait for this service. Try again.",
            )),
            Err(ChangeError::Store(error)) => Err(store_error(&error)),
        }
    }

    async fn change_resource_tags<K: ApiKind>(
        &self,
        caller: &Caller,
        text: &str,
        resource: &Resource<K>,
        change: Change,
    ) -> Result<(), ApiError> {
        let change = |resource: &mut Resource<K>| match resource.deleted_at {
            None => change(&mut resource.tags),
            Some(_) => Err(deleted(K::NOUN)),
        };
        self.store
            .change_resource(&caller.region, resource.id, change)
            .await
            .map_err(|error| Self::change_error(K::NOUN, text, error))?;
        Ok(())
    }
}

fn check_number(count: usize) -> Result<(), ApiError> {
    match count <= TAGS_MAX {
        true => Ok(()),
        false => Err(ApiError::invalid_request(format!(
            "A resource can have at most {TAGS_MAX} tags."
        ))),
    }
}

fn deleted(noun: &str) -> ApiError {
    ApiError::invalid_state(format!("The {noun} has been deleted and has no tags."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: Option<&str>) -> Tag {
        Tag {
            key: Some(key.into()),
            value: value.map(str::to_owned),
        }
    }

    #[test]
    fn tags_are_sorted_and_a_missing_value_is_empty() {
        let tags = new(Some(vec![tag("b", Some("2")), tag("a", None)])).unwrap();
        assert_eq!(tags, [("a".into(), "".into()), ("b".into(), "2".into())]);
        assert_eq!(new(None).unwrap(), []);
    }

    #[test]
    fn too_many_doubled_and_reserved_keys_are_refused() {
        let many = |count: usize| (0..count).map(|n| tag(&n.to_string(), None)).collect();
        assert!(new(Some(many(50))).is_ok());
        for given in [
            many(51),
            vec![tag("a", Some("1")), tag("a", Some("2"))],
            vec![tag("aws:a", None)],
            vec![tag("", None)],
        ] {
            let error = new(Some(given)).unwrap_err();
            assert_eq!(error.code(), "InvalidRequestException");
        }
    }
}
