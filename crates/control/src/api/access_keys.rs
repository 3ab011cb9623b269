//! Access keys, and what was done with them.

use std::sync::Arc;

use ekiden_aws::{
    error::ApiError,
    native::{
        AccessKey as WireKey, CreateAccessKeyRequest, CreateAccessKeyResponse,
        DeleteAccessKeyRequest, DeleteAccessKeyResponse, ListAccessKeysRequest,
        ListAccessKeysResponse, ListAuditEventsRequest, ListAuditEventsResponse,
        UpdateAccessKeyRequest, UpdateAccessKeyResponse,
    },
};
use ekiden_engine::Engine;
use ekiden_model::{
    access::{Role, SERVICE_PATTERNS_MAX, ServicePattern},
    time::Timestamp,
};
use tracing::warn;

use super::{Api, Caller, store_error};
use crate::{
    audit::{Filter, Place},
    identity::{Key, KeyError},
};

/// Characters of a key's description.
const DESCRIPTION_CHARS_MAX: usize = 256;

/// Events of one page, at most and when the request does not say.
const EVENTS_MAX: u32 = 1000;
const EVENTS_DEFAULT: u32 = 100;

impl<E: Engine> Api<E> {
    pub(super) async fn create_access_key(
        &self,
        _caller: &Caller,
        request: CreateAccessKeyRequest,
    ) -> Result<CreateAccessKeyResponse, ApiError> {
        let role = parse_role(&request.role, &request.services)?;
        let description = parse_description(request.description)?;
        let keys_max = self.config.quotas.access_keys;
        let created = self.identities.create(role, description, keys_max).await;
        let (key, secret) = created.map_err(key_error)?;
        Ok(CreateAccessKeyResponse {
            access_key: wire_key(&key),
            secret_access_key: secret.to_string(),
        })
    }

    pub(super) async fn list_access_keys(
        &self,
        _caller: &Caller,
        _request: ListAccessKeysRequest,
    ) -> Result<ListAccessKeysResponse, ApiError> {
        let keys = self.identities.list();
        Ok(ListAccessKeysResponse {
            access_keys: keys.iter().map(|key| wire_key(key)).collect(),
        })
    }

    pub(super) async fn update_access_key(
        &self,
        _caller: &Caller,
        request: UpdateAccessKeyRequest,
    ) -> Result<UpdateAccessKeyResponse, ApiError> {
        let enabled = request.status.as_deref().map(parse_status).transpose()?;
        let description = request.description.map(parse_description).transpose()?;
        let role = match (request.role, request.services) {
            (Some(role), services) => Some(parse_role(&role, &services.unwrap_or_default())?),
            (None, Some(services)) => Some(parse_role("deployer", &services)?),
            (None, None) => None,
        };
        let updated = self
            .identities
            .update(&request.access_key_id, |facts| {
                facts.enabled = enabled.unwrap_or(facts.enabled);
                if let Some(description) = description {
                    facts.description = description;
                }
                if let Some(role) = role {
                    facts.role = role;
                }
            })
            .await;
        let key = updated.map_err(key_error)?;
        Ok(UpdateAccessKeyResponse {
            access_key: wire_key(&key),
        })
    }

    pub(super) async fn delete_access_key(
        &self,
        _caller: &Caller,
        request: DeleteAccessKeyRequest,
    ) -> Result<DeleteAccessKeyResponse, ApiError> {
        let deleted = self.identities.delete(&request.access_key_id).await;
        deleted.map_err(key_error)?;
        Ok(DeleteAccessKeyResponse {})
    }

    pub(super) async fn list_audit_events(
        &self,
        _caller: &Caller,
        request: ListAuditEventsRequest,
    ) -> Result<ListAuditEventsResponse, ApiError> {
        let seconds = |at: u64| Timestamp::from_millis(at.saturating_mul(1000));
        let from = request.next_token.as_deref().map(parse_place).transpose()?;
        let count = request.max_results.unwrap_or(EVENTS_DEFAULT);
        if !(1..=EVENTS_MAX).contains(&count) {
            return Err(ApiError::invalid_request(format!(
                "MaxResults must be from 1 to {EVENTS_MAX}."
            )));
        }
        let filter = Filter {
            from: request.start_time.map(seconds),
            before: request.end_time.map(seconds),
            service: request.service_name,
            access_key_id: request.access_key_id,
            result: request.result,
        };
        let audit = Arc::clone(&self.audit);
        let read = tokio::task::spawn_blocking(move || audit.read(&filter, from, count as usize));
        let page = match read.await {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => {
                warn!(%error, "the audit log cannot be read");
                return Err(ApiError::internal_service_error(
                    "the audit log cannot be read",
                ));
            }
            Err(_) => return Err(ApiError::service_unavailable("the server is stopping")),
        };
        Ok(ListAuditEventsResponse {
            events: page.events,
            next_token: page.older.map(place_token),
        })
    }
}

