//! Traces that go on or begin at the edge, and what control is told of the requests in them.

use std::{sync::mpsc::channel, time::Duration};

use ekiden_model::{
    id::ServiceId,
    route::{ROUTE_PROTOCOL_TRACING, ServiceCounts, ToEdge, Tracing},
};

use crate::support::{App, Client, GET, Message, World, instance, route};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Has every request that is sampled exported.
fn export(world: &mut World, sample_per_million: u32) {
    world.control.send(&ToEdge::Tracing(Tracing {
        sample_per_million,
        export: true,
        client_decides: true,
    }));
    // What is served after it is served by it.
    let app = route(2, "another.test", &[]);
    world.control.publish(vec![app]);
}

/// Trace, span and flags of what the application got, which both fields have to tell alike.
fn told(request: &Message) -> (String, String, String) {
    let parent = request.field("traceparent").unwrap();
    let parts: Vec<_> = parent.split('-').collect();
    let [version, trace, span, flags] = parts[..] else {
        panic!("{parent}");
    };
    assert_eq!((version, trace.len(), span.len()), ("00", 32, 16));
    let (seconds, rest) = trace.split_at(8);
    assert_eq!(
        request.field("x-amzn-trace-id").unwrap(),
        format!(
            "Root=1-{seconds}-{rest};Parent={span};Sampled={}",
            &flags[1..]
        )
    );
    (trace.to_owned(), span.to_owned(), flags.to_owned())
}

fn with(fields: &str) -> String {
    format!("GET /a?b=c HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n")
}

#[test]
fn a_clients_trace_goes_on_and_others_are_new_ones() {
    let app = App::saying("hello");
    let world = World::serving(app.address);
    let mut client = world.client();
    let good = format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n");
    let bad = format!("traceparent: 00-{TRACE}-{PARENT}-0\r\n");
    let amazon = "X-Amzn-Trace-Id: Root=1-67891233-abcdef012345678912345678;Sampled=0\r\n";
    let state = "tracestate: a=1,b=2\r\ntracestate: c=3\r\n";
    for fields in [
        String::new(),
        format!("{good}{state}"),
        format!("{bad}{state}{amazon}"),
        format!("{amazon}{state}"),
        format!("{good}{amazon}"),
        format!("{good}{good}"),
        format!("{state}X_Amzn_Trace_Id: {}\r\n", &amazon[17..]),
    ] {
        assert_eq!(client.ask(&with(&fields)).status(), 200);
    }
    let requests = app.requests();
    let heard: Vec<_> = requests.iter().map(told).collect();
    let is_new = |at: usize| {
        let (trace, _, flags) = &heard[at];
        flags == "01" && trace != TRACE && !trace.contains("abcdef0123")
    };
    assert!(
        is_new(0) && is_new(2) && is_new(5) && is_new(6),
        "{heard:?}"
    );
    assert_ne!(heard[0].0, heard[2].0);
    for at in [1, 4] {
        let (trace, span, flags) = &heard[at];
        assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "00"));
        assert_ne!(span, PARENT);
    }
    assert_eq!(heard[3].0, "67891233abcdef012345678912345678");
    assert_eq!(heard[3].2, "00");
    for (at, request) in requests.iter().enumerate() {
        let state = request.field("tracestate");
        let want = (at == 1).then(|| "a=1,b=2|c=3".to_owned());
        assert_eq!(state, want, "{at}");
    }
}

#[test]
fn the_access_log_has_the_ids_and_what_the_client_says_of_itself() {
    let app = App::saying("hello");
    let world = World::serving(app.address);
    let mut client = world.client();
    let long = "x".repeat(300);
    client.ask(&with(&format!(
        "traceparent: 00-{TRACE}-{PARENT}-01\r\nUser-Agent: \"{long}\r\nReferer: https://a.test/\r\n"
    )));
    client.ask(GET);
    drop(client);
    let (_, span, _) = told(&app.requests()[0]);
    let path = world.access_log.clone();
    let dir = world.end();
    let log = std::fs::read_to_string(path).unwrap();
    drop(dir);
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["trace_id"], TRACE);
    assert_eq!(lines[0]["span_id"], span);
    assert_eq!(lines[0]["user_agent"], format!("\"{}", &long[..255]));
    assert_eq!(lines[0]["referer"], "https://a.test/");
    assert_eq!(lines[1]["user_agent"], serde_json::Value::Null);
    assert_eq!(lines[1]["trace_id"].as_str().unwrap().len(), 32);
}

