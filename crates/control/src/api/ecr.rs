//! ECR's operations on repositories and images of the built-in registry.
//!
//! One registry, of this installation's account, the same in all regions. Settings that nothing here
//! goes by (scanning, encryption, policies) are kept and told as they were given.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use ekiden_aws::{ecr::shapes::*, epoch_seconds::EpochSeconds, error::ApiError};
use ekiden_engine::Engine;
use ekiden_model::{
    image::{Digest, is_tag},
    lifecycle::Policy,
    repository::{Encryption, Repository as Stored, TagMutability},
};
use ekiden_registry::manifest;
use ekiden_store::{
    StoreError,
    registry::{ImageTags, Reference, RepositoryChange, StoredManifest},
};
use http_body_util::Full;

use super::{Answer, Api, Call, Caller, operation::repository_named};
use crate::{clock, identity::PASSWORD_USER, worker::Chain};

/// How long a password lasts: ECR's.
const PASSWORD_LASTING: Duration = Duration::from_secs(12 * 3600);

/// Labels of one repository: ECR's.
const LABELS_MAX: usize = 50;

/// Entries of a page when a request does not say: ECR's.
const PAGE_DEFAULT: usize = 100;

/// Bytes of a policy's document: ECR's.
const POLICY_BYTES_MAX: usize = 10_240;

/// Bytes of a lifecycle policy's document: ECR's.
const LIFECYCLE_BYTES_MAX: usize = 30_720;

/// Bytes of a layer in one request, so that its base64 fits a request's body.
const PART_BYTES: i64 = 512 << 10;

impl<E: Engine> Api<E> {
    /// ECR's requests to their handlers.
    pub(super) async fn container_registry(
        &self,
        caller: &Caller,
        operation: Operation,
        call: Call<'_>,
    ) -> Answer {
        use Operation as O;
        let answer = match operation {
            O::GetAuthorizationToken => call.run(|r| self.get_authorization_token(caller, r)).await,
            O::CreateRepository => call.run(|r| self.create_repository(caller, r)).await,
            O::DescribeRepositories => call.run(|r| self.describe_repositories(caller, r)).await,
            O::DeleteRepository => call.run(|r| self.delete_repository(caller, r)).await,
            O::PutImageTagMutability => call.run(|r| self.put_image_tag_mutability(r)).await,
            O::PutImageScanningConfiguration => {
                call.run(|r| self.put_image_scanning_configuration(r)).await
            }
            O::SetRepositoryPolicy => call.run(|r| self.set_repository_policy(r)).await,
            O::GetRepositoryPolicy => call.run(|r| self.get_repository_policy(r)).await,
            O::DeleteRepositoryPolicy => call.run(|r| self.delete_repository_policy(r)).await,
            O::PutLifecyclePolicy => call.run(|r| self.put_lifecycle_policy(r)).await,
            O::GetLifecyclePolicy => call.run(|r| self.get_lifecycle_policy(r)).await,
            O::DeleteLifecyclePolicy => call.run(|r| self.delete_lifecycle_policy(r)).await,
            O::TagResource => call.run(|r| self.tag_repository(r)).await,
            O::UntagResource => call.run(|r| self.untag_repository(r)).await,
            O::ListTagsForResource => call.run(|r| self.list_tags_for_repository(r)).await,
            O::ListImages => call.run(|r| self.list_images(caller, r)).await,
            O::DescribeImages => call.run(|r| self.describe_images(caller, r)).await,
            O::BatchGetImage => call.run(|r| self.batch_get_image(r)).await,
            O::BatchDeleteImage => call.run(|r| self.batch_delete_image(r)).await,
            O::PutImage => call.run(|r| self.put_image(r)).await,
            O::BatchCheckLayerAvailability => {
                call.run(|r| self.batch_check_layer_availability(r)).await
            }
            O::GetDownloadUrlForLayer => call.run(|r| self.get_download_url_for_layer(r)).await,
            O::InitiateLayerUpload => call.run(|r| self.initiate_layer_upload(r)).await,
            O::UploadLayerPart => call.run(|r| self.upload_layer_part(r)).await,
            O::CompleteLayerUpload => call.run(|r| self.complete_layer_upload(r)).await,
        };
        answer.map_err(|error| error.internal_as(ApiError::server))
    }

