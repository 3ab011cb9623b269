//! Repositories, their settings, policies and labels.

use std::collections::BTreeMap;

use ekiden_aws::{ecr::shapes::*, epoch_seconds::EpochSeconds, error::ApiError};
use ekiden_engine::Engine;
use ekiden_model::{
    lifecycle::Policy,
    repository::{Encryption, Repository as Stored, TagMutability},
};
use ekiden_store::registry::RepositoryChange;

use super::{
    super::{Api, Caller, operation::repository_named, store_error},
    unknown_repository,
};
use crate::clock;

/// Labels of one repository: ECR's.
const LABELS_MAX: usize = 50;

/// Bytes of a policy's document: ECR's.
const POLICY_BYTES_MAX: usize = 10_240;

/// Bytes of a lifecycle policy's document: ECR's.
const LIFECYCLE_BYTES_MAX: usize = 30_720;

impl<E: Engine> Api<E> {
    pub(super) async fn create_repository(
        &self,
        caller: &Caller,
        request: CreateRepositoryRequest,
    ) -> Result<CreateRepositoryResponse, ApiError> {
        self.check_registry(request.registry_id.as_deref())?;
        let name = request.repository_name.unwrap_or_default();
        let mut new = Stored::new(&name, clock::now());
        set_mutability(
            &mut new,
            request.image_tag_mutability.as_deref(),
            request.image_tag_mutability_exclusion_filters,
        )?;
        let scanning = request.image_scanning_configuration;
        new.scan_on_push = scanning.and_then(|scanning| scanning.scan_on_push) == Some(true);
        if let Some(encryption) = request.encryption_configuration {
            new.encryption = Encryption {
                kind: encryption.encryption_type.unwrap_or_default(),
                key: encryption.kms_key,
            };
        }
        new.tags = with_labels(Vec::new(), request.tags)?;
        let quota = self.config.quotas.repositories;
        let account = self.config.account_id.clone();
        let create = |there: Option<Stored>, _, all: u64| match there {
            Some(_) => Err(ApiError::repository_already_exists(format!(
                "The repository with name '{name}' already exists in the registry with id '{account}'"
            ))),
            None if all >= quota => Err(ApiError::limit_exceeded(format!(
                "There are {all} repositories, as many as there may be; delete some or raise \
                 `quota.repositories`."
            ))),
            None => Ok((RepositoryChange::Put(Box::new(new.clone())), new)),
        };
        let changed = self.store.change_repository(&name, create).await;
        let made = changed.map_err(|error| store_error(&error))??;
        Ok(CreateRepositoryResponse {
            repository: Some(self.wire_repository(caller, &made)),
        })
    }

    pub(super) async fn describe_repositories(
        &self,
        caller: &Caller,
        request: DescribeRepositoriesRequest,
    ) -> Result<DescribeRepositoriesResponse, ApiError> {
        self.check_registry(request.registry_id.as_deref())?;
        if let Some(names) = request.repository_names {
            let mut found = Vec::with_capacity(names.len());
            for name in names {
                let repository = self.repository(&name).await?;
                found.push(self.wire_repository(caller, &repository));
            }
            return Ok(DescribeRepositoriesResponse {
                repositories: Some(found),
                next_token: None,
            });
        }
        let (most, after) = self.ecr_page(
            "repositories",
            request.max_results,
            request.next_token.as_deref(),
        )?;
        let listed = self.store.repositories(&after, most as u32 + 1).await;
        let mut listed = listed.map_err(|error| store_error(&error))?;
        let more = listed.len() > most;
        listed.truncate(most);
        let last = listed.last().map(|last| last.name.clone());
        Ok(DescribeRepositoriesResponse {
            next_token: last
                .filter(|_| more)
                .map(|last| self.page_token("repositories", "", &last)),
            repositories: Some(
                listed
                    .iter()
                    .map(|one| self.wire_repository(caller, one))
                    .collect(),
            ),
        })
    }

    pub(super) async fn delete_repository(
        &self,
        caller: &Caller,
        request: DeleteRepositoryRequest,
    ) -> Result<DeleteRepositoryResponse, ApiError> {
        self.check_registry(request.registry_id.as_deref())?;
        let name = request.repository_name.unwrap_or_default();
        let force = request.force == Some(true);
        let account = self.config.account_id.clone();
        let remove = |there: Option<Stored>, images: u64, _| match there {
            None => Err(unknown_repository(&name, &account)),
            Some(_) if images > 0 && !force => Err(ApiError::repository_not_empty(format!(
                "The repository with name '{name}' in registry with id '{account}' cannot be deleted \
                 because it still contains images"
            ))),
            Some(there) => Ok((RepositoryChange::Remove, there)),
        };
        let changed = self.store.change_repository(&name, remove).await;
        let removed = changed.map_err(|error| store_error(&error))??;
        Ok(DeleteRepositoryResponse {
            repository: Some(self.wire_repository(caller, &removed)),
        })
    }

