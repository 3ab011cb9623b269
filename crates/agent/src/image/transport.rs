//! HTTP to registries: connections, TLS, time bounds and redirects.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, LOCATION, USER_AGENT},
};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;

/// Redirects followed: registries send blobs' readers to storage, which may send them on once.
const REDIRECTS_MAX: usize = 5;

/// Connections kept for the next request, per host.
const IDLE_CONNECTIONS_MAX: usize = 4;

/// How long such a connection is kept.
const CONNECTION_IDLE: Duration = Duration::from_secs(60);

/// Sends requests to registries.
pub(super) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    idle: Duration,
}

/// Why there was no answer, or no more of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TransportError {
    /// No connection, or a broken one.
    Broken(String),
    /// Nothing came for [`super::settings::ImageSettings::idle_timeout`].
    Silent,
    /// The answer cannot be followed.
    Protocol(String),
}

impl Transport {
    /// `connect` bounds the making of a connection; `idle` the wait for anything after it.
    pub(super) fn new(connect: Duration, idle: Duration) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(connect));
        http.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls())
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_idle_timeout(CONNECTION_IDLE)
            .pool_timer(TokioTimer::new())
            .build(https);
        Self { client, idle }
    }

    /// Sends a GET and waits for the head of the answer, following redirects. The
    /// `authorization` in `headers` is not shown to other hosts.
    pub(super) async fn get(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, TransportError> {
        let mut uri = uri.clone();
        let mut headers = headers.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.get_once(&uri, &headers).await?;
            if !is_redirect(response.status()) {
                return Ok(response);
            }
            let next = redirect_target(&uri, &response)?;
            if next.authority() != uri.authority() {
                headers.remove(AUTHORIZATION);
            }
            uri = next;
        }
        Err(TransportError::Protocol(
            "it redirects in a circle".to_owned(),
        ))
    }

    async fn get_once(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, TransportError> {
        let mut request = Request::get(uri.clone())
            .header(USER_AGENT, concat!("ekiden/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| TransportError::Protocol(error.to_string()))?;
        request.headers_mut().extend(headers.clone());
        match timeout(self.idle, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(TransportError::Broken(chain(&error))),
            Err(_) => Err(TransportError::Silent),
        }
    }

    /// The next piece of a body; `None` at its end.
    pub(super) async fn next_data(
        &self,
        body: &mut Incoming,
    ) -> Result<Option<Bytes>, TransportError> {
        loop {
            match timeout(self.idle, body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Ok(Some(Err(error))) => return Err(TransportError::Broken(chain(&error))),
                Err(_) => return Err(TransportError::Silent),
            }
        }
    }

    /// A whole body of at most `bytes_max`.
    pub(super) async fn read_all(
        &self,
        mut body: Incoming,
        bytes_max: u64,
    ) -> Result<Bytes, TransportError> {
        let mut whole = Vec::new();
        while let Some(data) = self.next_data(&mut body).await? {
            if (whole.len() + data.len()) as u64 > bytes_max {
                let problem = format!("its answer is longer than {bytes_max} bytes");
                return Err(TransportError::Protocol(problem));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.into())
    }
}

/// TLS with the host's certificate authorities. Without any, registries without TLS can still be
/// reached, and a connection to another fails and says why.
fn tls() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = || {
        rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for TLS 1.2 and 1.3")
    };
    let rooted = builder().with_native_roots().unwrap_or_else(|error| {
        tracing::warn!(%error, "no certificate authorities: install the package `ca-certificates`");
        builder().with_root_certificates(rustls::RootCertStore::empty())
    });
    rooted.with_no_client_auth()
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

fn redirect_target<B>(from: &Uri, response: &Response<B>) -> Result<Uri, TransportError> {
    let broken = || TransportError::Protocol("it redirects to nowhere".to_owned());
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok());
    let target: Uri = location.ok_or_else(broken)?.parse().map_err(|_| broken())?;
    let mut parts = target.into_parts();
    if parts.authority.is_none() {
        parts.authority = from.authority().cloned();
        parts.scheme = from.scheme().cloned();
    }
    let target = Uri::from_parts(parts).map_err(|_| broken())?;
    if from.scheme_str() == Some("https") && target.scheme_str() != Some("https") {
        let problem = "it redirects from a connection with TLS to one without";
        return Err(TransportError::Protocol(problem.to_owned()));
    }
    Ok(target)
}

/// An error and its causes, on one line: hyper tells the cause only there.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
