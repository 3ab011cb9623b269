//! What the application sees of a request, and the client of a response.

use crate::support::{App, GET, World, saying};

#[test]
fn the_application_sees_the_request_with_who_asked_and_nothing_of_the_connection() {
    let app = App::saying("hello");
    let world = World::serving(app.address);
    let mut client = world.client();
    let response = client.ask(
        "GET /path?query=1 HTTP/1.1\r\nHost: App.Test:99\r\nAccept:  */*  \r\nX-Custom: \r\n\
         Connection: X-Private, keep-alive, Host\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Authorization: secret\r\nTE: trailers\r\nTrailer: X\r\nUpgrade: h2c\r\n\
         X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Ssl: on\r\nX_Forwarded_For: 6.6.6.6\r\nX-Request-Id: mine\r\n\
         Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nProxy: evil\r\nUser_Agent: kept\r\n\r\n",
    );
    assert_eq!(response.text(), "hello");
    let request = app.requests().remove(0);
    assert!(
        request
            .head
            .starts_with("GET /path?query=1 HTTP/1.1\r\nHost: App.Test:99\r\n")
    );
    let id = request.field("x-request-id").unwrap();
    assert_eq!(id.len(), 32);
    let port = world.address.port().to_string();
    for (field, want) in [
        ("accept", Some("*/*")),
        ("x-custom", Some("")),
        ("user_agent", Some("kept")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-port", Some(port.as_str())),
        ("x-forwarded-host", Some("App.Test:99")),
        ("host", Some("App.Test:99")),
        ("connection", None),
        ("x-private", None),
        ("keep-alive", None),
        ("proxy-authorization", None),
        ("te", None),
        ("trailer", Some("X")),
        ("upgrade", None),
        ("x-forwarded-ssl", None),
        ("x_forwarded_for", None),
        ("forwarded", None),
        ("x-real-ip", None),
        ("proxy", None),
        ("content-length", None),
        ("transfer-encoding", None),
    ] {
        assert_eq!(request.field(field).as_deref(), want, "{field}");
    }
}

#[test]
fn the_client_sees_the_response_and_nothing_of_the_connection_behind() {
    let app = App::answering(
        "HTTP/1.1 418 I'm a teapot\r\nServer: mine\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
         Connection: X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nX-Ekiden-Cause: faked\r\n\
         X-Request-Id: mine\r\nContent-Length: 3\r\n\r\nabc",
    );
    let world = World::serving(app.address);
    let mut client = world.client();
    for _ in 0..2 {
        let response = client.ask(GET);
        assert!(response.head.starts_with("HTTP/1.1 418 I'm a teapot\r\n"));
        assert_eq!(response.text(), "abc");
        for (field, want) in [
            ("server", Some("mine")),
            ("set-cookie", Some("a=1|b=2")),
            ("x-request-id", Some("mine")),
            ("x-private", None),
            ("keep-alive", None),
            ("connection", None),
            ("x-ekiden-cause", None),
        ] {
            assert_eq!(response.field(field).as_deref(), want, "{field}");
        }
    }
    assert_eq!(
        app.connections(),
        1,
        "the connection to the application is kept"
    );
}

#[test]
fn requests_sent_ahead_are_answered_in_order_on_one_connection() {
    let app = App::new(|_, mut client| {
        while let Some(request) = client.message(true) {
            let path = request.head.split(' ').nth(1).unwrap().to_owned();
            client.send(saying(&path));
        }
    });
    let world = World::serving(app.address);
    let mut client = world.client();
    let requests: String = (0..200)
        .map(|number| {
            format!(
                "POST /{number} HTTP/1.1\r\nHost: app.test\r\nContent-Length: 300\r\n\r\n{}",
                "x".repeat(300)
            )
        })
        .collect();
    client.send(requests);
    for number in 0..200 {
        assert_eq!(client.response().text(), format!("/{number}"));
    }
    assert_eq!(app.connections(), 1);
}

#[test]
fn a_client_that_sent_everything_and_half_closed_still_gets_its_answers() {
    let app = App::saying("hello");
    let world = World::serving(app.address);
    for requests in [
        format!("{GET}{GET}GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n"),
        "GET / HTTP/1.0\r\nHost: app.test\r\n\r\n".to_owned(),
    ] {
        let mut client = world.client();
        client.send(&requests);
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answers = String::from_utf8(client.rest()).unwrap();
        assert_eq!(
            answers.matches("hello").count(),
            requests.matches("GET").count()
        );
    }
}

#[test]
fn http_1_0_is_closed_unless_asked_to_be_kept() {
    let app = App::saying("hello");
    let world = World::serving(app.address);
    let mut client = world.client();
    let response = client.ask("GET / HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(response.field("connection").as_deref(), Some("keep-alive"));
    let response = client.ask("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n");
    assert_eq!(response.field("connection").as_deref(), Some("close"));
    assert!(client.is_closed());
    let mut client = world.client();
    client.ask("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
    assert!(client.is_closed());
}

#[test]
fn absolute_targets_that_agree_with_the_host_and_asterisks_are_forwarded() {
    let app = App::saying("hello");
    let world = World::serving(app.address);
    let mut client = world.client();
    for (line, want) in [
        ("GET http://app.test/x?y", "GET /x?y"),
        ("GET HTTP://APP.test", "GET /"),
        ("OPTIONS *", "OPTIONS *"),
        ("PURGE /%00?a=b|c", "PURGE /%00?a=b|c"),
    ] {
        client.ask(&format!("{line} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
        let request = app.requests().pop().unwrap();
        assert!(
            request.head.starts_with(&format!("{want} HTTP/1.1\r\n")),
            "{}",
            request.head
        );
    }
    // One empty line before a request is tolerated (RFC 9112, section 2.2).
    assert_eq!(client.ask(&format!("\r\n{GET}")).text(), "hello");
}

#[test]
fn responses_without_a_body_have_none() {
    let app = App::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    let world = World::serving(app.address);
    let mut client = world.client();
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        assert_eq!(
            client.response_to_head().field("content-length").as_deref(),
            Some("5")
        );
    }
    for (head, length) in [
        ("204 No Content\r\n", None),
        ("304 Not Modified\r\nContent-Length: 7\r\n", Some("7")),
        ("200 OK\r\nContent-Length: 0\r\n", Some("0")),
    ] {
        let app = App::answering(format!("HTTP/1.1 {head}\r\n"));
        let world = World::serving(app.address);
        let mut client = world.client();
        for _ in 0..2 {
            client.send(GET);
            assert_eq!(
                client.response_to_head().field("content-length").as_deref(),
                length
            );
        }
        assert_eq!(app.connections(), 1);
    }
}

#[test]
fn informational_responses_are_passed_on_but_not_to_http_1_0() {
    let app = App::answering(format!(
        "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n{}",
        saying("hello")
    ));
    let world = World::serving(app.address);
    let mut client = world.client();
    client.send(GET);
    assert_eq!(
        client.response().field("link").as_deref(),
        Some("</style.css>")
    );
    assert_eq!(client.response().status(), 103);
    assert_eq!(client.response().text(), "hello");
    let mut old = world.client();
    let response = old.ask("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n");
    assert_eq!((response.status(), response.text()), (200, "hello"));
}

#[test]
fn an_expectation_is_the_applications_to_meet() {
    let app = App::new(|_, mut client| {
        let head = client.head().unwrap();
        assert!(head.contains("Expect: 100-continue"));
        client.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = client.take(5).unwrap();
        client.send(saying(std::str::from_utf8(&body).unwrap()));
        client.rest();
    });
    let world = World::serving(app.address);
    let mut client = world.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.response().status(), 100);
    client.send("hello");
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn an_expectation_that_is_refused_closes_the_connection_because_the_body_may_follow() {
    let app = App::new(|_, mut client| {
        client.head().unwrap();
        client.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
        client.rest();
    });
    let world = World::serving(app.address);
    let mut client = world.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    let response = client.response();
    assert_eq!(
        (response.status(), response.field("connection").as_deref()),
        (413, Some("close"))
    );
    assert!(client.is_closed());
}

#[test]
fn each_request_is_logged_with_who_served_it_and_why_not() {
    let app = App::saying("hello");
    let world = World::serving(app.address);
    let mut client = world.client();
    client.ask("POST /a\"b HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\nabc");
    client.ask("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n");
    assert_eq!(client.ask("GET\r\n\r\n").status(), 400);
    drop(client);
    let path = world.access_log.clone();
    let dir = world.end();
    let log = std::fs::read_to_string(path).unwrap();
    drop(dir);
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    let (served, missed, refused) = (&lines[0], &lines[1], &lines[2]);
    assert_eq!(
        (&refused["status"], &refused["cause"]),
        (&400.into(), &"bad_request".into())
    );
    assert_eq!(served["request"], "POST /a\"b");
    assert_eq!(served["service"], "test-1");
    assert_eq!(served["revision"], 1);
    assert_eq!(served["instance"], "01010101010101010101010101010100");
    assert_eq!(served["status"], 200);
    assert_eq!(served["request_body_bytes"], 3);
    assert_eq!(served["response_body_bytes"], 5);
    assert!(served["total_us"].as_u64() >= served["first_byte_us"].as_u64());
    assert_eq!(
        (&missed["status"], &missed["cause"]),
        (&404.into(), &"no_such_host".into())
    );
    assert_eq!(missed["host"], "other.test");
}