    pub(super) async fn put_image_tag_mutability(
        &self,
        request: PutImageTagMutabilityRequest,
    ) -> Result<PutImageTagMutabilityResponse, ApiError> {
        let mutability = request.image_tag_mutability;
        let filters = request.image_tag_mutability_exclusion_filters;
        let changed = self
            .set(request.registry_id, request.repository_name, |there| {
                set_mutability(there, mutability.as_deref(), filters)
            })
            .await?;
        Ok(PutImageTagMutabilityResponse {
            registry_id: Some(self.config.account_id.clone()),
            image_tag_mutability: Some(wire_mutability(&changed)),
            image_tag_mutability_exclusion_filters: wire_exceptions(&changed),
            repository_name: Some(changed.name),
        })
    }

    pub(super) async fn put_image_scanning_configuration(
        &self,
        request: PutImageScanningConfigurationRequest,
    ) -> Result<PutImageScanningConfigurationResponse, ApiError> {
        let scanning = request.image_scanning_configuration.unwrap_or_default();
        let changed = self
            .set(request.registry_id, request.repository_name, |there| {
                there.scan_on_push = scanning.scan_on_push == Some(true);
                Ok(())
            })
            .await?;
        Ok(PutImageScanningConfigurationResponse {
            registry_id: Some(self.config.account_id.clone()),
            image_scanning_configuration: Some(ImageScanningConfiguration {
                scan_on_push: Some(changed.scan_on_push),
            }),
            repository_name: Some(changed.name),
        })
    }

    pub(super) async fn set_repository_policy(
        &self,
        request: SetRepositoryPolicyRequest,
    ) -> Result<SetRepositoryPolicyResponse, ApiError> {
        let text = request.policy_text.unwrap_or_default();
        let document = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
        if text.len() > POLICY_BYTES_MAX || document.is_err() {
            return Err(ApiError::invalid_parameter(format!(
                "Invalid parameter at 'PolicyText' failed to satisfy constraint: a JSON object of at \
                 most {POLICY_BYTES_MAX} bytes"
            )));
        }
        let policy = text.clone();
        let changed = self
            .set(request.registry_id, request.repository_name, |there| {
                there.policy = Some(policy);
                Ok(())
            })
            .await?;
        Ok(SetRepositoryPolicyResponse {
            registry_id: Some(self.config.account_id.clone()),
            repository_name: Some(changed.name),
            policy_text: Some(text),
        })
    }

    pub(super) async fn get_repository_policy(
        &self,
        request: GetRepositoryPolicyRequest,
    ) -> Result<GetRepositoryPolicyResponse, ApiError> {
        self.check_registry(request.registry_id.as_deref())?;
        let name = request.repository_name.unwrap_or_default();
        let found = self.repository(&name).await?;
        let policy = found.policy.ok_or_else(|| self.no_policy(&name))?;
        Ok(GetRepositoryPolicyResponse {
            registry_id: Some(self.config.account_id.clone()),
            repository_name: Some(name),
            policy_text: Some(policy),
        })
    }

    pub(super) async fn delete_repository_policy(
        &self,
        request: DeleteRepositoryPolicyRequest,
    ) -> Result<DeleteRepositoryPolicyResponse, ApiError> {
        let name = request.repository_name.clone().unwrap_or_default();
        let mut was = None;
        let changed = self
            .set(request.registry_id, request.repository_name, |there| {
                was = there.policy.take();
                match was {
                    Some(_) => Ok(()),
                    None => Err(self.no_policy(&name)),
                }
            })
            .await?;
        Ok(DeleteRepositoryPolicyResponse {
            registry_id: Some(self.config.account_id.clone()),
            repository_name: Some(changed.name),
            policy_text: was,
        })
    }

