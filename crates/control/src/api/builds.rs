//! Builds, as their owners see them: their logs, what opens repositories, and who tells of pushes.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ekiden_aws::{
    error::ApiError,
    native::{
        BuildLogLine, CreateWebhookRequest, CreateWebhookResponse, DeleteWebhookRequest,
        DeleteWebhookResponse, GetBuildLogRequest, GetBuildLogResponse,
        PutConnectionCredentialRequest, PutConnectionCredentialResponse,
    },
};
use ekiden_engine::Engine;
use ekiden_model::id::OperationId;
use ekiden_source::git::Credential;
use zeroize::Zeroizing;

use super::{Api, Caller, store_error};
use crate::{builds::log::Speaker, clock};

/// The longest that an answer waits for a line, in seconds.
const WAIT_SECONDS_MAX: u32 = 20;

/// Operations that are looked through for the newest that built.
const OPERATIONS_LOOKED_MAX: u32 = 20;

/// The longest token and the longest key, in bytes.
const CREDENTIAL_BYTES_MAX: usize = 16 * 1024;

/// The longest name of a user, in bytes.
const USERNAME_BYTES_MAX: usize = 256;

/// The longest name of a host with its port, in bytes.
const HOST_BYTES_MAX: usize = 260;

/// Random bytes of a webhook's secret.
const SECRET_BYTES: usize = 32;

/// Where webhooks are posted, before region and service.
pub(super) const WEBHOOKS: &str = "/ekiden/webhooks/";

impl<E: Engine> Api<E> {
    pub(super) async fn get_build_log(
        &self,
        caller: &Caller,
        request: GetBuildLogRequest,
    ) -> Result<GetBuildLogResponse, ApiError> {
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        let service = snapshot.stored.service.id;
        let unknown = || {
            ApiError::resource_not_found(
                "The service has no build log of this operation. Logs of the newest 20 builds are kept.",
            )
        };
        let operation = match request.operation_id.as_deref() {
            Some(id) => id.parse::<OperationId>().map_err(|_| unknown())?,
            None => {
                let newest = self
                    .store
                    .operations(service, None, OPERATIONS_LOOKED_MAX)
                    .await
                    .map_err(|error| store_error(&error))?;
                let mut ids = newest.into_iter().map(|(_, operation)| operation.id);
                let built = ids.find(|id| self.builds.logs.has(service, *id));
                built.ok_or_else(unknown)?
            }
        };
        let wait = request.wait_seconds.unwrap_or(0).min(WAIT_SECONDS_MAX);
        let from = request.from.unwrap_or(0);
        let wait = Duration::from_secs(wait.into());
        let page = self.builds.logs.page(service, operation, from, wait).await;
        let mut page = page.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => unknown(),
            _ => ApiError::internal_service_error(format!("a build log: {error}")),
        })?;
        if page.over {
            // It may not have begun to build: then it waits for its turn, or for the agent.
            let newest = self.find(caller, Some(&request.service_arn))?;
            let current = newest.stored.service.operation.as_ref();
            let prepares = current.is_some_and(|current| {
                current.id == operation
                    && matches!(
                        current.phase,
                        ekiden_model::service::Phase::Accepted
                            | ekiden_model::service::Phase::Prepare
                    )
            });
            page.over = !prepares;
        }
        Ok(GetBuildLogResponse {
            operation_id: operation.to_string(),
            lines: page
                .lines
                .into_iter()
                .map(|line| BuildLogLine {
                    timestamp: line.at,
                    by_ekiden: line.by == Speaker::Ekiden,
                    text: line.text,
                })
                .collect(),
            next: page.next,
            over: page.over,
        })
    }

    pub(super) async fn put_connection_credential(
        &self,
        caller: &Caller,
        request: PutConnectionCredentialRequest,
    ) -> Result<PutConnectionCredentialResponse, ApiError> {
        let credential = credential(&request)?;
        let given = request.host.as_deref();
        let (arn, provider) = self
            .open_connection(caller, &request.connection_arn)
            .await?;
        let host = host(given, &provider)?;
        self.builds
            .sources
            .put_credential(&arn, &host, &credential)
            .await
            .map_err(|error| store_error(&error))?;
        let connection = self.complete_connection_of(caller, &arn).await?;
        Ok(PutConnectionCredentialResponse { connection })
    }

    pub(super) async fn create_webhook(
        &self,
        caller: &Caller,
        request: CreateWebhookRequest,
    ) -> Result<CreateWebhookResponse, ApiError> {
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        let stored = &snapshot.stored;
        let source = stored.service.settings_wanted().source.as_ref();
        if source.is_none_or(ekiden_model::source::CodeSource::is_upload) {
            return Err(ApiError::invalid_request(
                "A webhook is for a service that runs code of a git repository; this one does not.",
            ));
        }
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        aws_lc_rs::rand::fill(&mut *secret)
            .map_err(|_| ApiError::internal_service_error("no random bytes".to_owned()))?;
        let secret = BASE64_URL_SAFE_NO_PAD.encode(*secret);
        self.builds
            .sources
            .put_webhook_secret(stored.service.id, Some(&secret))
            .await
            .map_err(|error| store_error(&error))?;
        Ok(CreateWebhookResponse {
            path: format!("{WEBHOOKS}{}/{}", stored.region, stored.service.id),
            secret,
        })
    }

    pub(super) async fn delete_webhook(
        &self,
        caller: &Caller,
        request: DeleteWebhookRequest,
    ) -> Result<DeleteWebhookResponse, ApiError> {
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        self.builds
            .sources
            .put_webhook_secret(snapshot.stored.service.id, None)
            .await
            .map_err(|error| store_error(&error))?;
        Ok(DeleteWebhookResponse {})
    }
}

