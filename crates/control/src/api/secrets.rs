//! Secrets Manager's operations.
//!
//! What a secret is and how its versions move is `ekiden_model::secret`; here requests are turned
//! into its words and refusals into Secrets Manager's. Values are sealed before they are stored, and
//! leave by `GetSecretValue` only.

use std::collections::BTreeMap;

use ekiden_aws::{
    blob::Blob,
    epoch_seconds::EpochSeconds,
    error::ApiError,
    secretsmanager::shapes::{
        CreateSecretRequest, CreateSecretResponse, DeleteSecretRequest, DeleteSecretResponse,
        DescribeSecretRequest, DescribeSecretResponse, Filter, GetRandomPasswordRequest,
        GetRandomPasswordResponse, GetResourcePolicyRequest, GetResourcePolicyResponse,
        GetSecretValueRequest, GetSecretValueResponse, ListSecretVersionIdsRequest,
        ListSecretVersionIdsResponse, ListSecretsRequest, ListSecretsResponse, Operation,
        PutSecretValueRequest, PutSecretValueResponse, RestoreSecretRequest, RestoreSecretResponse,
        SecretListEntry, SecretVersionsListEntry, Tag, TagResourceRequest, UntagResourceRequest,
        UpdateSecretRequest, UpdateSecretResponse, UpdateSecretVersionStageRequest,
        UpdateSecretVersionStageResponse,
    },
};
use ekiden_engine::Engine;
use ekiden_model::{
    secret::{Put, SUFFIX_LEN, Secret, SecretRefusal, SecretVersion, ValueKind},
    time::Timestamp,
};
use ekiden_store::secrets::{Found, SecretChange};
use rand::{RngExt, seq::IndexedRandom};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{Answer, Api, Call, Caller, store_error};
use crate::{clock, vault::OpenError, worker::Chain};

/// Tags of one secret at most: Secrets Manager's.
const TAGS_MAX: usize = 50;

/// Days that a secret can be restored when a deletion does not say; Secrets Manager's.
const RECOVERY_DAYS_DEFAULT: i64 = 30;

/// Days that it may say.
const RECOVERY_DAYS: std::ops::RangeInclusive<i64> = 7..=30;

/// Secrets and versions in an answer when the request does not say, and at most.
const PAGE_MAX: usize = 100;

const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;

/// The characters of a secret's suffix.
const SUFFIX_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Characters of a password that nobody gave a length: Secrets Manager's.
const PASSWORD_LEN_DEFAULT: i64 = 32;

const LOWERCASE: &str = "abcdefghijklmnopqrstuvwxyz";
const UPPERCASE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const NUMBERS: &str = "0123456789";
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// The answer of operations that answer nothing.
#[derive(Debug, Serialize)]
pub(super) struct Nothing {}

/// A value as a client gives it.
struct GivenValue {
    kind: ValueKind,
    bytes: Zeroizing<Vec<u8>>,
}

impl<E: Engine> Api<E> {
    /// Secrets Manager's requests to their handlers.
    pub(super) async fn secrets_manager(
        &self,
        caller: &Caller,
        operation: Operation,
        call: Call<'_>,
    ) -> Answer {
        let answer = match operation {
            Operation::CreateSecret => call.run(|r| self.create_secret(caller, r)).await,
            Operation::DeleteSecret => call.run(|r| self.delete_secret(caller, r)).await,
            Operation::DescribeSecret => call.run(|r| self.describe_secret(caller, r)).await,
            Operation::GetRandomPassword => call.run(get_random_password).await,
            Operation::GetResourcePolicy => call.run(|r| self.get_resource_policy(caller, r)).await,
            Operation::GetSecretValue => call.run(|r| self.get_secret_value(caller, r)).await,
            Operation::ListSecretVersionIds => {
                call.run(|r| self.list_secret_version_ids(caller, r)).await
            }
            Operation::ListSecrets => call.run(|r| self.list_secrets(caller, r)).await,
            Operation::PutSecretValue => call.run(|r| self.put_secret_value(caller, r)).await,
            Operation::RestoreSecret => call.run(|r| self.restore_secret(caller, r)).await,
            Operation::TagResource => call.run(|r| self.tag_secret(caller, r)).await,
            Operation::UntagResource => call.run(|r| self.untag_secret(caller, r)).await,
            Operation::UpdateSecret => call.run(|r| self.update_secret(caller, r)).await,
            Operation::UpdateSecretVersionStage => {
                call.run(|r| self.update_secret_version_stage(caller, r))
                    .await
            }
        };
        answer.map_err(|error| error.internal_as(ApiError::internal_service))
    }

