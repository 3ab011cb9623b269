//! Bodies: every framing, both ways, both at once, large, and slow.

use std::{
    io::Write,
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
    thread,
    time::Duration,
};

use crate::support::{App, Client, GET, PATIENCE, World, saying};

/// Says what it got, framed as it came.
fn echo() -> App {
    App::new(|_, mut client| {
        while let Some(request) = client.message(true) {
            let framing = match request.field("transfer-encoding") {
                Some(_) => "chunked".to_owned(),
                None => request.field("content-length").unwrap_or_default(),
            };
            let text = format!("{framing}:{}", request.text());
            client.send(saying(&text));
        }
    })
}

#[test]
fn request_bodies_arrive_whole_in_their_framing() {
    let app = echo();
    let world = World::serving(app.address);
    let mut client = world.client();
    let post = "POST / HTTP/1.1\r\nHost: app.test\r\n";
    for (rest, want) in [
        ("Content-Length: 5\r\n\r\nhello", "5:hello"),
        ("Content-Length: 0\r\n\r\n", "0:"),
        ("\r\n", ":"),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "chunked:"),
        (
            "Transfer-Encoding: Chunked\r\n\r\n3;ext=1\r\nhel\r\n002\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n",
            "chunked:hello",
        ),
    ] {
        assert_eq!(client.ask(&format!("{post}{rest}")).text(), want);
        // The same, byte by byte.
        for byte in format!("{post}{rest}").bytes() {
            client.stream.write_all(&[byte]).unwrap();
        }
        assert_eq!(client.response().text(), want);
    }
    assert_eq!(
        client
            .ask("GET / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi")
            .text(),
        "2:hi"
    );
}

#[test]
fn trailers_go_along_both_ways_unless_they_frame_route_or_describe_the_message() {
    let trailers = "X-Sum: 1\r\nContent-Length: 9\r\nHost: evil\r\nX-Forwarded-For: 6.6.6.6\r\n\
                    Set-Cookie: a=b\r\nY: \r\n";
    let response = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{trailers}\r\n"
    );
    let app = App::answering(response);
    let world = World::serving(app.address);
    let mut client = world.client();
    let response = client.ask(&format!(
        "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{trailers}\r\n"
    ));
    assert_eq!(
        (response.text(), response.trailers.as_str()),
        ("hi", "X-Sum: 1\r\nY: \r\n")
    );
    let request = app.requests().remove(0);
    assert_eq!(
        (request.text(), request.trailers.as_str()),
        ("hello", "X-Sum: 1\r\nY: \r\n")
    );
    // The connection is in step.
    assert_eq!(client.ask(GET).text(), "hi");

    let smuggled = client.ask(
        "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\
         GET /smuggled HTTP/1.1\r\nX: y\r\n\r\n",
    );
    assert_eq!(smuggled.cause(), "bad_body");
}

#[test]
fn response_bodies_arrive_whole_in_a_framing_that_the_client_knows() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n";
    let closing = "HTTP/1.1 200 OK\r\n\r\nhello";
    let old = "HTTP/1.0 200 OK\r\n\r\nhello";
    for (response, close) in [(chunked, false), (closing, true), (old, true)] {
        let app = App::new(move |_, mut client| {
            while client.message(true).is_some() {
                client.send(response);
                if close {
                    return;
                }
            }
        });
        let world = World::serving(app.address);
        let mut client = world.client();
        for _ in 0..2 {
            let response = client.ask(GET);
            assert_eq!(response.text(), "hello");
            assert_eq!(
                response.field("transfer-encoding").as_deref(),
                Some("chunked")
            );
            assert_eq!(response.field("connection"), None);
        }
        let mut client = world.client();
        let response =
            client.ask("GET / HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(response.text(), "hello");
        assert_eq!(response.field("transfer-encoding"), None);
        assert_eq!(response.field("connection").as_deref(), Some("close"));
        assert_eq!(app.connections(), if close { 3 } else { 1 });
    }
}

