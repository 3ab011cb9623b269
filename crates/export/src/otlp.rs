//! OTLP/HTTP: logs, metrics and spans as protobuf.

mod encode;
mod proto;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, StatusCode, Uri,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use http_body_util::Full;
use prost::Message;

use crate::{
    compress,
    drain::{SendError, Sent, cut},
    http_client::{self, Answer, HttpClient},
    limits::Limits,
    line::Line,
    secrets::Secrets,
    target::{Compression, ConfigError, Endpoint, OtlpTarget},
    telemetry::{MetricPoint, Span},
};

/// The type of bodies in both directions.
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// Sends to `/v1/logs`, `/v1/metrics` and `/v1/traces` of one receiver. Calls may run side by side. Nothing
/// to send is `Ok` without a word to the receiver.
///
/// 2xx is taken, and what the receiver says of a partial success is in [`Sent`]. 429, 502, 503 and 504 are to
/// be sent again, after what `Retry-After` says; any other answer is final (OTLP specification, "Failures").
#[derive(Debug, Clone)]
pub struct OtlpClient {
    client: HttpClient,
    logs: Uri,
    metrics: Uri,
    traces: Uri,
    headers: HeaderMap,
    compression: Compression,
}

impl OtlpClient {
    /// A client for a receiver. Reads `ca_file`; connects to nothing. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// A setting or a secret is not what it must be.
    pub fn new(
        target: &OtlpTarget,
        secrets: &Secrets,
        limits: Limits,
    ) -> Result<Self, ConfigError> {
        let base = http_client::url("url", &target.url)?;
        if base.query().is_some() {
            let problem = "has a query; it must be the base that `/v1/logs` is added to";
            return Err(ConfigError::invalid("url", problem));
        }
        let base = target.url.trim_end_matches('/');
        if let Some(signal) = ["/v1/logs", "/v1/metrics", "/v1/traces"]
            .into_iter()
            .find(|signal| base.ends_with(signal))
        {
            let problem = format!("must not have `{signal}` at its end, which is added");
            return Err(ConfigError::invalid("url", problem));
        }
        let of = |signal: &str| http_client::url("url", &format!("{base}{signal}"));
        let mut headers = http_client::headers(&target.headers, secrets)?;
        headers.insert(CONTENT_TYPE, PROTOBUF);
        if target.compression == Compression::Gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(Self {
            client: HttpClient::new(target.ca_file.as_deref(), limits)?,
            logs: of("/v1/logs")?,
            metrics: of("/v1/metrics")?,
            traces: of("/v1/traces")?,
            headers,
            compression: target.compression,
        })
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        http_client::endpoint(&self.logs)
    }

    /// Sends lines.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_lines(&self, lines: &[Line]) -> Result<Sent, SendError> {
        if lines.is_empty() {
            return Ok(Sent::default());
        }
        self.send(&self.logs, encode::logs(lines).encode_to_vec())
            .await
    }

    /// Sends values of metrics. [`Sent::rejected`] counts points.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_metrics(&self, points: &[MetricPoint]) -> Result<Sent, SendError> {
        if points.is_empty() {
            return Ok(Sent::default());
        }
        self.send(&self.metrics, encode::metrics(points).encode_to_vec())
            .await
    }

    /// Sends spans. [`Sent::rejected`] counts spans.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_spans(&self, spans: &[Span]) -> Result<Sent, SendError> {
        if spans.is_empty() {
            return Ok(Sent::default());
        }
        self.send(&self.traces, encode::spans(spans).encode_to_vec())
            .await
    }

    async fn send(&self, uri: &Uri, body: Vec<u8>) -> Result<Sent, SendError> {
        let body = match self.compression {
            Compression::None => Bytes::from(body),
            Compression::Gzip => compress::gzip(body).await?,
        };
        let bytes = body.len() as u64;
        let mut request = Request::post(uri.clone())
            .body(Full::new(body))
            .expect("the URL was checked");
        *request.headers_mut() = self.headers.clone();
        let answer = self.client.send(request).await?;
        if answer.status.is_success() {
            return Ok(taken(&answer, bytes));
        }
        let answer = readable(answer);
        match answer.status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(answer.retry()),
            _ => Err(SendError::permanent(answer.describe())),
        }
    }
}

/// What the receiver says of a batch that it took. An answer that is not understood says nothing.
fn taken(answer: &Answer, bytes: u64) -> Sent {
    let mut sent = Sent {
        bytes,
        ..Sent::default()
    };
    if is_protobuf(answer)
        && let Ok(response) = proto::ExportResponse::decode(answer.body.clone())
        && let Some(partial) = response.partial_success
    {
        sent.rejected = u64::try_from(partial.rejected).unwrap_or_default();
        sent.message = (!partial.error_message.is_empty()).then(|| cut(partial.error_message));
    }
    sent
}

/// An answer with text instead of the protobuf that failures have.
fn readable(mut answer: Answer) -> Answer {
    if is_protobuf(&answer)
        && let Ok(status) = proto::RpcStatus::decode(answer.body.clone())
    {
        answer.body = status.message.into();
    }
    answer
}

fn is_protobuf(answer: &Answer) -> bool {
    answer.headers.get(CONTENT_TYPE) == Some(&PROTOBUF)
}