    async fn create_secret(
        &self,
        caller: &Caller,
        request: CreateSecretRequest,
    ) -> Result<CreateSecretResponse, ApiError> {
        let name = request.name.unwrap_or_default();
        check_name(&name)?;
        if !request.add_replica_regions.unwrap_or_default().is_empty() {
            return Err(ApiError::invalid_parameter(
                "Replicas are not offered by Ekiden: a secret is in one region.",
            ));
        }
        let tags = with_tags(BTreeMap::new(), request.tags)?;
        let value = given_value(request.secret_string, request.secret_binary)?;
        let token = token(request.client_request_token);
        let quota = self.config.quotas.secrets;
        let now = clock::now();
        let new = Secret {
            id: clock::random_hex(),
            name: name.clone(),
            suffix: suffix(),
            description: request.description,
            kms_key: request.kms_key_id.filter(|key| !key.is_empty()),
            tags,
            versions: Vec::new(),
            created_at: now,
            changed_at: now,
            deleted_at: None,
            purge_at: None,
        };
        let create = |found: Found<Secret>| match found {
            Found::None { others } if others >= quota => Err(ApiError::limit_exceeded(format!(
                "There are {quota} secrets, as many as there may be; delete some or raise \
                 `quotas.secrets`."
            ))),
            Found::None { .. } => {
                let mut secret = new;
                let value = value
                    .as_ref()
                    .map(|value| self.put_value(&mut secret, value, &token, Vec::new(), now))
                    .transpose()?
                    .flatten();
                let change = SecretChange::Put(Box::new(secret.clone()), value);
                Ok((change, secret))
            }
            Found::One(secret) if secret.deleted_at.is_some() => Err(ApiError::invalid_request(
                "You can't create this secret because a secret with this name is already scheduled \
                 for deletion.",
            )),
            // The same request again, whose answer was lost.
            Found::One(secret) if self.is_same(&secret, value.as_ref(), &token) => {
                Ok((SecretChange::None, secret))
            }
            Found::One(secret) => Err(ApiError::resource_exists(format!(
                "The operation failed because the secret {} already exists.",
                secret.name
            ))),
        };
        let changed = self
            .store
            .change_secret(&caller.region, &name, create)
            .await;
        let secret = changed.map_err(|error| store_error(&error))??;
        Ok(CreateSecretResponse {
            arn: Some(self.secret_arn(caller, &secret)),
            version_id: secret.version(&token).map(|version| version.id.clone()),
            name: Some(secret.name),
            replication_status: None,
        })
    }

    async fn get_secret_value(
        &self,
        caller: &Caller,
        request: GetSecretValueRequest,
    ) -> Result<GetSecretValueResponse, ApiError> {
        let secret = self.find_secret(caller, request.secret_id).await?;
        let version = secret
            .find(
                request.version_id.as_deref(),
                request.version_stage.as_deref(),
            )
            .map_err(refused)?;
        let value = self.vault.open_secret(&secret, version).await;
        let value = value.map_err(open_error)?;
        let mut answer = GetSecretValueResponse {
            arn: Some(self.secret_arn(caller, &secret)),
            name: Some(secret.name.clone()),
            version_id: Some(version.id.clone()),
            version_stages: Some(version.stages.clone()),
            created_date: Some(seconds(version.created_at)),
            ..GetSecretValueResponse::default()
        };
        match version.kind {
            ValueKind::Binary => answer.secret_binary = Some(Blob(value.to_vec())),
            ValueKind::Text => {
                answer.secret_string = Some(String::from_utf8_lossy(&value).into_owned());
            }
        }
        Ok(answer)
    }

