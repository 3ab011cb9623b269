//! What is asked in plain HTTP: uploads of source trees, and webhooks.
//!
//! An upload is answered to whoever has an access key that may deploy the service; a webhook to whoever
//! can sign with the service's secret.

use std::time::Duration;

use ekiden_aws::{
    native::{AuditEvent, MissingResponse, PlainFailure, UploadResponse},
    protocol::RequestId,
};
use ekiden_engine::Engine;
use ekiden_model::{
    access::{Access, Decision, decide},
    id::ServiceId,
    name::ServiceName,
};
use ekiden_registry::Body;
use ekiden_source::webhook;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tracing::{info, warn};

use super::{Api, builds, whole};
use crate::{
    audit,
    builds::uploads::{Problem, UPLOADS_MAX},
    clock,
    identity::{Identities, Identity},
    worker::Chain,
};

/// Where uploads go, before region and service.
const UPLOADS: &str = "/ekiden/uploads/";

/// The last part of the path of a manifest.
const MANIFEST: &str = "manifest";

/// The largest notice that a webhook brings, in bytes: GitHub's bound.
const NOTICE_BYTES_MAX: usize = 25 << 20;

/// How long a webhook's notice may take to come.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may send nothing of an upload.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A request that is not carried out.
struct Refusal {
    status: StatusCode,
    message: String,
}

fn refuse<T>(status: StatusCode, message: impl Into<String>) -> Result<T, Refusal> {
    let message = message.into();
    Err(Refusal { status, message })
}

/// Whether a path is answered here.
pub(super) fn is_plain(path: &str) -> bool {
    path.starts_with(UPLOADS) || path.starts_with(builds::WEBHOOKS)
}

