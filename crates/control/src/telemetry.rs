//! Spans and metrics on their way to an OpenTelemetry collector, by OTLP/HTTP.
//!
//! Nothing of it is kept on the disk: what a collector does not take for long is dropped and counted, and requests
//! and metrics go on. Logs go by drains, which lose nothing.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use ekiden_engine::Engine;
use ekiden_export::{
    backoff::Backoff,
    drain::SendError,
    limits::Limits,
    otlp::OtlpClient,
    secrets::Secrets,
    target::{Compression, ConfigError, OtlpTarget},
    telemetry::{Resource, Span, SpanKind, SpanStatus, Value},
};
use ekiden_model::{
    id::ServiceId,
    route::Tracing,
    span::{QueueSpan, RequestSpan},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{clock, edges::Edges, metrics::Metrics, services::Services};

/// How often spans are sent.
const SPANS_EVERY: Duration = Duration::from_secs(1);

/// Spans of one call.
const SPANS_MAX: usize = 2048;

/// How often metrics are sent.
const METRICS_EVERY: Duration = Duration::from_secs(60);

/// Where spans and metrics go, and which requests are traced.
#[derive(Clone, Default)]
pub struct TelemetryConfig {
    /// The base URL of a receiver of OTLP/HTTP; nothing is sent without.
    pub otlp: Option<String>,
    /// Headers that it wants; they may be secret.
    pub otlp_headers: BTreeMap<String, String>,
    /// A PEM file with the authorities that it is trusted by, instead of the host's.
    pub otlp_authorities: Option<PathBuf>,
    /// So many of a million new traces are sampled.
    pub sample_per_million: u32,
    /// Whether a client that begins a trace decides whether it is sampled.
    pub client_decides: bool,
    /// The address of a receiver that instances are told of whose services are observed.
    pub instances: Option<String>,
}

impl std::fmt::Debug for TelemetryConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "TelemetryConfig({:?}, {})",
            self.otlp, self.sample_per_million
        )
    }
}

impl TelemetryConfig {
    /// The variables of an instance whose service is observed, beside its own.
    pub(crate) fn variables(&self, service: &str) -> Vec<(String, String)> {
        let Some(endpoint) = &self.instances else {
            return Vec::new();
        };
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint.clone()),
            ("OTEL_SERVICE_NAME".to_owned(), service.to_owned()),
        ]
    }

    /// The client, if something is to be sent. Within a tokio runtime.
    ///
    /// # Errors
    /// A setting is not what it must be.
    pub(crate) fn client(&self) -> Result<Option<OtlpClient>, ConfigError> {
        let Some(url) = &self.otlp else {
            return Ok(None);
        };
        let target = OtlpTarget {
            url: url.clone(),
            headers: BTreeMap::new(),
            compression: Compression::Gzip,
            ca_file: self.otlp_authorities.clone(),
        };
        let secrets = Secrets {
            headers: self.otlp_headers.clone(),
            ..Secrets::default()
        };
        OtlpClient::new(&target, &secrets, Limits::default()).map(Some)
    }
}

/// Tells the edges how to trace, and sends until the control plane stops.
pub(crate) async fn send<E: Engine>(
    config: TelemetryConfig,
    client: Option<OtlpClient>,
    edges: Arc<Edges>,
    services: Arc<Services<E>>,
    metrics: Arc<Metrics<E>>,
    stop: CancellationToken,
) {
    let export = client.is_some();
    let tracing = match export {
        true => Tracing {
            sample_per_million: config.sample_per_million,
            export,
            client_decides: config.client_decides,
        },
        false => Tracing {
            client_decides: config.client_decides,
            ..Tracing::default()
        },
    };
    edges.trace(tracing).await;
    let Some(client) = client else { return };
    let spans = send_spans(&client, &edges, &services, &stop);
    let metrics = send_metrics(&client, &metrics, &stop);
    tokio::join!(spans, metrics);
}

