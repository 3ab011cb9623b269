//! Webhooks that events are posted to, and the alerts that are raised.

use aws_lc_rs::rand;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ekiden_aws::{
    error::ApiError,
    native::{
        Alert as WireAlert, DeleteWebhookTargetRequest, DeleteWebhookTargetResponse,
        ListAlertsRequest, ListAlertsResponse, ListWebhookTargetsRequest,
        ListWebhookTargetsResponse, PutWebhookTargetRequest, PutWebhookTargetResponse,
        TestWebhookTargetRequest, TestWebhookTargetResponse, WebhookTarget,
    },
};
use ekiden_engine::Engine;
use ekiden_model::alert::Alert;
use ekiden_store::events::{EventWebhook, RuleError, StoredWebhook};
use tracing::info;
use zeroize::Zeroizing;

use super::{Api, Caller, store_error};
use crate::{
    clock,
    events::{Events, Secret, check_url},
};

/// Webhooks of one region.
const WEBHOOKS_MAX: u64 = 300;

/// The longest name.
const NAME_LEN_MAX: usize = 64;

/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// What secrets begin with, so that they are found where they should not be.
const SECRET_PREFIX: &str = "whsec_";

impl<E: Engine> Api<E> {
    pub(super) async fn put_webhook_target(
        &self,
        caller: &Caller,
        request: PutWebhookTargetRequest,
    ) -> Result<PutWebhookTargetResponse, ApiError> {
        let (region, name) = (&caller.region, &request.name);
        check_name(name)?;
        let endpoint = check_url(&request.url);
        let endpoint = endpoint.map_err(|error| ApiError::invalid_request(error.to_string()))?;
        let place = Events::webhook_place(region, name);
        let before = self.stored_webhook(region, name).await?;
        let old_key = match (&before, request.new_secret) {
            (Some(before), false) => {
                let opened = self.keyring.open(&place, &before.sealed);
                let opened: Option<Secret> = opened
                    .ok()
                    .and_then(|opened| serde_json::from_slice(&opened).ok());
                opened.map(|secret| secret.key)
            }
            _ => None,
        };
        let shown = old_key.is_none();
        let key = match old_key {
            Some(key) => key,
            None => new_secret()?,
        };
        let secret = Secret {
            url: request.url,
            key,
        };
        let plain = serde_json::to_vec(&secret).map(Zeroizing::new);
        let plain = plain.map_err(|error| ApiError::internal_service_error(error.to_string()))?;
        let (id, created_at) = match before {
            Some(before) => (before.webhook.id, before.webhook.created_at),
            None => (uuid::Uuid::new_v4().to_string(), clock::now()),
        };
        let arn = self.events.webhook_arn(region, name, &id);
        let stored = StoredWebhook {
            webhook: EventWebhook {
                name: name.clone(),
                id,
                endpoint,
                created_at,
            },
            sealed: self.keyring.seal(&place, &plain),
        };
        let put = self.store.put_event_webhook(region, &stored, WEBHOOKS_MAX);
        put.await.map_err(|error| match error {
            RuleError::Store(error) => store_error(&error),
            RuleError::Full | RuleError::Unknown | RuleError::InUse(_) => {
                ApiError::service_quota_exceeded(format!(
                    "There are {WEBHOOKS_MAX} webhooks in {region}, as many as there may be. Delete one first."
                ))
            }
        })?;
        info!(name, region, "webhook for events set");
        Ok(PutWebhookTargetResponse {
            arn,
            secret: shown.then(|| secret.key.to_string()),
        })
    }

    pub(super) async fn list_webhook_targets(
        &self,
        caller: &Caller,
        _request: ListWebhookTargetsRequest,
    ) -> Result<ListWebhookTargetsResponse, ApiError> {
        let region = &caller.region;
        let webhooks = self.store.event_webhooks(region).await;
        let webhooks = webhooks.map_err(|error| store_error(&error))?;
        let mut targets = Vec::with_capacity(webhooks.len());
        for webhook in webhooks {
            let arn = self.events.webhook_arn(region, &webhook.name, &webhook.id);
            let counts = self.store.destination_counts(&arn).await;
            let counts = counts.map_err(|error| store_error(&error))?;
            targets.push(WebhookTarget {
                name: webhook.name,
                arn,
                endpoint: webhook.endpoint,
                created_at: webhook.created_at.as_secs(),
                waiting: counts.waiting,
                delivered: counts.delivered,
                lost: counts.lost,
                problem: counts.problem,
            });
        }
        Ok(ListWebhookTargetsResponse { targets })
    }