    async fn put_secret_value(
        &self,
        caller: &Caller,
        request: PutSecretValueRequest,
    ) -> Result<PutSecretValueResponse, ApiError> {
        let value =
            given_value(request.secret_string, request.secret_binary)?.ok_or_else(|| {
                ApiError::invalid_parameter("You must provide either SecretString or SecretBinary.")
            })?;
        let token = token(request.client_request_token);
        let stages = request.version_stages.unwrap_or_default();
        let now = clock::now();
        let secret = self
            .change_secret(caller, request.secret_id, |secret| {
                self.put_value(secret, &value, &token, stages, now)
            })
            .await?;
        Ok(PutSecretValueResponse {
            arn: Some(self.secret_arn(caller, &secret)),
            version_stages: secret.version(&token).map(|version| version.stages.clone()),
            version_id: Some(token),
            name: Some(secret.name),
        })
    }

    async fn update_secret(
        &self,
        caller: &Caller,
        request: UpdateSecretRequest,
    ) -> Result<UpdateSecretResponse, ApiError> {
        let value = given_value(request.secret_string, request.secret_binary)?;
        let token = token(request.client_request_token);
        let (description, kms_key) = (request.description, request.kms_key_id);
        let now = clock::now();
        let secret = self
            .change_secret(caller, request.secret_id, |secret| {
                secret.check_kept().map_err(refused)?;
                let put = value
                    .as_ref()
                    .map(|value| self.put_value(secret, value, &token, Vec::new(), now))
                    .transpose()?;
                if let Some(description) = description {
                    secret.description = Some(description);
                }
                if let Some(kms_key) = kms_key {
                    secret.kms_key = Some(kms_key).filter(|key| !key.is_empty());
                }
                secret.changed_at = now;
                Ok(put.flatten())
            })
            .await?;
        Ok(UpdateSecretResponse {
            arn: Some(self.secret_arn(caller, &secret)),
            name: Some(secret.name),
            version_id: value.map(|_| token),
        })
    }

    async fn update_secret_version_stage(
        &self,
        caller: &Caller,
        request: UpdateSecretVersionStageRequest,
    ) -> Result<UpdateSecretVersionStageResponse, ApiError> {
        let stage = request.version_stage.unwrap_or_default();
        let (from, to) = (request.remove_from_version_id, request.move_to_version_id);
        if from.is_none() && to.is_none() {
            return Err(ApiError::invalid_parameter(
                "You must provide MoveToVersionId, RemoveFromVersionId, or both.",
            ));
        }
        let secret = self
            .change_secret(caller, request.secret_id, |secret| {
                secret
                    .move_stage(&stage, from.as_deref(), to.as_deref(), clock::now())
                    .map_err(refused)?;
                Ok(None)
            })
            .await?;
        Ok(UpdateSecretVersionStageResponse {
            arn: Some(self.secret_arn(caller, &secret)),
            name: Some(secret.name),
        })
    }

    async fn describe_secret(
        &self,
        caller: &Caller,
        request: DescribeSecretRequest,
    ) -> Result<DescribeSecretResponse, ApiError> {
        let secret = self.find_secret(caller, request.secret_id).await?;
        let stages = secret.stages();
        Ok(DescribeSecretResponse {
            arn: Some(self.secret_arn(caller, &secret)),
            version_ids_to_stages: Some(stages).filter(|stages| !stages.is_empty()),
            created_date: Some(seconds(secret.created_at)),
            last_changed_date: Some(seconds(secret.changed_at)),
            deleted_date: secret.purge_at.map(seconds),
            tags: wire_tags(&secret.tags),
            name: Some(secret.name),
            description: secret.description,
            kms_key_id: secret.kms_key,
            ..DescribeSecretResponse::default()
        })
    }