#[test]
fn each_direction_flows_while_the_other_does() {
    // Answers before the request has ended, piece by piece as the request comes.
    let app = App::new(|_, mut client| {
        client.head().unwrap();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        loop {
            let size = usize::from_str_radix(client.until(b"\r\n").unwrap().trim(), 16).unwrap();
            let chunk = client.take(size + 2).unwrap();
            client.send(format!("{size:x}\r\n")).send(chunk);
            if size == 0 {
                break;
            }
        }
        client.rest();
    });
    let world = World::serving(app.address);
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
    for text in ["a", "bc", "def"] {
        client.send(format!("{:x}\r\n{text}\r\n", text.len()));
        assert_eq!(
            client.until(b"\r\n").unwrap(),
            format!("{:x}\r\n", text.len())
        );
        assert_eq!(
            client.take(text.len() + 2).unwrap(),
            format!("{text}\r\n").as_bytes()
        );
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.rest(), b"0\r\n\r\n");
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let app = App::new(|_, mut client| {
        client.head().unwrap();
        client.send(
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlots",
        );
        client.stream.shutdown(Shutdown::Write).unwrap();
        client.rest();
    });
    let world = World::serving(app.address);
    let mut client = world.client();
    // More than can be sent before the answer comes, however late that is.
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000000000\r\n\r\n");
    let mut sending = Client::of(client.stream.try_clone().unwrap());
    // Sends until nobody takes it any more.
    let sender = thread::spawn(move || while sending.stream.write_all(&[b'x'; 4096]).is_ok() {});
    let response = client.response();
    assert_eq!((response.status(), response.text()), (413, "lots"));
    assert_eq!(response.field("connection").as_deref(), Some("close"));
    drop(client);
    drop(world);
    sender.join().unwrap();
}

/// `bytes` of a pattern that no shift maps to itself.
fn pattern(from: usize, bytes: usize) -> Vec<u8> {
    (from..from + bytes).map(|at| (at % 251) as u8).collect()
}

const PIECE: usize = 251 * 256;

#[track_caller]
fn reads_pattern(client: &mut Client, bytes: usize) {
    let piece = pattern(0, PIECE);
    for at in (0..bytes).step_by(PIECE) {
        let length = PIECE.min(bytes - at);
        assert!(
            client.take(length).expect("the whole body") == piece[..length],
            "at {at}"
        );
    }
}

fn writes_pattern(client: &mut Client, bytes: usize) {
    let piece = pattern(0, PIECE);
    for at in (0..bytes).step_by(PIECE) {
        client.send(&piece[..PIECE.min(bytes - at)]);
    }
}

#[track_caller]
fn exchanges(bytes: usize) {
    let app = App::new(move |_, mut client| {
        while client.head().is_some() {
            reads_pattern(&mut client, bytes);
            client.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n"
            ));
            writes_pattern(&mut client, bytes);
        }
    });
    let world = World::serving(app.address);
    let mut client = world.client();
    for _ in 0..2 {
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {bytes}\r\n\r\n"
        ));
        writes_pattern(&mut client, bytes);
        assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
        reads_pattern(&mut client, bytes);
    }
    assert_eq!(app.connections(), 1);
}

#[test]
fn bodies_of_a_megabyte_arrive_whole() {
    exchanges(1024 * 1024 + 1);
}

#[test]
fn bodies_of_a_hundred_megabytes_arrive_whole() {
    exchanges(100 * 1024 * 1024);
}

#[test]
fn large_chunked_bodies_arrive_whole_both_ways_at_once() {
    // Echoes at once: neither side can finish before the other flows.
    let app = App::new(|_, mut client| {
        client.head().unwrap();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        loop {
            let size = usize::from_str_radix(client.until(b"\r\n").unwrap().trim(), 16).unwrap();
            let chunk = client.take(size + 2).unwrap();
            client.send(format!("{size:x}\r\n")).send(chunk);
            if size == 0 {
                break;
            }
        }
    });
    let world = World::serving(app.address);
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut sending = Client::of(client.stream.try_clone().unwrap());
    let sender = thread::spawn(move || {
        for _ in 0..300 {
            sending
                .send(format!("{PIECE:x}\r\n"))
                .send(pattern(0, PIECE))
                .send("\r\n");
        }
        sending.send("0\r\n\r\n");
    });
    let response = client.response();
    assert_eq!(response.body.len(), 300 * PIECE);
    assert!(
        response
            .body
            .chunks(PIECE)
            .all(|piece| piece == pattern(0, PIECE))
    );
    sender.join().unwrap();
}

#[test]
fn a_client_that_takes_nothing_stops_the_application_instead_of_filling_memory() {
    /// What the kernel may hold in the four socket buffers on the way, and the edge in its own.
    const HELD_MAX: usize = 32 * 1024 * 1024;
    let sent = Arc::new(AtomicUsize::new(0));
    let (stop, stopped) = channel();
    let counted = Arc::clone(&sent);
    let app = App::new(move |_, mut client| {
        client.head().unwrap();
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        // No progress for a while is all that can be seen of a full pipe.
        client
            .stream
            .set_write_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        while let Ok(written) = client.stream.write(&[b'x'; 4096]) {
            counted.fetch_add(written, Ordering::SeqCst);
        }
        stop.send(()).unwrap();
    });
    let world = World::serving(app.address);
    let mut client = world.client();
    client.send(GET);
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
    stopped.recv_timeout(PATIENCE).unwrap();
    assert!(sent.load(Ordering::SeqCst) < HELD_MAX);
}
