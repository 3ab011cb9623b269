//! What watching costs a request: access log, metrics and trace context together. `bench/logs/run` has the bound.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use crate::{
    access_log::{AccessLog, Completion, ConnectionText, Stages},
    client_address::{Client, Protocol, Scheme},
    config::AccessLogConfig,
    counters::{Counters, Waited},
    head::{self, RequestHead},
    trace_context,
    tracer::{Spans, Tracer},
};

const REQUESTS: u32 = 1_000_000;

const HEAD: &str = "GET /api/v1/things?page=2&size=50 HTTP/1.1\r\nHost: app.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://app.example.com/things\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";

/// The time of one, of many.
fn each(what: &str, mut one: impl FnMut()) -> Duration {
    (0..REQUESTS / 10).for_each(|_| one());
    let began = Instant::now();
    (0..REQUESTS).for_each(|_| one());
    let each = began.elapsed() / REQUESTS;
    println!("{what}: {each:?}");
    each
}

fn context(tracer: &Tracer, head: &RequestHead<'_, '_>, out: &mut Vec<u8>) {
    out.clear();
    tracer.begin(trace_context::begun(head)).write(head, out);
}

fn count(counters: &Counters, stages: &Stages) {
    counters.enter();
    let took = black_box(stages).started.elapsed();
    let waited = Waited {
        time: took,
        cold: false,
    };
    counters.time(took, Some(waited));
    counters.count(Some(200), None);
    counters.leave();
}

#[test]
#[ignore = "a measurement: it means something in a release build only"]
fn cost_of_watching_a_request() {
    let dir = tempfile::tempdir().unwrap();
    let log = AccessLog::open(&AccessLogConfig::new(dir.path().join("access.log"))).unwrap();
    let buffer = log.buffer();
    let client = Client {
        address: [192, 0, 2, 1].into(),
        scheme: Scheme::Https,
    };
    let protocol = Protocol {
        name: "h2",
        tls: Some("1.3"),
    };
    let connection = ConnectionText::new(&client, protocol);
    let (spans, counters) = (Spans::new(), Counters::default());
    let tracer = spans.tracer();
    let mut space = head::field_space();
    let head = head::parse_request(HEAD.as_bytes(), &mut space, 1000).unwrap();
    let fresh = HEAD.replace("traceparent", "x-no-parent");
    let mut fresh_space = head::field_space();
    let fresh = head::parse_request(fresh.as_bytes(), &mut fresh_space, 1000).unwrap();
    let mut out = Vec::with_capacity(1024);

    each("a new trace", || context(&tracer, &fresh, &mut out));
    let traced = each("a client's trace", || context(&tracer, &head, &mut out));
    let mut stages = Stages::begin();
    let counted = each("counters, latency, concurrency and queue time", || {
        count(&counters, &stages);
    });
    let took = each("the clock, three times", || {
        stages.slot = Some(Instant::now());
        stages.connected = Some(Instant::now());
        stages.first_byte = Some(Instant::now());
        black_box(&stages);
    });
    let mut scratch = [const { Vec::new() }; 3];
    let trace = tracer.begin(None);
    let logged = each("the access log's line", || {
        let [line, user_agent, referer] = &mut scratch;
        line.clear();
        line.extend_from_slice(b"GET ");
        line.extend_from_slice(head.target.as_bytes());
        crate::dispatch::keep(head.fields, "user-agent", user_agent);
        crate::dispatch::keep(head.fields, "referer", referer);
        buffer.record(&Completion {
            connection: &connection,
            request_id: b"0123456789abcdef0123456789abcdef",
            host: b"app.example.com",
            request_line: line,
            user_agent,
            referer,
            trace: Some(&trace),
            service: None,
            slot: None,
            status: 200,
            cause: None,
            body_bytes: (0, 1234),
            stages: &stages,
            total: Duration::from_micros(1234),
        });
    });
    drop(buffer);
    log.close();
    let all = traced + counted + took + logged;
    println!("all together: {all:?}");
}