    async fn list_secrets(
        &self,
        caller: &Caller,
        request: ListSecretsRequest,
    ) -> Result<ListSecretsResponse, ApiError> {
        let deleted = request.include_planned_deletion == Some(true);
        let filters = request.filters.unwrap_or_default();
        let by = request.sort_by.unwrap_or_default();
        let key = |secret: &Secret| match by.as_str() {
            "name" => 0,
            "last-changed-date" => secret.changed_at.as_millis(),
            // Nobody keeps when a secret was read.
            _ => secret.created_at.as_millis(),
        };
        let secrets = self.store.secrets(&caller.region, None).await;
        let mut secrets = secrets.map_err(|error| store_error(&error))?;
        secrets.retain(|secret| {
            (deleted || secret.deleted_at.is_none())
                && filters
                    .iter()
                    .all(|filter| matches(secret, filter, &caller.region))
        });
        let descending = request.sort_order.as_deref() == Some("desc");
        secrets.sort_by(|a, b| {
            let order = (key(a), &a.name).cmp(&(key(b), &b.name));
            if descending { order.reverse() } else { order }
        });
        let list = format!("ListSecrets {by} {descending}");
        if let Some(token) = request.next_token {
            let place = self.page_place(&list, &caller.region, &token);
            let place = place.and_then(|place| {
                let (key, name) = place.split_once('/')?;
                Some((key.parse::<u64>().ok()?, name.to_owned()))
            });
            let (at, name) = place.ok_or_else(bad_token)?;
            secrets.retain(|secret| {
                let order = (key(secret), &secret.name).cmp(&(at, &name));
                if descending {
                    order.is_lt()
                } else {
                    order.is_gt()
                }
            });
        }
        let count = page_size(request.max_results);
        let more = secrets.len() > count;
        secrets.truncate(count);
        let next_token = secrets.last().filter(|_| more).map(|last| {
            let place = format!("{}/{}", key(last), last.name);
            self.page_token(&list, &caller.region, &place)
        });
        let entries = secrets.into_iter().map(|secret| SecretListEntry {
            arn: Some(self.secret_arn(caller, &secret)),
            secret_versions_to_stages: Some(secret.stages()).filter(|stages| !stages.is_empty()),
            created_date: Some(seconds(secret.created_at)),
            last_changed_date: Some(seconds(secret.changed_at)),
            deleted_date: secret.purge_at.map(seconds),
            tags: wire_tags(&secret.tags),
            name: Some(secret.name),
            description: secret.description,
            kms_key_id: secret.kms_key,
            ..SecretListEntry::default()
        });
        Ok(ListSecretsResponse {
            secret_list: Some(entries.collect()),
            next_token,
        })
    }

    async fn list_secret_version_ids(
        &self,
        caller: &Caller,
        request: ListSecretVersionIdsRequest,
    ) -> Result<ListSecretVersionIdsResponse, ApiError> {
        let secret = self.find_secret(caller, request.secret_id).await?;
        let list = format!("ListSecretVersionIds {}", secret.id);
        let first = match request.next_token {
            None => 0,
            Some(token) => {
                let place = self.page_place(&list, &caller.region, &token);
                let place = place.ok_or_else(bad_token)?;
                let found = secret.versions.iter().position(|v| v.id == place);
                found.map_or(0, |index| index + 1)
            }
        };
        let all = request.include_deprecated == Some(true);
        let mut versions: Vec<&SecretVersion> = secret.versions[first..]
            .iter()
            .filter(|version| all || !version.stages.is_empty())
            .collect();
        let count = page_size(request.max_results);
        let more = versions.len() > count;
        versions.truncate(count);
        let next_token = versions
            .last()
            .filter(|_| more)
            .map(|last| self.page_token(&list, &caller.region, &last.id));
        let entries = versions
            .into_iter()
            .map(|version| SecretVersionsListEntry {
                version_id: Some(version.id.clone()),
                version_stages: Some(version.stages.clone()).filter(|stages| !stages.is_empty()),
                created_date: Some(seconds(version.created_at)),
                ..SecretVersionsListEntry::default()
            })
            .collect();
        Ok(ListSecretVersionIdsResponse {
            versions: Some(entries),
            next_token,
            arn: Some(self.secret_arn(caller, &secret)),
            name: Some(secret.name),
        })
    }