    pub(super) async fn put_lifecycle_policy(
        &self,
        request: PutLifecyclePolicyRequest,
    ) -> Result<PutLifecyclePolicyResponse, ApiError> {
        let text = request.lifecycle_policy_text.unwrap_or_default();
        if text.len() > LIFECYCLE_BYTES_MAX {
            return Err(ApiError::invalid_parameter(format!(
                "Invalid parameter at 'LifecyclePolicyText': longer than {LIFECYCLE_BYTES_MAX} bytes"
            )));
        }
        if let Err(error) = serde_json::from_str::<Policy>(&text) {
            return Err(ApiError::invalid_parameter(format!(
                "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: 'Lifecycle \
                 policy validation failure: {error}'"
            )));
        }
        let policy = text.clone();
        let changed = self
            .set(request.registry_id, request.repository_name, |there| {
                there.lifecycle = Some(policy);
                Ok(())
            })
            .await?;
        Ok(PutLifecyclePolicyResponse {
            registry_id: Some(self.config.account_id.clone()),
            repository_name: Some(changed.name),
            lifecycle_policy_text: Some(text),
        })
    }

    pub(super) async fn get_lifecycle_policy(
        &self,
        request: GetLifecyclePolicyRequest,
    ) -> Result<GetLifecyclePolicyResponse, ApiError> {
        self.check_registry(request.registry_id.as_deref())?;
        let name = request.repository_name.unwrap_or_default();
        let found = self.repository(&name).await?;
        let policy = found.lifecycle.ok_or_else(|| self.no_lifecycle(&name))?;
        Ok(GetLifecyclePolicyResponse {
            registry_id: Some(self.config.account_id.clone()),
            repository_name: Some(name),
            lifecycle_policy_text: Some(policy),
            last_evaluated_at: found
                .lifecycle_evaluated_at
                .map(|at| EpochSeconds(at.as_secs())),
        })
    }

    pub(super) async fn delete_lifecycle_policy(
        &self,
        request: DeleteLifecyclePolicyRequest,
    ) -> Result<DeleteLifecyclePolicyResponse, ApiError> {
        let name = request.repository_name.clone().unwrap_or_default();
        let mut was = None;
        let changed = self
            .set(request.registry_id, request.repository_name, |there| {
                was = there.lifecycle.take();
                match was {
                    Some(_) => Ok(()),
                    None => Err(self.no_lifecycle(&name)),
                }
            })
            .await?;
        Ok(DeleteLifecyclePolicyResponse {
            registry_id: Some(self.config.account_id.clone()),
            last_evaluated_at: changed
                .lifecycle_evaluated_at
                .map(|at| EpochSeconds(at.as_secs())),
            repository_name: Some(changed.name),
            lifecycle_policy_text: was,
        })
    }

    pub(super) async fn tag_repository(
        &self,
        request: TagResourceRequest,
    ) -> Result<TagResourceResponse, ApiError> {
        let name = repository_of(request.resource_arn);
        let labels = request.tags;
        self.set(None, Some(name), |there| {
            there.tags = with_labels(std::mem::take(&mut there.tags), labels)?;
            Ok(())
        })
        .await?;
        Ok(TagResourceResponse {})
    }

    pub(super) async fn untag_repository(
        &self,
        request: UntagResourceRequest,
    ) -> Result<UntagResourceResponse, ApiError> {
        let name = repository_of(request.resource_arn);
        let keys = request.tag_keys.unwrap_or_default();
        self.set(None, Some(name), |there| {
            there.tags.retain(|(key, _)| !keys.contains(key));
            Ok(())
        })
        .await?;
        Ok(UntagResourceResponse {})
    }

    pub(super) async fn list_tags_for_repository(
        &self,
        request: ListTagsForResourceRequest,
    ) -> Result<ListTagsForResourceResponse, ApiError> {
        let found = self
            .repository(&repository_of(request.resource_arn))
            .await?;
        let label = |(key, value): (String, String)| Tag {
            key: Some(key),
            value: Some(value),
        };
        Ok(ListTagsForResourceResponse {
            tags: Some(found.tags.into_iter().map(label).collect()),
        })
    }

    /// Changes the settings of a repository that is there.
    async fn set(
        &self,
        registry: Option<String>,
        name: Option<String>,
        change: impl FnOnce(&mut Stored) -> Result<(), ApiError>,
    ) -> Result<Stored, ApiError> {
        self.check_registry(registry.as_deref())?;
        let name = name.unwrap_or_default();
        let account = self.config.account_id.clone();
        let set = |there: Option<Stored>, _, _| {
            let mut next = there.ok_or_else(|| unknown_repository(&name, &account))?;
            change(&mut next)?;
            Ok((RepositoryChange::Put(Box::new(next.clone())), next))
        };
        let changed = self.store.change_repository(&name, set).await;
        changed.map_err(|error| store_error(&error))?
    }

