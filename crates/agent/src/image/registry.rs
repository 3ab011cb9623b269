//! A client of registries: the pull half of the OCI distribution specification 1.1.
//!
//! Written here rather than taken from a library, because what matters is what the bounds are:
//! every document has a length, every wait a limit, every failure a bounded number of tries, and
//! a download can go on where it broke.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use ekiden_model::image::{DEFAULT_REGISTRY, Digest, ImageReference};
use http::{
    HeaderMap, HeaderValue, Response, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RANGE, RETRY_AFTER},
};
use hyper::body::Incoming;
use serde::Deserialize;

use super::{
    challenge::Challenge,
    error::ImageError,
    manifest::{self, DOCUMENT_BYTES_MAX},
    settings::{ATTEMPTS_MAX, ImageSettings, Login, RETRY_DELAY_MAX},
    transport::{Transport, TransportError},
};

/// Bytes of a token server's answer; ECR's tokens are a few KiB.
const TOKEN_BYTES_MAX: u64 = 256 * 1024;

/// Authorizations remembered; all are forgotten when there are more.
const AUTHORIZATIONS_MAX: usize = 256;

/// Where Docker Hub's registry really is.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// Pulls from any registry.
pub(super) struct Registry {
    transport: Transport,
    settings: ImageSettings,
    /// The last `Authorization` that was accepted, by endpoint. Forgotten when refused.
    authorizations: Mutex<HashMap<Endpoint, HeaderValue>>,
}

/// One image's repository, and who may have it, best first.
pub(super) struct Repository {
    /// As asked for: what errors name.
    pub(super) image: String,
    endpoints: Vec<Endpoint>,
}

/// A repository on one host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Endpoint {
    /// As in settings and errors: host and optional port.
    registry: String,
    /// `http` or `https`.
    scheme: &'static str,
    /// What is connected to.
    authority: String,
    /// Of the repository there.
    path: String,
}

/// A manifest or an index as it came.
pub(super) struct Received {
    pub(super) bytes: Bytes,
    pub(super) media_type: String,
}

/// A blob on its way.
pub(super) struct Blob {
    body: Incoming,
    /// Where in the blob the body begins: the registry may ignore what was asked for.
    pub(super) offset: u64,
    registry: String,
}

impl Registry {
    pub(super) fn new(settings: &ImageSettings) -> Self {
        Self {
            transport: Transport::new(settings.connect_timeout, settings.idle_timeout),
            settings: settings.clone(),
            authorizations: Mutex::default(),
        }
    }

    /// Where an image can be had: its registry's mirror, if there is one, then the registry.
    ///
    /// # Errors
    /// [`ImageError::BadRequest`] for a mirror that is no address.
    pub(super) fn repository(&self, reference: &ImageReference) -> Result<Repository, ImageError> {
        let registry = self.settings.stands_for(&reference.registry);
        let own = self.settings.registries.get(registry);
        let mut endpoints = Vec::new();
        if let Some(mirror) = own.and_then(|settings| settings.mirror.as_deref()) {
            endpoints.push(self.mirror(mirror, &reference.repository)?);
        }
        let authority = match registry {
            DEFAULT_REGISTRY => DOCKER_HUB,
            other => other,
        };
        endpoints.push(Endpoint {
            registry: registry.to_owned(),
            scheme: self.scheme(registry),
            authority: authority.to_owned(),
            path: reference.repository.clone(),
        });
        Ok(Repository {
            image: reference.to_string(),
            endpoints,
        })
    }