impl<E: Engine> Api<E> {
    pub(super) async fn plain(&self, request: Request<Incoming>, source: &str) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let answer = match (request.method(), path.strip_prefix(UPLOADS)) {
            (&Method::POST, Some(place)) => self.upload(place, request, source).await,
            (&Method::POST, None) => {
                let place = path.strip_prefix(builds::WEBHOOKS).unwrap_or_default();
                self.webhook(place, request, source).await
            }
            _ => refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "POST is what is understood here",
            ),
        };
        answer.unwrap_or_else(|Refusal { status, message }| {
            info!(path, status = status.as_u16(), message, "refused");
            let mut response = json(status, &PlainFailure { message });
            if status == StatusCode::UNAUTHORIZED {
                let basic = http::HeaderValue::from_static("Basic realm=\"ekiden\"");
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, basic);
            }
            response
        })
    }

    async fn upload(
        &self,
        place: &str,
        request: Request<Incoming>,
        source: &str,
    ) -> Result<Response<Body>, Refusal> {
        let (region, rest) = place.split_once('/').unwrap_or((place, ""));
        let (name, is_manifest) = match rest.split_once('/') {
            None => (rest, false),
            Some((name, MANIFEST)) => (name, true),
            Some(_) => return refuse(StatusCode::NOT_FOUND, "there is nothing here"),
        };
        let Some(identity) = self.logged_in(request.headers()) else {
            return refuse(
                StatusCode::UNAUTHORIZED,
                "an access key is wanted: its id as the name, its secret as the password",
            );
        };
        Identities::note_use(&identity.key, source);
        let is_region = !region.is_empty()
            && region.len() <= 32
            && region
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let Ok(name) = name.parse::<ServiceName>() else {
            return refuse(
                StatusCode::BAD_REQUEST,
                format!("`{name}` names no service"),
            );
        };
        if !is_region {
            return refuse(StatusCode::BAD_REQUEST, "the region is no name");
        }
        let role = &identity.key.facts.role;
        if decide(role, Access::Deploy, Some(name.as_str())) == Decision::Deny {
            self.note_upload(
                &identity,
                audit::Kind::Denied,
                region,
                name.as_str(),
                source,
            );
            return refuse(
                StatusCode::FORBIDDEN,
                format!("this access key may not deploy `{name}`"),
            );
        }
        let Ok(_place) = self.builds.uploads.try_acquire() else {
            return refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{UPLOADS_MAX} uploads are on their way: try again"),
            );
        };
        let received = self.receive(request.into_body(), is_manifest).await?;
        let sources = &self.builds.sources;
        if is_manifest {
            let missing = sources.missing(region, &name, received).await;
            let missing = missing.map_err(told)?;
            return Ok(json(StatusCode::OK, &MissingResponse { missing }));
        }
        let taken = sources.take_upload(region, &name, received).await;
        let (version, files, bytes) = taken.map_err(told)?;
        self.note_upload(&identity, audit::Kind::Done, region, name.as_str(), source);
        Ok(json(
            StatusCode::OK,
            &UploadResponse {
                version,
                files,
                bytes,
            },
        ))
    }

    /// Takes a body down into a file without a name.
    async fn receive(
        &self,
        mut body: Incoming,
        is_manifest: bool,
    ) -> Result<std::fs::File, Refusal> {
        let sources = &self.builds.sources;
        let bytes_max = match is_manifest {
            true => ekiden_source::upload::MANIFEST_BYTES_MAX,
            false => sources.bytes_max(),
        };
        let cannot = |error: std::io::Error| {
            warn!(%error, "an upload cannot be kept");
            Refusal {
                status: StatusCode::INSUFFICIENT_STORAGE,
                message: format!("the upload cannot be kept: {error}"),
            }
        };
        let mut file = tokio::fs::File::from_std(sources.draft().map_err(cannot)?);
        let mut bytes = 0;
        loop {
            let frame = match tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    let problem = format!("the upload ended before its end: {error}");
                    return refuse(StatusCode::BAD_REQUEST, problem);
                }
                Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "nothing came for a minute"),
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            bytes += data.len() as u64;
            if bytes > bytes_max {
                return refuse(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!(
                        "the upload is larger than {} MiB: leave out what is not source, in \
                         `.gitignore` or `.ekidenignore`",
                        bytes_max >> 20
                    ),
                );
            }
            file.write_all(&data).await.map_err(cannot)?;
        }
        file.flush().await.map_err(cannot)?;
        Ok(file.into_std().await)
    }

    fn note_upload(
        &self,
        identity: &Identity,
        kind: audit::Kind,
        region: &str,
        name: &str,
        source: &str,
    ) {
        let event = AuditEvent {
            timestamp: 0,
            request_id: RequestId::random().to_string(),
            action: "ekiden:UploadSource".to_owned(),
            access_key_id: Some(identity.key.id.clone()),
            caller_arn: Some(identity.arn(&self.config.account_id)),
            source: source.to_owned(),
            region: Some(region.to_owned()),
            resource: None,
            service_name: Some(name.to_owned()),
            result: match kind {
                audit::Kind::Done => "Success".to_owned(),
                _ => "AccessDenied".to_owned(),
            },
            left_out: 0,
        };
        self.audit.record(kind, clock::now(), event);
    }

    async fn webhook(
        &self,
        place: &str,
        request: Request<Incoming>,
        source: &str,
    ) -> Result<Response<Body>, Refusal> {
        // The same whether there is no such service or no webhook, or the signature is wrong.
        let unknown = || Refusal {
            status: StatusCode::UNAUTHORIZED,
            message: "the signature is not that of this webhook".to_owned(),
        };
        let (region, id) = place.split_once('/').ok_or_else(unknown)?;
        let id = id.parse::<ServiceId>().map_err(|_| unknown())?;
        let snapshot = self.services.get(region, id).ok_or_else(unknown)?;
        let secret = self.builds.sources.webhook_secret(id).await;
        let secret = secret.map_err(|error| {
            warn!(error = %Chain(&error), "a webhook's secret cannot be read");
            Refusal {
                status: StatusCode::SERVICE_UNAVAILABLE,
                message: "try again".to_owned(),
            }
        })?;
        let secret = secret.ok_or_else(unknown)?;
        // Strangers may send as much as git hosts do, but not many at a time.
        let Ok(_place) = self.builds.notices.try_acquire() else {
            return refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many notices: try again",
            );
        };
        let (parts, body) = request.into_parts();
        let whole_body = Limited::new(body, NOTICE_BYTES_MAX).collect();
        let body = match tokio::time::timeout(NOTICE_TIMEOUT, whole_body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the notice is too large"),
            Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the notice did not come"),
        };
        let now = builds::unix_now();
        let verified = webhook::verify_and_parse(&parts.headers, &body, secret.as_bytes(), now);
        let delivery = verified.map_err(|error| {
            info!(service = %snapshot.stored.service.name, source, %error, "a webhook was refused");
            unknown()
        })?;
        let mut pushes = delivery.pushes.iter();
        let message = match pushes.find(|push| !push.deleted) {
            None => "heard; there is nothing to deploy in it".to_owned(),
            Some(_) if self.notices.try_send(id).is_err() => {
                return refuse(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too many notices: try again",
                );
            }
            Some(push) => format!("heard of {}", push.reference),
        };
        Ok(json(StatusCode::ACCEPTED, &PlainFailure { message }))
    }
}

fn told(problem: Problem) -> Refusal {
    let (status, message) = match problem {
        Problem::Refused(message) => (StatusCode::BAD_REQUEST, message),
        Problem::Stale(message) => (StatusCode::CONFLICT, message),
        Problem::Host(message) => {
            warn!(message, "an upload cannot be taken");
            (StatusCode::INSUFFICIENT_STORAGE, message)
        }
    };
    Refusal { status, message }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    // It is made of text and numbers.
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(whole(bytes.into()));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