    fn wire_repository(&self, caller: &Caller, stored: &Stored) -> Repository {
        let (account, region) = (&self.config.account_id, &caller.region);
        let name = &stored.name;
        Repository {
            repository_arn: Some(format!("arn:aws:ecr:{region}:{account}:repository/{name}")),
            registry_id: Some(account.clone()),
            repository_name: Some(name.clone()),
            repository_uri: Some(format!("{account}.dkr.ecr.{region}.amazonaws.com/{name}")),
            created_at: Some(EpochSeconds(stored.created_at.as_secs())),
            image_tag_mutability: Some(wire_mutability(stored)),
            image_tag_mutability_exclusion_filters: wire_exceptions(stored),
            image_scanning_configuration: Some(ImageScanningConfiguration {
                scan_on_push: Some(stored.scan_on_push),
            }),
            encryption_configuration: Some(EncryptionConfiguration {
                encryption_type: Some(stored.encryption.kind.clone()),
                kms_key: stored.encryption.key.clone(),
            }),
        }
    }

    fn no_policy(&self, name: &str) -> ApiError {
        ApiError::repository_policy_not_found(format!(
            "Repository policy does not exist for the repository with name '{name}' in the registry \
             with id '{}'",
            self.config.account_id
        ))
    }

    fn no_lifecycle(&self, name: &str) -> ApiError {
        ApiError::lifecycle_policy_not_found(format!(
            "Lifecycle policy does not exist for the repository with name '{name}' in the registry with \
             id '{}'",
            self.config.account_id
        ))
    }
}

fn repository_of(arn: Option<String>) -> String {
    repository_named(&arn.unwrap_or_default()).to_owned()
}

fn set_mutability(
    repository: &mut Stored,
    mutability: Option<&str>,
    filters: Option<Vec<ImageTagMutabilityExclusionFilter>>,
) -> Result<(), ApiError> {
    let filters: Vec<String> = filters
        .unwrap_or_default()
        .into_iter()
        .filter_map(|filter| filter.filter)
        .collect();
    let (rule, excepts) = match mutability.unwrap_or("MUTABLE") {
        "IMMUTABLE" => (TagMutability::Immutable, false),
        "IMMUTABLE_WITH_EXCLUSION" => (TagMutability::Immutable, true),
        "MUTABLE_WITH_EXCLUSION" => (TagMutability::Mutable, true),
        _ => (TagMutability::Mutable, false),
    };
    if excepts == filters.is_empty() {
        return Err(ApiError::invalid_parameter(
            "Exclusion filters go with a mutability `..._WITH_EXCLUSION`, and that needs some"
                .to_owned(),
        ));
    }
    repository.mutability = rule;
    repository.mutability_exceptions = filters;
    Ok(())
}

fn wire_mutability(repository: &Stored) -> String {
    let rule = match repository.mutability {
        TagMutability::Mutable => "MUTABLE",
        TagMutability::Immutable => "IMMUTABLE",
    };
    match repository.mutability_exceptions.is_empty() {
        true => rule.to_owned(),
        false => format!("{rule}_WITH_EXCLUSION"),
    }
}

fn wire_exceptions(repository: &Stored) -> Option<Vec<ImageTagMutabilityExclusionFilter>> {
    let filters = repository.mutability_exceptions.iter();
    let filters = filters.map(|filter| ImageTagMutabilityExclusionFilter {
        filter_type: Some("WILDCARD".to_owned()),
        filter: Some(filter.clone()),
    });
    (!repository.mutability_exceptions.is_empty()).then(|| filters.collect())
}

fn with_labels(
    labels: Vec<(String, String)>,
    more: Option<Vec<Tag>>,
) -> Result<Vec<(String, String)>, ApiError> {
    let mut labels: BTreeMap<String, String> = labels.into_iter().collect();
    for label in more.unwrap_or_default() {
        let key = label.key.unwrap_or_default();
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(ApiError::invalid_tag_parameter(format!(
                "The key `{key}` cannot be: `aws:` is reserved"
            )));
        }
        labels.insert(key, label.value.unwrap_or_default());
    }
    if labels.len() > LABELS_MAX {
        return Err(ApiError::too_many_labels(format!(
            "A repository can have at most {LABELS_MAX} tags"
        )));
    }
    Ok(labels.into_iter().collect())
}