    /// Fetches a manifest or an index by tag or digest. The caller checks what it is.
    pub(super) async fn document(
        &self,
        repository: &Repository,
        reference: &str,
    ) -> Result<Received, ImageError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(manifest::ACCEPT));
        self.whole(repository, &format!("manifests/{reference}"), &headers)
            .await
    }

    /// Fetches a small blob whole: a configuration. The caller checks its digest.
    pub(super) async fn small_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Bytes, ImageError> {
        let path = format!("blobs/{digest}");
        Ok(self
            .whole(repository, &path, &HeaderMap::new())
            .await?
            .bytes)
    }

    /// Begins, or goes on with, the download of a blob.
    pub(super) async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        offset: u64,
    ) -> Result<Blob, ImageError> {
        let path = format!("blobs/{digest}");
        let mut headers = HeaderMap::new();
        if offset > 0 {
            headers.insert(RANGE, header_value(&format!("bytes={offset}-")));
        }
        let (last, mirrors) = repository.endpoints();
        for mirror in mirrors {
            match self.get(repository, mirror, &path, &headers).await {
                Ok(response) => return Ok(Blob::new(mirror, response, offset)),
                Err(error) => mirror.passed_over(&error),
            }
        }
        let response = self.get(repository, last, &path, &headers).await?;
        Ok(Blob::new(last, response, offset))
    }

    /// The next piece of a blob; `None` where the registry ends it.
    pub(super) async fn next_data(&self, blob: &mut Blob) -> Result<Option<Bytes>, ImageError> {
        let data = self.transport.next_data(&mut blob.body).await;
        data.map_err(|error| transport_error(&blob.registry, self.settings.idle_timeout, error))
    }

    /// The wait before try number `attempt`, counted from 1.
    pub(super) fn delay(&self, attempt: u32) -> Duration {
        let doubled = self
            .settings
            .retry_delay
            .saturating_mul(1 << attempt.min(16));
        (doubled / 2).min(RETRY_DELAY_MAX)
    }

    async fn whole(
        &self,
        repository: &Repository,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Received, ImageError> {
        let (last, mirrors) = repository.endpoints();
        for mirror in mirrors {
            match self.whole_from(repository, mirror, path, headers).await {
                Ok(received) => return Ok(received),
                Err(error) => mirror.passed_over(&error),
            }
        }
        self.whole_from(repository, last, path, headers).await
    }

    async fn whole_from(
        &self,
        repository: &Repository,
        endpoint: &Endpoint,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Received, ImageError> {
        let mut attempt = 1;
        loop {
            let response = self.get(repository, endpoint, path, headers).await?;
            let media_type = header(&response, &CONTENT_TYPE).unwrap_or_default();
            let media_type = media_type
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned();
            match self
                .transport
                .read_all(response.into_body(), DOCUMENT_BYTES_MAX)
                .await
            {
                Ok(bytes) => return Ok(Received { bytes, media_type }),
                Err(error) => {
                    let failure = self.transport_failure(endpoint, error);
                    if attempt == ATTEMPTS_MAX || !failure.again {
                        return Err(failure.error);
                    }
                }
            }
            tokio::time::sleep(self.delay(attempt)).await;
            attempt += 1;
        }
    }

    /// A GET that is tried again when that can help, and let in when it can be.
    async fn get(
        &self,
        repository: &Repository,
        endpoint: &Endpoint,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, ImageError> {
        let mut attempt = 1;
        loop {
            let failure = match self
                .get_authorized(repository, endpoint, path, headers)
                .await
            {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => Failure::of(&response, repository, endpoint, path),
                Err(failure) => failure,
            };
            if attempt == ATTEMPTS_MAX || !failure.again {
                return Err(failure.error);
            }
            let delay = failure.wait.unwrap_or_else(|| self.delay(attempt));
            tokio::time::sleep(delay.min(RETRY_DELAY_MAX)).await;
            attempt += 1;
        }
    }

    async fn get_authorized(
        &self,
        repository: &Repository,
        endpoint: &Endpoint,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, Failure> {
        let uri = endpoint.uri(path).map_err(Failure::last)?;
        let mut headers = headers.clone();
        let known = self.lock_authorizations().get(endpoint).cloned();
        if let Some(known) = known {
            headers.insert(AUTHORIZATION, known);
        }
        let response = self.send(endpoint, &uri, &headers).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        self.lock_authorizations().remove(endpoint);
        let Some(challenge) = Challenge::find(response.headers()) else {
            return Ok(response);
        };
        let Some(answer) = self.answer(repository, endpoint, challenge).await? else {
            return Ok(response);
        };
        headers.insert(AUTHORIZATION, answer.clone());
        let response = self.send(endpoint, &uri, &headers).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            self.remember(endpoint, answer);
        }
        Ok(response)
    }

    /// The `Authorization` that a challenge asks for; `None` when there is no login to answer with.
    async fn answer(
        &self,
        repository: &Repository,
        endpoint: &Endpoint,
        challenge: Challenge,
    ) -> Result<Option<HeaderValue>, Failure> {
        let login = self.login(&endpoint.registry);
        match challenge {
            Challenge::Basic => Ok(login.map(|login| secret_value(&login.basic()))),
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => {
                if endpoint.scheme == "https" && realm.scheme_str() != Some("https") {
                    let problem = "it asks to fetch a token without TLS".to_owned();
                    return Err(Failure::last(endpoint.protocol(problem)));
                }
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", endpoint.path));
                let uri = token_uri(&realm, service.as_deref(), &scope).ok_or_else(|| {
                    Failure::last(endpoint.protocol("its token address is broken".to_owned()))
                })?;
                self.token(repository, endpoint, &uri, login)
                    .await
                    .map(Some)
            }
        }
    }

    async fn token(
        &self,
        repository: &Repository,
        endpoint: &Endpoint,
        uri: &Uri,
        login: Option<&Login>,
    ) -> Result<HeaderValue, Failure> {
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let mut headers = HeaderMap::new();
        if let Some(login) = login {
            headers.insert(AUTHORIZATION, secret_value(&login.basic()));
        }
        let response = self.send(endpoint, uri, &headers).await?;
        if !response.status().is_success() {
            return Err(Failure::of(&response, repository, endpoint, "a token"));
        }
        let body = self
            .transport
            .read_all(response.into_body(), TOKEN_BYTES_MAX)
            .await;
        let body = body.map_err(|error| self.transport_failure(endpoint, error))?;
        let token: Option<Token> = serde_json::from_slice(&body).ok();
        match token.and_then(|token| token.token.or(token.access_token)) {
            Some(token) => Ok(secret_value(&format!("Bearer {token}"))),
            None => Err(Failure::last(
                endpoint.protocol("its token is none".to_owned()),
            )),
        }
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, Failure> {
        let response = self.transport.get(uri, headers).await;
        response.map_err(|error| self.transport_failure(endpoint, error))
    }

    fn transport_failure(&self, endpoint: &Endpoint, error: TransportError) -> Failure {
        let again = !matches!(error, TransportError::Protocol(_));
        let error = transport_error(&endpoint.registry, self.settings.idle_timeout, error);
        Failure {
            again,
            wait: None,
            error,
        }
    }

    fn login(&self, registry: &str) -> Option<&Login> {
        self.settings.registries.get(registry)?.login.as_ref()
    }

    fn remember(&self, endpoint: &Endpoint, authorization: HeaderValue) {
        let mut known = self.lock_authorizations();
        if known.len() >= AUTHORIZATIONS_MAX {
            known.clear();
        }
        known.insert(endpoint.clone(), authorization);
    }

    fn lock_authorizations(&self) -> std::sync::MutexGuard<'_, HashMap<Endpoint, HeaderValue>> {
        self.authorizations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// `[http[s]://]host[:port][/prefix]`.
    fn mirror(&self, text: &str, repository: &str) -> Result<Endpoint, ImageError> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some("http"), rest),
            Some(("https", rest)) => (Some("https"), rest),
            Some(_) => (None, ""),
            None => (None, text),
        };
        let (registry, prefix) = rest
            .trim_end_matches('/')
            .split_once('/')
            .unwrap_or((rest.trim_end_matches('/'), ""));
        if registry.is_empty() {
            let problem = format!(
                "the registry mirror `{text}` is no address: write `https://host:port/prefix`"
            );
            return Err(ImageError::BadRequest { problem });
        }
        let path = if prefix.is_empty() {
            repository.to_owned()
        } else {
            format!("{prefix}/{repository}")
        };
        Ok(Endpoint {
            registry: registry.to_owned(),
            scheme: scheme.unwrap_or_else(|| self.scheme(registry)),
            authority: registry.to_owned(),
            path,
        })
    }

    fn scheme(&self, registry: &str) -> &'static str {
        let set = self
            .settings
            .registries
            .get(registry)
            .and_then(|settings| settings.plain_http);
        if set.unwrap_or_else(|| is_loopback(registry)) {
            "http"
        } else {
            "https"
        }
    }
}

