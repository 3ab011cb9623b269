//! Sends lines by a drain, for tests with real receivers.
//!
//! ```text
//! send <target as JSON> [<secrets as JSON>] < lines
//! ```
//!
//! Standard input has a line each; or, with `metrics` or `spans` for the first argument and an OTLP target after
//! it, is not read, and one of each kind is sent. `EKIDEN_SEND_BATCH` is the lines of a batch (default: as the
//! target's hint says), `EKIDEN_SEND_FIRST` the first sequence (default 1), `EKIDEN_SEND_TRIES` how often a
//! batch is tried (default 1). Prints a JSON object for each try and exits with 1 if a batch was not taken.

use std::{
    env,
    error::Error,
    io::{BufRead, stdin},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ekiden_export::{
    backoff::Backoff,
    drain::{Drain, SendError, Sent},
    limits::Limits,
    line::{Kind, Line, Output, Service, Source},
    otlp::OtlpClient,
    secrets::Secrets,
    target::Target,
    telemetry::{Data, MetricPoint, Resource, Span, SpanKind, SpanStatus, Temporality, Value},
};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["metrics" | "spans", target] => telemetry(arguments[0], target).await,
        [target] => lines(target, "{}").await,
        [target, secrets] => lines(target, secrets).await,
        _ => Err("usage: send [metrics|spans] <target> [<secrets>] < lines".into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{}", json!({"config_error": error.to_string()}));
            ExitCode::from(2)
        }
    }
}

async fn lines(target: &str, secrets: &str) -> Result<bool, Box<dyn Error>> {
    let target: Target = serde_json::from_str(target)?;
    let secrets: Secrets = serde_json::from_str(secrets)?;
    let mut drain = Drain::new(&target, &secrets)?;
    drain.resolve().await?;
    let hint = target.batch_hint();
    let size = setting("EKIDEN_SEND_BATCH", hint.lines_max as u64)?.max(1) as usize;
    let tries = setting("EKIDEN_SEND_TRIES", 1)?;
    let mut sequence = setting("EKIDEN_SEND_FIRST", 1)?;
    let source = source();
    let mut batch = Vec::new();
    let mut input = stdin().lock().lines();
    loop {
        let text = input.next().transpose()?;
        let last = text.is_none();
        if let Some(text) = text {
            batch.push(line(sequence, text, &source));
            sequence += 1;
        }
        if batch.len() >= size || (last && !batch.is_empty()) {
            if !send(&mut drain, &batch, tries).await {
                return Ok(false);
            }
            batch.clear();
        }
        if last {
            drain.close().await;
            return Ok(true);
        }
    }
}

async fn send(drain: &mut Drain, batch: &[Line], tries: u64) -> bool {
    let mut backoff = Backoff::default();
    for _ in 0..tries {
        let result = drain.send(batch).await;
        print(&result, batch.last().map_or(0, |line| line.sequence));
        match result {
            Ok(_) => return true,
            Err(SendError::Permanent { .. }) => return false,
            Err(SendError::Retry { after, .. }) => {
                tokio::time::sleep(backoff.failed(after, 0.5)).await;
            }
        }
    }
    false
}

async fn telemetry(what: &str, target: &str) -> Result<bool, Box<dyn Error>> {
    let Target::Otlp(target) = serde_json::from_str(target)? else {
        return Err("the target must be `otlp`".into());
    };
    let client = OtlpClient::new(&target, &Secrets::default(), Limits::default())?;
    let resource = Arc::new(Resource {
        attributes: vec![("service.name".to_owned(), "shop".into())],
    });
    let result = match what {
        "metrics" => client.send_metrics(&points(&resource)).await,
        _ => client.send_spans(&[span(&resource)]).await,
    };
    print(&result, 0);
    Ok(result.is_ok())
}

fn points(resource: &Arc<Resource>) -> Vec<MetricPoint> {
    let point = |name: &str, unit: &str, data| MetricPoint {
        resource: Arc::clone(resource),
        name: name.to_owned(),
        description: format!("What `{name}` is."),
        unit: unit.to_owned(),
        attributes: vec![("instance".to_owned(), "i-1".into())],
        start_unix_nanos: 1,
        time_unix_nanos: now_ms() * 1_000_000,
        data,
    };
    let sum = |temporality, monotonic| Data::Sum {
        value: 3.0,
        temporality,
        monotonic,
    };
    vec![
        point("memory", "By", Data::Gauge(0.0)),
        point("memory", "By", Data::Gauge(5.5)),
        point("requests", "1", sum(Temporality::Cumulative, true)),
        point("in_flight", "1", sum(Temporality::Delta, false)),
        point(
            "latency",
            "ms",
            Data::Histogram {
                count: 6,
                sum: 21.5,
                min: Some(0.5),
                max: Some(9.0),
                bounds: vec![1.0, 5.0],
                counts: vec![1, 2, 3],
                temporality: Temporality::Delta,
            },
        ),
    ]
}

fn span(resource: &Arc<Resource>) -> Span {
    let start = now_ms() * 1_000_000;
    Span {
        resource: Arc::clone(resource),
        trace_id: [0xab; 16],
        span_id: [0xcd; 8],
        parent_span_id: Some([0xef; 8]),
        trace_state: "a=b".to_owned(),
        name: "GET /orders".to_owned(),
        kind: SpanKind::Server,
        start_unix_nanos: start,
        end_unix_nanos: start + 1_500_000,
        attributes: vec![
            ("http.response.status_code".to_owned(), Value::Int(500)),
            ("queue.seconds".to_owned(), Value::Double(0.25)),
            ("cold".to_owned(), Value::Bool(true)),
            ("route".to_owned(), "/orders".into()),
        ],
        status: SpanStatus::Error("refused".to_owned()),
    }
}

fn print(result: &Result<Sent, SendError>, last: u64) {
    let printed = match result {
        Ok(Sent {
            bytes,
            rejected,
            message,
        }) => json!({"ok": last, "bytes": bytes, "rejected": rejected, "message": message}),
        Err(SendError::Retry { after, message }) => {
            json!({"retry": message, "after_s": after.as_ref().map(Duration::as_secs_f64)})
        }
        Err(SendError::Permanent { message }) => json!({"permanent": message}),
    };
    println!("{printed}");
}

fn source() -> Arc<Source> {
    Arc::new(Source {
        group: "/aws/apprunner/shop/0123/application".to_owned(),
        stream: "instance/i-1".to_owned(),
        kind: Kind::Application,
        service: Some(Service {
            name: "shop".to_owned(),
            id: "0123".to_owned(),
            arn: "arn:aws:apprunner:us-east-1:000000000000:service/shop/0123".to_owned(),
        }),
        instance: Some("i-1".to_owned()),
    })
}

fn line(sequence: u64, text: String, source: &Arc<Source>) -> Line {
    Line {
        sequence,
        time_ms: now_ms(),
        observed_ms: now_ms(),
        output: Some(Output::Stdout),
        process: Some("web".into()),
        source: Arc::clone(source),
        text,
    }
}

fn setting(name: &str, default: u64) -> Result<u64, Box<dyn Error>> {
    match env::var(name) {
        Ok(value) => Ok(value
            .parse()
            .map_err(|_| format!("`{name}` is not a number"))?),
        Err(_) => Ok(default),
    }
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}