    async fn delete_secret(
        &self,
        caller: &Caller,
        request: DeleteSecretRequest,
    ) -> Result<DeleteSecretResponse, ApiError> {
        let force = request.force_delete_without_recovery == Some(true);
        let days = request.recovery_window_in_days;
        if force && days.is_some() {
            return Err(ApiError::invalid_parameter(
                "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
            ));
        }
        let days = days.unwrap_or(RECOVERY_DAYS_DEFAULT);
        if !RECOVERY_DAYS.contains(&days) {
            return Err(ApiError::invalid_parameter(
                "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).",
            ));
        }
        let now = clock::now();
        let id = request.secret_id.unwrap_or_default();
        let secret = match self.find_secret(caller, Some(id.clone())).await {
            Ok(secret) => secret,
            // Who wants it gone for sure has that.
            Err(error) if force && error.code() == "ResourceNotFoundException" => {
                return Ok(DeleteSecretResponse {
                    arn: Some(match id.starts_with("arn:") {
                        true => id.clone(),
                        false => self.arn_of(caller, &id, &suffix()),
                    }),
                    name: Some(id),
                    deletion_date: Some(seconds(now)),
                });
            }
            Err(error) => return Err(error),
        };
        if force {
            let remove = |found: Found<Secret>| match found {
                Found::One(found) if found.id == secret.id => Ok((SecretChange::Remove, ())),
                Found::One(_) | Found::None { .. } => Err(not_found()),
            };
            let removed = self
                .store
                .change_secret(&caller.region, &secret.name, remove);
            removed.await.map_err(|error| store_error(&error))??;
            return Ok(DeleteSecretResponse {
                arn: Some(self.secret_arn(caller, &secret)),
                name: Some(secret.name),
                deletion_date: Some(seconds(now)),
            });
        }
        let purge_at = Timestamp::from_millis(now.as_millis() + days.unsigned_abs() * DAY_MILLIS);
        let secret = self
            .change_secret(caller, Some(id), |secret| {
                if secret.deleted_at.is_some() {
                    return Err(ApiError::invalid_request(
                        "You tried to perform the operation on a secret that's currently marked \
                         deleted.",
                    ));
                }
                secret.deleted_at = Some(now);
                secret.purge_at = Some(purge_at);
                secret.changed_at = now;
                Ok(None)
            })
            .await?;
        Ok(DeleteSecretResponse {
            arn: Some(self.secret_arn(caller, &secret)),
            name: Some(secret.name),
            deletion_date: Some(seconds(purge_at)),
        })
    }

    async fn restore_secret(
        &self,
        caller: &Caller,
        request: RestoreSecretRequest,
    ) -> Result<RestoreSecretResponse, ApiError> {
        let secret = self
            .change_secret(caller, request.secret_id, |secret| {
                secret.deleted_at = None;
                secret.purge_at = None;
                secret.changed_at = clock::now();
                Ok(None)
            })
            .await?;
        Ok(RestoreSecretResponse {
            arn: Some(self.secret_arn(caller, &secret)),
            name: Some(secret.name),
        })
    }

    async fn tag_secret(
        &self,
        caller: &Caller,
        request: TagResourceRequest,
    ) -> Result<Nothing, ApiError> {
        let given = request.tags;
        self.change_secret(caller, request.secret_id, |secret| {
            secret.check_kept().map_err(refused)?;
            secret.tags = with_tags(std::mem::take(&mut secret.tags), given)?;
            secret.changed_at = clock::now();
            Ok(None)
        })
        .await?;
        Ok(Nothing {})
    }

    async fn untag_secret(
        &self,
        caller: &Caller,
        request: UntagResourceRequest,
    ) -> Result<Nothing, ApiError> {
        let keys = request.tag_keys.unwrap_or_default();
        self.change_secret(caller, request.secret_id, |secret| {
            secret.check_kept().map_err(refused)?;
            secret.tags.retain(|key, _| !keys.contains(key));
            secret.changed_at = clock::now();
            Ok(None)
        })
        .await?;
        Ok(Nothing {})
    }

    /// There are no policies of single secrets: roles say who may do what.
    async fn get_resource_policy(
        &self,
        caller: &Caller,
        request: GetResourcePolicyRequest,
    ) -> Result<GetResourcePolicyResponse, ApiError> {
        let secret = self.find_secret(caller, request.secret_id).await?;
        Ok(GetResourcePolicyResponse {
            arn: Some(self.secret_arn(caller, &secret)),
            name: Some(secret.name),
            resource_policy: None,
        })
    }

