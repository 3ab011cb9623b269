//! HTTP/2 from clients and to applications, with `h2` at the other end.

use std::{future::Future, net::SocketAddr, time::Duration};

use bytes::Bytes;
use ekiden_model::ingress::AppProtocol;
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, Method, Request, Response};

use crate::support::{App, PATIENCE, World, route};

/// Runs a client of HTTP/2 by prior knowledge.
fn with<T>(address: SocketAddr, client: impl AsyncFnOnce(SendRequest<Bytes>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let all = async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let (sender, connection) = h2::client::handshake(stream).await.unwrap();
            let driver = tokio::spawn(connection);
            let result = client(sender).await;
            driver.abort();
            result
        };
        tokio::time::timeout(PATIENCE, all).await.expect("it ends")
    })
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://app.test{path}"))
        .body(())
        .unwrap()
}

/// A response's body and trailers.
async fn whole(response: Response<RecvStream>) -> (u16, HeaderMap, String, HeaderMap) {
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    let text = String::from_utf8(bytes).unwrap();
    (parts.status.as_u16(), parts.headers, text, trailers)
}

async fn ask(
    sender: &SendRequest<Bytes>,
    request: Request<()>,
) -> (u16, HeaderMap, String, HeaderMap) {
    let mut sender = sender.clone().ready().await.unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    whole(response.await.unwrap()).await
}