async fn send_spans<E: Engine>(
    client: &OtlpClient,
    edges: &Edges,
    services: &Services<E>,
    stop: &CancellationToken,
) {
    let mut backoff = Backoff::default();
    let mut wait = SPANS_EVERY;
    let mut batch: Vec<Span> = Vec::new();
    loop {
        let stops = tokio::select! {
            () = stop.cancelled() => true, // cancel-safe: nothing is in flight here
            () = tokio::time::sleep(wait) => false, // a timer
        };
        if batch.is_empty() {
            let (taken, lost) = edges.take_spans(SPANS_MAX);
            if lost > 0 {
                warn!(lost, "spans were dropped: the collector was too slow");
            }
            let name = |id: ServiceId| {
                let service = services.watch(id)?;
                let name = service.borrow().stored.service.name.to_string();
                Some(name)
            };
            batch = taken.iter().flat_map(|span| spans_of(span, name)).collect();
        }
        let is_full = batch.len() >= SPANS_MAX;
        wait = match client.send_spans(&batch).await {
            Ok(sent) => {
                if sent.rejected > 0 {
                    debug!(
                        rejected = sent.rejected,
                        message = sent.message,
                        "the collector left out spans"
                    );
                }
                batch.clear();
                backoff.succeeded();
                if is_full { Duration::ZERO } else { SPANS_EVERY }
            }
            Err(SendError::Permanent { message }) => {
                warn!(
                    spans = batch.len(),
                    message, "the collector refused spans, which are dropped"
                );
                batch.clear();
                backoff.failed(None, rand::random())
            }
            Err(SendError::Retry { after, message }) => {
                if backoff.failures() == 0 {
                    warn!(message, "spans cannot be sent for now");
                }
                backoff.failed(after, rand::random())
            }
        };
        if stops {
            return;
        }
    }
}

async fn send_metrics<E: Engine>(
    client: &OtlpClient,
    metrics: &Metrics<E>,
    stop: &CancellationToken,
) {
    let mut fails = false;
    loop {
        let stops = tokio::select! {
            () = stop.cancelled() => true, // cancel-safe: nothing is in flight here
            () = tokio::time::sleep(METRICS_EVERY) => false, // a timer
        };
        // They are sums since the start: one that is not taken is in the next.
        let sent = client.send_metrics(&metrics.points(clock::now())).await;
        if let Err(SendError::Permanent { message } | SendError::Retry { message, .. }) = &sent
            && !fails
        {
            warn!(message, "metrics cannot be sent for now");
        }
        fails = sent.is_err();
        if stops {
            return;
        }
    }
}