    /// The secret of a name, an ARN, or an ARN without its suffix.
    async fn find_secret(&self, caller: &Caller, id: Option<String>) -> Result<Secret, ApiError> {
        let id = id.unwrap_or_default();
        let found = match id.strip_prefix("arn:") {
            None => self.store.secret(&caller.region, &id).await,
            Some(rest) => {
                let parts: Vec<&str> = rest.splitn(6, ':').collect();
                let [_, "secretsmanager", region, account, "secret", resource] = parts[..] else {
                    return Err(ApiError::invalid_parameter("Invalid secret ARN."));
                };
                if region != caller.region || account != self.config.account_id {
                    return Err(not_found());
                }
                self.vault.secret_by_arn(region, resource).await
            }
        };
        found
            .map_err(|error| store_error(&error))?
            .ok_or_else(not_found)
    }

    /// Changes a secret; `change` answers the value it added, sealed. Answers the changed secret.
    async fn change_secret(
        &self,
        caller: &Caller,
        id: Option<String>,
        change: impl FnOnce(&mut Secret) -> Result<Option<(String, Vec<u8>)>, ApiError>,
    ) -> Result<Secret, ApiError> {
        let wanted = self.find_secret(caller, id).await?;
        let changed = self
            .store
            .change_secret(&caller.region, &wanted.name, |found| {
                let Found::One(mut secret) = found else {
                    return Err(not_found());
                };
                if secret.id != wanted.id {
                    return Err(not_found());
                }
                let value = change(&mut secret)?;
                Ok((SecretChange::Put(Box::new(secret.clone()), value), secret))
            });
        changed.await.map_err(|error| store_error(&error))?
    }

    /// Puts a value into a secret; answers it sealed, unless it was there already.
    fn put_value(
        &self,
        secret: &mut Secret,
        value: &GivenValue,
        token: &str,
        stages: Vec<String>,
        now: Timestamp,
    ) -> Result<Option<(String, Vec<u8>)>, ApiError> {
        let version = SecretVersion {
            id: token.to_owned(),
            stages,
            kind: value.kind,
            fingerprint: self.vault.fingerprint(&secret.id, &value.bytes),
            created_at: now,
        };
        let put = secret.put(version, now).map_err(refused)?;
        let sealed = || self.vault.seal_secret(&secret.id, token, &value.bytes);
        Ok(match put {
            Put::New => Some((token.to_owned(), sealed())),
            Put::Again => None,
        })
    }

    /// Whether a secret was made by this very request.
    fn is_same(&self, secret: &Secret, value: Option<&GivenValue>, token: &str) -> bool {
        secret
            .version(token)
            .zip(value)
            .is_some_and(|(version, value)| {
                version.fingerprint == self.vault.fingerprint(&secret.id, &value.bytes)
            })
    }

    fn secret_arn(&self, caller: &Caller, secret: &Secret) -> String {
        self.arn_of(caller, &secret.name, &secret.suffix)
    }

    fn arn_of(&self, caller: &Caller, name: &str, suffix: &str) -> String {
        let (region, account) = (&caller.region, &self.config.account_id);
        format!("arn:aws:secretsmanager:{region}:{account}:secret:{name}-{suffix}")
    }
}

async fn get_random_password(
    request: GetRandomPasswordRequest,
) -> Result<GetRandomPasswordResponse, ApiError> {
    let excluded = request.exclude_characters.unwrap_or_default();
    let kinds = [
        (LOWERCASE, request.exclude_lowercase != Some(true)),
        (UPPERCASE, request.exclude_uppercase != Some(true)),
        (NUMBERS, request.exclude_numbers != Some(true)),
        (PUNCTUATION, request.exclude_punctuation != Some(true)),
        (" ", request.include_space == Some(true)),
    ];
    let kinds: Vec<Vec<char>> = kinds
        .into_iter()
        .filter(|(_, included)| *included)
        .map(|(kind, _)| kind.chars().filter(|c| !excluded.contains(*c)).collect())
        .filter(|kind: &Vec<char>| !kind.is_empty())
        .collect();
    let every: Vec<char> = kinds.concat();
    let length = request.password_length.unwrap_or(PASSWORD_LEN_DEFAULT);
    let length = length.unsigned_abs() as usize;
    if every.is_empty() {
        return Err(ApiError::invalid_parameter(
            "Nothing is left to make a password of: exclude fewer characters.",
        ));
    }
    let each = request.require_each_included_type != Some(false);
    if each && length < kinds.len() {
        return Err(ApiError::invalid_parameter(
            "Password length is too short based on the required types.",
        ));
    }
    let mut rng = rand::rng();
    // Drawn anew until it has one of each, so that all that have are equally likely.
    let password: String = loop {
        let drawn: Vec<char> = (0..length)
            .filter_map(|_| every.choose(&mut rng).copied())
            .collect();
        let has = |kind: &Vec<char>| drawn.iter().any(|c| kind.contains(c));
        if !each || kinds.iter().all(has) {
            break drawn.into_iter().collect();
        }
    };
    Ok(GetRandomPasswordResponse {
        random_password: Some(password),
    })
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-/_+=.@!".contains(c);
    match name.chars().all(allowed) {
        true => Ok(()),
        false => Err(ApiError::invalid_parameter(
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the \
             following: -/_+=.@!",
        )),
    }
}