#[test]
fn a_request_arrives_as_one_of_http_1_and_its_response_as_one_of_http_2() {
    let app = App::answering(
        "HTTP/1.1 201 Fine\r\nServer: mine\r\nConnection: X-Private\r\nX-Private: 1\r\n\
         Content-Length: 5\r\n\r\nhello",
    );
    let world = World::serving(app.address);
    let request = Request::get("http://app.test/path?query")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-custom", "yes")
        .header("x-forwarded-for", "6.6.6.6")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (status, fields, text, _) = with(world.address, async |sender| ask(&sender, request).await);
    assert_eq!((status, text.as_str()), (201, "hello"));
    assert_eq!(fields["server"], "mine");
    assert_eq!(fields["content-length"], "5");
    assert!(!fields.contains_key("x-private") && !fields.contains_key("connection"));
    let request = app.requests().remove(0);
    assert!(
        request
            .head
            .starts_with("GET /path?query HTTP/1.1\r\nHost: app.test\r\n")
    );
    for (field, want) in [
        ("cookie", Some("a=1; b=2")),
        ("x-custom", Some("yes")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("te", None),
        ("content-length", None),
        ("transfer-encoding", None),
    ] {
        assert_eq!(request.field(field).as_deref(), want, "{field}");
    }
}

#[test]
fn bodies_and_trailers_go_both_ways_and_streams_do_not_wait_for_each_other() {
    let large = "x".repeat(3_000_000);
    let response = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\nX-Sum: 1\r\n\r\n",
        large.len()
    );
    let app = App::answering(response);
    let world = World::serving(app.address);
    let (length, sent) = (large.len(), large.clone());
    with(world.address, async move |sender| {
        let mut sender = sender.ready().await.unwrap();
        let post = Request::post("http://app.test/").body(()).unwrap();
        let (response, mut up) = sender.send_request(post, false).unwrap();
        let mut left = Bytes::from(sent);
        while !left.is_empty() {
            up.reserve_capacity(left.len());
            let room = std::future::poll_fn(|cx| up.poll_capacity(cx))
                .await
                .unwrap()
                .unwrap();
            up.send_data(left.split_to(room.min(left.len())), false)
                .unwrap();
            // Others are served meanwhile.
            if left.len() < 1_000_000 && left.len() > 900_000 {
                assert_eq!(ask(&sender, get("/")).await.2.len(), length);
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-check", "2".parse().unwrap());
        trailers.insert("content-length", "2".parse().unwrap());
        up.send_trailers(trailers).unwrap();
        let (status, _, text, trailers) = whole(response.await.unwrap()).await;
        assert_eq!((status, text.len()), (200, length));
        assert_eq!(trailers["x-sum"], "1");
    });
    let post = app
        .requests()
        .into_iter()
        .find(|r| r.head.starts_with("POST"))
        .unwrap();
    assert_eq!(post.text(), large);
    assert_eq!(post.trailers, "x-check: 2\r\n");
}

#[test]
fn what_the_edge_says_itself_is_said_in_http_2() {
    let app = App::saying("hello");
    let world = World::serving(app.address);
    with(world.address, async |sender| {
        let unknown = Request::get("http://nobody.test/").body(()).unwrap();
        let (status, fields, text, _) = ask(&sender, unknown).await;
        assert_eq!(
            (status, fields["x-ekiden-cause"].as_bytes()),
            (404, &b"no_such_host"[..])
        );
        assert!(!text.is_empty());
        let head = Request::head("http://nobody.test/").body(()).unwrap();
        let (status, fields, text, _) = ask(&sender, head).await;
        assert_eq!((status, text.as_str()), (404, ""));
        assert!(fields.contains_key("content-length"));
        // The connection goes on.
        assert_eq!(ask(&sender, get("/")).await.2, "hello");
    });
}

#[test]
fn a_body_that_is_said_to_be_empty_is_waited_for_and_has_to_be() {
    let app = App::saying("hello");
    let world = World::serving(app.address);
    let empty = || {
        let post = Request::post("http://app.test/").header("content-length", "0");
        post.body(()).unwrap()
    };
    with(world.address, async |sender| {
        let mut ready = sender.clone().ready().await.unwrap();
        let (response, mut up) = ready.send_request(empty(), false).unwrap();
        up.send_data(Bytes::new(), false).unwrap();
        up.send_data(Bytes::new(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);

        let mut ready = sender.ready().await.unwrap();
        let (response, mut up) = ready.send_request(empty(), false).unwrap();
        up.send_data(Bytes::from_static(b"GET /evil HTTP/1.1"), true)
            .unwrap();
        // Told by the protocol, or with a cause, whichever comes first.
        if let Ok(response) = response.await {
            assert_eq!(response.headers()["x-ekiden-cause"], "bad_body");
        }
    });
    assert_eq!(app.requests().len(), 1);
}

#[test]
fn white_space_around_the_value_of_a_trailer_ends_the_request() {
    let app = App::new(|_, mut client| {
        client.rest();
    });
    let world = World::serving(app.address);
    with(world.address, async |sender| {
        let mut ready = sender.ready().await.unwrap();
        let post = Request::post("http://app.test/").body(()).unwrap();
        let (response, mut up) = ready.send_request(post, false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-check", " 2".parse().unwrap());
        up.send_trailers(trailers).unwrap();
        if let Ok(response) = response.await {
            assert!(response.status().as_u16() >= 400);
        }
    });
    assert!(
        app.requests()
            .iter()
            .all(|request| request.trailers.is_empty())
    );
}

#[test]
fn what_http_1_would_refuse_is_refused() {
    let app = App::saying("hello");
    let world = World::serving(app.address);
    let bare = || Request::get("http://app.test/");
    for (what, request, want) in [
        (
            "another host",
            bare().header("host", "evil.test"),
            "bad_request",
        ),
        (
            "two hosts",
            bare().header("host", "app.test").header("host", "app.test"),
            "bad_request",
        ),
        (
            "a forbidden tunnel",
            Request::builder()
                .method(Method::CONNECT)
                .uri("app.test:80"),
            "method_not_supported",
        ),
        (
            "a length without a body",
            bare().header("content-length", "5"),
            "",
        ),
        (
            "another scheme",
            Request::get("ftp://app.test/"),
            "bad_request",
        ),
        (
            "space around a value",
            bare().header("x-custom", " a"),
            "bad_request",
        ),
        (
            "an expectation",
            bare().header("expect", "miracle"),
            "expectation_failed",
        ),
    ] {
        with(world.address, async |sender| {
            let mut ready = sender.clone().ready().await.unwrap();
            let (response, _) = ready.send_request(request.body(()).unwrap(), true).unwrap();
            match response.await {
                Ok(response) => assert_eq!(response.headers()["x-ekiden-cause"], want, "{what}"),
                Err(_) => assert_eq!(want, "", "{what}"),
            }
        });
    }
    assert!(app.requests().is_empty());
}

#[test]
fn a_websocket_goes_through_a_stream() {
    let app = App::new(|_, mut client| {
        let request = client.message(true).unwrap();
        assert_eq!(request.field("upgrade").as_deref(), Some("websocket"));
        assert!(request.head.starts_with("GET /chat HTTP/1.1"));
        client.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: p\r\n\r\nhello",
        );
        while let Some(heard) = client.take(1) {
            client.send(heard);
        }
        client.send("bye");
    });
    let world = World::serving(app.address);
    with(world.address, async |sender| {
        // The server's settings say whether it may be asked, and take a moment.
        let mut sender = sender.ready().await.unwrap();
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri("http://app.test/chat")
            .extension(h2::ext::Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap();
        let (response, mut up) = sender.send_request(request, false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["sec-websocket-protocol"], "p");
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        up.send_data("abc".into(), true).unwrap();
        let (_, _, text, _) = whole(response).await;
        assert_eq!(text, "helloabcbye");
    });
}

/// An application that speaks HTTP/2: answers each request by `answer`, which gets its body.
fn h2c_app<F>(
    answer: impl Fn(Request<RecvStream>, h2::server::SendResponse<Bytes>) -> F + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answer = std::rc::Rc::new(answer);
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let answer = std::rc::Rc::clone(&answer);
                tokio::task::spawn_local(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else {
                        return;
                    };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::task::spawn_local(answer(request, respond));
                    }
                });
            }
        });
    });
    address
}

