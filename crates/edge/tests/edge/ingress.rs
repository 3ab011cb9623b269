//! A service's front door: who is let in, where clients are sent, who they are taken for.

use std::{collections::BTreeSet, fs, net::SocketAddr, time::Duration};

use ekiden_edge::listener::{Door, Preamble};
use ekiden_model::route::{Route, RouteState};

use crate::support::{App, GET, World, route, wait_until};

fn with(ingress: &str, apps: &[SocketAddr]) -> Route {
    let mut route = route(1, "app.test", apps);
    route.ingress = serde_json::from_str(ingress).unwrap();
    route.ingress.check().unwrap();
    route
}

fn serving(ingress: &str, app: &App) -> World {
    let mut world = World::new();
    world.control.publish(vec![with(ingress, &[app.address])]);
    world
}

fn asking(fields: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n")
}

#[test]
fn what_is_not_let_in_is_told_why_and_reaches_no_application() {
    let app = App::saying("hello");
    let mut world = serving(r#"{"deny":["127.0.0.0/8"]}"#, &app);
    let refused = world.client().ask(GET);
    assert_eq!(
        (refused.status(), refused.cause().as_str()),
        (403, "address_denied")
    );
    let set = |world: &mut World, ingress: &str| {
        world.control.publish(vec![with(ingress, &[app.address])]);
    };
    set(&mut world, r#"{"deny_paths":["/admin"]}"#);
    // A connection is kept, and takes the next request.
    let mut client = world.client();
    let refused = client.ask("GET /x/..%2fADMIN HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(
        (refused.status(), refused.cause().as_str()),
        (403, "path_denied")
    );
    assert_eq!(client.ask(GET).text(), "hello");
    assert_eq!(app.requests().len(), 1);

    set(&mut world, r#"{"https_redirect":{"on":true}}"#);
    let sent = client.ask(&asking(""));
    assert_eq!(
        (sent.status(), sent.cause().as_str()),
        (308, "https_required")
    );
    assert_eq!(
        sent.field("location").as_deref(),
        Some("https://app.test/a")
    );
    assert_eq!(app.requests().len(), 1);
    drop(client);
    let path = world.access_log.clone();
    let dir = world.end();
    let log = fs::read_to_string(path).unwrap();
    drop(dir);
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let line = &lines[3];
    assert_eq!(
        (&line["status"], &line["cause"]),
        (&308.into(), &"https_required".into())
    );
    assert_eq!(line["service"], "test-1");
    assert_eq!(line["service_id"], "01010101010101010101010101010101");
    assert_eq!(
        (&line["client"], &line["scheme"]),
        (&"127.0.0.1".into(), &"http".into())
    );
    assert_eq!(line["protocol"], "http/1.1");
}

#[test]
fn a_login_opens_the_door() {
    let app = App::saying("hello");
    // SHA-256 over sixteen zero bytes and `correct horse`.
    let hash = "sha256$00000000000000000000000000000000$\
                b0ed398a0754303075c5c1b1386137dbc7446cc50bcf98dbcf7e3181aae763b4";
    let world = serving(
        &format!(r#"{{"basic_auth":[{{"user":"ann","hash":"{hash}"}}]}}"#),
        &app,
    );
    let mut client = world.client();
    let asked = client.ask(GET);
    assert_eq!(
        (asked.status(), asked.cause().as_str()),
        (401, "login_required")
    );
    assert!(
        asked
            .field("www-authenticate")
            .unwrap()
            .starts_with("Basic ")
    );
    // ann:correct horse
    let good = asking("Authorization: Basic YW5uOmNvcnJlY3QgaG9yc2U=\r\n");
    assert_eq!(client.ask(&good).text(), "hello");
    let twice = asking(&"Authorization: Basic YW5uOmNvcnJlY3QgaG9yc2U=\r\n".repeat(2));
    assert_eq!(client.ask(&twice).status(), 401);
    let log = world.access_log.clone();
    drop(client);
    let dir = world.end();
    assert!(!fs::read_to_string(log).unwrap().contains("YW5u"));
    drop(dir);
}

#[test]
fn a_private_service_is_served_at_the_private_door_only() {
    let app = App::saying("hello");
    let private = || {
        let mut route = route(1, "app.test", &[app.address]);
        route.private_hosts = std::mem::take(&mut route.hosts);
        let mut wild = crate::support::route(2, "open.test", &[app.address]);
        wild.private_hosts = vec!["*.in.test".to_owned()];
        vec![route, wild]
    };
    let at = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut public = World::new();
    public.control.publish(private());
    for (host, status, cause) in [
        ("app.test", 404, "not_public"),
        ("a.in.test", 404, "not_public"),
        ("other.test", 404, "no_such_host"),
        ("open.test", 200, ""),
    ] {
        let answer = public.client().ask(&at(host));
        assert_eq!(
            (answer.status(), answer.cause().as_str()),
            (status, cause),
            "{host}"
        );
    }
    let mut inside = World::configured(|_, entrance| entrance.door = Door::Private);
    inside.control.publish(private());
    for host in ["app.test", "a.in.test", "open.test"] {
        assert_eq!(inside.client().ask(&at(host)).status(), 200, "{host}");
    }
    inside.control.publish(vec![]);
    assert_eq!(inside.client().ask(&at("app.test")).cause(), "no_such_host");
}

#[test]
fn a_trusted_proxy_says_who_the_client_is_and_others_do_not() {
    let app = App::saying("hello");
    let spoofed = "X-Forwarded-For: 10.9.9.9\r\nx-forwarded-proto: https\r\nForwarded: for=a\r\n";
    let world = serving(r#"{"forwarded":true}"#, &app);
    world.client().ask(&asking(spoofed));
    let seen = &app.requests()[0];
    assert_eq!(seen.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(seen.field("x-forwarded-proto").as_deref(), Some("http"));
    let forwarded = "for=127.0.0.1;proto=http;host=\"app.test\"";
    assert_eq!(seen.field("forwarded").as_deref(), Some(forwarded));

    let mut world = World::configured(|config, _| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.bounds.connections_per_client = 1;
    });
    let ingress = r#"{"deny":["192.0.2.66"],"https_redirect":{"on":true},"forwarded":true}"#;
    world.control.publish(vec![with(ingress, &[app.address])]);
    let told = |client: &str| {
        asking(&format!(
            "X-Forwarded-For: {client}\r\nX-Forwarded-Proto: https\r\n"
        ))
    };
    let mut client = world.client();
    // A proxy's connections are not one client's.
    let mut another = world.client();
    assert_eq!(client.ask(&told("192.0.2.66")).cause(), "address_denied");
    assert_eq!(another.ask(&told("10.1.1.1, 192.0.2.7")).text(), "hello");
    assert_eq!(client.ask(&asking("")).cause(), "https_required");
    let seen = &app.requests()[1];
    assert_eq!(seen.field("x-forwarded-for").as_deref(), Some("192.0.2.7"));
    assert_eq!(seen.field("x-forwarded-proto").as_deref(), Some("https"));
    let forwarded = "for=192.0.2.7;proto=https;host=\"app.test\"";
    assert_eq!(seen.field("forwarded").as_deref(), Some(forwarded));
    drop((client, another));
    let path = world.access_log.clone();
    let dir = world.end();
    assert!(
        fs::read_to_string(path)
            .unwrap()
            .contains("\"client\":\"192.0.2.7\"")
    );
    drop(dir);
}

#[test]
fn the_proxy_protocol_says_who_the_client_is() {
    let app = App::saying("hello");
    let mut world = World::configured(|_, entrance| entrance.preamble = Preamble::Proxy);
    world.serve(&[app.address]);
    // In two pieces, and the request right behind.
    let mut client = world.client();
    client.send("PROXY TCP4 192.0.2.1 ");
    client.send(format!("198.51.100.2 5000 443\r\n{GET}"));
    assert_eq!(client.response().text(), "hello");
    let seen = &app.requests()[0];
    assert_eq!(seen.field("x-forwarded-for").as_deref(), Some("192.0.2.1"));
    assert_eq!(seen.field("x-forwarded-port").as_deref(), Some("443"));
    let mut own = world.client();
    own.send("PROXY UNKNOWN\r\n").send(GET);
    assert_eq!(own.response().text(), "hello");
    let mut without = world.client();
    without.send(GET);
    assert!(without.is_closed());
    let mut cut = world.client();
    cut.send("PROXY TCP4");
    cut.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(cut.is_closed());
}

#[test]
fn a_client_with_too_many_connections_is_told_so() {
    let app = App::saying("hello");
    let mut world = World::with(1, |bounds| bounds.connections_per_client = 2);
    world.serve(&[app.address]);
    let (mut first, mut second) = (world.client(), world.client());
    assert_eq!(
        (first.ask(GET).status(), second.ask(GET).status()),
        (200, 200)
    );
    let mut third = world.client();
    let answer = third.response();
    assert_eq!(
        (answer.status(), answer.cause().as_str()),
        (429, "too_many_connections")
    );
    drop(first);
    wait_until("there is room again", || {
        let mut client = world.client();
        client.send(GET);
        client
            .message(false)
            .is_some_and(|answer| answer.status() == 200)
    });
    drop(second);
}

fn instances(texts: &[&str]) -> Vec<App> {
    texts.iter().map(|text| App::saying(text)).collect()
}

#[test]
fn a_session_stays_with_its_instance_until_that_is_gone() {
    let apps = instances(&["a", "b", "c"]);
    let addresses: Vec<_> = apps.iter().map(|app| app.address).collect();
    let sticky = r#"{"sticky":{"cookie":"stay","seconds":60}}"#;
    let mut world = World::new();
    world.control.publish(vec![with(sticky, &addresses)]);
    let first = world.client().ask(GET);
    let cookie = first.field("set-cookie").unwrap();
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=60"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().unwrap().to_owned();
    let staying = asking(&format!("Cookie: other=1; {pair}\r\n"));
    let mut client = world.client();
    for _ in 0..9 {
        let answer = client.ask(&staying);
        assert_eq!(answer.text(), first.text());
        assert_eq!(answer.field("set-cookie"), None);
    }
    // Those without a cookie go everywhere.
    let all: BTreeSet<String> = (0..9).map(|_| client.ask(GET).text().to_owned()).collect();
    assert_eq!(all.len(), 3);
    let mut rest = with(sticky, &addresses);
    let at = ["a", "b", "c"]
        .iter()
        .position(|text| *text == first.text())
        .unwrap();
    rest.upstreams.remove(at);
    world.control.publish(vec![rest]);
    let moved = client.ask(&staying);
    assert_ne!(moved.text(), first.text());
    assert!(
        moved
            .field("set-cookie")
            .is_some_and(|new| !new.starts_with(&pair))
    );
}

#[test]
fn a_service_answers_with_its_own_pages_and_in_the_form_that_is_asked_for() {
    let app = App::saying("hello");
    let mut paused = with(
        r#"{"pages":{"paused":{"body":"<p>back soon"}}}"#,
        &[app.address],
    );
    paused.state = RouteState::Paused;
    let mut world = World::new();
    world.control.publish(vec![paused]);
    let mut client = world.client();
    let page = client.ask(&asking("Accept: text/html\r\n"));
    assert_eq!((page.status(), page.text()), (503, "<p>back soon"));
    assert_eq!(
        page.field("content-type").as_deref(),
        Some("text/html; charset=utf-8")
    );
    let json = client.ask(&asking("Accept: application/json\r\n"));
    let body: serde_json::Value = serde_json::from_str(json.text()).unwrap();
    assert_eq!(
        (&body["cause"], &body["status"]),
        (&"paused".into(), &503.into())
    );
    assert_eq!(
        json.field("x-request-id").as_deref(),
        body["request_id"].as_str()
    );
}

#[test]
fn a_request_id_is_kept_when_it_may_be() {
    let app = App::saying("hello");
    let mut world = serving(r#"{"request_id":"keep"}"#, &app);
    let mine = asking("X-Request-Id: mine-1\r\n");
    world.client().ask(&mine);
    world.client().ask(&asking("X-Request-Id: <script>\r\n"));
    world.serve(&[app.address]);
    world.client().ask(&mine);
    let ids: Vec<_> = app
        .requests()
        .iter()
        .filter_map(|seen| seen.field("x-request-id"))
        .collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[0], "mine-1");
    assert!(ids[1..].iter().all(|id| id.len() == 32), "{ids:?}");
}

#[test]
fn a_request_is_given_up_when_it_takes_too_long_in_all() {
    // Says a little for ever, so that it is never idle.
    let app = App::new(|_, mut client| {
        if client.message(true).is_none() {
            return;
        }
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut stream = client.stream.try_clone().unwrap();
        while std::io::Write::write_all(&mut stream, b"1\r\na\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let silent = App::new(|_, mut client| while client.message(true).is_some() {});
    let world = serving(r#"{"request_total_seconds":1}"#, &app);
    let mut client = world.client();
    client.send(GET).head().unwrap();
    let body = client.rest();
    assert!(!body.ends_with(b"0\r\n\r\n"));
    let path = world.access_log.clone();
    let dir = world.end();
    assert!(
        fs::read_to_string(path)
            .unwrap()
            .contains("request_timed_out")
    );
    drop(dir);
    let silent_world = serving(r#"{"request_total_seconds":1}"#, &silent);
    let answer = silent_world.client().ask(GET);
    assert_eq!(
        (answer.status(), answer.cause().as_str()),
        (504, "request_timed_out")
    );
    let idle = serving(r#"{"idle_seconds":1}"#, &silent);
    assert_eq!(idle.client().ask(GET).cause(), "app_timed_out");
}

#[test]
fn a_service_has_its_own_queue() {
    let app = App::new(|_, mut client| while client.message(true).is_some() {});
    let mut narrow = with(r#"{"queue":{"requests":0}}"#, &[app.address]);
    narrow.concurrency_per_instance = 1;
    let mut world = World::new();
    world.control.publish(vec![narrow]);
    let mut first = world.client();
    first.send(GET);
    wait_until("it is with the application", || app.connections() == 1);
    assert_eq!(world.client().ask(GET).cause(), "queue_full");
}

#[test]
fn responses_are_compressed_for_those_who_take_it() {
    let text = "a long and repetitive text. ".repeat(100);
    let app = App::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"1\"\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    ));
    let world = serving(r#"{"compression":["gzip"]}"#, &app);
    let mut client = world.client();
    // One connection: the end of each is where it should be.
    for _ in 0..2 {
        let small = client.ask(&asking("Accept-Encoding: gzip, br\r\n"));
        assert_eq!(small.field("content-encoding").as_deref(), Some("gzip"));
        assert_eq!(small.field("content-length"), None);
        assert_eq!(small.field("etag").as_deref(), Some("W/\"1\""));
        assert_eq!(small.field("vary").as_deref(), Some("Accept-Encoding"));
        assert!(small.body.len() < 200 && small.body.starts_with(b"\x1f\x8b"));
        let plain = client.ask(&asking("Accept-Encoding: br\r\n"));
        assert_eq!(plain.text(), text);
        assert_eq!(plain.field("vary").as_deref(), Some("Accept-Encoding"));
        assert_eq!(plain.field("etag").as_deref(), Some("\"1\""));
    }
    client.send("HEAD / HTTP/1.1\r\nHost: app.test\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_eq!(client.response_to_head().field("content-encoding"), None);
}

#[test]
fn a_compressed_stream_is_still_a_stream() {
    let (more, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let app = App::new(move |_, mut client| {
        if client.message(true).is_none() {
            return;
        }
        client.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nfirst\r\n",
        );
        // The second part only comes when the first has arrived.
        wait.lock().unwrap().recv().unwrap();
        client.send("6\r\nsecond\r\n0\r\n\r\n");
    });
    let world = serving(r#"{"compression":["zstd"]}"#, &app);
    let mut client = world.client();
    client.send(asking("Accept-Encoding: zstd\r\n"));
    assert!(client.head().unwrap().contains("Content-Encoding: zstd"));
    let mut body = Vec::new();
    let mut chunk = |client: &mut crate::support::Client| {
        let size = client.until(b"\r\n").unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        body.extend_from_slice(&client.take(size + 2).unwrap()[..size]);
        (size, body.len())
    };
    let (size, _) = chunk(&mut client);
    assert!(size > 5);
    more.send(()).unwrap();
    while chunk(&mut client).0 > 0 {}
    assert_eq!(zstd::decode_all(body.as_slice()).unwrap(), b"firstsecond");
}