#[test]
fn control_gets_the_spans_of_what_is_sampled_once_it_wants_them() {
    let app = App::saying("hello");
    let mut world = World::configured(|config, _| config.access_log = None);
    world.serve(&[app.address]);
    assert_eq!(world.client().ask(GET).status(), 200);
    // It is over for the edge too, which is a moment after its client has the answer.
    let service = Some(ServiceId::from_bytes([1; 16]));
    assert_eq!(world.control.counted(service, 1).answered[1], 1);
    export(&mut world, 0);
    world.serve(&[app.address]);
    let mut client = world.client();
    assert_eq!(client.ask(GET).status(), 200);
    let sampled = with(&format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n"));
    assert_eq!(client.ask(&sampled).text(), "hello");
    let elsewhere = sampled.replace("app.test", "nowhere.test");
    assert_eq!(client.ask(&elsewhere).status(), 404);
    let spans = world.control.traced(2).to_vec();
    assert_eq!(spans.len(), 2);
    let (served, missed) = (&spans[0], &spans[1]);
    let (_, span, flags) = told(&app.requests()[2]);
    assert_eq!((served.span.to_string(), flags), (span, "01".to_owned()));
    assert_eq!(served.trace.to_string(), TRACE);
    assert_eq!(served.parent, Some(PARENT.parse().unwrap()));
    assert_eq!(served.service, Some(ServiceId::from_bytes([1; 16])));
    assert_eq!(served.instance, Some(instance(1, 0)));
    assert_eq!(
        (served.method.as_str(), served.path.as_str()),
        ("GET", "/a")
    );
    assert_eq!((served.host.as_str(), served.status), ("app.test", 200));
    assert_eq!(
        (served.queue.clone(), served.response_body_bytes),
        (None, 5)
    );
    assert!(served.connected_us <= served.first_byte_us);
    assert!(served.first_byte_us <= Some(served.total_us));
    assert_eq!(missed.cause.as_deref(), Some("no_such_host"));
    assert_eq!((missed.service, missed.status), (None, 404));
    // A control that knows nothing of traces is told nothing, whatever was asked before it.
    world.control.version = ROUTE_PROTOCOL_TRACING - 1;
    world.control.restart();
    world.serve(&[app.address]);
    assert_eq!(client.ask(&sampled).status(), 200);
    assert_eq!(world.control.counted(service, 4).answered[1], 4);
    assert_eq!(world.control.spans.len(), 2);
}

#[test]
fn a_websocket_is_in_a_trace_and_takes_as_long_as_its_answer() {
    let app = App::new(|_, mut client: Client| {
        let request = client.message(true).unwrap();
        let trace = request.field("traceparent").unwrap();
        client.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             X-Trace: {trace}\r\n\r\n"
        ));
        client.rest();
    });
    let mut world = World::serving(app.address);
    export(&mut world, 0);
    world.serve(&[app.address]);
    let mut client = world.client();
    client.send(with(&format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\ntraceparent: 00-{TRACE}-{PARENT}-01\r\n"
    )));
    let head = client.head().unwrap();
    assert!(head.contains(&format!("X-Trace: 00-{TRACE}-")), "{head}");
    // While it lives it is one of those that are under way.
    while !world.control.counts.iter().any(|one| one.in_flight == 1) {
        world.control.next();
    }
    drop(client);
    let spans = world.control.traced(1);
    assert_eq!(spans[0].status, 101);
    let (first_byte, total) = (spans[0].first_byte_us.unwrap(), spans[0].total_us);
    assert!(first_byte < total);
    let service = ServiceId::from_bytes([1; 16]);
    world.control.counted(Some(service), 1);
    let of_it = world.control.of(service);
    assert_eq!((of_it.latency.count, of_it.counts.answered[0]), (1, 1));
    assert!(of_it.latency.sum <= first_byte);
}

#[test]
fn waits_and_the_most_at_once_are_told_with_the_requests() {
    let (answers, answer) = channel::<()>();
    let answer = std::sync::Mutex::new(answer);
    let app = App::new(move |_, mut client| {
        while client.message(true).is_some() {
            answer.lock().unwrap().recv().unwrap();
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let mut world = World::new();
    export(&mut world, 1_000_000);
    // The first waits for an instance at all, the second for room.
    let narrow = |apps: &[std::net::SocketAddr]| {
        let mut route = route(1, "app.test", apps);
        route.concurrency_per_instance = 1;
        vec![route]
    };
    world.control.publish(narrow(&[]));
    let (mut first, mut second) = (world.client(), world.client());
    first.send(GET);
    world.control.wait_for_demand(0, 1);
    std::thread::sleep(Duration::from_millis(5));
    world.control.publish(narrow(&[app.address]));
    world.control.wait_for_demand(1, 0);
    second.send(GET);
    world.control.wait_for_demand(1, 1);
    for client in [&mut first, &mut second] {
        answers.send(()).unwrap();
        assert_eq!(client.response().status(), 200);
    }
    let service = ServiceId::from_bytes([1; 16]);
    assert_eq!(world.control.counted(Some(service), 2).answered[1], 2);
    let told: ServiceCounts = world.control.of(service);
    assert_eq!((told.latency.count, told.queued.count), (2, 2));
    assert_eq!((told.cold.count, told.concurrency_max), (1, 1));
    assert!(told.cold.min >= 5_000 && told.latency.max >= told.cold.max);
    let spans = world.control.traced(2);
    let queues: Vec<_> = spans
        .iter()
        .map(|span| span.queue.clone().unwrap())
        .collect();
    assert!(queues[0].cold && !queues[1].cold, "{queues:?}");
    assert!(queues[0].waited_us >= 5_000);
    assert!(spans[0].connected_us.unwrap() >= queues[0].began_us + queues[0].waited_us);
}