fn place_token(place: Place) -> String {
    format!("a1-{:x}-{:x}", place.segment, place.offset)
}

/// Any place will do: one that was made up leads into the same log.
fn parse_place(token: &str) -> Result<Place, ApiError> {
    let parse = || {
        let (segment, offset) = token.strip_prefix("a1-")?.split_once('-')?;
        Some(Place {
            segment: u64::from_str_radix(segment, 16).ok()?,
            offset: u64::from_str_radix(offset, 16).ok()?,
        })
    };
    parse().ok_or_else(|| {
        ApiError::invalid_request("NextToken is not valid. Give back the token of the page before.")
    })
}

fn parse_role(role: &str, services: &[String]) -> Result<Role, ApiError> {
    let only_deployers = |role| match services.is_empty() {
        true => Ok(role),
        false => Err(ApiError::invalid_request(
            "Services are for the role `deployer` only: the others' rights do not depend on names.",
        )),
    };
    match role {
        "admin" => only_deployers(Role::Admin),
        "viewer" => only_deployers(Role::Viewer),
        "deployer" if (1..=SERVICE_PATTERNS_MAX).contains(&services.len()) => {
            let patterns: Result<Vec<ServicePattern>, _> =
                services.iter().map(|pattern| pattern.parse()).collect();
            let services =
                patterns.map_err(|error| ApiError::invalid_request(format!("{error}.")))?;
            Ok(Role::Deployer { services })
        }
        "deployer" => Err(ApiError::invalid_request(format!(
            "A deployer needs 1 to {SERVICE_PATTERNS_MAX} patterns of service names in Services, \
             such as `web-*`."
        ))),
        _ => Err(ApiError::invalid_request(
            "Role must be `admin`, `deployer` or `viewer`.",
        )),
    }
}

fn parse_status(status: &str) -> Result<bool, ApiError> {
    match status {
        "Active" => Ok(true),
        "Inactive" => Ok(false),
        _ => Err(ApiError::invalid_request(
            "Status must be `Active` or `Inactive`.",
        )),
    }
}

fn parse_description(description: String) -> Result<String, ApiError> {
    match description.chars().count() <= DESCRIPTION_CHARS_MAX {
        true => Ok(description),
        false => Err(ApiError::invalid_request(format!(
            "Description may have {DESCRIPTION_CHARS_MAX} characters."
        ))),
    }
}

fn wire_key(key: &Key) -> WireKey {
    let last_used = key.last_used();
    let services = match &key.facts.role {
        Role::Deployer { services } => services.iter().map(ToString::to_string).collect(),
        Role::Admin | Role::Viewer => Vec::new(),
    };
    let status = match key.is_active() {
        true => "Active",
        false => "Inactive",
    };
    WireKey {
        access_key_id: key.id.clone(),
        role: key.facts.role.name().to_owned(),
        services,
        description: key.facts.description.clone(),
        status: status.to_owned(),
        created_at: key.facts.created_at.as_secs(),
        last_used_at: last_used.as_ref().map(|last| last.at.as_secs()),
        last_used_from: last_used.map(|last| last.source),
    }
}

fn key_error(error: KeyError) -> ApiError {
    match error {
        KeyError::Unknown(_) => ApiError::resource_not_found(format!("{error}.")),
        KeyError::TooMany(_) => ApiError::service_quota_exceeded(format!(
            "{error}. Delete one, or raise the setting `quota.access_keys`."
        )),
        KeyError::LastAdmin => ApiError::invalid_state(format!("{error}.")),
        KeyError::Store(error) => store_error(&error),
    }
}
