//! Changes of protocol: WebSockets and their like, as bytes.

use crate::support::{App, GET, World, saying};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\r\n";

/// Changes the protocol, says who it is and then what it hears, until it hears no more.
fn echo() -> App {
    App::new(|_, mut client| {
        let Some(request) = client.message(true) else {
            return;
        };
        let upgrade = request.field("upgrade").unwrap_or_default();
        let connection = request.field("connection").unwrap_or_default();
        client.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: {upgrade}\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {connection}\r\n\r\nhello"
        ));
        while let Some(heard) = client.take(1) {
            client.send(heard);
        }
        client.send("bye");
    })
}

#[test]
fn bytes_go_both_ways_until_both_sides_have_ended() {
    let app = echo();
    let world = World::serving(app.address);
    let mut client = world.client();
    // Some arrive before the answer.
    client.send(format!("{ASK}ab"));
    let head = client.head().unwrap();
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols"),
        "{head}"
    );
    for line in [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: Upgrade",
    ] {
        assert!(head.lines().any(|have| have == line), "{line}: {head}");
    }
    assert_eq!(client.take(7).unwrap(), b"helloab");
    for _ in 0..3 {
        client.send(b"\x00\xff\r\n");
        assert_eq!(client.take(4).unwrap(), b"\x00\xff\r\n");
    }
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"bye");
}

#[test]
fn an_application_that_does_not_want_it_answers_as_usual() {
    let app = App::saying("no");
    let world = World::serving(app.address);
    let mut client = world.client();
    assert_eq!(client.ask(ASK).text(), "no");
    assert_eq!(client.ask(GET).text(), "no");
}

#[test]
fn http_is_not_tunnelled_and_what_was_not_asked_for_is_not_believed() {
    let app = App::new(|_, mut client| {
        while let Some(request) = client.message(true) {
            let upgrade = request.field("upgrade").unwrap_or_default();
            client.send(saying(&format!("[{upgrade}]")));
        }
    });
    let world = World::serving(app.address);
    for fields in [
        "Connection: Upgrade\r\nUpgrade: h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n",
        "Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n",
        "Upgrade: websocket\r\n",
    ] {
        let body = if fields.contains("Length") { "hi" } else { "" };
        let request = format!("GET / HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n{body}");
        assert_eq!(world.client().ask(&request).text(), "[]", "{fields}");
    }
    let old =
        "GET / HTTP/1.0\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(world.client().ask(old).text(), "[]");

    let app = App::answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
    let world = World::serving(app.address);
    assert_eq!(world.client().ask(GET).cause(), "app_bad_response");
}