/// Says what it got, with a trailer.
async fn echo(request: Request<RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let (parts, mut body) = request.into_parts();
    let mut text = format!(
        "{} {} te={:?} ",
        parts.method,
        parts.uri,
        parts.headers.get("te")
    );
    while let Some(Ok(piece)) = body.data().await {
        body.flow_control().release_capacity(piece.len()).unwrap();
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    let sent = body.trailers().await.unwrap().unwrap_or_default();
    let mut down = respond.send_response(Response::new(()), false).unwrap();
    down.send_data(text.into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.extend(sent);
    down.send_trailers(trailers).unwrap();
}

fn h2c_world(app: SocketAddr) -> World {
    let mut world = World::new();
    let mut route = route(1, "app.test", &[app]);
    route.ingress.app_protocol = AppProtocol::H2c;
    world.control.publish(vec![route]);
    world
}

#[test]
fn an_application_of_http_2_is_spoken_to_in_http_2() {
    let world = h2c_world(h2c_app(echo));
    with(world.address, async |sender| {
        let mut ready = sender.clone().ready().await.unwrap();
        let post = Request::post("http://app.test/svc/Method")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, mut up) = ready.send_request(post, false).unwrap();
        up.send_data("hello".into(), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-check", "2".parse().unwrap());
        up.send_trailers(trailers).unwrap();
        let (status, fields, text, trailers) = whole(response.await.unwrap()).await;
        assert_eq!(status, 200);
        assert!(!fields.contains_key("transfer-encoding"));
        assert_eq!(
            text,
            "POST http://app.test/svc/Method te=Some(\"trailers\") hello"
        );
        assert_eq!(
            (
                trailers["grpc-status"].as_bytes(),
                trailers["x-check"].as_bytes()
            ),
            (&b"0"[..], &b"2"[..])
        );
    });
    // The same from a client of HTTP/1.
    let response = world.client().ask(
        "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Check: 3\r\n\r\n",
    );
    assert_eq!(response.text(), "POST http://app.test/ te=None hi");
    assert_eq!(response.trailers, "grpc-status: 0\r\nx-check: 3\r\n");
}

#[test]
fn a_trace_goes_through_http_2_on_both_sides() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let world = h2c_world(h2c_app(
        async |request: Request<RecvStream>, mut respond| {
            let mut response = Response::new(());
            for name in ["traceparent", "tracestate", "x-amzn-trace-id"] {
                let mut values = request.headers().get_all(name).iter();
                let value = values.next().unwrap().clone();
                assert_eq!(values.next(), None);
                response.headers_mut().insert(name, value);
            }
            respond.send_response(response, true).unwrap();
        },
    ));
    let request = Request::get("http://app.test/")
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .header("tracestate", "a=1")
        .header("x-amzn-trace-id", "Root=1-1-1")
        .body(())
        .unwrap();
    let (_, fields, ..) = with(world.address, async |sender| ask(&sender, request).await);
    let parent = fields["traceparent"].to_str().unwrap();
    assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-01"));
    assert!(!parent.contains("00f067aa0ba902b7"), "{parent}");
    assert_eq!(fields["tracestate"], "a=1");
    let (seconds, rest) = TRACE.split_at(8);
    let amazon = fields["x-amzn-trace-id"].to_str().unwrap();
    assert!(amazon.starts_with(&format!("Root=1-{seconds}-{rest};Parent=")));
}

#[test]
fn a_response_that_is_only_a_head_stays_one() {
    let world = h2c_world(h2c_app(
        async |_, mut respond: h2::server::SendResponse<Bytes>| {
            let response = Response::builder()
                .header("grpc-status", "5")
                .body(())
                .unwrap();
            respond.send_response(response, true).unwrap();
        },
    ));
    with(world.address, async |sender| {
        let mut ready = sender.ready().await.unwrap();
        let (response, _) = ready.send_request(get("/"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "5");
        assert!(response.body().is_end_stream());
    });
    let response = world
        .client()
        .ask("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(response.field("grpc-status").as_deref(), Some("5"));
}

#[test]
fn streams_both_ways_are_not_held_back() {
    let world = h2c_world(h2c_app(
        async |request: Request<RecvStream>, mut respond: h2::server::SendResponse<Bytes>| {
            let mut up = request.into_body();
            let mut down = respond.send_response(Response::new(()), false).unwrap();
            while let Some(Ok(piece)) = up.data().await {
                down.send_data(piece, false).unwrap();
            }
            down.send_data(Bytes::new(), true).unwrap();
        },
    ));
    with(world.address, async |sender| {
        let mut ready = sender.ready().await.unwrap();
        let post = Request::post("http://app.test/").body(()).unwrap();
        let (response, mut up) = ready.send_request(post, false).unwrap();
        let mut body = response.await.unwrap().into_body();
        for number in 0..5 {
            up.send_data(format!("{number}").into(), false).unwrap();
            assert_eq!(body.data().await.unwrap().unwrap(), format!("{number}"));
        }
        up.send_data(Bytes::new(), true).unwrap();
        assert!(body.data().await.is_none_or(|end| end.unwrap().is_empty()));
    });
}

#[test]
fn a_client_that_resets_its_stream_is_known_to_have_left() {
    let (left, seen) = std::sync::mpsc::channel();
    let left = std::sync::Mutex::new(left);
    let app = App::new(move |_, mut client| {
        client.message(true);
        left.lock().unwrap().send(client.is_closed()).unwrap();
    });
    let world = World::serving(app.address);
    with(world.address, async |sender| {
        let mut ready = sender.ready().await.unwrap();
        let (response, mut up) = ready.send_request(get("/"), true).unwrap();
        // The request is with the application before it is given up.
        while app.connections() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        up.send_reset(h2::Reason::CANCEL);
        drop(response);
        tokio::task::spawn_blocking(move || assert!(seen.recv_timeout(PATIENCE).unwrap()))
            .await
            .unwrap();
    });
}