impl Repository {
    /// The registry, which has the last word: its error is what is told. And who is asked before.
    fn endpoints(&self) -> (&Endpoint, &[Endpoint]) {
        self.endpoints
            .split_last()
            .expect("`Registry::repository` adds the registry itself")
    }
}

impl Blob {
    fn new(endpoint: &Endpoint, response: Response<Incoming>, offset: u64) -> Self {
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        Self {
            offset: if partial { offset } else { 0 },
            registry: endpoint.registry.clone(),
            body: response.into_body(),
        }
    }
}

impl Endpoint {
    fn passed_over(&self, error: &ImageError) {
        tracing::warn!(mirror = %self.registry, %error, "registry mirror did not help");
    }

    fn uri(&self, path: &str) -> Result<Uri, ImageError> {
        let text = format!(
            "{}://{}/v2/{}/{path}",
            self.scheme, self.authority, self.path
        );
        text.parse().map_err(|_| ImageError::BadRequest {
            problem: format!("`{}` is not the address of a registry", self.authority),
        })
    }

    fn protocol(&self, problem: String) -> ImageError {
        ImageError::Protocol {
            registry: self.registry.clone(),
            problem,
        }
    }
}

/// One unsuccessful try.
struct Failure {
    error: ImageError,
    /// Whether another try may fare better.
    again: bool,
    /// How long the registry asks to wait.
    wait: Option<Duration>,
}