fn given_value(text: Option<String>, bytes: Option<Blob>) -> Result<Option<GivenValue>, ApiError> {
    match (text, bytes) {
        (Some(_), Some(_)) => Err(ApiError::invalid_parameter(
            "You can't specify both a binary secret value and a string secret value in the same \
             secret.",
        )),
        (Some(text), None) => Ok(Some(GivenValue {
            kind: ValueKind::Text,
            bytes: Zeroizing::new(text.into_bytes()),
        })),
        (None, Some(Blob(bytes))) => Ok(Some(GivenValue {
            kind: ValueKind::Binary,
            bytes: Zeroizing::new(bytes),
        })),
        (None, None) => Ok(None),
    }
}

/// The client's token, or one of ours: a version's id.
fn token(given: Option<String>) -> String {
    given.unwrap_or_else(|| uuid::Uuid::new_v4().hyphenated().to_string())
}

fn suffix() -> String {
    let mut rng = rand::rng();
    (0..SUFFIX_LEN)
        .map(|_| char::from(SUFFIX_ALPHABET[rng.random_range(0..SUFFIX_ALPHABET.len())]))
        .collect()
}

fn with_tags(
    mut tags: BTreeMap<String, String>,
    given: Option<Vec<Tag>>,
) -> Result<BTreeMap<String, String>, ApiError> {
    for tag in given.unwrap_or_default() {
        let key = tag.key.unwrap_or_default();
        if key.is_empty() || key.starts_with("aws:") {
            return Err(ApiError::invalid_parameter(
                "A tag needs a key, which must not begin with `aws:`.",
            ));
        }
        tags.insert(key, tag.value.unwrap_or_default());
    }
    match tags.len() > TAGS_MAX {
        true => Err(ApiError::invalid_parameter(format!(
            "A secret can have at most {TAGS_MAX} tags."
        ))),
        false => Ok(tags),
    }
}

fn wire_tags(tags: &BTreeMap<String, String>) -> Option<Vec<Tag>> {
    let tag = |(key, value): (&String, &String)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    (!tags.is_empty()).then(|| tags.iter().map(tag).collect())
}

/// Whether a secret is one of those that a filter lets through: one of its values must fit, and none
/// that begins with `!` may.
fn matches(secret: &Secret, filter: &Filter, region: &str) -> bool {
    let key = filter.key.as_deref().unwrap_or("all");
    let values = filter.values.iter().flatten();
    let (refused, wanted): (Vec<&str>, Vec<&str>) = values
        .map(String::as_str)
        .partition(|value| value.starts_with('!'));
    let fits = |value: &str| fits(secret, key, value, region);
    !refused.iter().any(|value| fits(&value[1..]))
        && (wanted.is_empty() || wanted.iter().any(|value| fits(value)))
}

fn fits(secret: &Secret, key: &str, value: &str, region: &str) -> bool {
    let lower = value.to_lowercase();
    let described = || {
        let description = secret.description.as_deref().unwrap_or_default();
        description.to_lowercase().contains(&lower)
    };
    match key {
        "name" => secret.name.starts_with(value),
        "description" => described(),
        "tag-key" => secret.tags.keys().any(|key| key.starts_with(value)),
        "tag-value" => secret.tags.values().any(|tag| tag.starts_with(value)),
        "primary-region" => region.starts_with(value),
        "all" => {
            let tags = secret.tags.iter().flat_map(|(key, value)| [key, value]);
            let mut texts = tags.chain([&secret.name]);
            described() || texts.any(|text| text.to_lowercase().contains(&lower))
        }
        // `owning-service`: none is owned by a service.
        _ => false,
    }
}

