//! What is refused, and how.

use std::{io::Write, net::Shutdown, sync::LazyLock, time::Duration};

use ekiden_model::route::RouteState;
use proptest::{collection, prelude::*, sample};

use crate::support::{App, GET, World, route};

/// Sends bytes on a connection of their own; they must be refused with this status and cause, the
/// connection closed, and nothing forwarded.
#[track_caller]
fn refused(world: &World, app: &App, request: &[u8], status: u16, cause: &str) {
    let before = app.requests().len();
    let mut client = world.client();
    let shown = String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
    client.send(request);
    let response = client.response();
    assert_eq!(
        (response.status(), response.cause().as_str()),
        (status, cause),
        "{shown:?}"
    );
    assert_eq!(response.field("server").as_deref(), Some("ekiden"));
    assert_eq!(
        response.field("connection").as_deref(),
        Some("close"),
        "{shown:?}"
    );
    assert!(client.is_closed(), "{shown:?}");
    assert_eq!(app.requests().len(), before, "{shown:?}");
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_and_the_connection_closed() {
    let app = App::saying("hello");
    let world = World::serving(app.address);
    let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n");
    for request in [
        // Lengths.
        with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        with("Content-Length: 5\r\nContent-Length: 6\r\n"),
        with("Content-Length: 5\r\nContent-Length: 5\r\n"),
        with("Content-Length: 5, 5\r\n"),
        with("Content-Length: +5\r\n"),
        with("Content-Length: -5\r\n"),
        with("Content-Length: 0x5\r\n"),
        with("Content-Length: 5 5\r\n"),
        with("Content-Length:\r\n"),
        with("Content-Length: 99999999999999999999\r\n"),
        with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        "POST / HTTP/1.0\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        // Lines.
        "GET / HTTP/1.1\nHost: app.test\n\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: app.test\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: app.test\r\nA: b\rc: d\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\rHost: app.test\r\n\r\n".to_owned(),
        with("A: b\r\n folded\r\n"),
        with("A: b\r\n\tfolded\r\n"),
        "GET / HTTP/1.1\r\n Host: app.test\r\n\r\n".to_owned(),
        // Names and values.
        with("A : b\r\n"),
        with("A\t: b\r\n"),
        with(": b\r\n"),
        with("A b: c\r\n"),
        with("A(b): c\r\n"),
        with("no colon\r\n"),
        with("A: b\0c\r\n"),
        with("A: b\x01c\r\n"),
        with("A: b\x7fc\r\n"),
        with("\0A: b\r\n"),
        // Host.
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
        with("Host: app.test\r\n"),
        "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: user@app.test\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: app.test/x\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: app.test:http\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: app.test:123456\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(300)),
        // Targets.
        "GET http://other.test/ HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(),
        "GET ftp://app.test/ HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(),
        "GET app.test:80 HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(),
        "GET * HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(),
        "GET /a#b HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(),
        "GET /\u{e9} HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(),
        "GET /a b HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(),
        "GET  / HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(),
        "GET / \r\nHost: app.test\r\n\r\n".to_owned(),
        "GET /\r\nHost: app.test\r\n\r\n".to_owned(),
        "G@T / HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(),
        "GET / http/1.1\r\nHost: app.test\r\n\r\n".to_owned(),
        "\r\n\r\n\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\0\x01".to_owned(),
    ] {
        refused(&world, &app, request.as_bytes(), 400, "bad_request");
    }
}

#[test]
fn what_is_not_served_is_refused_by_its_own_cause() {
    let app = App::saying("hello");
    let world = World::serving(app.address);
    let with = |fields: &str| format!("GET / HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n");
    let long = "a".repeat(17 * 1024);
    let many = "A: b\r\n".repeat(101);
    for (request, status, cause) in [
        (
            with("Transfer-Encoding: gzip\r\n"),
            501,
            "transfer_coding_not_supported",
        ),
        (
            with("Transfer-Encoding: gzip, chunked\r\n"),
            501,
            "transfer_coding_not_supported",
        ),
        (
            with("Transfer-Encoding: chunked, chunked\r\n"),
            501,
            "transfer_coding_not_supported",
        ),
        (
            with("Transfer-Encoding: xchunked\r\n"),
            501,
            "transfer_coding_not_supported",
        ),
        (
            with("Transfer-Encoding: \x0bchunked\r\n"),
            400,
            "bad_request",
        ),
        (with("Expect: something\r\n"), 417, "expectation_failed"),
        (
            "CONNECT app.test:80 HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(),
            501,
            "method_not_supported",
        ),
        (
            "GET / HTTP/2.0\r\nHost: app.test\r\n\r\n".to_owned(),
            505,
            "version_not_supported",
        ),
        (
            format!("GET /{long} HTTP/1.1\r\nHost: app.test\r\n\r\n"),
            414,
            "target_too_long",
        ),
        (
            format!("GET /{}", "a".repeat(40_000)),
            414,
            "target_too_long",
        ),
        (
            with(&format!("A: {long}\r\nB: {long}\r\n")),
            431,
            "head_too_large",
        ),
        (with(&many), 431, "head_too_large"),
    ] {
        refused(&world, &app, request.as_bytes(), status, cause);
    }
}

#[test]
fn a_body_that_breaks_the_chunked_coding_is_refused() {
    let app = App::answering("");
    let world = World::serving(app.address);
    let head = "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "x\r\n",
        "5\nhello\r\n",
        "5\r\nhelloo\r\n",
        "5 \r\nhello\r\n",
        "0\r\n\n",
    ] {
        refused(
            &world,
            &app,
            format!("{head}{body}").as_bytes(),
            400,
            "bad_body",
        );
        // The head first: then it is already with the application.
        let mut client = world.client();
        client.send(head).send(body);
        assert_eq!(client.response().cause(), "bad_body", "{body:?}");
        assert!(client.is_closed());
    }
}

