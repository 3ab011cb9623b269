//! Receivers that do as they are told, and what is sent to them.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ekiden_export::{
    drain::{Drain, SendError},
    limits::Limits,
    line::{Kind, Line, Output, Service, Source},
    secrets::Secrets,
    target::Target,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Limits that tests can wait for.
pub(crate) const LIMITS: Limits = Limits {
    connect: Duration::from_millis(500),
    send: Duration::from_millis(700),
};

pub(crate) fn lines(sequences: std::ops::Range<u64>) -> Vec<Line> {
    let source = Arc::new(Source {
        group: "/aws/apprunner/shop/1/application".to_owned(),
        stream: "instance/i-1".to_owned(),
        kind: Kind::Application,
        service: Some(Service {
            name: "shop".to_owned(),
            id: "1".to_owned(),
            arn: "arn:aws:apprunner:us-east-1:0:service/shop/1".to_owned(),
        }),
        instance: Some("i-1".to_owned()),
    });
    let line = |sequence| Line {
        sequence,
        time_ms: 1_795_833_469_007,
        observed_ms: 1_795_833_469_008,
        output: Some(Output::Stdout),
        process: None,
        source: Arc::clone(&source),
        text: format!("line {sequence} \"é\"\n\u{1b}"),
    };
    sequences.map(line).collect()
}

pub(crate) fn drain(target: Value, secrets: Value) -> Drain {
    let target: Target = serde_json::from_value(target).unwrap();
    let secrets: Secrets = serde_json::from_value(secrets).unwrap();
    Drain::with_limits(&target, &secrets, LIMITS).unwrap()
}

#[track_caller]
pub(crate) fn retry<T: std::fmt::Debug>(
    result: Result<T, SendError>,
    says: &str,
) -> Option<Duration> {
    match result {
        Err(SendError::Retry { after, message }) if message.contains(says) => after,
        other => panic!("no retry that says {says:?}: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn permanent<T: std::fmt::Debug>(result: Result<T, SendError>, says: &str) {
    match result {
        Err(SendError::Permanent { message }) if message.contains(says) => {}
        other => panic!("not permanent, saying {says:?}: {other:?}"),
    }
}

/// An address that nobody listens at.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// A request as it was received: its head, and its body.
pub(crate) type Request = (String, Vec<u8>);

/// Answers each HTTP request with what there is for it, the last again and again. An empty answer is none; a
/// connection is closed after an answer that has no `content-length`.
pub(crate) struct Http {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Http {
    pub(crate) async fn new(answers: &[&[u8]]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            connections: Arc::default(),
        };
        let answers: Arc<Vec<Vec<u8>>> = Arc::new(answers.iter().map(|a| a.to_vec()).collect());
        let (requests, connections) = (
            Arc::clone(&receiver.requests),
            Arc::clone(&receiver.connections),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&answers), Arc::clone(&requests)));
            }
        });
        receiver
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn request(&self, index: usize) -> Request {
        self.requests.lock().unwrap()[index].clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    answers: Arc<Vec<Vec<u8>>>,
    requests: Arc<Mutex<Vec<Request>>>,
) {
    while let Some(request) = read(&mut stream).await {
        let answer = {
            let mut requests = requests.lock().unwrap();
            requests.push(request);
            answers[(requests.len() - 1).min(answers.len() - 1)].clone()
        };
        if answer.is_empty() {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let _ = stream.write_all(&answer).await;
        if !String::from_utf8_lossy(&answer).contains("content-length") {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

/// An answer with a status, other headers and a body.
pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut answer =
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n").into_bytes();
    answer.extend_from_slice(body);
    answer
}

pub(crate) fn none() -> Value {
    json!({})
}