    pub(super) async fn delete_webhook_target(
        &self,
        caller: &Caller,
        request: DeleteWebhookTargetRequest,
    ) -> Result<DeleteWebhookTargetResponse, ApiError> {
        let (region, name) = (&caller.region, &request.name);
        let found = self.stored_webhook(region, name).await?;
        let found = found.ok_or_else(|| unknown(name))?;
        let arn = self.events.webhook_arn(region, name, &found.webhook.id);
        let removed = self.store.remove_event_webhook(region, name, &arn).await;
        removed.map_err(|error| match error {
            RuleError::Store(error) => store_error(&error),
            RuleError::Unknown | RuleError::Full => unknown(name),
            RuleError::InUse(rules) => ApiError::invalid_state(format!(
                "Webhook {name} is a target of the rules {}. Remove it from them first.",
                rules.join(", ")
            )),
        })?;
        Ok(DeleteWebhookTargetResponse {})
    }

    pub(super) async fn test_webhook_target(
        &self,
        caller: &Caller,
        request: TestWebhookTargetRequest,
    ) -> Result<TestWebhookTargetResponse, ApiError> {
        let found = self.stored_webhook(&caller.region, &request.name).await?;
        found.ok_or_else(|| unknown(&request.name))?;
        let sent = self
            .events
            .test_webhook(&caller.region, &request.name)
            .await;
        Ok(TestWebhookTargetResponse {
            delivered: sent.is_ok(),
            problem: sent.err(),
        })
    }

    pub(super) async fn list_alerts(
        &self,
        caller: &Caller,
        _request: ListAlertsRequest,
    ) -> Result<ListAlertsResponse, ApiError> {
        let raised = self.alerts.raised().await;
        let alerts = raised.into_iter();
        let alerts = alerts.filter_map(|alert| self.wire_alert(caller, alert));
        Ok(ListAlertsResponse {
            alerts: alerts.collect(),
        })
    }

    /// `None` when it is about a service of another region.
    fn wire_alert(&self, caller: &Caller, alert: Alert) -> Option<WireAlert> {
        let (mut service_arn, mut service_name) = (None, None);
        if let Some(id) = alert.service {
            let snapshot = self.services.get(&caller.region, id)?;
            service_arn = Some(self.arn(&snapshot.stored));
            service_name = Some(snapshot.stored.service.name.to_string());
        }
        Some(WireAlert {
            kind: alert.key.kind.as_str().to_owned(),
            subject: alert.key.subject,
            service_arn,
            service_name,
            raised_at: alert.raised_at.as_secs(),
            message: alert.message,
        })
    }

    async fn stored_webhook(
        &self,
        region: &str,
        name: &str,
    ) -> Result<Option<StoredWebhook>, ApiError> {
        let found = self.store.event_webhook(region, name).await;
        found.map_err(|error| store_error(&error))
    }
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    match !name.is_empty() && name.len() <= NAME_LEN_MAX && name.chars().all(fits) {
        true => Ok(()),
        false => Err(ApiError::invalid_request(format!(
            "Name must have 1 to {NAME_LEN_MAX} letters, digits, `.`, `-` and `_`."
        ))),
    }
}

fn new_secret() -> Result<Zeroizing<String>, ApiError> {
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    rand::fill(&mut *bytes)
        .map_err(|_| ApiError::internal_service_error("no random bytes".to_owned()))?;
    let text = BASE64_URL_SAFE_NO_PAD.encode(*bytes);
    Ok(Zeroizing::new(format!("{SECRET_PREFIX}{text}")))
}

fn unknown(name: &str) -> ApiError {
    ApiError::resource_not_found(format!("There is no webhook {name}."))
}
