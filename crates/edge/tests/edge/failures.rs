//! Applications that die, misbehave or cannot be reached, and clients that leave.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::channel,
    },
    thread,
    time::Duration,
};

use crate::support::{App, Client, GET, World, refusing, saying, wait_until};

const POST: &str = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn a_kept_connection_that_was_closed_is_not_used_again() {
    // One response for each connection, then a close without a word.
    let closed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&closed);
    let app = App::new(move |_, mut client| {
        if client.message(true).is_some() {
            client.send(saying("hello"));
        }
        drop(client);
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let world = World::serving(app.address);
    let mut client = world.client();
    for (number, request) in [GET, POST, POST, GET, GET, POST].into_iter().enumerate() {
        assert_eq!(client.ask(request).text(), "hello");
        wait_until("the application closes", || {
            closed.load(Ordering::SeqCst) == number + 1
        });
    }
}

#[test]
fn a_request_that_crosses_with_a_close_is_sent_again_if_that_is_safe() {
    // The second request on a connection is read, and answered by a close.
    let app = App::new(|_, mut client| {
        if client.message(true).is_some() {
            client.send(saying("hello"));
            client.message(true);
        }
    });
    let world = World::serving(app.address);
    let mut client = world.client();
    for _ in 0..3 {
        assert_eq!(client.ask(GET).text(), "hello");
    }
    assert_eq!(app.connections(), 3);
    // A body may have had its effect.
    let response = client.ask(POST);
    assert_eq!(
        (response.status(), response.cause().as_str()),
        (502, "app_closed_early")
    );
}

#[test]
fn an_application_that_closes_without_an_answer_is_said_to() {
    let app = App::new(|_, mut client| drop(client.message(true)));
    let world = World::serving(app.address);
    let mut client = world.client();
    for _ in 0..2 {
        let response = client.ask(GET);
        assert_eq!(
            (response.status(), response.cause().as_str()),
            (502, "app_closed_early")
        );
    }
    assert_eq!(
        app.connections(),
        2,
        "a fresh connection is not tried again"
    );
}

#[test]
fn bad_responses_are_not_passed_on() {
    for response in [
        "hello\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 103 Hint\r\n\r\nHTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    ] {
        let app = App::answering(response);
        let world = World::serving(app.address);
        let mut client = world.client();
        client.send(GET);
        let mut answer = client.response();
        if answer.status() == 103 {
            answer = client.response();
        }
        assert_eq!(
            (answer.status(), answer.cause().as_str()),
            (502, "app_bad_response"),
            "{response:?}"
        );
    }
    let app = App::answering(format!(
        "HTTP/1.1 200 OK\r\nA: {}\r\n\r\n",
        "a".repeat(70_000)
    ));
    let world = World::serving(app.address);
    assert_eq!(world.client().ask(GET).cause(), "app_bad_response");
}

#[test]
fn bytes_after_a_response_do_not_become_the_next_one() {
    let app = App::answering(format!(
        "{}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        saying("hello")
    ));
    let world = World::serving(app.address);
    let mut client = world.client();
    for _ in 0..5 {
        assert_eq!(client.ask(GET).text(), "hello");
    }
}

#[test]
fn a_response_that_breaks_off_is_not_taken_for_a_whole_one() {
    for (head, version) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello", "1.1"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "1.1",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "1.0",
        ),
    ] {
        let app = App::new(move |_, mut client| {
            client.message(true);
            client.send(head);
        });
        let world = World::serving(app.address);
        let mut client = world.client();
        client.send(format!("GET / HTTP/{version}\r\nHost: app.test\r\n\r\n"));
        if version == "1.1" {
            assert_eq!(client.message(false), None);
        } else {
            // Its end is all that tells an HTTP/1.0 client: it has to be an error.
            use std::io::Read;
            let mut bytes = Vec::new();
            client.stream.read_to_end(&mut bytes).unwrap_err();
        }
    }
}

#[test]
fn another_instance_is_tried_when_one_cannot_be_reached() {
    let app = App::saying("hello");
    let mut world = World::new();
    world.serve(&[refusing(), app.address]);
    for _ in 0..20 {
        let mut client = world.client();
        for request in [GET, POST] {
            assert_eq!(client.ask(request).text(), "hello");
        }
    }
}

#[test]
fn an_instance_that_listens_a_little_later_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let world = World::serving(address);
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = world.client();
            client.send(POST);
            thread::spawn(move || client.response().text().to_owned())
        })
        .collect();
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut client = Client::of(stream.unwrap());
            thread::spawn(move || {
                while client.message(true).is_some() {
                    client.send(saying("at last"));
                }
            });
        }
    });
    for client in clients {
        assert_eq!(client.join().unwrap(), "at last");
    }
}

#[test]
fn an_instance_that_is_never_reached_is_given_up_in_time() {
    let mut world = World::with(1, |bounds| bounds.queue_time = Duration::from_millis(300));
    world.serve(&[refusing()]);
    let response = world.client().ask(GET);
    assert_eq!(
        (response.status(), response.cause().as_str()),
        (502, "app_unreachable")
    );
}

#[test]
fn a_client_that_leaves_takes_its_request_with_it() {
    let (left, has_left) = channel();
    let app = App::new(move |_, mut client| {
        client.message(true);
        left.send(client.is_closed()).unwrap();
    });
    let world = World::serving(app.address);
    let mut client = world.client();
    client.send(GET);
    wait_until("the request arrives", || app.connections() == 1);
    drop(client);
    assert!(has_left.recv_timeout(crate::support::PATIENCE).unwrap());
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_stream_ends_it() {
    let ended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ended);
    let app = App::new(move |_, mut client| {
        client.message(true);
        client.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n:\n\n\r\n");
        client.rest();
        seen.store(true, Ordering::SeqCst);
    });
    let world = World::serving(app.address);
    let mut client = world.client();
    client.send(GET);
    client.until(b":\n\n\r\n").unwrap();
    drop(client);
    wait_until("the stream ends", || ended.load(Ordering::SeqCst));
}