impl Failure {
    fn last(error: ImageError) -> Self {
        Self {
            error,
            again: false,
            wait: None,
        }
    }

    fn of<B>(
        response: &Response<B>,
        repository: &Repository,
        endpoint: &Endpoint,
        what: &str,
    ) -> Self {
        let status = response.status();
        let (image, registry) = (repository.image.clone(), endpoint.registry.clone());
        let error = match status {
            StatusCode::NOT_FOUND => ImageError::NotFound { image, registry },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ImageError::Denied {
                image,
                registry,
                status: status.as_u16(),
            },
            StatusCode::TOO_MANY_REQUESTS => ImageError::RateLimited { registry },
            _ => {
                let what = what.to_owned();
                ImageError::Status {
                    registry,
                    status: status.as_u16(),
                    what,
                }
            }
        };
        let again = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
        let seconds = header(response, &RETRY_AFTER).and_then(|value| value.parse().ok());
        Self {
            error,
            again,
            wait: seconds.map(Duration::from_secs),
        }
    }
}

fn transport_error(registry: &str, idle: Duration, error: TransportError) -> ImageError {
    let registry = registry.to_owned();
    match error {
        TransportError::Broken(problem) => ImageError::Unreachable { registry, problem },
        TransportError::Silent => ImageError::Silent { registry, idle },
        TransportError::Protocol(problem) => ImageError::Protocol { registry, problem },
    }
}