    async fn get_authorization_token(
        &self,
        caller: &Caller,
        _request: GetAuthorizationTokenRequest,
    ) -> Result<GetAuthorizationTokenResponse, ApiError> {
        let (password, expires_at) = self.identities.password(&caller.identity, PASSWORD_LASTING);
        let token = BASE64_STANDARD.encode(format!("{PASSWORD_USER}:{}", &*password));
        Ok(GetAuthorizationTokenResponse {
            authorization_data: Some(vec![AuthorizationData {
                authorization_token: Some(token),
                expires_at: Some(EpochSeconds(expires_at.as_secs())),
                proxy_endpoint: Some(self.config.registry.endpoint.clone()),
            }]),
        })
    }

    // ---- repositories

    async fn create_repository(
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
        let made = changed.map_err(|error| failed(&error))??;
        Ok(CreateRepositoryResponse {
            repository: Some(self.wire_repository(caller, &made)),
        })
    }

    async fn describe_repositories(
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
        let mut listed = listed.map_err(|error| failed(&error))?;
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

    async fn delete_repository(
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
        let removed = changed.map_err(|error| failed(&error))??;
        Ok(DeleteRepositoryResponse {
            repository: Some(self.wire_repository(caller, &removed)),
        })
    }

    async fn put_image_tag_mutability(
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

    async fn put_image_scanning_configuration(
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

    async fn set_repository_policy(
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

    async fn get_repository_policy(
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

    async fn delete_repository_policy(
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

    async fn put_lifecycle_policy(
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

    async fn get_lifecycle_policy(
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

    async fn delete_lifecycle_policy(
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

    async fn tag_repository(
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

    async fn untag_repository(
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

    async fn list_tags_for_repository(
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

    // ---- images

    async fn list_images(
        &self,
        _caller: &Caller,
        request: ListImagesRequest,
    ) -> Result<ListImagesResponse, ApiError> {
        self.check_registry(request.registry_id.as_deref())?;
        let name = request.repository_name.unwrap_or_default();
        let status = request.filter.and_then(|filter| filter.tag_status);
        let images = self.images_of(&name).await?;
        let ids = images.iter().flat_map(identifiers);
        let ids: Vec<_> = ids
            .filter(|id| has_status(id.image_tag.is_some(), status.as_deref()))
            .collect();
        let list = format!("images of {name}");
        let (ids, next_token) =
            self.ecr_part(&list, ids, request.max_results, request.next_token)?;
        Ok(ListImagesResponse {
            image_ids: Some(ids),
            next_token,
        })
    }

    async fn describe_images(
        &self,
        _caller: &Caller,
        request: DescribeImagesRequest,
    ) -> Result<DescribeImagesResponse, ApiError> {
        self.check_registry(request.registry_id.as_deref())?;
        let name = request.repository_name.unwrap_or_default();
        let images = self.images_of(&name).await?;
        let detail = |image: &ImageTags| self.wire_detail(&name, image);
        if let Some(ids) = request.image_ids {
            let mut found = Vec::with_capacity(ids.len());
            for id in &ids {
                let image = images
                    .iter()
                    .find(|image| is_image(image, id))
                    .ok_or_else(|| self.no_image(&name, id))?;
                found.push(detail(image));
            }
            return Ok(DescribeImagesResponse {
                image_details: Some(found),
                next_token: None,
            });
        }
        let status = request.filter.and_then(|filter| filter.tag_status);
        let details: Vec<_> = images
            .iter()
            .filter(|image| has_status(!image.tags.is_empty(), status.as_deref()))
            .map(detail)
            .collect();
        let list = format!("details of {name}");
        let (details, next_token) =
            self.ecr_part(&list, details, request.max_results, request.next_token)?;
        Ok(DescribeImagesResponse {
            image_details: Some(details),
            next_token,
        })
    }

    async fn batch_get_image(
        &self,
        request: BatchGetImageRequest,
    ) -> Result<BatchGetImageResponse, ApiError> {
        self.check_registry(request.registry_id.as_deref())?;
        let name = request.repository_name.unwrap_or_default();
        self.repository(&name).await?;
        let (mut images, mut failures) = (Vec::new(), Vec::new());
        for id in request.image_ids.unwrap_or_default() {
            match self.find_image(&name, &id).await? {
                Err(failure) => failures.push(failure),
                Ok(found) => images.push(Image {
                    registry_id: Some(self.config.account_id.clone()),
                    repository_name: Some(name.clone()),
                    image_id: Some(ImageIdentifier {
                        image_digest: Some(found.record.digest.to_string()),
                        image_tag: id.image_tag,
                    }),
                    image_manifest: Some(String::from_utf8_lossy(&found.content).into_owned()),
                    image_manifest_media_type: Some(found.record.media_type),
                }),
            }
        }
        Ok(BatchGetImageResponse {
            images: Some(images),
            failures: Some(failures),
        })
    }

    async fn batch_delete_image(
        &self,
        request: BatchDeleteImageRequest,
    ) -> Result<BatchDeleteImageResponse, ApiError> {
        self.check_registry(request.registry_id.as_deref())?;
        let name = request.repository_name.unwrap_or_default();
        self.repository(&name).await?;
        let (mut gone, mut failures) = (Vec::new(), Vec::new());
        for id in request.image_ids.unwrap_or_default() {
            match self.delete_image(&name, &id).await? {
                Ok(ids) => gone.extend(ids),
                Err(failure) => failures.push(failure),
            }
        }
        Ok(BatchDeleteImageResponse {
            image_ids: Some(gone),
            failures: Some(failures),
        })
    }

    /// A tag, and with its last one the image; or an image with all its tags.
    async fn delete_image(
        &self,
        name: &str,
        id: &ImageIdentifier,
    ) -> Result<Result<Vec<ImageIdentifier>, ImageFailure>, ApiError> {
        let found = match self.find_image(name, id).await? {
            Ok(found) => found,
            Err(failure) => return Ok(Err(failure)),
        };
        let digest = found.record.digest;
        let text = digest.to_string();
        if let Some(tag) = &id.image_tag {
            let removed = self.store.remove_tag(name, tag, digest).await;
            return Ok(match removed.map_err(|error| failed(&error))? {
                false => Err(not_found(id.clone())),
                true => Ok(vec![ImageIdentifier {
                    image_digest: Some(text),
                    image_tag: Some(tag.clone()),
                }]),
            });
        }
        let tags = self.store.image_tags(name, digest).await;
        let tags = tags.map_err(|error| failed(&error))?.unwrap_or_default();
        let removed = self.store.remove_image(name, digest, &tags).await;
        if !removed.map_err(|error| failed(&error))? {
            return Ok(Err(failure(
                id,
                "ImageReferencedByManifestList",
                "Requested image referenced by manifest list: delete that first",
            )));
        }
        let gone = ImageTags {
            record: found.record,
            tags,
        };
        Ok(Ok(identifiers(&gone)))
    }

    /// The image of a tag, a digest, or both when they are of one.
    async fn find_image(
        &self,
        name: &str,
        id: &ImageIdentifier,
    ) -> Result<Result<StoredManifest, ImageFailure>, ApiError> {
        let reference = match reference(id) {
            Ok(reference) => reference,
            Err(failure) => return Ok(Err(failure)),
        };
        let found = self.store.manifest(name, reference).await;
        let Some(found) = found.map_err(|error| failed(&error))? else {
            return Ok(Err(not_found(id.clone())));
        };
        let said = id.image_digest.as_deref();
        if said.is_some_and(|said| said != found.record.digest.to_string()) {
            return Ok(Err(failure(
                id,
                "ImageTagDoesNotMatchDigest",
                "Requested tag and digest are of different images",
            )));
        }
        Ok(Ok(found))
    }

    async fn put_image(&self, request: PutImageRequest) -> Result<PutImageResponse, ApiError> {
        self.check_registry(request.registry_id.as_deref())?;
        let name = request.repository_name.unwrap_or_default();
        self.repository(&name).await?;
        let text = request.image_manifest.unwrap_or_default();
        let media_type = request.image_manifest_media_type.as_deref();
        let read = manifest::read(media_type, text.as_bytes(), clock::now());
        let new = read.map_err(|error| {
            ApiError::invalid_parameter(format!(
                "Invalid parameter at 'ImageManifest' failed to satisfy constraint: {error}"
            ))
        })?;
        let digest = new.record.digest;
        if let Some(said) = request.image_digest
            && said != digest.to_string()
        {
            return Err(ApiError::image_digest_does_not_match(format!(
                "The manifest is {digest}, not {said}"
            )));
        }
        let tag = request.image_tag;
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(ApiError::invalid_parameter(
                "Invalid parameter at 'ImageTag' failed to satisfy constraint: 1 to 128 letters, digits, \
                 `_`, `.` and `-`",
            ));
        }
        let there = match tag.as_deref() {
            Some(tag) => self.store.manifest(&name, Reference::Tag(tag)).await,
            None => self.store.manifest(&name, Reference::Digest(digest)).await,
        };
        let there = there.map_err(|error| failed(&error))?;
        if there.is_some_and(|there| there.record.digest == digest) {
            return Err(ApiError::image_already_exists(format!(
                "Image with digest '{digest}' and tag '{}' already exists in the repository with name \
                 '{name}' in registry with id '{}'",
                tag.unwrap_or_default(),
                self.config.account_id
            )));
        }
        let put = self.images.put_manifest(&name, &new, tag.as_deref()).await;
        put.map_err(|refusal| match refusal.code() {
            "MANIFEST_BLOB_UNKNOWN" if new.manifests.is_empty() => {
                ApiError::layers_not_found(refusal.to_string())
            }
            "MANIFEST_BLOB_UNKNOWN" => ApiError::referenced_images_not_found(refusal.to_string()),
            "TAG_INVALID" => ApiError::image_tag_already_exists(refusal.to_string()),
            "DENIED" => ApiError::limit_exceeded(refusal.to_string()),
            _ => ApiError::server(refusal.to_string()),
        })?;
        Ok(PutImageResponse {
            image: Some(Image {
                registry_id: Some(self.config.account_id.clone()),
                repository_name: Some(name),
                image_id: Some(ImageIdentifier {
                    image_digest: Some(digest.to_string()),
                    image_tag: tag,
                }),
                image_manifest: Some(text),
                image_manifest_media_type: Some(new.record.media_type),
            }),
        })
    }

    // ---- layers

    async fn batch_check_layer_availability(
        &self,
        request: BatchCheckLayerAvailabilityRequest,
    ) -> Result<BatchCheckLayerAvailabilityResponse, ApiError> {
        self.check_registry(request.registry_id.as_deref())?;
        let name = request.repository_name.unwrap_or_default();
        self.repository(&name).await?;
        let (mut layers, mut failures) = (Vec::new(), Vec::new());
        for text in request.layer_digests.unwrap_or_default() {
            let Ok(digest) = text.parse::<Digest>() else {
                failures.push(LayerFailure {
                    layer_digest: Some(text),
                    failure_code: Some("InvalidLayerDigest".to_owned()),
                    failure_reason: Some("Expected `sha256:` and 64 digits".to_owned()),
                });
                continue;
            };
            let size = self.noted_blob(&name, digest).await?;
            layers.push(Layer {
                layer_digest: Some(text),
                layer_availability: Some(match size {
                    Some(_) => "AVAILABLE".to_owned(),
                    None => "UNAVAILABLE".to_owned(),
                }),
                layer_size: size.map(|size| size as i64),
                media_type: size.map(|_| "application/vnd.oci.image.layer.v1.tar+gzip".to_owned()),
            });
        }
        Ok(BatchCheckLayerAvailabilityResponse {
            layers: Some(layers),
            failures: Some(failures),
        })
    }

    async fn get_download_url_for_layer(
        &self,
        request: GetDownloadUrlForLayerRequest,
    ) -> Result<GetDownloadUrlForLayerResponse, ApiError> {
        self.check_registry(request.registry_id.as_deref())?;
        let name = request.repository_name.unwrap_or_default();
        self.repository(&name).await?;
        let text = request.layer_digest.unwrap_or_default();
        let size = match text.parse() {
            Ok(digest) => {
                let size = self.store.repository_blob(&name, digest).await;
                size.map_err(|error| failed(&error))?
            }
            Err(_) => None,
        };
        if size.is_none() {
            return Err(ApiError::layers_not_found(format!(
                "The layer with digest '{text}' does not exist in the repository '{name}'"
            )));
        }
        let endpoint = &self.config.registry.endpoint;
        Ok(GetDownloadUrlForLayerResponse {
            download_url: Some(format!("{endpoint}/v2/{name}/blobs/{text}")),
            layer_digest: Some(text),
        })
    }

    async fn initiate_layer_upload(
        &self,
        request: InitiateLayerUploadRequest,
    ) -> Result<InitiateLayerUploadResponse, ApiError> {
        self.check_registry(request.registry_id.as_deref())?;
        let name = request.repository_name.unwrap_or_default();
        self.repository(&name).await?;
        let id = self.images.begin_upload_of(&name).await;
        Ok(InitiateLayerUploadResponse {
            upload_id: Some(id.map_err(|refusal| upload_failed(&refusal))?),
            part_size: Some(PART_BYTES),
        })
    }

    async fn upload_layer_part(
        &self,
        request: UploadLayerPartRequest,
    ) -> Result<UploadLayerPartResponse, ApiError> {
        self.check_registry(request.registry_id.as_deref())?;
        let name = request.repository_name.unwrap_or_default();
        let upload_id = request.upload_id.unwrap_or_default();
        let first = request.part_first_byte.unwrap_or_default().unsigned_abs();
        let part = request.layer_part_blob.unwrap_or_default().0;
        let body = Full::new(Bytes::from(part));
        let received = self.images.add_part(&name, &upload_id, first, body).await;
        let received = received.map_err(|refusal| upload_failed(&refusal))?;
        Ok(UploadLayerPartResponse {
            registry_id: Some(self.config.account_id.clone()),
            repository_name: Some(name),
            upload_id: Some(upload_id),
            last_byte_received: Some(received.saturating_sub(1) as i64),
        })
    }

    async fn complete_layer_upload(
        &self,
        request: CompleteLayerUploadRequest,
    ) -> Result<CompleteLayerUploadResponse, ApiError> {
        self.check_registry(request.registry_id.as_deref())?;
        let name = request.repository_name.unwrap_or_default();
        let upload_id = request.upload_id.unwrap_or_default();
        let said = request.layer_digests.unwrap_or_default();
        let text = said.first().cloned().unwrap_or_default();
        let digest: Digest = text.parse().map_err(|_| {
            ApiError::invalid_parameter("`layerDigests` must be `sha256:` and 64 digits".to_owned())
        })?;
        if self.noted_blob(&name, digest).await?.is_some() {
            // What has come is of no use; whoever sent it may have ended it already.
            let _ = self.images.cancel_upload(&name, &upload_id).await;
            return Err(ApiError::layer_already_exists(format!(
                "The layer with digest '{digest}' already exists in the repository '{name}'"
            )));
        }
        let ended = self.images.end_upload(&name, &upload_id, digest).await;
        ended.map_err(|refusal| match refusal.code() {
            "DIGEST_INVALID" => ApiError::invalid_layer(refusal.to_string()),
            _ => upload_failed(&refusal),
        })?;
        Ok(CompleteLayerUploadResponse {
            registry_id: Some(self.config.account_id.clone()),
            repository_name: Some(name),
            upload_id: Some(upload_id),
            layer_digest: Some(text),
        })
    }

    // ---- helpers

    fn check_registry(&self, id: Option<&str>) -> Result<(), ApiError> {
        match id {
            Some(other) if other != self.config.account_id => {
                Err(ApiError::repository_not_found(format!(
                    "There is one registry here, of the account {}, not {other}",
                    self.config.account_id
                )))
            }
            _ => Ok(()),
        }
    }

    async fn repository(&self, name: &str) -> Result<Stored, ApiError> {
        let found = self.store.repository(name).await;
        found
            .map_err(|error| failed(&error))?
            .ok_or_else(|| unknown_repository(name, &self.config.account_id))
    }

    /// The size of a blob, which whoever asks may name in a manifest next.
    async fn noted_blob(&self, name: &str, digest: Digest) -> Result<Option<u64>, ApiError> {
        let size = self.store.repository_blob(name, digest).await;
        let size = size.map_err(|error| failed(&error))?;
        let noted = self.store.touch_repository_blob(name, digest, clock::now());
        noted.await.map_err(|error| failed(&error))?;
        Ok(size)
    }

    async fn images_of(&self, name: &str) -> Result<Vec<ImageTags>, ApiError> {
        self.repository(name).await?;
        let images = self.store.images_of(name).await;
        images.map_err(|error| failed(&error))
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
        changed.map_err(|error| failed(&error))?
    }

    /// How many entries, and after which.
    fn ecr_page(
        &self,
        list: &str,
        most: Option<i32>,
        token: Option<&str>,
    ) -> Result<(usize, String), ApiError> {
        let most = most.map_or(PAGE_DEFAULT, |most| most.unsigned_abs() as usize);
        let after = match token {
            None => String::new(),
            Some(token) => self.page_place(list, "", token).ok_or_else(|| {
                ApiError::invalid_parameter("`nextToken` is not one of this list".to_owned())
            })?,
        };
        Ok((most.max(1), after))
    }

    /// A page of a list that is read whole; its places are counted.
    fn ecr_part<T>(
        &self,
        list: &str,
        mut all: Vec<T>,
        most: Option<i32>,
        token: Option<String>,
    ) -> Result<(Vec<T>, Option<String>), ApiError> {
        let (most, after) = self.ecr_page(list, most, token.as_deref())?;
        let first: usize = after.parse().unwrap_or(0);
        let mut part = all.split_off(first.min(all.len()));
        let more = part.len() > most;
        part.truncate(most);
        let next = more.then(|| self.page_token(list, "", &(first + most).to_string()));
        Ok((part, next))
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

    fn wire_detail(&self, name: &str, image: &ImageTags) -> ImageDetail {
        let record = &image.record;
        ImageDetail {
            registry_id: Some(self.config.account_id.clone()),
            repository_name: Some(name.to_owned()),
            image_digest: Some(record.digest.to_string()),
            image_tags: (!image.tags.is_empty()).then(|| image.tags.clone()),
            image_size_in_bytes: Some(record.layers_size as i64),
            image_pushed_at: Some(EpochSeconds(record.pushed_at.as_secs())),
            image_manifest_media_type: Some(record.media_type.clone()),
            artifact_media_type: record.artifact_type.clone(),
            subject_manifest_digest: record.subject.map(|subject| subject.to_string()),
            ..ImageDetail::default()
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

    fn no_image(&self, name: &str, id: &ImageIdentifier) -> ApiError {
        let tag = id.image_tag.as_deref().unwrap_or("null");
        let digest = id.image_digest.as_deref().unwrap_or("null");
        ApiError::image_not_found(format!(
            "The image with imageId {{imageDigest:'{digest}', imageTag:'{tag}'}} does not exist within \
             the repository with name '{name}' in the registry with id '{}'",
            self.config.account_id
        ))
    }
}

fn repository_of(arn: Option<String>) -> String {
    repository_named(&arn.unwrap_or_default()).to_owned()
}

fn unknown_repository(name: &str, account: &str) -> ApiError {
    ApiError::repository_not_found(format!(
        "The repository with name '{name}' does not exist in the registry with id '{account}'"
    ))
}

fn failed(error: &StoreError) -> ApiError {
    tracing::warn!(error = %Chain(error), "the store failed");
    ApiError::server(error.to_string())
}

fn upload_failed(refusal: &ekiden_registry::Refusal) -> ApiError {
    match refusal.code() {
        "BLOB_UPLOAD_UNKNOWN" => ApiError::upload_not_found(refusal.to_string()),
        "BLOB_UPLOAD_INVALID" => ApiError::invalid_layer_part(refusal.to_string()),
        "TOOMANYREQUESTS" | "DENIED" => ApiError::limit_exceeded(refusal.to_string()),
        _ => ApiError::server(refusal.to_string()),
    }
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

/// What an image goes by: each of its tags, or its digest alone.
fn identifiers(image: &ImageTags) -> Vec<ImageIdentifier> {
    let digest = image.record.digest.to_string();
    let id = |tag: Option<&String>| ImageIdentifier {
        image_digest: Some(digest.clone()),
        image_tag: tag.cloned(),
    };
    match image.tags.is_empty() {
        true => vec![id(None)],
        false => image.tags.iter().map(|tag| id(Some(tag))).collect(),
    }
}

fn is_image(image: &ImageTags, id: &ImageIdentifier) -> bool {
    let digest = id.image_digest.as_deref();
    let tag = id.image_tag.as_ref();
    digest.is_none_or(|digest| digest == image.record.digest.to_string())
        && tag.is_none_or(|tag| image.tags.contains(tag))
        && (digest.is_some() || tag.is_some())
}

fn has_status(tagged: bool, wanted: Option<&str>) -> bool {
    match wanted {
        Some("TAGGED") => tagged,
        Some("UNTAGGED") => !tagged,
        _ => true,
    }
}

fn reference(id: &ImageIdentifier) -> Result<Reference<'_>, ImageFailure> {
    match (&id.image_tag, &id.image_digest) {
        (Some(tag), _) => Ok(Reference::Tag(tag)),
        (None, Some(digest)) => digest.parse().map(Reference::Digest).map_err(|_| {
            failure(
                id,
                "InvalidImageDigest",
                "Invalid request parameters: expected `sha256:` and 64 digits",
            )
        }),
        (None, None) => Err(failure(
            id,
            "MissingDigestAndTag",
            "Invalid request parameters: both tag and digest cannot be null",
        )),
    }
}

fn failure(id: &ImageIdentifier, code: &str, reason: &str) -> ImageFailure {
    ImageFailure {
        image_id: Some(id.clone()),
        failure_code: Some(code.to_owned()),
        failure_reason: Some(reason.to_owned()),
    }
}

fn not_found(id: ImageIdentifier) -> ImageFailure {
    failure(&id, "ImageNotFound", "Requested image not found")
}
