//! Images: listed, described, fetched, put and deleted.

use ekiden_aws::{ecr::shapes::*, epoch_seconds::EpochSeconds, error::ApiError};
use ekiden_engine::Engine;
use ekiden_model::image::is_tag;
use ekiden_registry::manifest;
use ekiden_store::registry::{ImageTags, Reference, StoredManifest};

use super::super::{Api, store_error};
use crate::clock;

impl<E: Engine> Api<E> {
    pub(super) async fn list_images(
        &self,
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

    pub(super) async fn describe_images(
        &self,
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

    pub(super) async fn batch_get_image(
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

    pub(super) async fn batch_delete_image(
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
    pub(super) async fn delete_image(
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
            return Ok(match removed.map_err(|error| store_error(&error))? {
                false => Err(not_found(id.clone())),
                true => Ok(vec![ImageIdentifier {
                    image_digest: Some(text),
                    image_tag: Some(tag.clone()),
                }]),
            });
        }
        let tags = self.store.image_tags(name, digest).await;
        let tags = tags
            .map_err(|error| store_error(&error))?
            .unwrap_or_default();
        let removed = self.store.remove_image(name, digest, &tags).await;
        if !removed.map_err(|error| store_error(&error))? {
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
    pub(super) async fn find_image(
        &self,
        name: &str,
        id: &ImageIdentifier,
    ) -> Result<Result<StoredManifest, ImageFailure>, ApiError> {
        let reference = match reference(id) {
            Ok(reference) => reference,
            Err(failure) => return Ok(Err(failure)),
        };
        let found = self.store.manifest(name, reference).await;
        let Some(found) = found.map_err(|error| store_error(&error))? else {
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

    pub(super) async fn put_image(
        &self,
        request: PutImageRequest,
    ) -> Result<PutImageResponse, ApiError> {
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
        let there = there.map_err(|error| store_error(&error))?;
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

    async fn images_of(&self, name: &str) -> Result<Vec<ImageTags>, ApiError> {
        self.repository(name).await?;
        let images = self.store.images_of(name).await;
        images.map_err(|error| store_error(&error))
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
