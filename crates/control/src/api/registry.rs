//! The registry's protocol on the API's listener: who asks, whether they may, and then
//! [`ekiden_registry`] answers.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ekiden_aws::{native::AuditEvent, protocol::RequestId};
use ekiden_engine::Engine;
use ekiden_model::{
    access::{Access, Decision, Role, decide},
    repository::ENGINE_USER,
};
use ekiden_registry::{Action, Body, Parsed, Refusal, Wanted};
use http::{HeaderMap, Request, Response, header};
use hyper::body::Incoming;
use tracing::info;
use zeroize::Zeroizing;

use super::Api;
use crate::{
    audit, clock,
    identity::{Identities, Identity},
};

/// The longest name and password, in base64.
const CREDENTIALS_BYTES_MAX: usize = 4096;

/// Who asks.
enum Client {
    /// The engine of this installation, which pulls what it is to run.
    Engine,
    /// A person or a program with an access key.
    Known(Identity),
}

impl Client {
    fn may(&self, wanted: &Wanted) -> bool {
        let role = match self {
            Self::Engine => &Role::Viewer,
            Self::Known(identity) => &identity.key.facts.role,
        };
        let access = match wanted.action {
            Action::Pull => Access::Read,
            Action::Push | Action::Delete => Access::Deploy,
        };
        decide(role, access, wanted.repository.as_deref()) == Decision::Allow
    }
}

impl<E: Engine> Api<E> {
    /// Answers a request of `/v2`.
    pub(super) async fn registry(
        &self,
        request: Request<Incoming>,
        source: &str,
    ) -> Response<Body> {
        let Some(client) = self.client(request.headers()) else {
            let answer = Refusal::unauthorized().answer();
            // Tools ask without a password first: that is nobody's news.
            if request.headers().contains_key(header::AUTHORIZATION) {
                self.note(
                    None,
                    audit::Kind::Unauthenticated,
                    &Wanted::nothing(),
                    &answer,
                    source,
                );
            }
            return answer;
        };
        let parsed = match Parsed::read(request.uri().path()) {
            Ok(parsed) => parsed,
            Err(refusal) => return refusal.answer(),
        };
        let wanted = parsed.wanted(request.method());
        if let Client::Known(identity) = &client {
            Identities::note_use(&identity.key, source);
        }
        let may = client.may(&wanted);
        let is_news = !may || changes_images(request.method(), request.uri().path());
        let answer = if may {
            let may_pull = |repository: &str| {
                client.may(&Wanted {
                    action: Action::Pull,
                    repository: Some(repository.to_owned()),
                })
            };
            self.images.respond(parsed, request, may_pull).await
        } else {
            let what = match wanted.action {
                Action::Pull => "pull from",
                Action::Push => "push to",
                Action::Delete => "delete from",
            };
            let repository = wanted.repository.as_deref().unwrap_or_default();
            Refusal::denied(what, repository).answer()
        };
        if is_news {
            let kind = match may {
                false => audit::Kind::Denied,
                true => audit::Kind::Done,
            };
            self.note(Some(&client), kind, &wanted, &answer, source);
        }
        answer
    }

    /// Whose name and password a request bears (RFC 7617).
    fn client(&self, headers: &HeaderMap) -> Option<Client> {
        let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, encoded) = given.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > CREDENTIALS_BYTES_MAX {
            return None;
        }
        let decoded = Zeroizing::new(BASE64_STANDARD.decode(encoded.trim()).ok()?);
        let (name, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        let pull_key = self.config.registry.pull_key.as_deref();
        if name == ENGINE_USER
            && let Some(pull_key) = pull_key
        {
            let is_it = aws_lc_rs::constant_time::verify_slices_are_equal(
                password.as_bytes(),
                pull_key.as_bytes(),
            );
            return is_it.is_ok().then_some(Client::Engine);
        }
        self.identities.log_in(name, password).map(Client::Known)
    }

    /// Who a request's name and password are of, if they are an access key's.
    pub(super) fn logged_in(&self, headers: &HeaderMap) -> Option<Identity> {
        match self.client(headers)? {
            Client::Known(identity) => Some(identity),
            Client::Engine => None,
        }
    }

    /// Writes down what the audit log is to have: images that came and went, and who may not.
    fn note(
        &self,
        client: Option<&Client>,
        kind: audit::Kind,
        wanted: &Wanted,
        answer: &Response<Body>,
        source: &str,
    ) {
        let action = match wanted.action {
            Action::Pull => "registry:Pull",
            Action::Push => "registry:Push",
            Action::Delete => "registry:Delete",
        };
        let identity = match client {
            None | Some(Client::Engine) => None,
            Some(Client::Known(identity)) => Some(identity),
        };
        info!(
            action,
            repository = wanted.repository,
            status = answer.status().as_u16(),
            "registry"
        );
        let event = AuditEvent {
            timestamp: 0,
            request_id: RequestId::random().to_string(),
            action: action.to_owned(),
            access_key_id: identity.map(|identity| identity.key.id.clone()),
            caller_arn: identity.map(|identity| identity.arn(&self.config.account_id)),
            source: source.to_owned(),
            region: None,
            resource: wanted.repository.clone(),
            service_name: None,
            result: match answer.status().is_success() {
                true => "Success".to_owned(),
                false => answer.status().to_string(),
            },
            left_out: 0,
        };
        self.audit.record(kind, clock::now(), event);
    }
}

/// Whether a request changes which images there are, or makes one useless: pieces that come are nobody's
/// news.
fn changes_images(method: &http::Method, path: &str) -> bool {
    match *method {
        http::Method::PUT => path.contains("/manifests/"),
        http::Method::DELETE => !path.contains("/blobs/uploads/"),
        _ => false,
    }
}
