//! Requests to receivers over HTTP/1.1: bounded in time and in what is read of the answer. Redirects are answers
//! like others: lines are sent where the settings say, and nowhere else.

use std::{
    collections::BTreeMap,
    error::Error,
    path::Path,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri,
    header::{self, RETRY_AFTER},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;

use crate::{
    drain::{SendError, cut},
    limits::{ANSWER_BYTES_MAX, Limits},
    secrets::Secrets,
    target::{ConfigError, Endpoint},
    tls,
};

/// Connections kept for the next request.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// How long such a connection is kept.
const CONNECTION_IDLE: Duration = Duration::from_secs(60);

/// Who we say we are.
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("ekiden/", env!("CARGO_PKG_VERSION")));

/// Headers a target may have.
const HEADERS_MAX: usize = 32;

/// Headers that are ours to set.
const RESERVED: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that are secrets whatever they say.
const SECRET: [HeaderName; 3] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::PROXY_AUTHORIZATION,
];

/// Sends requests.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    limits: Limits,
}

/// What a receiver answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// At most [`ANSWER_BYTES_MAX`]; the rest is not read.
    pub(crate) body: Bytes,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("no answer within {} s", .0.as_secs_f32())]
    Late(Duration),
    #[error("cannot reach the receiver: {0}")]
    Unreachable(String),
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl From<NoAnswer> for SendError {
    fn from(error: NoAnswer) -> Self {
        Self::retry(error.to_string())
    }
}

impl HttpClient {
    pub(crate) fn new(ca_file: Option<&Path>, limits: Limits) -> Result<Self, ConfigError> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(limits.connect));
        http.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls::config(ca_file)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_idle_timeout(CONNECTION_IDLE)
            .pool_timer(TokioTimer::new())
            .build(https);
        Ok(Self { client, limits })
    }

    /// Sends a request and reads the answer, all within [`Limits::send`].
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        timeout(self.limits.send, self.send_unbounded(request))
            .await
            .unwrap_or(Err(NoAnswer::Late(self.limits.send)))
    }

    async fn send_unbounded(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        request
            .headers_mut()
            .entry(header::USER_AGENT)
            .or_insert(USER_AGENT);
        let response = self.client.request(request).await.map_err(|error| {
            if error.is_connect() {
                NoAnswer::Unreachable(causes(&error))
            } else {
                NoAnswer::Broken(causes(&error))
            }
        })?;
        let (head, body) = response.into_parts();
        let body = read(Response::new(body)).await?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }
}

async fn read(response: Response<Incoming>) -> Result<Bytes, NoAnswer> {
    let mut body = response.into_body();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| NoAnswer::Broken(causes(&error)))?;
        if let Ok(data) = frame.into_data() {
            let room = ANSWER_BYTES_MAX - whole.len();
            whole.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                break;
            }
        }
    }
    Ok(whole.into())
}

impl Answer {
    /// What the answer says, with its beginning as text, for messages.
    pub(crate) fn describe(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        match text.trim() {
            "" => format!("the receiver answered {}", self.status),
            text => format!("the receiver answered {}: {text}", self.status),
        }
    }

    /// `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3).
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse::<u32>() {
            return Some(Duration::from_secs(seconds.into()));
        }
        let date = httpdate::parse_http_date(text).ok()?;
        Some(date.duration_since(SystemTime::now()).unwrap_or_default())
    }

    pub(crate) fn retry(&self) -> SendError {
        SendError::Retry {
            after: self.retry_after(),
            message: cut(self.describe()),
        }
    }
}

/// The URL of a setting: `http` or `https`, with a host, and without what has no place in settings.
pub(crate) fn url(field: &str, text: &str) -> Result<Uri, ConfigError> {
    let invalid = |problem: &str| ConfigError::invalid(field, problem);
    let uri: Uri = text.parse().map_err(|error| {
        // Not what it is: there may be a password in it.
        ConfigError::invalid(field, format!("is not a URL: {error}"))
    })?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(invalid("must begin with `http://` or `https://`"));
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(invalid(
            "has a user or password in it; give the secret header `authorization` instead",
        ));
    }
    if uri.host().unwrap_or_default().is_empty() {
        return Err(invalid("has no host"));
    }
    let after_host = &authority[uri.host().unwrap_or_default().len()..];
    if !after_host.is_empty() && uri.port_u16().is_none_or(|port| port == 0) {
        return Err(invalid("has a port that is not 1 to 65535"));
    }
    if text.contains('#') {
        return Err(invalid("has a fragment (`#`), which is never sent"));
    }
    Ok(uri)
}

/// Where a URL goes to.
pub(crate) fn endpoint(uri: &Uri) -> Endpoint {
    let host = uri.host().unwrap_or_default();
    let default = if uri.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    Endpoint {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: uri.port_u16().unwrap_or(default),
    }
}

/// The headers of settings and secrets together.
pub(crate) fn headers(
    settings: &BTreeMap<String, String>,
    secrets: &Secrets,
) -> Result<HeaderMap, ConfigError> {
    if settings.len() + secrets.headers.len() > HEADERS_MAX {
        let problem = format!("are more than {HEADERS_MAX}");
        return Err(ConfigError::invalid("headers", problem));
    }
    let mut headers = HeaderMap::new();
    for (of_secrets, (name, value)) in (settings.iter().map(|header| (false, header)))
        .chain(secrets.headers.iter().map(|header| (true, header)))
    {
        let invalid = |problem: &str| {
            ConfigError::invalid(format!("headers.{}", name.escape_debug()), problem)
        };
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid("is not a name of a header: letters, digits and `-`"))?;
        if RESERVED.contains(&parsed) {
            return Err(invalid("is set by Ekiden and cannot be given"));
        }
        if SECRET.contains(&parsed) && !of_secrets {
            return Err(invalid("is a secret: give it with the secrets"));
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| {
            invalid("has a value with a line break or another character that headers cannot have")
        })?;
        value.set_sensitive(of_secrets);
        if headers.insert(parsed, value).is_some() {
            return Err(invalid("is there twice"));
        }
    }
    Ok(headers)
}

/// The causes of an error, on one line: hyper tells what happened only there.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