#[test]
fn hosts_without_a_running_service_are_told_so_and_the_connection_kept() {
    let app = App::saying("hello");
    let mut world = World::with(1, |bounds| bounds.control_wait = Duration::ZERO);
    assert_eq!(world.client().ask(GET).cause(), "no_routes");

    let paused = ekiden_model::route::Route {
        state: RouteState::Paused,
        ..route(2, "paused.test", &[])
    };
    let empty = ekiden_model::route::Route {
        state: RouteState::NotDeployed,
        ..route(3, "empty.test", &[])
    };
    world
        .control
        .publish(vec![route(1, "app.test", &[app.address]), paused, empty]);
    let mut client = world.client();
    for (host, status, cause) in [
        ("other.test", 404, "no_such_host"),
        ("paused.test", 503, "paused"),
        ("empty.test", 503, "not_deployed"),
        ("APP.test.", 200, ""),
        ("app.TEST:8080", 200, ""),
        ("127.0.0.1", 404, "no_such_host"),
        ("[::1]:80", 404, "no_such_host"),
    ] {
        let response = client.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(
            (response.status(), response.cause().as_str()),
            (status, cause),
            "{host}"
        );
        assert_eq!(response.field("connection"), None);
    }
    client.send("HEAD / HTTP/1.1\r\nHost: other.test\r\n\r\n");
    assert_eq!(client.response_to_head().status(), 404);
    assert_eq!(client.ask(GET).text(), "hello");
}

#[test]
fn a_head_that_takes_too_long_is_refused_and_an_idle_connection_closed() {
    let app = App::saying("hello");
    let mut world = World::with(1, |bounds| {
        bounds.head_time = Duration::from_millis(200);
        bounds.keep_alive_idle = Duration::from_millis(200);
    });
    world.serve(&[app.address]);
    let mut slow = world.client();
    slow.send("GET / HTTP/1.1\r\nHost: app");
    let mut silent = world.client();
    let mut idle = world.client();
    assert_eq!(idle.ask(GET).text(), "hello");
    assert_eq!(slow.response().cause(), "head_too_slow");
    assert!(slow.is_closed() && silent.is_closed() && idle.is_closed());
}

#[test]
fn a_body_that_stops_arriving_is_refused() {
    let app = App::new(|_, mut client| drop(client.message(true)));
    let mut world = World::with(1, |bounds| bounds.body_idle = Duration::from_millis(200));
    world.serve(&[app.address]);
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(client.response().cause(), "body_too_slow");
    assert!(client.is_closed());
}

#[test]
fn an_application_that_is_silent_is_timed_out() {
    let app = App::new(|_, mut client| {
        client.message(true);
        client.rest();
    });
    let mut world = World::with(1, |bounds| {
        bounds.response_idle = Duration::from_millis(200)
    });
    world.serve(&[app.address]);
    let mut client = world.client();
    let response = client.ask(GET);
    assert_eq!(
        (response.status(), response.cause().as_str()),
        (504, "app_timed_out")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is sent is answered or hung up on, soon, and harms nobody else.
    #[test]
    fn any_bytes_are_answered_or_hung_up_on(pieces in collection::vec(piece(), 0..12)) {
        static WORLD: LazyLock<(App, World)> = LazyLock::new(|| {
            let app = App::saying("hello");
            let world = World::serving(app.address);
            (app, world)
        });
        let mut client = WORLD.1.client();
        // Refused long before all of it was sent, some of it may not be taken.
        let _ = client.stream.write_all(&pieces.concat());
        let _ = client.stream.shutdown(Shutdown::Write);
        client.rest();
        prop_assert_eq!(WORLD.1.client().ask(GET).text().to_owned(), "hello");
    }
}

/// Something that may stand in a request.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let usual = [
        "GET / HTTP/1.1\r\n",
        "POST / HTTP/1.0\r\n",
        "Host: app.test\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
        "\r\n",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        "abc",
        "\n",
    ];
    prop_oneof![
        4 => sample::select(usual.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => collection::vec(any::<u8>(), 0..8),
    ]
}