fn page_size(max_results: Option<i32>) -> usize {
    max_results.map_or(PAGE_MAX, |count| count.unsigned_abs() as usize)
}

fn seconds(at: Timestamp) -> EpochSeconds {
    EpochSeconds(at.as_secs())
}

fn not_found() -> ApiError {
    ApiError::resource_not_found("Secrets Manager can't find the specified secret.")
}

fn bad_token() -> ApiError {
    ApiError::invalid_next_token_exception("The NextToken value is invalid.")
}

fn refused(refusal: SecretRefusal) -> ApiError {
    let message = refusal.to_string();
    match refusal {
        SecretRefusal::Deleted | SecretRefusal::StageOfAnother => {
            ApiError::invalid_request(message)
        }
        SecretRefusal::TokenTaken { .. } => ApiError::resource_exists(message),
        SecretRefusal::NoVersion { .. } => ApiError::resource_not_found(message),
        SecretRefusal::StageElsewhere { .. }
        | SecretRefusal::StageNotThere { .. }
        | SecretRefusal::CurrentStays => ApiError::invalid_parameter(message),
        SecretRefusal::TooManyVersions | SecretRefusal::TooManyStages => {
            ApiError::limit_exceeded(message)
        }
    }
}

fn open_error(error: OpenError) -> ApiError {
    match error {
        OpenError::Store(error) => store_error(&error),
        OpenError::DoesNotOpen(error) => {
            tracing::warn!(error = %Chain(&error), "a secret does not open");
            ApiError::decryption_failure(
                "Secrets Manager can't decrypt the protected secret text: it was sealed with another \
                 installation's key.",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(key: &str, values: &[&str]) -> Filter {
        Filter {
            key: Some(key.into()),
            values: Some(values.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn filters_let_through_what_fits() {
        let secret = Secret {
            id: String::new(),
            name: "prod/db".into(),
            suffix: "AbCdEf".into(),
            description: Some("The Database".into()),
            kms_key: None,
            tags: BTreeMap::from([("team".into(), "blue".into())]),
            versions: Vec::new(),
            created_at: Timestamp::from_millis(1),
            changed_at: Timestamp::from_millis(1),
            deleted_at: None,
            purge_at: None,
        };
        for (key, values, want) in [
            ("name", &["prod"][..], true),
            ("name", &["db"], false),
            ("name", &["x", "prod/db"], true),
            ("name", &["!prod"], false),
            ("name", &["!x"], true),
            ("description", &["database"], true),
            ("tag-key", &["te"], true),
            ("tag-value", &["red"], false),
            ("primary-region", &["us-east-1"], true),
            ("owning-service", &["x"], false),
            ("all", &["BLUE"], true),
        ] {
            let got = matches(&secret, &filter(key, values), "us-east-1");
            assert_eq!(got, want, "{key} {values:?}");
        }
    }

    #[tokio::test]
    async fn passwords_are_of_what_was_asked_for() {
        let request = GetRandomPasswordRequest {
            password_length: Some(4),
            exclude_punctuation: Some(true),
            exclude_characters: Some("abc".into()),
            include_space: Some(true),
            ..GetRandomPasswordRequest::default()
        };
        for _ in 0..50 {
            let password = get_random_password(request.clone()).await.unwrap();
            let password = password.random_password.unwrap();
            assert_eq!(password.chars().count(), 4);
            for kind in [LOWERCASE, UPPERCASE, NUMBERS, " "] {
                assert!(password.contains(|c| kind.contains(c)), "{password}");
            }
            assert!(!password.contains(['a', 'b', 'c']));
        }
        let short = GetRandomPasswordRequest {
            password_length: Some(3),
            ..request
        };
        let refused = get_random_password(short).await.unwrap_err();
        assert_eq!(refused.code(), "InvalidParameterException");
    }
}
