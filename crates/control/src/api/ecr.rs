//! ECR's operations on repositories and images of the built-in registry.
//!
//! One registry, of this installation's account, the same in all regions. Settings that nothing here
//! goes by (scanning, encryption, policies) are kept and told as they were given.

mod images;
mod layers;
mod repositories;

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ekiden_aws::{
    ecr::shapes::{
        AuthorizationData, GetAuthorizationTokenRequest, GetAuthorizationTokenResponse, Operation,
    },
    epoch_seconds::EpochSeconds,
    error::ApiError,
};
use ekiden_engine::Engine;
use ekiden_model::repository::Repository as Stored;

use super::{Answer, Api, Call, Caller, store_error};
use crate::identity::PASSWORD_USER;

/// How long a password lasts: ECR's.
const PASSWORD_LASTING: Duration = Duration::from_secs(12 * 3600);

/// Entries of a page when a request does not say: ECR's.
const PAGE_DEFAULT: usize = 100;

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
            O::ListImages => call.run(|r| self.list_images(r)).await,
            O::DescribeImages => call.run(|r| self.describe_images(r)).await,
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
            .map_err(|error| store_error(&error))?
            .ok_or_else(|| unknown_repository(name, &self.config.account_id))
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
}

fn unknown_repository(name: &str, account: &str) -> ApiError {
    ApiError::repository_not_found(format!(
        "The repository with name '{name}' does not exist in the registry with id '{account}'"
    ))
}
