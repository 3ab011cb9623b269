//! Events to an address of the owner's, over HTTP.
//!
//! A request is `POST`, its body the event, its header `Ekiden-Signature` `t=<seconds since the Unix epoch>,v1=<hex>`:
//! HMAC-SHA256 over those seconds, a full stop and the body, with the webhook's secret as it was shown. A receiver that
//! checks it, and that the time is near, knows who sent it and that it is no copy. `Ekiden-Delivery` is the same
//! whenever the same event is sent to the same target again. Any status of 2xx is success; redirects are not
//! followed, so that the body goes where the owner said and nowhere else.

use std::{error::Error, time::Duration};

use aws_lc_rs::hmac;
use bytes::Bytes;
use ekiden_model::time::Timestamp;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long all of a request may take.
const SEND_MAX: Duration = Duration::from_secs(15);

/// Bytes of an answer that are read; what it says is of no interest.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The longest wait that a receiver can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Connections kept to one receiver, and how long.
const IDLE_CONNECTIONS_MAX: usize = 4;
const CONNECTION_IDLE: Duration = Duration::from_secs(60);

/// The longest URL, in bytes.
const URL_BYTES_MAX: usize = 2048;

/// Who we say we are.
const USER_AGENT: &str = concat!("ekiden/", env!("CARGO_PKG_VERSION"));

/// What only the sender and the receiver know. No `Debug`: it is sealed when it is stored.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Secret {
    pub(crate) url: String,
    pub(crate) key: Zeroizing<String>,
}

/// Why an attempt failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// Without anything of the URL or the answer.
    pub(super) problem: String,
    /// Not before this is it to be tried again, as the receiver says.
    pub(super) after: Option<Duration>,
    /// Whether the receiver said that it will never take it.
    pub(super) refused: bool,
}

impl Failed {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            after: None,
            refused: false,
        }
    }
}

/// Why a URL cannot be a webhook's, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidUrl(&'static str);

/// Checks a URL; answers its scheme, host and port, which may be shown.
///
/// # Errors
/// [`InvalidUrl`].
pub(crate) fn check_url(url: &str) -> Result<String, InvalidUrl> {
    if url.len() > URL_BYTES_MAX {
        return Err(InvalidUrl("Url has more than 2048 bytes."));
    }
    if url.contains('#') {
        return Err(InvalidUrl("Url has a fragment (`#`), which is never sent."));
    }
    let uri: Uri = url.parse().map_err(|_| InvalidUrl("Url is not a URL."))?;
    let scheme = uri.scheme_str().unwrap_or_default();
    if !matches!(scheme, "http" | "https") {
        return Err(InvalidUrl("Url must begin with `http://` or `https://`."));
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(InvalidUrl(
            "Url has a user or password in it, which is not sent; the signature tells who sends.",
        ));
    }
    if uri.host().unwrap_or_default().is_empty() {
        return Err(InvalidUrl("Url has no host."));
    }
    Ok(format!("{scheme}://{authority}"))
}

type Https = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Sends events.
pub(super) struct Client(Https);

impl Client {
    pub(super) fn new() -> Self {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for TLS 1.2 and 1.3");
        // A host without authorities can still send to `http`.
        let tls = match tls.clone().with_native_roots() {
            Ok(builder) => builder.with_no_client_auth(),
            Err(_) => tls
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        };
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_MAX));
        http.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_idle_timeout(CONNECTION_IDLE)
            .pool_timer(TokioTimer::new())
            .build(https);
        Self(client)
    }

    /// Sends one event once.
    pub(super) async fn send(
        &self,
        to: &Secret,
        delivery_id: &str,
        attempt: u32,
        body: String,
        now: Timestamp,
    ) -> Result<(), Failed> {
        let signature = signature(&to.key, now, body.as_bytes());
        let request = Request::post(to.url.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, USER_AGENT)
            .header("ekiden-signature", signature)
            .header("ekiden-delivery", delivery_id)
            .header("ekiden-attempt", attempt)
            .body(Full::new(Bytes::from(body)));
        let request = request.map_err(|_| Failed::new("the URL cannot be used"))?;
        let answered = async {
            let response = self.0.request(request).await.map_err(|error| {
                let what = match error.is_connect() {
                    true => "the receiver cannot be reached",
                    false => "the connection broke",
                };
                Failed::new(format!("{what}: {}", causes(&error)))
            })?;
            let (head, body) = response.into_parts();
            // So that the connection can be used again; what does not end soon ends it.
            let _ = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            Ok(head)
        };
        let answered = tokio::time::timeout(SEND_MAX, answered).await;
        let head = answered.unwrap_or_else(|_| {
            let seconds = SEND_MAX.as_secs();
            Err(Failed::new(format!(
                "the receiver did not answer within {seconds} s"
            )))
        })?;
        if head.status.is_success() {
            return Ok(());
        }
        let after = head.headers.get(header::RETRY_AFTER);
        let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
        Err(Failed {
            problem: format!("the receiver answered {}", head.status),
            after: after.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX)),
            refused: matches!(
                head.status,
                StatusCode::BAD_REQUEST
                    | StatusCode::GONE
                    | StatusCode::PAYLOAD_TOO_LARGE
                    | StatusCode::UNSUPPORTED_MEDIA_TYPE
                    | StatusCode::UNPROCESSABLE_ENTITY
            ),
        })
    }
}

/// See the top.
fn signature(key: &str, now: Timestamp, body: &[u8]) -> String {
    let seconds = now.as_secs();
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()));
    context.update(format!("{seconds}.").as_bytes());
    context.update(body);
    let hex = context.sign();
    let hex: String = hex
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("t={seconds},v1={hex}")
}

/// What lies below an error: hyper tells what happened only there.
fn causes(error: &dyn Error) -> String {
    let mut below = error;
    while let Some(source) = below.source() {
        below = source;
    }
    below.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_shown_of_a_url_is_without_its_path() {
        for (url, shown) in [
            (
                "https://hooks.example.com/a/secret?key=1",
                "https://hooks.example.com",
            ),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080/a", "http://[::1]:8080"),
        ] {
            assert_eq!(check_url(url).as_deref(), Ok(shown));
        }
        for url in [
            "",
            "hooks.example.com",
            "ftp://a/b",
            "https://",
            "https://u:p@a/",
            "https://a/#b",
            "http://a b/",
        ] {
            assert!(check_url(url).is_err(), "{url}");
        }
        assert!(check_url(&format!("http://a/{}", "b".repeat(2048))).is_err());
    }

    /// RFC 4231, test case 2, is of the same algorithm; this one was computed with Python's `hmac`.
    #[test]
    fn the_signature_is_over_time_and_body() {
        let now = Timestamp::from_millis(1_700_000_000_999);
        assert_eq!(
            signature("key", now, b"{}"),
            "t=1700000000,v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"
        );
    }
}