/// The host that a credential is for: as it is given, or the only one of its provider.
fn host(given: Option<&str>, provider: &str) -> Result<String, ApiError> {
    let host = match (given, provider) {
        (Some(given), _) => given.to_ascii_lowercase(),
        (None, "GITHUB") => "github.com".to_owned(),
        (None, "BITBUCKET") => "bitbucket.org".to_owned(),
        (None, _) => String::new(),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    match !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.chars().all(fits) {
        true => Ok(host),
        false => Err(ApiError::invalid_request(
            "Host must be the name of the host that the credential is for, such as `git.example.com` or \
             `git.example.com:8443`.",
        )),
    }
}

fn credential(request: &PutConnectionCredentialRequest) -> Result<Credential, ApiError> {
    let invalid = |problem: String| Err(ApiError::invalid_request(problem));
    for (name, value) in [
        ("Token", &request.token),
        ("PrivateKey", &request.private_key),
        ("KnownHosts", &request.known_hosts),
    ] {
        let Some(value) = value else { continue };
        if value.trim().is_empty() || value.len() > CREDENTIAL_BYTES_MAX || value.contains('\0') {
            return invalid(format!(
                "{name} must have 1 to {CREDENTIAL_BYTES_MAX} bytes, and no NUL."
            ));
        }
    }
    match (&request.token, &request.private_key) {
        (Some(token), None) => {
            let username = request.username.clone().unwrap_or_else(|| "git".to_owned());
            let is_bad = |c: char| c.is_control() || c == ':';
            if username.is_empty()
                || username.len() > USERNAME_BYTES_MAX
                || username.contains(is_bad)
            {
                return invalid(format!(
                    "Username must have 1 to {USERNAME_BYTES_MAX} bytes, and no `:`."
                ));
            }
            if token.contains(char::is_control) {
                return invalid("Token must be one line.".to_owned());
            }
            Ok(Credential::Token {
                username,
                secret: Zeroizing::new(token.clone()),
            })
        }
        (None, Some(key)) if key.trim_start().starts_with("-----BEGIN ") => {
            Ok(Credential::SshKey {
                pem: Zeroizing::new(key.clone()),
                known_hosts: request.known_hosts.clone(),
            })
        }
        (None, Some(_)) => {
            invalid("PrivateKey must be a private key in PEM, such as ssh-keygen makes.".to_owned())
        }
        _ => invalid("Give either Token or PrivateKey.".to_owned()),
    }
}

/// Seconds since the Unix epoch, for signatures that have a time.
pub(super) fn unix_now() -> u64 {
    clock::now().as_millis() / 1000
}