/// A request's span, and the one of its wait.
fn spans_of(span: &RequestSpan, name: impl Fn(ServiceId) -> Option<String>) -> Vec<Span> {
    let mut attributes = vec![("service.namespace".to_owned(), Value::from("ekiden"))];
    let service = span.service.and_then(|id| Some((id, name(id)?)));
    match &service {
        Some((id, name)) => {
            attributes.push(("service.name".to_owned(), Value::from(name.clone())));
            attributes.push(("ekiden.service.id".to_owned(), Value::from(id.to_string())));
        }
        None => attributes.push(("service.name".to_owned(), Value::from("ekiden-edge"))),
    }
    let resource = Arc::new(Resource { attributes });
    let nanos = |micros: u64| (span.started_us.saturating_add(micros)).saturating_mul(1000);
    let mut attributes: Vec<(String, Value)> = [
        ("http.request.method", Value::from(&span.method[..])),
        ("server.address", Value::from(&span.host[..])),
        ("url.path", Value::from(&span.path[..])),
        (
            "http.response.status_code",
            Value::from(i64::from(span.status)),
        ),
        (
            "http.request.body.size",
            Value::from(span.request_body_bytes as i64),
        ),
        (
            "http.response.body.size",
            Value::from(span.response_body_bytes as i64),
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(instance) = span.instance {
        attributes.push((
            "service.instance.id".to_owned(),
            Value::from(instance.to_string()),
        ));
    }
    for (name, micros) in [
        ("ekiden.connected_us", span.connected_us),
        ("ekiden.first_byte_us", span.first_byte_us),
    ] {
        attributes.extend(micros.map(|micros| (name.to_owned(), Value::from(micros as i64))));
    }
    if let Some(cause) = &span.cause {
        attributes.push(("error.type".to_owned(), Value::from(&cause[..])));
    }
    let status = match (&span.cause, span.status) {
        (Some(cause), 500..) => SpanStatus::Error(cause.clone()),
        (None, 500..) => SpanStatus::Error(String::new()),
        _ => SpanStatus::Unset,
    };
    let trace_id = span.trace.bits().to_be_bytes();
    let own_id = span.span.bits().to_be_bytes();
    let mut spans = vec![Span {
        resource: Arc::clone(&resource),
        trace_id,
        span_id: own_id,
        parent_span_id: span.parent.map(|parent| parent.bits().to_be_bytes()),
        trace_state: String::new(),
        name: span.method.clone(),
        kind: SpanKind::Server,
        start_unix_nanos: nanos(0),
        end_unix_nanos: nanos(span.total_us),
        attributes,
        status,
    }];
    if let Some(QueueSpan {
        span: id,
        began_us,
        waited_us,
        cold,
    }) = &span.queue
    {
        spans.push(Span {
            resource,
            trace_id,
            span_id: id.bits().to_be_bytes(),
            parent_span_id: Some(own_id),
            trace_state: String::new(),
            name: "queue".to_owned(),
            kind: SpanKind::Internal,
            start_unix_nanos: nanos(*began_us),
            end_unix_nanos: nanos(began_us.saturating_add(*waited_us)),
            attributes: vec![("ekiden.cold".to_owned(), Value::from(*cold))],
            status: SpanStatus::Unset,
        });
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_waited_is_two_spans_of_one_trace() {
        let id = ServiceId::from_bytes([9; 16]);
        let span = RequestSpan {
            trace: "0af7651916cd43dd8448eb211c80319c".parse().unwrap(),
            span: "b7ad6b7169203331".parse().unwrap(),
            parent: Some("00f067aa0ba902b7".parse().unwrap()),
            service: Some(id),
            instance: None,
            method: "GET".to_owned(),
            host: "a.test".to_owned(),
            path: "/x".to_owned(),
            status: 503,
            cause: Some("queue_time".to_owned()),
            started_us: 1_000_000,
            queue: Some(QueueSpan {
                span: "b7ad6b7169203332".parse().unwrap(),
                began_us: 10,
                waited_us: 90,
                cold: true,
            }),
            connected_us: None,
            first_byte_us: None,
            total_us: 200,
            request_body_bytes: 0,
            response_body_bytes: 7,
        };
        let spans = spans_of(&span, |of| (of == id).then(|| "web1".to_owned()));
        let [request, queue] = &spans[..] else {
            panic!("{spans:?}");
        };
        assert_eq!(request.trace_id, queue.trace_id);
        assert_eq!(queue.parent_span_id, Some(request.span_id));
        assert_eq!(request.parent_span_id.map(|id| id[1]), Some(0xf0));
        assert_eq!(
            (request.start_unix_nanos, request.end_unix_nanos),
            (1_000_000_000, 1_000_200_000)
        );
        assert_eq!(
            (queue.start_unix_nanos, queue.end_unix_nanos),
            (1_000_010_000, 1_000_100_000)
        );
        assert_eq!(request.status, SpanStatus::Error("queue_time".to_owned()));
        let name = ("service.name".to_owned(), Value::from("web1"));
        assert!(request.resource.attributes.contains(&name));
    }

    #[test]
    fn secrets_are_not_shown_and_bad_urls_are_refused() {
        let config = TelemetryConfig {
            otlp: Some("not a url".to_owned()),
            otlp_headers: BTreeMap::from([("authorization".to_owned(), "hush".to_owned())]),
            ..TelemetryConfig::default()
        };
        assert!(!format!("{config:?}").contains("hush"));
        assert!(config.client().is_err());
    }
}