/// 127.0.0.0/8, ::1 and `localhost` with a port.
fn is_loopback(registry: &str) -> bool {
    let host = match registry
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((host, _)) => host,
        None => registry.split_once(':').map_or(registry, |(host, _)| host),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn token_uri(realm: &Uri, service: Option<&str>, scope: &str) -> Option<Uri> {
    let mut query = realm.query().map(str::to_owned).unwrap_or_default();
    let parameters = service
        .map(|service| ("service", service))
        .into_iter()
        .chain([("scope", scope)]);
    for (name, value) in parameters {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(&format!("{name}={}", percent_encode(value)));
    }
    let text = format!(
        "{}://{}{}?{query}",
        realm.scheme_str()?,
        realm.authority()?,
        realm.path()
    );
    text.parse().ok()
}

/// RFC 3986's unreserved characters stay, and `:` and `/`, which a query may have.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn header<'a, B>(response: &'a Response<B>, name: &http::HeaderName) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
}

/// For text of ours, which has no control characters; a registry's token may have some, and is
/// then refused by the registry as the empty one it becomes.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn secret_value(text: &str) -> HeaderValue {
    let mut value = header_value(text);
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::{super::settings::RegistrySettings, *};

    #[track_caller]
    fn check(image: &str, settings: &[(&str, RegistrySettings)], want: &[&str]) {
        let registries = settings
            .iter()
            .map(|(host, s)| ((*host).to_owned(), s.clone()))
            .collect();
        let settings = ImageSettings {
            registries,
            ..ImageSettings::default()
        };
        let repository = Registry::new(&settings)
            .repository(&image.parse().unwrap())
            .unwrap();
        let got: Vec<String> = repository
            .endpoints
            .iter()
            .map(|e| e.uri("manifests/x").unwrap().to_string())
            .collect();
        assert_eq!(got, want);
    }

    #[test]
    fn endpoints_follow_names_and_settings() {
        check(
            "debian",
            &[],
            &["https://registry-1.docker.io/v2/library/debian/manifests/x"],
        );
        check(
            "127.0.0.1:5000/a/b",
            &[],
            &["http://127.0.0.1:5000/v2/a/b/manifests/x"],
        );
        check("[::1]:5000/a", &[], &["http://[::1]:5000/v2/a/manifests/x"]);
        check(
            "localhost:5000/a",
            &[],
            &["http://localhost:5000/v2/a/manifests/x"],
        );
        let tls = RegistrySettings {
            plain_http: Some(false),
            ..Default::default()
        };
        check(
            "localhost:5000/a",
            &[("localhost:5000", tls)],
            &["https://localhost:5000/v2/a/manifests/x"],
        );
        let plain = RegistrySettings {
            plain_http: Some(true),
            ..Default::default()
        };
        check(
            "reg.lan/a",
            &[("reg.lan", plain.clone())],
            &["http://reg.lan/v2/a/manifests/x"],
        );
        let mirrored = |mirror: &str| RegistrySettings {
            mirror: Some(mirror.to_owned()),
            ..Default::default()
        };
        check(
            "debian",
            &[("docker.io", mirrored("reg.lan/hub/")), ("reg.lan", plain)],
            &[
                "http://reg.lan/v2/hub/library/debian/manifests/x",
                "https://registry-1.docker.io/v2/library/debian/manifests/x",
            ],
        );
        check(
            "quay.io/a",
            &[("quay.io", mirrored("https://127.0.0.1:1"))],
            &[
                "https://127.0.0.1:1/v2/a/manifests/x",
                "https://quay.io/v2/a/manifests/x",
            ],
        );
    }

    #[test]
    fn token_address_carries_service_and_scope() {
        let realm: Uri = "https://auth.example/token?x=1".parse().unwrap();
        assert_eq!(
            token_uri(&realm, Some("a b"), "repository:c/d:pull,push")
                .unwrap()
                .to_string(),
            "https://auth.example/token?x=1&service=a%20b&scope=repository:c/d:pull%2Cpush"
        );
        assert_eq!(token_uri(&"/token".parse().unwrap(), None, "s"), None);
    }
}
