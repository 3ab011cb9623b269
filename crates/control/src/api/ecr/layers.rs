//! Layers: looked for, and sent in parts.

use bytes::Bytes;
use ekiden_aws::{ecr::shapes::*, error::ApiError};
use ekiden_engine::Engine;
use ekiden_model::image::Digest;
use http_body_util::Full;

use super::super::{Api, store_error};
use crate::clock;

/// Bytes of a layer in one request, so that its base64 fits a request's body.
const PART_BYTES: i64 = 512 << 10;

impl<E: Engine> Api<E> {
    pub(super) async fn batch_check_layer_availability(
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

    pub(super) async fn get_download_url_for_layer(
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
                size.map_err(|error| store_error(&error))?
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

    pub(super) async fn initiate_layer_upload(
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

    pub(super) async fn upload_layer_part(
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

    pub(super) async fn complete_layer_upload(
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

    /// The size of a blob, which whoever asks may name in a manifest next.
    async fn noted_blob(&self, name: &str, digest: Digest) -> Result<Option<u64>, ApiError> {
        let size = self.store.repository_blob(name, digest).await;
        let size = size.map_err(|error| store_error(&error))?;
        let noted = self.store.touch_repository_blob(name, digest, clock::now());
        noted.await.map_err(|error| store_error(&error))?;
        Ok(size)
    }
}

fn upload_failed(refusal: &ekiden_registry::Refusal) -> ApiError {
    match refusal.code() {
        "BLOB_UPLOAD_UNKNOWN" => ApiError::upload_not_found(refusal.to_string()),
        "BLOB_UPLOAD_INVALID" => ApiError::invalid_layer_part(refusal.to_string()),
        "TOOMANYREQUESTS" | "DENIED" => ApiError::limit_exceeded(refusal.to_string()),
        _ => ApiError::server(refusal.to_string()),
    }
}
